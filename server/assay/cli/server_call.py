"""One question to a running server, as every command that asks one puts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import typer

from assay.cli.call_errors import show_error

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from assay.client import Tls

TIMEOUT_S = 10.0

Answer = TypeVar("Answer", bound="Message")


def call(target: str, tls: Tls | None, method: str, request: Message, answer_type: type[Answer], as_json: bool) -> Answer:
    """Calls `method` (package.Service/Method). Ends the command where the server says no."""
    import grpc

    from assay.client.channel import channel_options, open_channel
    from assay.client.errors import decode_failure

    with open_channel(target, tls, channel_options(tls, retries=True)) as channel:
        # A stream of one message is a unary call on the wire.
        ask = channel.unary_unary(
            f"/{method}", request_serializer=type(request).SerializeToString, response_deserializer=answer_type.FromString
        )
        try:
            answer: Answer = ask(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise typer.Exit(show_error(decode_failure(cast(grpc.Call, error)), target, as_json)) from None
    return answer
