"""The progress artifact: the share of all pieces together, a few requests a minute, and never worth failing for."""

import logging
import re
import sys
from concurrent.futures import Future
from threading import Event
from types import SimpleNamespace

import pytest
from flowsr.flows import runtime
from flowsr.flows.artifacts import artifact_key
from prefect.exceptions import FailedRun

from flowsr.errors import Busy


@pytest.fixture
def artifact(monkeypatch):
    """A stand-in for Prefect's artifact, and a clock; (updates, advance the clock)."""
    updates, now = [], [0.0]
    monkeypatch.setattr(runtime, "create_progress_artifact", lambda percent, key, description: key)
    monkeypatch.setattr(runtime, "update_progress_artifact", lambda *update: updates.append(update))
    monkeypatch.setattr(runtime, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def advance(seconds):
        now[0] += seconds

    return updates, advance


class AtOnce:
    """Does what it is given before it goes on, as the clock of these tests does not wait for threads."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, call, *given):
        done = Future()
        done.set_result(call(*given))
        return done


def test_an_hour_of_reports_makes_three_updates_a_minute_at_the_most(artifact, monkeypatch):
    updates, advance = artifact
    monkeypatch.setattr(runtime, "ThreadPoolExecutor", AtOnce)
    with runtime.shown_progress("demo", "train", 2) as progress:
        for network in ("relaxed", "cnn"):
            for tick in range(1800):
                advance(1.0)
                progress.part(f"train {network}")((tick + 1) / 1800, "epoch")
    percents = [percent for _, percent, _ in updates]
    assert len(updates) == 3600 // 20 + 1
    assert percents == sorted(percents) and percents[-1] == 100
    assert percents[89] == pytest.approx(50)
    assert updates[134] == ("demo-train-progress", pytest.approx(75), "train cnn: 50 % epoch")


def test_a_server_that_is_away_does_not_end_the_work(artifact, monkeypatch, caplog):
    def away(*_):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(runtime, "update_progress_artifact", away)
    with caplog.at_level(logging.WARNING), runtime.shown_progress("demo", "train", 1) as progress:
        artifact[1](60)
        progress.part("train relaxed")(0.5, "")
    assert "nobody answers" in caplog.text


def test_a_server_that_does_not_answer_holds_up_no_work(artifact, monkeypatch):
    answer, updates = Event(), []

    def slow(_, percent, description):
        assert answer.wait(600)
        updates.append((percent, description))

    monkeypatch.setattr(runtime, "update_progress_artifact", slow)
    with runtime.shown_progress("demo", "train", 1) as progress:
        for epoch in range(10):  # while the first update waits for its answer
            artifact[1](60)
            progress.part("train relaxed")(epoch / 10, "")
        answer.set()
    assert updates == [(0, "train relaxed: 0 % "), (100, "train: done")]


def test_work_that_fails_is_not_shown_as_done(artifact):
    updates, _ = artifact
    with pytest.raises(ValueError), runtime.shown_progress("demo", "train", 1) as progress:
        progress.part("train relaxed")(0.5, "")
        raise ValueError
    assert updates == [("demo-train-progress", 50.0, "train: ended before it was done")]


def test_keys_are_what_prefect_allows():
    assert artifact_key("My run_2", "train") == "my-run-2-train"
    keys = [artifact_key(name, "upscale") for name in ("Å.h5", "поле.h5", "данные.h5", "h5")]
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", key) for key in keys) and len(set(keys)) == 4


def test_a_failure_is_in_the_log_without_a_traceback_that_its_state_makes_needless():
    kept = {}
    for name, error in (("prefect.engine", FailedRun("no such variable")), ("prefect.task_runs", OSError("stale"))):
        try:
            raise error
        except Exception:
            record = logging.makeLogRecord({"name": name, "exc_info": sys.exc_info()})
            kept[name] = logging.getLogger(name).filter(record) and record.exc_info is None
    assert kept == {"prefect.engine": False, "prefect.task_runs": True}


def test_a_run_that_finds_another_at_the_same_work_is_skipped():
    @runtime.one_line_failures
    def work():
        raise Busy("another process is at 'train relaxed'")

    state = work()
    assert state.is_completed() and state.name == runtime.SKIPPED and "train relaxed" in state.message
