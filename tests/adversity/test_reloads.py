"""Versions come and go under load, and broken ones between them: no call fails, and nothing broken ever answers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from assay.cli.model_rollout import LOAD_TIMEOUT_S
from assay.v1 import model_pb2, model_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.integration.test_metrics_page import demo_request
from tests.support.repositories import MODEL, add_version, broken_versions
from tests.support.server import WAIT_S, ServeProcess, reason_of, status_of, wait_until

CLIENTS = 4

pytestmark = pytest.mark.usefixtures("transport")


class Load:
    """Clients that score without a pause; what they were answered."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.versions: Counter[str] = Counter()
        self.failures: list[grpc.RpcError] = []
        self._lock = threading.Lock()
        self._end = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._call) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._end.set()
            for thread in threads:
                thread.join()

    def next_answers(self, count: int = 50) -> None:
        """Waits until so many more have come."""
        wanted = self.versions.total() + count
        wait_until(lambda: self.versions.total() >= wanted or bool(self.failures), "answers")

    def _call(self) -> None:
        with grpc.insecure_channel(self.target, options=[("grpc.enable_retries", 0)]) as channel:
            score = scoring_pb2_grpc.ScoringServiceStub(channel).Score
            while not self._end.is_set():
                try:
                    answer: scoring_pb2.ScoreResponse = score(demo_request(), timeout=WAIT_S)
                except grpc.RpcError as error:
                    self.failures.append(error)
                    return
                with self._lock:
                    self.versions[answer.provenance.version] += 1


def reload(root: Path, count: int) -> None:
    # No guard: one payment again and again is far from any baseline. Connections stay: these clients repeat nothing, not even a
    # call that met a connection on its way out.
    quiet = ("--set", "rollout.guard.window_s=0", "--set", "drain.delay_s=0", "--set", "connection.age_s_max=0")
    add_version(root, "0")
    with ServeProcess("--repository", str(root), *quiet) as server, grpc.insecure_channel(server.admin_target) as channel:
        models = model_pb2_grpc.ModelServiceStub(channel)
        load = Load(server.target)
        broken = list(broken_versions(root).items())
        with load.running():
            for number in range(1, count + 1):
                add_version(root, str(number))
                of = {"model": MODEL, "version": str(number)}
                models.LoadModel(model_pb2.LoadModelRequest(**of), timeout=LOAD_TIMEOUT_S)
                models.PromoteModel(model_pb2.PromoteModelRequest(**of), timeout=WAIT_S)
                load.next_answers()
                models.RollbackModel(model_pb2.RollbackModelRequest(model=MODEL), timeout=LOAD_TIMEOUT_S)
                models.PromoteModel(model_pb2.PromoteModelRequest(**of), timeout=WAIT_S)
                former = model_pb2.UnloadModelRequest(model=MODEL, version=str(number - 1))
                models.UnloadModel(former, timeout=WAIT_S)
            for version, said in broken:
                with pytest.raises(grpc.RpcError) as caught:
                    models.LoadModel(model_pb2.LoadModelRequest(model=MODEL, version=version), timeout=LOAD_TIMEOUT_S)
                status = status_of(caught.value)
                assert (version, reason_of(status)) == (version, "BUNDLE_REFUSED")
                assert said in status.message
                load.next_answers(10)
        assert load.failures == []
        assert set(load.versions) == {str(number) for number in range(count + 1)}
        (model,) = models.ListModels(model_pb2.ListModelsRequest(), timeout=WAIT_S).models
        assert model.champion == str(count)
        states = {one.version: one.state for one in model.versions}
        assert {states[version] for version, _ in broken} == {model_pb2.MODEL_STATE_FAILED}
        assert [version for version, state in states.items() if state == model_pb2.MODEL_STATE_READY] == [str(count)]


def test_reloads_under_load(tmp_path: Path) -> None:
    reload(tmp_path, 5)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_100_reloads_under_load(tmp_path: Path) -> None:
    reload(tmp_path, 100)
