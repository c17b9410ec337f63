"""A step is done once, done again when its settings or inputs change, and gone on with after a kill."""

import pytest

from flowsr.errors import FlowsrError
from flowsr.files import read_json
from flowsr.pipeline.steps import Step, perform


@pytest.fixture
def work(tmp_path):
    """A counter of how often the work was done, and the work."""

    class Work:
        calls = 0
        output = tmp_path / "out" / "result.txt"

        def __call__(self):
            self.calls += 1
            self.output.write_text("done")

    return Work()


def step_of(work, **settings):
    return Step("add", work.output.parent / "run.json", (work.output,), settings, {"input": "abc"})


def test_done_once_and_reused(work):
    assert not perform(step_of(work, a=1), work).reused
    again = perform(step_of(work, a=1), work)
    assert again.reused and work.calls == 1
    assert again.checksums.keys() == {"result.txt"}


@pytest.mark.parametrize("changed", [{"settings": {"a": 2}}, {"inputs": {"input": "abd"}}])
def test_done_again_when_settings_or_inputs_change(work, changed):
    perform(step_of(work, a=1), work)
    values = {"settings": {"a": 1}, "inputs": {"input": "abc"}, **changed}
    perform(Step("add", work.output.parent / "run.json", (work.output,), **values), work)
    assert work.calls == 2


def test_stale_outputs_and_scratch_are_gone_before_the_work_starts_over(work, tmp_path):
    scratch = tmp_path / "out" / "checkpoints"
    perform(step_of(work, a=1), work)
    scratch.mkdir()

    def fresh_start():
        assert not work.output.exists() and not scratch.exists()
        work()

    perform(Step("add", work.output.parent / "run.json", (work.output,), {"a": 2}, scratch=(scratch,)), fresh_start)


def test_a_missing_output_is_made_again(work):
    perform(step_of(work), work)
    work.output.unlink()
    assert not perform(step_of(work), work).reused


def test_fresh_does_it_again(work):
    perform(step_of(work), work)
    assert not perform(step_of(work), work, fresh=True).reused


def test_work_that_fails_is_not_recorded_as_done_and_keeps_its_partial_results(work):
    def broken():
        work()
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        perform(step_of(work), broken)
    assert read_json(work.output.parent / "run.json")["status"] == "running"
    perform(step_of(work), lambda: None)
    assert work.calls == 1 and work.output.read_text() == "done"


def test_work_that_leaves_nothing_is_an_error(work):
    with pytest.raises(FlowsrError, match="ended without its output"):
        perform(step_of(work), lambda: None)


def test_two_processes_do_not_do_the_same_step(work):
    with pytest.raises(FlowsrError, match="another process"):
        perform(step_of(work), lambda: perform(step_of(work), work))


def test_a_damaged_record_means_start_over(work):
    perform(step_of(work), work)
    (work.output.parent / "run.json").write_text("{")
    assert not perform(step_of(work), work).reused


def test_the_record_says_what_is_needed_to_do_it_again(work):
    perform(step_of(work, a=1), work)
    record = read_json(work.output.parent / "run.json")
    assert record["status"] == "finished" and record["settings"] == {"a": 1} and record["inputs"] == {"input": "abc"}
    assert record["versions"]["torch"] and record["seconds"] >= 0
