"""Which versions of one model do what, and the steps from one such choice to the next. Values: nothing here has an effect."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from assay.models.names import NAME_PATTERN

_Version = Annotated[str, Field(pattern=NAME_PATTERN)]
_VersionOrNone = Annotated[str, Field(pattern=rf"{NAME_PATTERN}|^$")]
_Share = Annotated[float, Field(ge=0, le=1)]

LABELS = ("champion", "challenger", "previous", "shadow")  # fields of a Route


class Route(BaseModel):
    """What a model's versions are for. An empty version: none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    champion: _Version  # answers whoever names no version
    previous: _VersionOrNone = ""  # the champion before: a rollback leads there
    challenger: _VersionOrNone = ""
    canary_share: _Share = 0.0  # of the entities, which the challenger answers
    shadow: _VersionOrNone = ""
    shadow_share: _Share = 0.0  # of the entities, which the shadow scores too

    @model_validator(mode="after")
    def _fits_together(self) -> Route:
        if self.champion in (self.challenger, self.shadow):
            raise ValueError(f"{self.champion} is the champion: it cannot be challenger or shadow too")
        if bool(self.shadow) != (self.shadow_share > 0.0):
            raise ValueError("shadow and shadow_share: a shadow has a share above 0, and a share a shadow")
        if self.canary_share > 0.0 and not self.challenger:
            raise ValueError("canary_share: a share above 0 needs a challenger")
        return self

    @property
    def versions(self) -> tuple[str, ...]:
        """All that it names, each once, the champion first."""
        named = (self.champion, self.challenger, self.shadow, self.previous)
        return tuple(dict.fromkeys(version for version in named if version))

    def labels_of(self, version: str) -> tuple[str, ...]:
        """What this version is for."""
        return tuple(label for label in LABELS if getattr(self, label) == version)

    # --- steps: each gives another route

    def promoted(self, version: str) -> Route:
        """This version is the champion, and the former one is the previous. A canary ends: it was a step to this."""
        kept = self._without_shadow(version)
        return kept._changed(champion=version, previous=self.champion, challenger="", canary_share=0.0)

    def without_canary(self) -> Route:
        """The challenger keeps its label, and answers nobody who does not name it."""
        return self._changed(canary_share=0.0)

    def rolled_back(self) -> Route:
        """The previous is the champion again. REQUIRES: there is one. A canary ends: what it was compared with is taken back."""
        kept = self._without_shadow(self.previous)
        challenger = "" if self.challenger == self.previous else self.challenger
        return kept._changed(champion=self.previous, previous="", challenger=challenger, canary_share=0.0)

    def with_canary(self, challenger: str, share: float) -> Route:
        return self._changed(challenger=challenger, canary_share=share)

    def with_shadow(self, shadow: str, share: float) -> Route:
        return self._changed(shadow=shadow, shadow_share=share)

    def of_loaded(self, loaded: set[str]) -> Route:
        """Without what is not loaded. REQUIRES: its champion is."""
        route = self if self.challenger in loaded else self.with_canary("", 0.0)
        route = route if self.shadow in loaded else route.with_shadow("", 0.0)
        return route if self.previous in loaded else route._changed(previous="")

    # --- implementation

    def _without_shadow(self, version: str) -> Route:
        """The champion is not compared with itself."""
        return self.with_shadow("", 0.0) if self.shadow == version else self

    def _changed(self, **fields: object) -> Route:
        return self.model_copy(update=fields)
