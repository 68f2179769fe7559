"""The standard services: health with Check, Watch and List; reflection v1 and v1alpha; the policy over all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from assay.transport.health import HealthService
from assay.transport.policy import POLICY, Listener, answered_on
from tests.support.server import LocalServer

pytestmark = pytest.mark.usefixtures("transport")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PUBLIC_SERVICES = {
    "assay.v1.FeatureService",
    "assay.v1.ScoringService",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}
ADMIN_SERVICES = PUBLIC_SERVICES | {
    "assay.v1.DriftService",
    "assay.v1.ModelService",
    "assay.v1.OperationsService",
}


@pytest.fixture(scope="module")
def server(transport: str) -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


def channels(server: LocalServer) -> list[tuple[grpc.Channel, set[str], Listener]]:
    return [(server.channel(), PUBLIC_SERVICES, Listener.PUBLIC), (server.admin_channel(), ADMIN_SERVICES, Listener.ADMIN)]


def reflect(channel: grpc.Channel, version: str, *requests: reflection_pb2.ServerReflectionRequest) -> list[Any]:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(call(iter(requests), timeout=10))


def describe(channel: grpc.Channel, version: str) -> tuple[set[str], DescriptorPool]:
    """All services by reflection alone, and a pool of everything that it sent."""
    (listed,) = reflect(channel, version, reflection_pb2.ServerReflectionRequest(list_services=""))
    services = {service.name for service in listed.list_services_response.service}
    pool, known = DescriptorPool(), set()
    requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in sorted(services)]
    for answer in reflect(channel, version, *requests):
        files = {}
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(data)
            files[file.name] = file

        def add(name: str, files: dict[str, FileDescriptorProto] = files) -> None:
            if name in known:
                return
            known.add(name)
            for dependency in files[name].dependency:
                add(dependency)
            pool.AddSerializedFile(files[name].SerializeToString())

        for name in files:
            add(name)
    return services, pool


def test_check_knows_the_server_and_every_service(server: LocalServer) -> None:
    for channel, services, _ in channels(server):
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *services):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_list_names_all_with_their_status(server: LocalServer) -> None:
    for channel, services, _ in channels(server):
        answer = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=10)
        assert {name: status.status for name, status in answer.statuses.items()} == dict.fromkeys(("", *services), SERVING)


def test_watch_of_an_unknown_service_says_so_and_stays_open(server: LocalServer) -> None:
    watch = health_pb2_grpc.HealthStub(server.channel()).Watch(health_pb2.HealthCheckRequest(service="no.such"), timeout=10)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert watch.is_active()
    watch.cancel()


def test_watchers_see_not_serving_and_their_calls_end_with_the_drain() -> None:
    with LocalServer() as server:
        stub = health_pb2_grpc.HealthStub(server.channel())
        watches = [
            stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=20) for name in ("", "assay.v1.ScoringService")
        ]
        for watch in watches:
            assert next(watch).status == SERVING
        finish = server.start_drain(grace_s=600)  # an open watch must not hold up the drain for its grace
        for watch in watches:
            assert [answer.status for answer in watch] == [NOT_SERVING]
        finish()


async def test_a_watcher_that_is_slow_to_read_still_sees_the_last_status() -> None:
    """A watch whose client had not yet taken SERVING when the drain began once ended without saying NOT_SERVING."""
    health = HealthService(())
    health.set_serving(True)
    watch = health._watch(b"", None)  # type: ignore[arg-type]
    assert (await anext(watch)).status == SERVING
    health.set_serving(False)
    health.close()
    assert [answer.status async for answer in watch] == [NOT_SERVING]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_every_service_it_lists(server: LocalServer, version: str) -> None:
    for channel, expected, _ in channels(server):
        services, pool = describe(channel, version)
        assert services == expected
        for name in services:
            assert pool.FindServiceByName(name).methods


def test_reflection_sends_comments_and_answers_by_file_and_by_symbol(server: LocalServer) -> None:
    asked = reflection_pb2.ServerReflectionRequest
    by_file, by_message, by_method, by_extension, none, numbers = reflect(
        server.channel(),
        "v1",
        asked(file_by_filename="assay/v1/scoring.proto"),
        asked(file_containing_symbol="assay.v1.ScoreResponse"),
        asked(file_containing_symbol="assay.v1.ScoringService.Score"),
        asked(file_containing_extension={"containing_type": "assay.v1.ScoreRequest", "extension_number": 1}),
        asked(file_containing_symbol="no.Such"),
        asked(all_extension_numbers_of_type="assay.v1.ScoreRequest"),
    )
    for answer in (by_file, by_message, by_method):
        first = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
        assert first.name == "assay/v1/scoring.proto"
        assert any("Scores one transaction." in place.leading_comments for place in first.source_code_info.location)
    for answer in (by_extension, none):
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert list(numbers.all_extension_numbers_response.extension_number) == []
    (details,) = reflect(server.channel(), "v1", asked(file_containing_symbol="google.rpc.ErrorInfo"))
    first = FileDescriptorProto.FromString(details.file_descriptor_response.file_descriptor_proto[0])
    assert first.name == "google/rpc/error_details.proto"
    (nothing,) = reflect(server.channel(), "v1", asked())
    assert nothing.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert nothing.original_request == asked()


def test_every_method_found_by_reflection_has_a_policy_row_and_stands_where_it_says(server: LocalServer) -> None:
    found = set()
    for channel, _, listener in channels(server):
        services, pool = describe(channel, "v1")
        methods = {f"/{name}/{method.name}" for name in services for method in pool.FindServiceByName(name).methods}
        for method in methods:
            assert method in POLICY, f"{method} has no row in ext/core/base/policy.cc"
        answered = {method for method in methods if listener in POLICY[method]}
        assert answered == set(server.method_tables()[listener].methods)
        found |= methods
    assert found == set(POLICY), "rows without a method"


def test_what_the_policy_does_not_name_answers_nowhere() -> None:
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    handlers = {"/assay.v1.ScoringService/Score": handler, "/assay.v1.ScoringService/Forgotten": handler}
    assert set(answered_on(Listener.PUBLIC, handlers)) == {"/assay.v1.ScoringService/Score"}
    assert answered_on(Listener.ADMIN, handlers) == answered_on(Listener.HEALTH, handlers) == {}


def test_reflection_can_be_switched_off() -> None:
    with LocalServer(reflection=False) as server:
        with pytest.raises(grpc.RpcError) as caught:
            reflect(server.channel(), "v1", reflection_pb2.ServerReflectionRequest(list_services=""))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        listed = health_pb2_grpc.HealthStub(server.channel()).List(health_pb2.HealthListRequest(), timeout=10)
        assert set(listed.statuses) == {
            "",
            "assay.v1.FeatureService",
            "assay.v1.ScoringService",
            "grpc.health.v1.Health",
            "inference.GRPCInferenceService",
        }


def test_an_open_reflection_call_does_not_hold_up_the_drain() -> None:
    import threading

    with LocalServer() as server:
        hold = threading.Event()

        def requests() -> Iterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            hold.wait(30)

        call = server.channel().stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(requests())
        next(call)
        server.start_drain(grace_s=600)()
        hold.set()
