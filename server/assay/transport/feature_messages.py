"""Feature sets, and looks at what a model would see, as messages of assay.v1."""

from __future__ import annotations

from google.rpc import status_pb2

from assay._core import DecodedTransaction, Refusal
from assay.features import definitions as d
from assay.features.checks import source_of_missing
from assay.features.feature_set import FeatureSet
from assay.features.served import Look, ModelFeatures
from assay.features.show import NO_ENTITY, NO_TRANSACTION, ShownView
from assay.features.words import describe_derived, describe_values, value_dtypes
from assay.v1 import feature_pb2, scoring_pb2

Scalar = bool | int | float | str


def score_request_of(request: feature_pb2.GetFeaturesRequest, entities: list[str]) -> bytes:
    """The same transaction as the core decodes it: with an id, and an id for each of these entities."""
    asked = scoring_pb2.ScoreRequest(
        transaction_id=request.transaction_id or NO_TRANSACTION,
        entities={**dict.fromkeys(entities, NO_ENTITY), **request.entities},
    )
    if request.HasField("event_time"):
        asked.event_time.CopyFrom(request.event_time)
    for name, value in request.features.items():
        asked.features[name].CopyFrom(value)
    return asked.SerializeToString()


def look_message(
    model: ModelFeatures, transaction: DecodedTransaction, look: Look, refusal: Refusal | None
) -> feature_pb2.GetFeaturesResponse:
    """`refusal`: the look's, as a value."""
    message = feature_pb2.GetFeaturesResponse(
        provenance=provenance(model),
        views=[_view_features(view, transaction.event_time_us) for view in look.views],
        inputs=[scoring_pb2.ModelInput(name=name, value=feature_value(value)) for name, value in look.inputs.items()],
        missing_features=look.missing,
        imputed_features=look.imputed,
        needed=look.needed,
    )
    if refusal is not None:
        message.refusal.CopyFrom(status_pb2.Status.FromString(refusal.rpc_status))
    return message


def feature_set_message(feature_set: FeatureSet) -> feature_pb2.DescribeFeatureSetResponse:
    return feature_pb2.DescribeFeatureSetResponse(
        name=feature_set.name,
        version=feature_set.version,
        description=feature_set.description,
        schema_hash=feature_set.schema_hash,
        entities=feature_set.entities,
        request_features=[_request_feature(name, feature) for name, feature in feature_set.request_features.items()],
        views=[_view(feature_set, name) for name in feature_set.views],
        derived=[
            feature_pb2.DerivedDescription(
                name=name,
                op=feature.op,
                arguments=feature.arguments,
                definition=describe_derived(feature),
            )
            for name, feature in feature_set.derived.items()
        ],
        inputs=[_input(model_input) for model_input in feature_set.model_inputs],
        yaml=feature_set.yaml,
    )


def provenance(model: ModelFeatures) -> scoring_pb2.Provenance:
    return scoring_pb2.Provenance(
        model=model.model,
        version=model.version,
        model_sha256=model.model_sha256,
        feature_set=model.feature_set.name,
        feature_set_version=model.feature_set.version,
        schema_hash=model.feature_set.schema_hash,
    )


def feature_value(value: Scalar) -> scoring_pb2.FeatureValue:
    match value:
        case bool():  # before int, which it also is
            return scoring_pb2.FeatureValue(bool_value=value)
        case int():
            return scoring_pb2.FeatureValue(int64_value=value)
        case float():
            return scoring_pb2.FeatureValue(double_value=value)
        case str():
            return scoring_pb2.FeatureValue(string_value=value)


# --- implementation ---


def _view_features(view: ShownView, time_us: int) -> feature_pb2.ViewFeatures:
    message = feature_pb2.ViewFeatures(
        view=view.name,
        entity=view.entity,
        is_found=view.is_found,
        is_stale=view.is_stale,
        is_saturated=view.is_saturated,
        is_approximate=view.is_approximate,
        rejected_reason=view.rejected_reason,
        rejected_detail=view.rejected_detail,
    )
    if view.age_us is not None:
        message.age.FromMicroseconds(view.age_us)
        message.newest_time.FromMicroseconds(time_us - view.age_us)
    for value in view.values:
        stored = message.values.add(name=value.name, definition=value.definition, dtype=value.dtype, is_null=value.is_null)
        if value.value is not None:
            stored.value.CopyFrom(feature_value(value.value))
    return message


def _request_feature(name: str, feature: d.RequestFeature) -> feature_pb2.RequestFeatureDescription:
    message = feature_pb2.RequestFeatureDescription(
        name=name,
        dtype=feature.dtype,
        is_required=feature.is_required,
        description=feature.description,
        accepts_int=feature.accept_int,
    )
    for field, value in (("default_value", feature.default), ("minimum", feature.minimum), ("maximum", feature.maximum)):
        if value is not None:
            typed = float(value) if feature.dtype == "float64" else value
            getattr(message, field).CopyFrom(feature_value(typed))
    return message


def _view(feature_set: FeatureSet, name: str) -> feature_pb2.ViewDescription:
    view = feature_set.views[name]
    dtypes = value_dtypes(view, feature_set.request_features)
    message = feature_pb2.ViewDescription(
        name=name,
        entity=view.entity,
        view_hash=feature_set.view_hash(name).hex(),
        values=[
            feature_pb2.StoredDescription(name=value, definition=definition, dtype=dtypes[value])
            for value, definition in describe_values(view).items()
        ],
        description=view.description,
    )
    if isinstance(view, d.AttributeView):
        message.kind = feature_pb2.VIEW_KIND_ATTRIBUTES
        if view.max_age is not None:
            message.max_age.FromMicroseconds(view.max_age)
        return message
    message.kind = feature_pb2.VIEW_KIND_WINDOW
    message.includes_current = view.current == "include"
    message.uses_labels = view.labels
    message.exact_events_max = view.exact_events_max
    message.delay.FromMicroseconds(view.delay)
    message.lateness.FromMicroseconds(view.lateness)
    message.horizon.FromMicroseconds(view.horizon)
    return message


def _input(model_input: d.ModelInput) -> feature_pb2.InputDescription:
    source = source_of_missing(model_input.value_name)
    message = feature_pb2.InputDescription(
        name=model_input.name, source=source, dtype=model_input.dtype, is_missing_flag=source != model_input.value_name
    )
    if isinstance(model_input.when_null, d.NullDefault):
        message.when_null, message.default_value = "default", float(model_input.when_null.default)
    else:
        message.when_null = model_input.when_null
    return message
