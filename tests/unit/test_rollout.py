"""Rollouts over a real engine: what is loaded, what answers, and what is refused. Models are puppets; nothing is proved here."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay import _core
from assay.config import Config
from assay.errors import ConfigError
from assay.features.local_store import LocalStore
from assay.models.refusal import BundleRefusedError
from assay.models.repository import Repository, VersionState
from assay.models.route import Route
from assay.models.verify import VerifiedModel, verify_bundle
from assay.observe.tracing_settings import tracing_settings
from assay.scoring import settler
from assay.scoring.rollout import Rollout, RolloutError
from assay.scoring.scoring import Scoring
from assay.v1 import scoring_pb2
from tests.support.bundles import pack, runtime
from tests.support.onnx_models import linear_model
from tests.support.server import EVENT_TIME, wait_until


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> VerifiedModel:
    return verify_bundle(pack(linear_model(), tmp_path_factory.mktemp("models")), runtime(), batch_rows_max=8)


class House:
    """A rollout, its repository, and what its models do. `versions` are complete in the repository."""

    def __init__(self, proved: VerifiedModel, root: Path, versions: str = "12345", **rollout: Any) -> None:
        self.proved = proved
        # Rows go to runners: a puppet that is held would hold the thread that submits.
        self.config = Config(rollout={"repository": root, **rollout}, lane={"inline_run_us_max": 0})
        self.repository = Repository(root)
        for version in versions:
            self.put(version)
        self.now_s = 100.0
        self.puppets: dict[str, _core.PuppetModel] = {}
        self.refusals: dict[str, Exception] = {}
        self.prove_gate: threading.Event | None = None
        self.scoring = Scoring(
            self.config.engine,
            self.config.lane,
            self.config.store,
            1,
            tracing_settings(self.config.tracing, {}),
            self.config.skew,
        )
        self.store = LocalStore(_core.EmbeddedStore(), "embedded:", None, None)
        self.rollout = self.new_rollout()

    def new_rollout(self) -> Rollout:
        return Rollout(self.scoring, self.store, self.prove, self.config.rollout, self.repository, clock=lambda: self.now_s)

    def put(self, version: str) -> None:
        path = self.repository.root / "tiny" / version
        path.mkdir(parents=True, exist_ok=True)
        (path / "manifest.yaml").touch()

    def prove(self, path: Path) -> VerifiedModel:
        if self.prove_gate is not None:
            assert self.prove_gate.wait(30)
        if refusal := self.refusals.get(path.name):
            raise refusal
        return self.model(path.name)

    def model(self, version: str) -> VerifiedModel:
        manifest = self.proved.bundle.manifest.model_copy(update={"version": version})
        self.puppets[version] = _core.PuppetModel()
        return replace(self.proved, bundle=replace(self.proved.bundle, manifest=manifest), model=self.puppets[version])  # type: ignore[arg-type]

    def begin(self, *versions: str) -> Rollout:
        """With these loaded."""
        self.rollout.add_first([self.model(version) for version in versions], self.repository.routes(), "tiny")
        return self.rollout

    def score(self, customer: str = "c1", version: str = "", amount_minor: int = 100) -> str:
        """The version that answered, or the reason why none did."""
        request = scoring_pb2.ScoreRequest(transaction_id="t", entities={"customer_id": customer}, version=version)
        request.event_time.FromDatetime(EVENT_TIME)
        request.features["amount_minor"].int64_value = amount_minor
        engine = self.scoring.engine
        queue = engine.open_queue()
        answer = engine.submit_score(request.SerializeToString(), 0, queue, 1)
        if isinstance(answer, _core.Accepted):
            done: list[Any] = []
            wait_until(lambda: bool(done.extend(queue.drain()) or done), "an answer")
            ((_, answer),) = done
        if isinstance(answer, _core.Refusal):
            return _core.CODE_TABLE[answer.code].reason
        return scoring_pb2.ScoreResponse.FromString(answer).provenance.version

    def states(self) -> dict[str, str]:
        self.rollout.look()
        (model,) = self.rollout.status()
        return {one.version: one.state.value for one in model.versions}

    def route(self) -> Route:
        """As it is, which is as it is kept."""
        (model,) = self.rollout.status()
        assert model.route is not None
        # After a guard's step the settler writes it a moment later.
        wait_until(lambda: self.repository.routes() == {"tiny": model.route}, "the route is kept")
        wait_until(lambda: self.rollout.status()[0].is_kept, "it is known to be")
        return model.route

    def close(self) -> None:
        for puppet in self.puppets.values():
            puppet.release()
        self.rollout.close()
        self.scoring.close(10.0)


@pytest.fixture
def house(proved: VerifiedModel, tmp_path: Path) -> Iterator[House]:
    made = House(proved, tmp_path)
    yield made
    made.close()


@contextmanager
def refused(reason: str, text: str) -> Iterator[None]:
    with pytest.raises(RolloutError, match=text) as caught:
        yield
    assert caught.value.reason == reason


# --- loading


def test_what_is_loaded_answers_nobody_until_it_is_promoted(house: House) -> None:
    rollout = house.begin("1")
    rollout.load("tiny", "2")
    assert house.states() == {"1": "ready", "2": "ready", "3": "found", "4": "found", "5": "found"}
    assert (house.score(), house.score(version="2"), house.score(version="3")) == ("1", "2", "UNKNOWN_VERSION")
    rollout.promote("tiny", "2")
    assert house.route() == Route(champion="2", previous="1")
    assert (house.score(), house.score(version="@champion"), house.score(version="1")) == ("2", "2", "1")
    assert [model.version for model in rollout.models] == ["2", "1"]  # the champion first


def test_a_load_of_what_is_loaded_is_nothing(house: House) -> None:
    rollout = house.begin("1")
    rollout.load("tiny", "1")
    rollout.load("tiny", "2")
    before = house.puppets["2"]
    rollout.load("tiny", "2")
    assert house.puppets["2"] is before


def test_a_refused_bundle_changes_nothing_and_may_be_mended(house: House) -> None:
    rollout = house.begin("1")
    house.refusals["2"] = BundleRefusedError("model.onnx", "is a pickle", "export it")
    with refused("BUNDLE_REFUSED", "tiny 2: model.onnx: is a pickle; export it"):
        rollout.load("tiny", "2")
    (model,) = rollout.status()
    assert [(one.state, one.reason) for one in model.versions if one.version == "2"] == [
        (VersionState.FAILED, "model.onnx: is a pickle; export it")
    ]
    assert (house.score(), house.score(version="2")) == ("1", "UNKNOWN_VERSION")
    del house.refusals["2"]
    rollout.load("tiny", "2")
    assert house.states()["2"] == "ready"


def test_a_fault_of_ours_is_told_without_its_text(house: House) -> None:
    rollout = house.begin("1")
    house.refusals["2"] = ZeroDivisionError("4111111111111111")
    with refused("BUNDLE_REFUSED", "tiny 2: a fault of the server: its log has the traceback"):
        rollout.load("tiny", "2")
    assert house.states()["2"] == "failed"


def test_a_lane_that_cannot_be_made_leaves_nothing_behind(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = house.begin("1")

    def no_room(_: object) -> Any:
        raise ConfigError("no room")

    monkeypatch.setattr(house.store, "writer", no_room)
    with refused("BUNDLE_REFUSED", "no room"):
        rollout.load("tiny", "2")
    assert house.score(version="2") == "UNKNOWN_VERSION"
    monkeypatch.undo()
    rollout.load("tiny", "2")
    assert house.score(version="2") == "2"


def test_a_model_that_is_slower_than_a_call_may_be_is_refused(house: House) -> None:
    rollout = house.begin("1")
    house.proved = replace(house.proved, row_run_ns=house.proved.timeout_ns_default)
    with refused("BUNDLE_REFUSED", "a row takes .* alone, and a call at most"):
        rollout.load("tiny", "2")


def test_what_is_not_there_is_not_loaded(house: House) -> None:
    rollout = house.begin("1")
    for name, version in [("tiny", "9"), ("other", "1"), ("..", "1"), ("tiny", "../tiny/2"), ("", "")]:
        with refused("ROLLOUT_REFUSED", "no complete bundle"):
            rollout.load(name, version)


def test_only_so_many_are_loaded_at_once(proved: VerifiedModel, tmp_path: Path) -> None:
    house = House(proved, tmp_path, loaded_max=2)
    try:
        rollout = house.begin("1")
        rollout.load("tiny", "2")
        with refused("ROLLOUT_REFUSED", r"2 versions are loaded, which is rollout\.loaded_max: unload one first"):
            rollout.load("tiny", "3")
        assert house.states()["3"] == "found"
        rollout.unload("tiny", "2")
        rollout.load("tiny", "3")
    finally:
        house.close()


def test_a_server_of_named_models_has_nothing_to_load_from(house: House) -> None:
    rollout = Rollout(house.scoring, house.store, house.prove, house.config.rollout, None)
    rollout.add_first([house.model("1")], {}, "tiny")
    with refused("ROLLOUT_REFUSED", "no repository to load from: start it with --repository DIR"):
        rollout.load("tiny", "2")
    (model,) = rollout.status()
    assert (model.route, model.is_kept) == (Route(champion="1"), False)
    rollout.close()


def test_the_first_version_of_a_model_answers_at_once(house: House) -> None:
    rollout = house.begin("1")
    path = house.repository.root / "other" / "7"
    path.mkdir(parents=True)
    (path / "manifest.yaml").touch()
    manifest = house.proved.bundle.manifest.model_copy(update={"name": "other"})
    house.proved = replace(house.proved, bundle=replace(house.proved.bundle, manifest=manifest))
    rollout.load("other", "7")
    status = rollout.model_status("other")
    assert status is not None
    assert status.route == Route(champion="7")
    assert house.score() == "1"  # of the default model


# --- unloading


def test_what_has_a_label_is_not_unloaded(house: House) -> None:
    rollout = house.begin("1", "2", "3", "4")
    rollout.set_canary("tiny", "1", 0.0)
    rollout.set_shadow("tiny", "2", 1.0)
    for version, label in [("4", "champion"), ("1", "challenger"), ("2", "shadow")]:
        with refused("ROLLOUT_REFUSED", f"tiny {version} is the {label}: give that to another version first"):
            rollout.unload("tiny", version)
    with refused("UNKNOWN_VERSION", "not loaded"):
        rollout.unload("tiny", "5")
    rollout.unload("tiny", "3")
    assert (house.states()["3"], house.score(version="3")) == ("unloaded", "UNKNOWN_VERSION")
    rollout.load("tiny", "3")
    assert house.score(version="3") == "3"


def test_without_the_previous_a_rollback_leads_nowhere(house: House) -> None:
    rollout = house.begin("1", "2")
    rollout.promote("tiny", "1")
    with refused("ROLLOUT_REFUSED", "is what the guard of 1 would go back to"):
        rollout.unload("tiny", "2")
    house.now_s += house.config.rollout.guard.window_s
    rollout.tick()
    rollout.unload("tiny", "2")
    assert house.route() == Route(champion="1")
    with refused("ROLLOUT_REFUSED", "no canary runs, and no version before 1 is loaded"):
        rollout.rollback("tiny")


def test_what_is_on_its_way_out_is_not_loaded_meanwhile(house: House) -> None:
    rollout = house.begin("1", "2")
    house.puppets["1"].hold()
    caller = threading.Thread(target=lambda: house.score(version="1"))
    caller.start()
    wait_until(lambda: house.scoring.engine.stats().slots_used == 1, "a call in the run that hangs")
    unloading = threading.Thread(target=lambda: rollout.unload("tiny", "1"))
    unloading.start()
    wait_until(lambda: house.states()["1"] == "unloading", "the lane is being ended")
    with refused("ROLLOUT_REFUSED", "is being unloaded: its last calls have not ended"):
        rollout.load("tiny", "1")
    house.puppets["1"].release()
    unloading.join()
    caller.join()
    assert house.states()["1"] == "unloaded"


# --- labels


def test_labels_go_to_loaded_versions_of_known_models_only(house: House) -> None:
    rollout = house.begin("1", "2")
    for step in (
        lambda: rollout.promote("tiny", "3"),
        lambda: rollout.set_canary("tiny", "3", 0.1),
        lambda: rollout.set_shadow("tiny", "3", 0.1),
    ):
        with refused("UNKNOWN_VERSION", "not loaded: load it first"):
            step()
    for step in (
        lambda: rollout.promote("other", "1"),
        lambda: rollout.rollback("other"),
        lambda: rollout.set_canary("other", "1", 0),
    ):
        with refused("UNKNOWN_MODEL", "no version of this model is loaded"):
            step()
    for step in (lambda: rollout.set_canary("tiny", "2", 0.1), lambda: rollout.set_shadow("tiny", "2", 0.1)):
        with refused("ROLLOUT_REFUSED", "is the champion"):
            step()
    for share in (-0.1, 1.1, float("nan")):
        with refused("ROLLOUT_REFUSED", "share: expected 0 to 1"):
            rollout.set_canary("tiny", "1", share)
    with refused("ROLLOUT_REFUSED", "a share above 0 needs the version"):
        rollout.set_canary("tiny", "", 0.5)
    assert house.route() == Route(champion="2")


def test_a_canary_splits_by_entity_and_a_rollback_ends_it(house: House) -> None:
    rollout = house.begin("1", "2")
    rollout.set_canary("tiny", "1", 0.4)
    sides = {f"c{i}": house.score(f"c{i}") for i in range(60)}
    assert 8 <= list(sides.values()).count("1") <= 44
    assert {customer: house.score(customer) for customer in sides} == sides
    rollout.rollback("tiny")
    assert house.route() == Route(champion="2", challenger="1")
    assert {house.score(customer) for customer in sides} == {"2"}
    assert house.score(version="@challenger") == "1"
    rollout.set_canary("tiny", "1", 0.4)
    rollout.promote("tiny", "1")
    assert house.route() == Route(champion="1", previous="2")
    rollout.rollback("tiny")
    assert (house.route(), rollout.rollbacks) == (Route(champion="2"), {"asked": 2, "guard": 0})


def test_a_shadow_compares(house: House) -> None:
    rollout = house.begin("1", "2")
    rollout.set_shadow("tiny", "1", 1.0)
    for _ in range(5):
        house.score()
    wait_until(lambda: rollout.shadow_stats()[0].compared_rows == 5, "the shadow's rows")
    (model,) = rollout.status()
    assert model.shadow is not None
    assert (model.shadow.version, model.shadow.difference_sum) == ("1", 0.0)
    rollout.promote("tiny", "1")  # its own shadow it is not
    assert (rollout.shadow_stats(), house.route()) == ([], Route(champion="1", previous="2"))
    rollout.set_shadow("tiny", "2", 0.5)
    rollout.set_shadow("tiny", "2", 0.0)
    assert rollout.shadow_stats() == []


def test_a_restart_comes_back_with_what_was_chosen(house: House) -> None:
    rollout = house.begin("1", "2", "3")
    rollout.set_shadow("tiny", "1", 0.5)
    rollout.set_canary("tiny", "2", 0.25)
    kept = house.repository.routes()["tiny"]
    assert kept == Route(champion="3", challenger="2", canary_share=0.25, shadow="1", shadow_share=0.5)
    other = House(house.proved, house.repository.root)
    try:
        other.begin("1", "2", "3")
        assert other.route() == kept
        assert other.rollout.status()[0].guarded == ("2",)
        assert other.rollout.shadow_stats()[0].share == 0.5
    finally:
        other.close()


def test_what_did_not_come_back_loses_its_labels(house: House) -> None:
    house.repository.keep_route("tiny", Route(champion="1", previous="4", challenger="2", canary_share=0.5))
    house.begin("1")
    (model,) = house.rollout.status()
    assert model.route == Route(champion="1")
    # It was chosen all the same: the next start, or another server, may have it.
    assert house.repository.routes()["tiny"] == Route(champion="1", previous="4", challenger="2", canary_share=0.5)


def test_a_disk_that_is_full_keeps_no_choice_and_stops_none(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = house.begin("1", "2")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Repository, "keep_route", full)
    rollout.promote("tiny", "1")
    assert (house.score(), rollout.status()[0].is_kept) == ("1", False)
    monkeypatch.undo()
    rollout.rollback("tiny")
    assert house.route() == Route(champion="2")


# --- the guard


def test_a_promoted_version_that_fails_is_taken_back(proved: VerifiedModel, tmp_path: Path) -> None:
    house = House(proved, tmp_path, guard={"rows_min": 20, "window_s": 60})
    try:
        rollout = house.begin("1", "2")
        rollout.promote("tiny", "1")
        rollout.tick()
        assert rollout.status()[0].guarded == ("1",)
        house.puppets["1"].fail_next(1000)
        assert house.score() == "MODEL_RUN_FAILED"
        rollout.tick()
        (model,) = rollout.status()
        assert (house.route(), model.guarded, rollout.rollbacks) == (Route(champion="2"), (), {"asked": 0, "guard": 1})
        assert model.last_breach.startswith("1: 1 of 1 rows failed")
        assert house.score() == "2"
    finally:
        house.close()


def test_a_canary_that_fails_is_ended(proved: VerifiedModel, tmp_path: Path) -> None:
    house = House(proved, tmp_path, guard={"rows_min": 5})
    try:
        rollout = house.begin("1", "2")
        rollout.set_canary("tiny", "1", 0.5)
        house.puppets["1"].fail_next(1000)
        answers = [house.score(f"c{i}") for i in range(40)]
        assert set(answers) == {"2", "MODEL_RUN_FAILED"}
        rollout.tick()
        assert house.route() == Route(champion="2", challenger="1")
        assert {house.score(f"c{i}") for i in range(40)} == {"2"}
    finally:
        house.close()


def test_the_guard_of_a_promotion_ends_and_that_of_a_canary_does_not(house: House) -> None:
    rollout = house.begin("1", "2", "3")
    rollout.promote("tiny", "1")
    house.now_s += house.config.rollout.guard.window_s
    rollout.tick()
    assert rollout.status()[0].guarded == ()
    rollout.set_canary("tiny", "2", 0.5)
    house.now_s += 1e6
    rollout.tick()
    assert rollout.status()[0].guarded == ("2",)
    rollout.set_shadow("tiny", "3", 0.5)  # changes who answers nobody
    assert rollout.status()[0].guarded == ("2",)
    rollout.set_canary("tiny", "", 0.0)
    assert rollout.status()[0].guarded == ()


def test_nobody_watches_where_the_window_is_nothing(proved: VerifiedModel, tmp_path: Path) -> None:
    house = House(proved, tmp_path, guard={"window_s": 0})
    try:
        rollout = house.begin("1", "2")
        rollout.promote("tiny", "1")
        assert rollout.status()[0].guarded == ()
    finally:
        house.close()


# --- beside each other


def test_a_rollback_waits_for_no_load(house: House) -> None:
    rollout = house.begin("1", "2")
    rollout.promote("tiny", "1")
    house.prove_gate = threading.Event()
    loading = threading.Thread(target=lambda: rollout.load("tiny", "3"))
    loading.start()
    wait_until(lambda: house.states()["3"] == "loading", "the load is under way")
    rollout.rollback("tiny")
    assert house.score() == "2"
    house.prove_gate.set()
    loading.join()
    assert house.states()["3"] == "ready"


def test_a_repository_that_is_watched_loads_what_is_new(proved: VerifiedModel, tmp_path: Path) -> None:
    house = House(proved, tmp_path, versions="12", watch_s=0.001, loaded_max=3)
    try:
        rollout = house.begin("1")
        house.refusals["2"] = BundleRefusedError("model.onnx", "is broken", "mend it")
        rollout.start()
        wait_until(lambda: house.states()["2"] == "failed", "the broken one is tried")
        house.put("3")
        wait_until(lambda: house.states()["3"] == "ready", "the new one is found")
        assert house.score() == "1"
    finally:
        house.close()


def test_a_version_that_refuses_what_callers_send_is_taken_back(proved: VerifiedModel, tmp_path: Path) -> None:
    house = House(proved, tmp_path, guard={"rows_min": 5})
    try:
        rollout = house.begin("1", "2")
        rollout.promote("tiny", "1")
        for _ in range(3):
            assert rollout.status()[0].guarded == ("1",)
            for _ in range(5):
                assert house.score(amount_minor=-1) == "INVALID_REQUEST"
            rollout.tick()
        assert house.route() == Route(champion="2")
        assert "5 of 5 rows were refused or late" in rollout.status()[0].last_breach
        # Who names a version speaks for nobody else.
        rollout.promote("tiny", "1")
        for _ in range(40):
            house.score(version="1", amount_minor=-1)
            rollout.tick()
        assert house.route().champion == "1"
    finally:
        house.close()


def test_a_disk_that_hangs_keeps_no_rollback_waiting(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = house.begin("1", "2")
    rollout.promote("tiny", "1")
    gate = threading.Event()
    keep = Repository.keep_route
    monkeypatch.setattr(settler, "SETTLE_S_MAX", 0.01)
    monkeypatch.setattr(Repository, "keep_route", lambda *arguments: gate.wait(30) and keep(*arguments))
    rollout.rollback("tiny")
    assert (house.score(), rollout.status()[0].is_kept) == ("2", False)
    gate.set()
    wait_until(lambda: rollout.status()[0].is_kept, "the disk comes back")
    assert house.route() == Route(champion="2")


def test_a_file_of_any_name_does_not_hide_the_others(house: House) -> None:
    rollout = house.begin("1")
    house.refusals["2"] = BundleRefusedError("\udcff.pkl", "is no file of a bundle\x1b[31m", "remove it")
    with refused("BUNDLE_REFUSED", "is no file of a bundle"):
        rollout.load("tiny", "2")
    (model,) = rollout.status()
    (reason,) = [one.reason for one in model.versions if one.version == "2"]
    reason.encode()
    assert "\x1b" not in reason


def test_the_first_version_of_a_model_is_the_one_that_was_chosen(house: House) -> None:
    rollout = Rollout(house.scoring, house.store, house.prove, house.config.rollout, house.repository)
    house.repository.keep_route("tiny", Route(champion="2"))
    with refused("ROLLOUT_REFUSED", "2 was chosen as its champion"):
        rollout.load("tiny", "1")
    rollout.load("tiny", "2")
    rollout.load("tiny", "1")
    assert house.repository.routes() == {"tiny": Route(champion="2")}
    rollout.close()


@pytest.mark.parametrize("bad", ["1", "2"])
def test_a_canary_and_the_promotion_before_it_are_guarded_both(proved: VerifiedModel, tmp_path: Path, bad: str) -> None:
    house = House(proved, tmp_path, guard={"rows_min": 5})
    try:
        rollout = house.begin("1", "2", "3")
        rollout.promote("tiny", "1")
        rollout.set_canary("tiny", "2", 0.5)
        assert rollout.status()[0].guarded == ("1", "2")
        house.puppets[bad].fail_next(1000)
        for i in range(40):
            house.score(f"c{i}")
        rollout.tick()
        (model,) = rollout.status()
        assert model.last_breach.startswith(f"{bad}: ")
        if bad == "2":  # the canary alone ends
            assert house.route() == Route(champion="1", previous="3", challenger="2")
            assert model.guarded == ("1",)
        else:  # what the canary was compared with is gone, and so is the canary
            assert house.route() == Route(champion="3", challenger="2")
            assert model.guarded == ()
        assert rollout.rollbacks == {"asked": 0, "guard": 1}
    finally:
        house.close()


def test_the_end_of_a_canary_leaves_a_promotion_guarded(house: House) -> None:
    rollout = house.begin("1", "2", "3")
    rollout.promote("tiny", "1")
    rollout.set_canary("tiny", "2", 0.5)
    rollout.set_canary("tiny", "", 0.0)
    assert rollout.status()[0].guarded == ("1",)
    rollout.set_canary("tiny", "2", 0.5)
    rollout.rollback("tiny")
    assert rollout.status()[0].guarded == ("1",)


def test_a_shadow_begins_anew_beside_another_champion(house: House) -> None:
    rollout = house.begin("1", "2", "3")
    rollout.set_shadow("tiny", "1", 1.0)
    house.score()
    wait_until(lambda: rollout.shadow_stats()[0].compared_rows == 1, "the shadow's row")
    rollout.promote("tiny", "2")
    assert rollout.shadow_stats()[0].compared_rows == 0


def test_only_champions_decide_about_events(house: House) -> None:
    rollout = house.begin("1", "2")
    assert [len(writers) for writers in house.scoring.writers] == [1, 0]
    other = house.proved.plan  # versions of one feature set share its writer
    assert other.schema_hash == house.model("9").plan.schema_hash
    rollout.unload("tiny", "1")
    assert [len(writers) for writers in house.scoring.writers] == [1, 0]
    rollout.load("tiny", "3")
    rollout.unload("tiny", "3")
    assert len(house.scoring._writers) == 1
