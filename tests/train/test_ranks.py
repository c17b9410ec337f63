"""Two processes with half of every batch each end where one ends; one that is killed ends both, and they resume."""

import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.progress import SILENT
from flowsr.train.fit import fit
from flowsr.train.ranks import Rank, in_company, launched, shares, this_rank
from tests.train.test_fit import SCHEDULE, Draws, PatchPair, network, patches

PAIR = replace(SCHEDULE, devices=2, precision="64-true", max_epochs=3, clip=0.3, ema=0.9)


class Fatal(Draws):
    """The second process is killed in the second epoch."""

    def __getitem__(self, index):
        if this_rank().number == 1 and self.epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def fitted(folder, schedule, fatal, *, progress):
    pair = patches()
    pair = PatchPair(Fatal(6), pair.validation, pair.grid, pair.halo) if fatal else pair
    model = network()
    found = fit(model, pair, schedule, folder, device="cpu", progress=progress)
    return model.state_dict(), found, torch.get_num_threads()


def together(folder, fatal=False):
    return in_company(2, 1, fitted, (folder, PAIR, fatal), SILENT)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(FlowsrError) as told:
        together(folder, fatal=True)
    return folder, told.value


def test_one_that_is_killed_ends_the_other_with_one_line(killed):
    folder, error = killed
    assert error.variable == "train.devices" and "resume" in error.hint and "\n" not in str(error)
    assert len((folder / "history.csv").read_text().splitlines()) == 2  # a head and an epoch


def test_two_processes_end_in_the_weights_of_one_also_after_a_kill(killed, tmp_path):
    """With half of every batch each, gradients clipped and weights averaged, in float64."""
    weights, found, threads = together(shutil.copytree(killed[0], tmp_path / "two"))
    expected, alone, _ = fitted(tmp_path / "one", replace(PAIR, devices=1), False, progress=SILENT)
    assert threads == 1 and [line["epoch"] for line in found.history] == [0, 1, 2]
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-11, atol=1e-13)
    for loss in ("train_loss", "validation_loss"):
        assert [line[loss] for line in found.history] == pytest.approx([line[loss] for line in alone.history], 1e-5)


@pytest.mark.slow
def test_resuming_ends_in_the_same_bits(killed, tmp_path):
    resumed, _, _ = together(shutil.copytree(killed[0], tmp_path / "resumed"))
    whole, _, _ = together(tmp_path / "whole")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_shares_of_all_make_up_every_batch(size):
    parts = [shares(18, 12, Rank(number, size)) for number in range(size)]
    for batch, wanted in enumerate((range(12), range(12, 18))):
        assert {len(part[batch]) for part in parts} == {len(wanted) // size}
        assert sorted(index for part in parts for index in part[batch]) == list(wanted)


def test_batches_that_cannot_be_shared_are_refused():
    for wrong in ({"batch_size": 3}, {"samples_per_epoch": 7}, {"devices": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(SCHEDULE, **{"devices": 2, "samples_per_epoch": 6, **wrong})


def test_several_machines_need_a_launcher():
    with pytest.raises(FlowsrError) as told:
        in_company(1, 2, fitted, (), SILENT)
    assert told.value.variable == "train.nodes" and "torchrun" in told.value.hint


def test_what_slurm_started_knows_its_rank(monkeypatch):
    assert launched() is None
    monkeypatch.setenv("SLURM_PROCID", "0")  # a batch script's own step
    assert launched() is None
    for name, value in (("PROCID", 5), ("STEP_NUM_TASKS", 8), ("LOCALID", 1)):
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert launched() == Rank(5, 8, 1)
