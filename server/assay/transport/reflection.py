"""gRPC reflection, v1 and v1alpha from one servicer: the messages are the same but for the package's name.

Written here because the packaged one knows v1alpha only. Descriptors come from a pool of our own that also knows
grpc.reflection.v1, and carry the comments of our contract, so that `grpcurl describe` explains every field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from assay.transport.status import end_call, parse

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler

REFLECTION_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
CALLS_MAX = 128  # open ServerReflectionInfo calls of one listener: they last, and must not use up gRPC's limit on all calls


class Descriptors:
    """Every proto file that this server speaks, serialised, and where each symbol stands."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._pool = DescriptorPool()
        for file in _all_files():
            if file.name not in self._files:
                self._files[file.name] = file.SerializeToString()
                self._pool.AddSerializedFile(self._files[file.name])

    def file(self, name: str) -> list[bytes]:
        """The file and everything it imports. Raises KeyError."""
        return [self._files[found] for found in self._with_imports(self._pool.FindFileByName(name), {})]

    def file_of(self, symbol: str) -> list[bytes]:
        """The file that defines `symbol`, and everything it imports. Raises KeyError."""
        try:
            return self.file(self._pool.FindFileContainingSymbol(symbol).name)
        except KeyError:  # the pool does not look for methods
            service, _, method = symbol.rpartition(".")
            return self.file(self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file.name)

    def _with_imports(self, descriptor: FileDescriptor, seen: dict[str, None]) -> dict[str, None]:
        if descriptor.name not in seen:
            seen[descriptor.name] = None
            for dependency in descriptor.dependencies:
                self._with_imports(dependency, seen)
        return seen


class ReflectionService:
    """Describes `services` (full names)."""

    def __init__(self, services: Iterable[str], descriptors: Descriptors) -> None:
        self._services = tuple(sorted(services))
        self._descriptors = descriptors
        self._closing = asyncio.Event()
        self._call_count = 0

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler. Requests stay bytes: see parse()."""
        handler: Handler = grpc.stream_stream_rpc_method_handler(
            self._info, response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString
        )
        return {f"/{service}/ServerReflectionInfo": handler for service in REFLECTION_SERVICES}

    def close(self) -> None:
        """Ends open calls, so that they do not hold up the drain."""
        self._closing.set()

    # --- implementation ---

    async def _info(self, _: Any, context: Context) -> None:
        if self._call_count >= CALLS_MAX:
            await end_call(
                context,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{CALLS_MAX} reflection calls are open, which is the limit; close one",
            )
        self._call_count += 1
        closing = asyncio.create_task(self._closing.wait())
        try:
            while True:
                read = asyncio.ensure_future(context.read())
                try:
                    await asyncio.wait((read, closing), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not read.done():
                        read.cancel()
                if closing.done() or read.result() is grpc.aio.EOF:
                    return
                request = await parse(reflection_pb2.ServerReflectionRequest, read.result(), context)
                await context.write(self._answer(request))
        finally:
            self._call_count -= 1
            closing.cancel()

    def _answer(self, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
        response = reflection_pb2.ServerReflectionResponse(valid_host=request.host, original_request=request)
        try:
            match request.WhichOneof("message_request"):
                case "list_services":
                    response.list_services_response.service.extend(
                        reflection_pb2.ServiceResponse(name=name) for name in self._services
                    )
                case "file_by_filename":
                    response.file_descriptor_response.file_descriptor_proto.extend(
                        self._descriptors.file(request.file_by_filename)
                    )
                case "file_containing_symbol":
                    found = self._descriptors.file_of(request.file_containing_symbol)
                    response.file_descriptor_response.file_descriptor_proto.extend(found)
                case "all_extension_numbers_of_type":  # there are no extensions in proto3: an empty list, if the type exists
                    self._descriptors.file_of(request.all_extension_numbers_of_type)
                    response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
                case "file_containing_extension":
                    raise KeyError
                case _:
                    _set_error(response, grpc.StatusCode.INVALID_ARGUMENT, "the request asks nothing")
        except KeyError:
            _set_error(response, grpc.StatusCode.NOT_FOUND, "not found")
        return response


# --- implementation ---


def _set_error(response: reflection_pb2.ServerReflectionResponse, code: grpc.StatusCode, message: str) -> None:
    response.error_response.error_code = code.value[0]
    response.error_response.error_message = message


def _all_files() -> Iterator[FileDescriptorProto]:
    """Files after their imports. Ours come from the shipped descriptor set, which has the comments; and what google.rpc.Status
    carries, so that grpcurl shows errors decoded."""
    yield from FileDescriptorSet.FromString((files("assay.v1") / "assay.binpb").read_bytes()).file
    yield from _file_and_imports(health_pb2.DESCRIPTOR)
    yield from _file_and_imports(reflection_pb2.DESCRIPTOR)
    yield _reflection_v1()


def _file_and_imports(descriptor: FileDescriptor) -> Iterator[FileDescriptorProto]:
    for dependency in descriptor.dependencies:
        yield from _file_and_imports(dependency)
    yield FileDescriptorProto.FromString(descriptor.serialized_pb)


def _reflection_v1() -> FileDescriptorProto:
    """reflection.proto of package grpc.reflection.v1, made from v1alpha's."""
    file = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    old, new = ".grpc.reflection.v1alpha.", ".grpc.reflection.v1."
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(old, new)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
    return file
