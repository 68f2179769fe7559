"""Records of some entities, brought together in this process to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from assay import _core
from assay.errors import RecordError


class Records(NamedTuple):
    """`store` has at least the records that were asked for, but for those that cannot be trusted: they are in `rejected`, by
    view."""

    store: _core.EmbeddedStore
    rejected: Mapping[str, RecordError] = MappingProxyType({})
