"""Which bundles of a repository a server begins with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.errors import ConfigError
from assay.models.repository import ROUTES_FILE, Repository, version_key
from assay.models.route import Route

_NUMERIC = re.compile(r"[0-9]+(\.[0-9]+)*")
_SHOWN_MAX = 20


@dataclass(frozen=True)
class FirstBundle:
    path: Path
    is_needed: bool  # the server cannot do without it: it was chosen, or is of the default model


def first_bundles(repository: Repository, routes: Mapping[str, Route], default_model: str = "") -> list[FirstBundle]:
    """The versions that `routes` name, and the newest of each model that they do not name.

    The default model is first ("": the first by name), of each model its champion last. Of another than
    the default model what cannot be told is left out. Raises ConfigError where there is none, or which cannot be told."""
    try:
        found = repository.scan()
    except OSError as error:
        raise ConfigError(f"rollout.repository: {error.filename}: {error.strerror}") from error
    names = sorted({name for name, _ in found} | set(routes))
    default = default_model or (names[0] if names else "")
    if default not in names:
        what = f"has no model {default}" if default else "has no complete bundle (NAME/VERSION with manifest.yaml)"
        shown = ", ".join(names[:_SHOWN_MAX]) or "nothing"
        raise ConfigError(f"rollout.repository: {repository.root} {what}; it has: {shown}")
    first: list[FirstBundle] = []
    for name in sorted(names, key=lambda name: (name != default, name)):
        versions = [version for model, version in found if model == name]
        newest = _newest(versions)
        if name in routes:
            first += _of_route(repository, name, routes[name])
        elif newest is not None:
            first.append(FirstBundle(repository.root / name / newest, is_needed=name == default))
        elif name == default:
            raise ConfigError(_which(repository, name, versions))
    return first


def within(first: Sequence[FirstBundle], loaded_max: int) -> tuple[list[FirstBundle], list[FirstBundle]]:
    """Those for which there is room, and those that are left out: never one that is needed. Order stays. Raises ConfigError
    where those that are needed are too many."""
    room = loaded_max - sum(bundle.is_needed for bundle in first)
    if room < 0:
        detail = f"the server needs {loaded_max - room} versions at once: raise it, or serve fewer models"
        raise ConfigError(f"rollout.loaded_max: {loaded_max}, and {detail}")
    left_out = [bundle for bundle in first if not bundle.is_needed][room:]
    return [bundle for bundle in first if bundle not in left_out], left_out


# --- implementation ---


def _of_route(repository: Repository, name: str, route: Route) -> list[FirstBundle]:
    first = []
    for version in reversed(route.versions):
        path, is_champion = repository.path_of(name, version), version == route.champion
        if path is not None:
            first.append(FirstBundle(path, is_needed=is_champion))
        elif is_champion:
            raise ConfigError(f"rollout.repository: {name} {version} is the champion, and there is no such bundle: copy it back")
    return first


def _newest(versions: list[str]) -> str | None:
    """The only one, or the highest number: 2.5.0-onnx-int8 is a variant, which nobody serves by accident. None: who knows."""
    numbers = versions if len(versions) == 1 else [version for version in versions if _NUMERIC.fullmatch(version)]
    return max(numbers, key=version_key) if numbers else None


def _which(repository: Repository, name: str, versions: list[str]) -> str:
    example = f'{{"format": 1, "models": {{"{name}": {{"champion": "{versions[0]}"}}}}}}'
    return (
        f"rollout.repository: {repository.root / name}: which of {', '.join(versions[:_SHOWN_MAX])} is the newest cannot be told "
        f"from their names; say it in {ROUTES_FILE}, for example {example}"
    )
