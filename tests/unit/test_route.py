"""Which version does what, and the steps from one such choice to the next."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from assay.models.route import Route

ROUTE = Route(champion="2", previous="1", challenger="3", canary_share=0.1, shadow="4", shadow_share=0.5)


def test_promotion_ends_the_canary_and_leaves_a_way_back() -> None:
    assert ROUTE.promoted("3") == Route(champion="3", previous="2", shadow="4", shadow_share=0.5)


def test_a_shadow_that_is_promoted_is_not_compared_with_itself() -> None:
    assert ROUTE.promoted("4") == Route(champion="4", previous="2")


def test_a_rollback_leads_to_the_previous_once() -> None:
    back = ROUTE.promoted("3").rolled_back()
    assert back == Route(champion="2", shadow="4", shadow_share=0.5)
    assert back.previous == ""


def test_a_rollback_takes_labels_from_the_version_that_answers_again() -> None:
    route = Route(champion="2", previous="1", challenger="1", shadow="1", shadow_share=1.0)
    assert route.rolled_back() == Route(champion="1")


def test_what_is_not_loaded_loses_its_labels() -> None:
    assert ROUTE.of_loaded({"1", "2", "3", "4"}) == ROUTE
    assert ROUTE.of_loaded({"2", "4"}) == Route(champion="2", shadow="4", shadow_share=0.5)
    assert ROUTE.of_loaded({"2"}) == Route(champion="2")


def test_labels_and_versions() -> None:
    assert ROUTE.versions == ("2", "3", "4", "1")
    route = ROUTE.with_shadow("3", 1.0)
    assert (route.versions, route.labels_of("3")) == (("2", "3", "1"), ("challenger", "shadow"))
    assert ROUTE.without_canary().labels_of("3") == ("challenger",)
    assert ROUTE.labels_of("9") == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"champion": ""},
        {"champion": "../1"},
        {"champion": "@champion"},
        {"champion": "1", "canary_share": 1.1},
        {"champion": "1", "shadow_share": float("nan")},
        {"champion": "1", "color": "blue"},
    ],
)
def test_what_is_no_route_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Route.model_validate(fields)
