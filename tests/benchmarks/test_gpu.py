"""The rehearsal goes through the steps on a CPU, and no failure of one is the end of the others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu
import pytest
from gpu_steps import Place, Row

SCRIPT = Path(gpu.__file__)


def rehearse(folder, *arguments):
    """What gpu.json says after a rehearsal in a process of its own, from the folder that the results go to."""
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    command = [sys.executable, str(SCRIPT), "--rehearse", "--minutes", "28", "--output", str(folder), *arguments]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    found = json.loads((folder / "gpu.json").read_text())["rows"]
    assert all(f"| {row['step']} | {row['what']} |" in (folder / "gpu.md").read_text() for row in found)
    return found


def check(rows, steps):
    assert {row["step"] for row in rows if row["measured"] is not None} == set(steps)
    errors = [row for row in rows if row["what"].startswith(("error", "torch.compile", "CUDA against CPU"))]
    assert all(row["measured"] <= row["goal"][1] for row in errors), errors
    assert all("Error" not in row["note"] for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="Triton is made for Linux only")
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["in part", "whole"])
def test_the_rehearsal(whole, tmp_path):
    """The whole takes a minute: before a GPU is asked for, not at every change."""
    chosen = [step.name for step in gpu.STEPS if whole or step.name in ("ceilings", "upscaling", "dns")]
    check(rehearse(tmp_path, "--only", *chosen), chosen)


def steps(*runs, sizes=("large", "small"), seconds=600):
    return [gpu.Step(f"step {number}", run, seconds, sizes, "tiny") for number, run in enumerate(runs)]


def test_a_step_that_fails_dies_or_hangs_is_a_row_and_falls_back(monkeypatch):
    def fails(place, size):
        yield Row("before", measured=1.0)
        raise ValueError("no such thing")

    def dies(place, size):
        os._exit(3)
        yield

    def hangs(place, size):
        while True:
            pass
        yield

    def works(place, size):
        if size == "large":
            raise MemoryError
        yield Row(f"at {size}", measured=2.0)

    kept = []
    monkeypatch.setattr(gpu, "LEAST", 0.2)
    chosen = steps(fails, dies, works) + steps(hangs, seconds=1)
    rows = gpu.go_through(chosen, Place("cpu"), 60.0, lambda rows: kept.append(len(rows)))
    assert kept == list(range(1, len(rows) + 1))
    notes = [row.note for row in rows]
    assert notes.count("ValueError: no such thing") == 2 and any("exit code 3" in note for note in notes)
    assert [row.what for row in rows if row.measured == 2.0] == ["at small"]
    assert any(note.startswith("cut off after") for note in notes) and notes[-1].startswith("not run: no time left")


def test_goals_and_floors():
    place = Place("cuda", ceilings={"copy bandwidth": 2.0, "bf16 matrix product": 500.0})
    assert place.floor(4e9) == pytest.approx(2.0) and place.floor(4e9, 2e12) == pytest.approx(4.0)
    assert Place("cuda").floor(1.0) is None
    row = Row("w", "ms", 3.0, floor=2.0, goal=(">=", 4.0))
    assert row.met is False and "| 1.50 | **no** |" in row.line()
    assert Row("w", goal=("<=", 1.0)).met is None
