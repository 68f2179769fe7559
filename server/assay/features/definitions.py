"""What a feature set is made of: request features, views, derived features, inputs. Shapes only; checks.py checks meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from assay.features.durations import UNITS_US, DurationUs

EVENT_TIME = "event_time"  # the event's own time, wherever a value is named
LABEL = "is_fraud"  # the label, in `of:` of an aggregate
UPDATED_AT = "updated_at"  # the time of a row of attributes
RESERVED_NAMES = (EVENT_TIME, LABEL)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Dtype = Literal["float64", "int64", "bool", "string"]
AttributeDtype = Literal["float64", "int64", "bool", "string", "time"]
InputDtype = Literal["float32", "float64", "int32", "int64", "bool"]
Scalar = bool | int | float | str
Number = int | float
Text = Annotated[str, Field(max_length=2_000)]


class Definition(BaseModel):
    """Every part of a feature set: closed, immutable, no conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RequestFeature(Definition):
    """A value that the request (and the event) carries."""

    dtype: Dtype = Field(description="Type on the wire. Another type is an error, never a conversion (but see accept_int).")
    required: bool | None = Field(None, description="Whether it must be sent. Default: yes, unless a default is given.")
    accept_int: bool = Field(
        False, description="Of a float64: whether an int64 within +-2^53 is taken as the float64 that equals it."
    )
    default: Scalar | None = Field(None, description="Value when it is not sent. Without one it is null.")
    minimum: Number | None = Field(None, description="Smallest value allowed (inclusive).")
    maximum: Number | None = Field(None, description="Largest value allowed (inclusive).")
    description: Text = Field("", description="For people.")

    @property
    def is_required(self) -> bool:
        return self.default is None if self.required is None else self.required


class Aggregate(Definition):
    """One number over the events of one entity in (t - delay - window, t - delay]."""

    op: Literal["count", "sum", "avg", "min", "max", "last", "rate_true", "distinct"]
    window: DurationUs
    of: str | None = Field(None, description="A request feature, event_time, an entity (distinct) or is_fraud (rate_true).")


class WindowView(Definition):
    """Windows over the events of one kind of entity."""

    kind: Literal["window"] = "window"
    entity: str = Field(description="Which entity's events.")
    current: Literal["include", "exclude"] = Field("exclude", description="Whether the transaction being scored counts, once.")
    delay: DurationUs = Field(0, description="All windows end this long before the event.", json_schema_extra={"default": "0s"})
    labels: bool = Field(False, description="Whether aggregates read is_fraud. Needs a delay: labels are known late.")
    lateness: DurationUs = Field(
        UNITS_US["h"],
        description="How long after a window's end its events are kept for events that arrive late.",
        json_schema_extra={"default": "1h"},
    )
    exact_events_max: int = Field(256, description="Newest events kept one by one; older ones are summed in tiles.")
    aggregates: dict[Name, Aggregate] = Field(min_length=1)
    description: Text = ""

    @property
    def horizon(self) -> int:
        """How long a record matters after its newest event, in microseconds."""
        return max(aggregate.window for aggregate in self.aggregates.values()) + self.delay + self.lateness


class AttributeView(Definition):
    """The newest values of one kind of entity, set by a file or a stream."""

    kind: Literal["attributes"]
    entity: str = Field(description="Whose attributes.")
    max_age: DurationUs | None = Field(None, description="Older values are used, and flagged as stale. Default: never stale.")
    attributes: dict[Name, AttributeDtype] = Field(min_length=1, description="Name to type. `time` is a time, RFC 3339 in files.")
    description: Text = ""


def _view_tag(value: Any) -> str:
    return str(value.get("kind", "window") if isinstance(value, Mapping) else getattr(value, "kind", "window"))


View = Annotated[Annotated[WindowView, Tag("window")] | Annotated[AttributeView, Tag("attributes")], Discriminator(_view_tag)]


# --- derived features: a closed list, no code in configuration


class Derived(Definition):
    """One derived feature. A null argument makes a null result unless said otherwise."""

    description: Text = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the values it is made from, in the core's order."""
        raise NotImplementedError


class OfOne(Derived):
    of: str = Field(description="The value it is made from.")

    @property
    def arguments(self) -> tuple[str, ...]:
        return (self.of,)


class OfTime(Derived):
    of: str = Field(EVENT_TIME, description="A time. Default: event_time.")

    @property
    def arguments(self) -> tuple[str, ...]:
        return (self.of,)


class Scale(OfOne):
    """of / divide_by -> float64."""

    op: Literal["scale"]
    divide_by: Number = Field(description="A constant, not 0 (cents: 100).")


class Ratio(OfOne):
    """of / over -> float64; null when over is 0."""

    op: Literal["ratio"]
    over: str

    @property
    def arguments(self) -> tuple[str, ...]:
        return (self.of, self.over)


class Difference(OfOne):
    """of - minus; int64 if both are, else float64."""

    op: Literal["difference"]
    minus: str

    @property
    def arguments(self) -> tuple[str, ...]:
        return (self.of, self.minus)


class Log1p(OfOne):
    """log(1 + of) -> float64; null when of <= -1."""

    op: Literal["log1p"]


class Hour(OfTime):
    """Hour of the day, UTC, 0 to 23."""

    op: Literal["hour"]


class Weekday(OfTime):
    """Day of the week, UTC, 0 = Monday."""

    op: Literal["weekday"]


class IsWeekend(OfTime):
    """Saturday or Sunday, UTC."""

    op: Literal["is_weekend"]


class IsNight(OfTime):
    """Whether the hour (UTC) is in first_hour..last_hour, both included; over midnight when first_hour is after last_hour."""

    op: Literal["is_night"]
    first_hour: int = Field(ge=0, le=23)
    last_hour: int = Field(ge=0, le=23, description="The last hour that is night: 6 makes 06:00-06:59 night.")


class DaysSince(OfTime):
    """(of - since) in days -> float64."""

    op: Literal["days_since"]
    since: str = Field(description="The earlier time.")

    @property
    def arguments(self) -> tuple[str, ...]:
        return (self.of, self.since)


Place = Annotated[tuple[str, str], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]
PlaceAndTime = Annotated[tuple[str, str, str], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]


class HaversineKm(Derived):
    """Great-circle distance in km -> float64; null when a coordinate is out of range."""

    op: Literal["haversine_km"]
    start: Place = Field(alias="from", description="[latitude, longitude], degrees.")
    end: Place = Field(alias="to", description="[latitude, longitude], degrees.")

    @property
    def arguments(self) -> tuple[str, ...]:
        return (*self.start, *self.end)


class SpeedKmh(Derived):
    """Distance over time in km/h -> float64."""

    op: Literal["speed_kmh"]
    start: PlaceAndTime = Field(alias="from", description="[latitude, longitude, time].")
    end: PlaceAndTime = Field(alias="to", description="[latitude, longitude, time].")
    seconds_min: Number = Field(gt=0, description="At least so many seconds are assumed: two events at once have a finite speed.")

    @property
    def arguments(self) -> tuple[str, ...]:
        return (*self.start, *self.end)


class Equals(OfOne):
    """of == to, or of == value -> bool. Both sides have one type."""

    op: Literal["equals"]
    to: str | None = Field(None, description="Another value.")
    value: str | float | None = Field(None, description="A constant.")

    @property
    def arguments(self) -> tuple[str, ...]:
        return (self.of,) if self.to is None else (self.of, self.to)


class Vocabulary(OfOne):
    """Index of a string in a list of words -> int64."""

    op: Literal["vocabulary"]
    words: list[Annotated[str, Field(max_length=256)]] = Field(
        min_length=1, max_length=100_000, description="Word i has index i."
    )
    unknown: int = Field(description="Index of any other word.", ge=-(1 << 24), le=1 << 24)


class HashBucket(OfOne):
    """xxh64 of a string or int64, modulo buckets -> int64."""

    op: Literal["hash_bucket"]
    buckets: int = Field(ge=1, le=1 << 53)


class IsMissing(OfOne):
    """Whether a value is null -> bool, never null."""

    op: Literal["is_missing"]


DerivedFeature = Annotated[
    Scale | Ratio | Difference | Log1p | Hour | Weekday | IsWeekend | IsNight | DaysSince | HaversineKm | SpeedKmh
    | Equals | Vocabulary | HashBucket | IsMissing,
    Field(discriminator="op"),
]  # fmt: skip

DERIVED_BY_OP: dict[str, type[Derived]] = {
    get_args(branch.model_fields["op"].annotation)[0]: branch for branch in get_args(get_args(DerivedFeature)[0])
}


# --- model inputs


class NullDefault(Definition):
    """What goes in for null; the answer lists the input as imputed."""

    default: Number


class ModelInput(Definition):
    """One input of the model."""

    name: Name
    source: str | None = Field(None, alias="from", description="Which value. Default: the one of the same name.")
    when_null: Literal["error", "nan"] | NullDefault = Field("error", description="What null means to the model.")
    dtype: InputDtype = "float32"
    add_is_missing: bool = Field(False, description="Adds the input NAME_is_missing after this one: 1 where it was null.")

    @property
    def value_name(self) -> str:
        return self.name if self.source is None else self.source


def _input_from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Input = Annotated[ModelInput, BeforeValidator(_input_from_name, json_schema_input_type=Name | ModelInput)]
