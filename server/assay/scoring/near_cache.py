"""How old a record of the near-cache may be, view by view: what the configuration says, else by the view's kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from assay._core import FeaturePlan
from assay.errors import ConfigError

KEY = "store.near_cache_max_age_ms"
ATTRIBUTE_AGE_MS = 10_000  # attributes are set by files and slow streams; windows change with every event: 0


def near_ages_ms(plan: FeaturePlan, configured: Mapping[str, int]) -> tuple[int, ...]:
    """One a view of the plan, in milliseconds; 0: its records are not kept."""
    kinds = zip(plan.view_names, plan.view_horizons_us, strict=True)
    return tuple(configured.get(view, 0 if horizon_us else ATTRIBUTE_AGE_MS) for view, horizon_us in kinds)


def check_views(plans: Iterable[FeaturePlan], configured: Mapping[str, int]) -> None:
    """Raises ConfigError for a view that no model has: a misspelt one would quietly keep its default."""
    known = sorted({view for plan in plans for view in plan.view_names})
    for view in configured:
        if view not in known:
            views = f"their views are {', '.join(known)}" if known else "they have no views"
            raise ConfigError(f"{KEY}.{view}: no model that is served has a view of this name; {views}")
