"""How old a near-cache's records may be: by the view's kind, by configuration; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay import _core
from assay.config import Config, StoreConfig
from assay.config_loading import load_config, printable_config, set_dotted
from assay.errors import ConfigError
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.scoring.near_cache import ATTRIBUTE_AGE_MS, check_views, near_ages_ms

VIEWS = """
name: two_kinds
version: "1"
entities: [customer_id]
request_features:
  amount_minor: {dtype: int64}
views:
  profile: {kind: attributes, entity: customer_id, attributes: {tier: int64}}
  customer: {entity: customer_id, aggregates: {count_1d: {op: count, window: 1d}}}
inputs:
  - {name: tier, when_null: {default: -1}, dtype: float64}
  - {name: count_1d, when_null: {default: -1}}
"""


@pytest.fixture(scope="module")
def plan() -> _core.FeaturePlan:
    return compile_plan(FeatureSet.parse(VIEWS))


def ages(plan: _core.FeaturePlan, configured: dict[str, int]) -> dict[str, int]:
    return dict(zip(plan.view_names, near_ages_ms(plan, configured), strict=True))


def test_attributes_are_kept_for_a_moment_and_windows_only_if_somebody_says_so(plan: _core.FeaturePlan) -> None:
    assert ages(plan, {}) == {"profile": ATTRIBUTE_AGE_MS, "customer": 0}
    assert ages(plan, {"customer": 250}) == {"profile": ATTRIBUTE_AGE_MS, "customer": 250}
    assert ages(plan, {"profile": 0}) == {"profile": 0, "customer": 0}


def test_a_view_that_no_model_has_is_an_error_that_names_those_there_are(plan: _core.FeaturePlan) -> None:
    check_views([plan], {"profile": 1, "customer": 1})
    with pytest.raises(ConfigError, match=r"^store\.near_cache_max_age_ms\.profil: .*; their views are customer, profile$"):
        check_views([plan], {"profil": 1})
    with pytest.raises(ConfigError, match="they have no views"):
        check_views([], {"profile": 1})


def test_ages_come_together_from_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("store: {near_cache_max_age_ms: {a: 1, b: 1, c: 1}}\n")
    monkeypatch.setenv("ASSAY_STORE__NEAR_CACHE_MAX_AGE_MS__B", "2")
    command_line: dict[str, object] = {}
    set_dotted(command_line, "store.near_cache_max_age_ms.c=3")
    loaded = load_config(command_line, file)
    assert loaded.config.store.near_cache_max_age_ms == {"a": 1, "b": 2, "c": 3}
    shown, source = printable_config(loaded)["store.near_cache_max_age_ms"]
    assert (shown, source) == ({"a": 1, "b": 2, "c": 3}, f"file {file}, environment, command line")
    assert printable_config(load_config())["store.near_cache_bytes_max"] == (64 << 20, "default")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("near_cache_max_age_ms.profile", "-1"),
        ("near_cache_max_age_ms.profile", "3600001"),
        ("near_cache_max_age_ms.profile", "soon"),
        ("near_cache_max_age_ms", "5"),
        ("near_cache_bytes_max", "-1"),
        ("near_cache_bytes_max", str((1 << 20) - 1)),
        ("near_cache_stale_s_max", "-1"),
        ("near_cache_stale_s_max", "86401"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_its_key(key: str, value: str) -> None:
    command_line: dict[str, object] = {}
    set_dotted(command_line, f"store.{key}={value}")
    with pytest.raises(ConfigError, match=f"^store.{key}: "):
        load_config(command_line)


@pytest.mark.parametrize("size", [0, 1 << 20])
def test_no_bytes_is_off_and_a_mebibyte_is_enough(size: int) -> None:
    config = Config(store=StoreConfig(near_cache_bytes_max=size))
    engine = _core.Engine(slots=8, batch_call_rows_max=2, near_cache_bytes_max=config.store.near_cache_bytes_max)
    assert engine.stats().near_cache.bytes_max == size
    assert (engine.stats().near_cache.bytes > 0) == (size > 0)


def test_the_bindings_check_what_they_are_given(plan: _core.FeaturePlan) -> None:
    with pytest.raises(ValueError, match="near_cache_bytes_max: expected 0 or at least 1048576"):
        _core.Engine(slots=8, batch_call_rows_max=2, near_cache_bytes_max=(1 << 20) - 1)
    for ages_ms in ((1,), (1, 2, 3), (1, -1)):
        with pytest.raises(ValueError, match="near_ages_ms: expected 2, one a view"):
            _core.FeatureReader(plan, None, near_ages_ms=ages_ms)
    with pytest.raises(ValueError, match="a store elsewhere"):
        _core.FeatureReader(plan, _core.EmbeddedStore(), near_ages_ms=(1, 1))
    _core.FeatureReader(plan, None, near_ages_ms=(1, 0))
