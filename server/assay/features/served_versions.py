"""Which served version of a model a request means: chosen as the core chooses a lane (ext/core/serving/route.h)."""

from __future__ import annotations

from typing import Generic, TypeVar

Told = TypeVar("Told")


class ServedVersions(Generic[Told]):
    """What is told of each version, oldest first."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], Told] = {}  # replaced, never changed: other threads walk it
        self._labels: dict[str, dict[str, str]] = {}  # model -> what its version may be called -> the version
        self._default = ""

    def add(self, model: str, version: str, told: Told, *, is_default: bool) -> None:
        self._versions = {**self._versions, (model, version): told}
        if is_default or not self._default:
            self._default = model

    def remove(self, model: str, version: str) -> None:
        self._versions = {key: told for key, told in self._versions.items() if key != (model, version)}

    def set_champion(self, model: str, champion: str, challenger: str) -> None:
        """Which version is meant where none is named, and by the labels. Without it the newest."""
        labels = {"": champion, "@champion": champion, **({"@challenger": challenger} if challenger else {})}
        self._labels = {**self._labels, model: labels}

    @property
    def all(self) -> tuple[Told, ...]:
        return tuple(self._versions.values())

    def find(self, model: str, version: str) -> Told | str:
        """The champion, or the newest that fits; empty names mean the default. Else the reason why there is none: UNKNOWN_MODEL,
        UNKNOWN_VERSION."""
        model = model or self._default
        version = self._labels.get(model, {"@champion": ""}).get(version, version)
        named = {of: told for (name, of), told in self._versions.items() if name == model}
        fitting = [told for of, told in named.items() if version in ("", of)]
        return fitting[-1] if fitting else "UNKNOWN_VERSION" if named else "UNKNOWN_MODEL"
