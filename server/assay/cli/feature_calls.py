"""Questions to a running server about features, and its answers as the values that the other commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.cli.unary_call import unary_call

if TYPE_CHECKING:
    from assay.client import Tls
    from assay.features.served_rows import RowSample, SampledRow
    from assay.features.show import ShownValue, ShownView
    from assay.v1 import feature_pb2

_SERVICE = "assay.v1.FeatureService"


def get_features(
    target: str, tls: Tls | None, request: feature_pb2.GetFeaturesRequest, *, as_json: bool
) -> feature_pb2.GetFeaturesResponse:
    """Ends the command where the server says no."""
    from assay.v1 import feature_pb2

    return unary_call(target, tls, f"{_SERVICE}/GetFeatures", request, feature_pb2.GetFeaturesResponse, as_json=as_json)


def describe_feature_set(
    target: str, tls: Tls | None, request: feature_pb2.DescribeFeatureSetRequest, *, as_json: bool = False
) -> feature_pb2.DescribeFeatureSetResponse:
    """Ends the command where the server says no."""
    from assay.v1 import feature_pb2

    return unary_call(
        target, tls, f"{_SERVICE}/DescribeFeatureSet", request, feature_pb2.DescribeFeatureSetResponse, as_json=as_json
    )


def served_rows(target: str, tls: Tls | None, model: str, version: str, *, as_json: bool) -> RowSample:
    """The rows that a server keeps of a model, page by page, up to the newest of when it began. Ends the command where the server
    says no."""
    from assay.features.served_rows import RowSample
    from assay.v1 import feature_pb2

    request = feature_pb2.GetServedRowsRequest(model=model, version=version)
    rows: list[SampledRow] = []
    newest = None
    while True:
        page = unary_call(target, tls, f"{_SERVICE}/GetServedRows", request, feature_pb2.GetServedRowsResponse, as_json=as_json)
        rows += [_sampled_row(row) for row in page.rows]
        newest = page.newest_position if newest is None else newest
        if page.last_position >= newest or page.last_position <= request.after_position:
            break
        request.after_position = page.last_position
        request.model, request.version = page.provenance.model, page.provenance.version  # all pages of the same one
    made_by = page.provenance
    return RowSample(
        made_by.model,
        made_by.version,
        made_by.feature_set,
        made_by.feature_set_version,
        made_by.schema_hash,
        tuple(page.input_names),
        tuple(rows),
    )


def record_events(
    target: str, tls: Tls | None, request: feature_pb2.RecordEventsRequest, *, as_json: bool
) -> feature_pb2.RecordEventsResponse:
    """One message. Ends the command where the server says no to all of it."""
    from assay.v1 import feature_pb2

    return unary_call(target, tls, f"{_SERVICE}/RecordEvents", request, feature_pb2.RecordEventsResponse, as_json=as_json)


def shown_views(response: feature_pb2.GetFeaturesResponse) -> tuple[ShownView, ...]:
    from assay.features.show import ShownView

    return tuple(
        ShownView(
            view.view,
            view.entity,
            view.is_found,
            view.age.ToMicroseconds() if view.HasField("age") else None,
            view.is_stale,
            view.is_saturated,
            view.is_approximate,
            view.rejected_reason,
            view.rejected_detail,
            tuple(_shown_value(value) for value in view.values),
        )
        for view in response.views
    )


# --- implementation ---


def _sampled_row(row: feature_pb2.ServedRow) -> SampledRow:
    from assay.features.served_rows import SampledRow

    values = tuple(getattr(value, value.WhichOneof("value")) for value in row.values)
    missing = frozenset(row.missing_features)
    return SampledRow(row.transaction_id, row.event_time.ToMicroseconds(), values, missing, row.is_degraded)


def _shown_value(value: feature_pb2.StoredFeature) -> ShownValue:
    from assay.features.show import ShownValue

    kind = value.value.WhichOneof("value") if value.HasField("value") else None
    found = None if kind is None else getattr(value.value, kind)
    return ShownValue(value.name, value.definition, value.dtype, found, value.is_null)
