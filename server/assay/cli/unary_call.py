"""One question to a running server and its answer, or the end of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import typer

from assay.cli.call_errors import show_error

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from assay.client import Tls

TIMEOUT_S = 10.0

Answer = TypeVar("Answer", bound="Message")


def unary_call(
    target: str,
    tls: Tls | None,
    method: str,
    request: Message,
    answer_type: type[Answer],
    *,
    as_json: bool,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """`method`: its full name, such as assay.v1.FeatureService/GetFeatures; a stream of one message is the same on the wire. Ends
    the command where the server says no, or none answers."""
    import grpc

    from assay.client.channel import channel_options, open_channel
    from assay.client.errors import decode_failure

    with open_channel(target, tls, channel_options(tls, retries=True)) as channel:
        ask = channel.unary_unary(
            f"/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer_type.FromString,
        )
        try:
            answer: Answer = ask(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise typer.Exit(show_error(decode_failure(cast(grpc.Call, error)), target, as_json)) from None
    return answer
