"""A feature set: the named, versioned, hashed list of what a model sees. Reads the YAML and says what is wrong with it.

The compiled form is compile.py's; the language is described in docs/features.md.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, ValidationError

from assay.errors import FeatureSetError
from assay.features import checks, hashes
from assay.features.definitions import (
    AttributeView,
    Definition,
    DerivedFeature,
    Input,
    ModelInput,
    Name,
    RequestFeature,
    Text,
    View,
)
from assay.features.problems import error_of, problems_of
from assay.features.yaml_document import BYTES_MAX, parse_yaml


class FeatureSet(Definition):
    """What a model sees of a transaction. Immutable; equal definitions have equal `schema_hash`."""

    name: Name
    version: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="For people. The hashes decide.")
    description: Text = ""
    entities: list[Name] = Field(min_length=1, description="Kinds of ids that a transaction names, such as customer_id.")
    request_features: dict[Name, RequestFeature] = Field(default_factory=dict, description="Values that the request carries.")
    views: dict[Name, View] = Field(default_factory=dict, description="Stored state of entities: windows or attributes.")
    derived: dict[Name, DerivedFeature] = Field(default_factory=dict, description="Values made from other values, in any order.")
    inputs: list[Input] = Field(min_length=1, description="What the model gets, in this order.")
    _yaml: str = PrivateAttr("")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a YAML file. Raises FeatureSetError that lists every problem with its line."""
        try:
            with Path(path).open("rb") as file:
                data = file.read(BYTES_MAX + 1)
        except OSError as error:
            raise FeatureSetError(f"{path}: cannot be read: {error.strerror}; give the path of a feature set (YAML)") from None
        try:
            return cls.parse(data.decode(), str(path))
        except UnicodeDecodeError as error:
            raise FeatureSetError(f"{path}: not UTF-8 text at byte {error.start}; a feature set is a YAML file") from None

    @classmethod
    def parse(cls, text: str, source: str = "<text>") -> Self:
        """Parses YAML text; `source` is what errors call it. Raises FeatureSetError."""
        document = parse_yaml(text, source)
        try:
            feature_set = cls.model_validate(document.data)
        except ValidationError as error:
            raise error_of(document, problems_of(error, cls, document.data)) from None
        problems = checks.check(feature_set)
        if problems:
            raise error_of(document, problems)
        feature_set._yaml = text
        return feature_set

    @property
    def yaml(self) -> str:
        """The file that it was read from: what tells another process all of it."""
        return self._yaml

    @cached_property
    def model_inputs(self) -> tuple[ModelInput, ...]:
        """Inputs in the model's order, with the added NAME_is_missing ones."""
        return tuple(checks.expanded_inputs(self.inputs))

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(model_input.name for model_input in self.model_inputs)

    @cached_property
    def schema_hash(self) -> str:
        """SHA-256 over every definition, 64 hex digits."""
        return hashes.schema_hash(self)

    def view_hash(self, view_name: str) -> bytes:
        """SHA-256 over what a row record of the view holds, 32 bytes."""
        return hashes.view_hash(self.views[view_name], view_name, self.request_features)

    def attribute_view(self, view_name: str) -> AttributeView:
        """The attribute view of that name. Raises FeatureSetError that names those there are."""
        view = self.views.get(view_name)
        if isinstance(view, AttributeView):
            return view
        names = [name for name, candidate in self.views.items() if isinstance(candidate, AttributeView)]
        problem = "is a window view, fed by events" if view is not None else "is not a view"
        hint = f"attribute views are: {', '.join(names)}" if names else "it has no attribute views"
        raise FeatureSetError(f"{view_name} {problem} of feature set {self.name}; {hint}")


def feature_set_json_schema() -> dict[str, Any]:
    """JSON Schema of the YAML file, for editors."""
    schema = _closed(FeatureSet.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "assay feature set"}


def _closed(schema: Any) -> Any:
    """The schema, with mappings by name closed to keys that are no names (Pydantic leaves them open)."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return {**closed, "additionalProperties": False} if "patternProperties" in closed else closed
