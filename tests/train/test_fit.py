"""Fitting: the best epoch is kept, a cut fit ends as if it had not been cut, every epoch leaves a line."""

import csv
import itertools
import math
import shutil
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import Dataset

from flowsr.data.scales import scales_of
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models import Task, build_model
from flowsr.models.octahedral import breaking_power
from flowsr.train import fit as fitting
from flowsr.train.checkpoints import BEFORE, BEST, HISTORY, LAST, discard_checkpoints, read_checkpoint, read_history
from flowsr.train.fit import PatchPair, Schedule, fit, mean_loss, resolve_precision

CELLS = 4


class Draws(Dataset):
    """Patches drawn from (epoch, index) alone: fine = nearest neighbours of coarse, times two."""

    def __init__(self, samples, offset=0):
        self.samples, self.offset, self.epoch = samples, offset, 0

    def __len__(self):
        return self.samples

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(1000 * self.offset + 100 * self.epoch + index)
        coarse = torch.randn(3, CELLS, CELLS, CELLS, generator=generator)
        return coarse, 2 * coarse.repeat_interleave(2, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)


class Opposed(Draws):
    """Targets opposite to what training teaches: the first epoch stays the best."""

    def __getitem__(self, index):
        coarse, fine = super().__getitem__(index)
        return coarse, -fine


def patches():
    return PatchPair(Draws(6), Draws(2, offset=9), Grid((CELLS,) * 3), (0, 0, 0))


def network(seed=0):
    torch.manual_seed(seed)
    return build_model("cnn", Task(2), width=3, blocks=1)


SCHEDULE = Schedule(max_epochs=5, patience=5, batch_size=2, learning_rate=1e-2)


class Cut(Exception):
    pass


def cut_after(epochs):
    seen = []

    def progress(fraction, message):
        seen.append(fraction)
        if len(seen) == epochs:
            raise Cut

    return progress


def test_fitting_lowers_the_validation_loss_and_logs_every_epoch(tmp_path):
    fitted = fit(network(), patches(), SCHEDULE, tmp_path, device="cpu")
    assert [line["epoch"] for line in fitted.history] == list(range(5))
    losses = [line["validation_loss"] for line in fitted.history]
    assert losses[-1] < 0.9 * losses[0]
    assert fitted.best_validation_loss == pytest.approx(min(losses))
    assert losses[fitted.best_epoch] == min(losses)
    assert {"epoch", "train_loss", "validation_loss", "learning_rate", "seconds"} == set(fitted.history[0])
    assert read_history(tmp_path / HISTORY) == fitted.history
    assert fitted.history[-1]["learning_rate"] == pytest.approx(0, abs=1e-12)


def test_a_warm_up_raises_the_step_size_to_where_the_cosine_is(tmp_path):
    """In straight line over its share, of epochs or of seconds; a fit that is cut resumes to the same bits."""
    schedule = replace(SCHEDULE, max_epochs=4, warm_up=0.5)
    cosine = [0.5 * (1 + math.cos(math.pi * done)) for done in (0.25, 0.5, 0.75, 1.0)]
    fitted = fit(network(), patches(), schedule, tmp_path / "whole", device="cpu")
    found = [line["learning_rate"] / schedule.learning_rate for line in fitted.history]
    assert found == pytest.approx([0.5 * cosine[0], *cosine[1:]], abs=1e-12)
    with pytest.raises(Cut):
        fit(network(), patches(), schedule, tmp_path / "cut", device="cpu", progress=cut_after(2))
    resumed = fit(network(), patches(), schedule, tmp_path / "cut", device="cpu")
    assert [line["validation_loss"] for line in resumed.history] == [line["validation_loss"] for line in fitted.history]
    with pytest.raises(ValueError, match="warm_up must be 0 or more and below 1, got 1"):
        replace(SCHEDULE, warm_up=1)


def test_steps_by_fan_in_are_another_fit_at_the_same_learning_rate(tmp_path):
    equal, scaled = network(), network()
    expected = fit(equal, patches(), SCHEDULE, tmp_path / "equal", device="cpu")
    fitted = fit(scaled, patches(), replace(SCHEDULE, rates="by_fan_in"), tmp_path / "scaled", device="cpu")
    assert fitted.best_validation_loss < fitted.history[0]["validation_loss"]
    assert [line["learning_rate"] for line in fitted.history] == [line["learning_rate"] for line in expected.history]
    assert not torch.equal(equal.head.convolution.weight, scaled.head.convolution.weight)


@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_a_cut_fit_ends_bit_identical_to_an_uncut_one(tmp_path, epochs):
    whole, cut = network(), network()
    expected = fit(whole, patches(), SCHEDULE, tmp_path / "whole", device="cpu")
    with pytest.raises(Cut):
        fit(cut, patches(), SCHEDULE, tmp_path / "cut", device="cpu", progress=cut_after(epochs))
    resumed, told = network(), []
    folder = shutil.move(tmp_path / "cut", tmp_path / "moved")  # a run may be carried to another disk in between
    fitted = fit(resumed, patches(), SCHEDULE, folder, device="cpu", progress=lambda f, message: told.append(message))
    # the epoch that was cut had ended but for its checkpoint: it is done again, those before it are not
    assert [int(message.split()[1].rstrip(":")) for message in told] == list(range(epochs, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))
    assert fitted.best_epoch == expected.best_epoch
    without_time = [{k: v for k, v in line.items() if k != "seconds"} for line in fitted.history]
    assert without_time == [{k: v for k, v in line.items() if k != "seconds"} for line in expected.history]


def cut_short(content):
    return content[: len(content) // 2]


def bit_flipped(content):
    return content[:-99] + bytes([content[-99] ^ 1]) + content[-98:]


@pytest.fixture(scope="module")
def whole_and_cut(tmp_path_factory):
    """A network that was fitted, what came of it, and the folder of the same fit cut in its fourth epoch."""
    folder, whole = tmp_path_factory.mktemp("fit"), network()
    fitted = fit(whole, patches(), SCHEDULE, folder / "whole", device="cpu")
    with pytest.raises(Cut):
        fit(network(), patches(), SCHEDULE, folder / "cut", device="cpu", progress=cut_after(4))
    return whole, fitted, folder / "cut"


@pytest.mark.parametrize(
    "spoil, names, first",
    [
        (cut_short, [LAST], 3),
        (bit_flipped, [LAST], 3),
        (lambda content: b"", [LAST, BEFORE], 1),
        (lambda content: b"garbage" * 99, [BEST], 1),
        (cut_short, [HISTORY], 1),
    ],
)
def test_a_fit_whose_checkpoint_is_damaged_ends_the_same_with_one_line(
    whole_and_cut, tmp_path, caplog, spoil, names, first
):
    whole, expected, folder = whole_and_cut
    folder, resumed, told = shutil.copytree(folder, tmp_path / "cut"), network(), []
    for name in names:
        file = folder / (name if name == HISTORY else f"checkpoints/{name}")
        file.write_bytes(spoil(file.read_bytes()))
    fitted = fit(resumed, patches(), SCHEDULE, folder, device="cpu", progress=lambda _, message: told.append(message))
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))
    assert fitted.best_epoch == expected.best_epoch and len(fitted.history) == 5
    assert told[0].startswith(f"epoch {first}:")
    lines = [record.getMessage() for record in caplog.records if "training" in record.getMessage()]
    assert len(lines) == 1 and names[0] in lines[0]


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"PK" * 100)
    with pytest.raises(FlowsrError, match=r"a.ckpt: a damaged checkpoint; found: 200 bytes .*; run again"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_the_best_weights_are_kept_not_the_last(tmp_path):
    model = network()
    pair = PatchPair(Draws(6), Opposed(2, offset=9), Grid((CELLS,) * 3), (0, 0, 0))
    fitted = fit(
        model, pair, Schedule(max_epochs=4, patience=4, batch_size=2, learning_rate=1e-2), tmp_path, device="cpu"
    )
    assert fitted.best_epoch == 0
    with torch.no_grad():
        coarse, fine = torch.utils.data.default_collate([pair.validation[i] for i in range(2)])
        _, size = scales_of(coarse, pair.grid, "1o")
        loss = ((model(coarse, pair.grid) - fine).abs().mean((1, 2, 3, 4)) / size).mean().item()
    assert loss == pytest.approx(fitted.best_validation_loss, rel=1e-5)


def test_patience_stops_early(tmp_path):
    pair = PatchPair(Draws(4), Opposed(2, offset=9), Grid((CELLS,) * 3), (0, 0, 0))
    fitted = fit(
        network(), pair, Schedule(max_epochs=30, patience=2, batch_size=2, learning_rate=1e-2), tmp_path, device="cpu"
    )
    assert len(fitted.history) == fitted.best_epoch + 1 + 2
    again = network(seed=1)
    assert (
        fit(again, pair, Schedule(max_epochs=30, patience=2, batch_size=2, learning_rate=1e-2), tmp_path, device="cpu")
        == fitted
    )


def test_a_worsening_fit_goes_on_from_its_last_epoch_not_its_best(tmp_path):
    pair = PatchPair(Draws(6), Opposed(2, offset=9), Grid((CELLS,) * 3), (0, 0, 0))
    schedule = Schedule(max_epochs=6, patience=9, batch_size=2, learning_rate=1e-2)
    with pytest.raises(Cut):
        fit(network(), pair, schedule, tmp_path, device="cpu", progress=cut_after(4))
    told = []
    fitted = fit(network(), pair, schedule, tmp_path, device="cpu", progress=lambda f, message: told.append(message))
    assert fitted.best_epoch == 0 and len(told) == 3


def test_divergence_is_said_in_one_line(tmp_path):
    schedule = Schedule(max_epochs=3, patience=3, batch_size=2, learning_rate=1e30)
    with pytest.raises(FlowsrError, match=r"diverged.*lower train.learning_rate"):
        fit(network(), patches(), schedule, tmp_path, device="cpu")


class Spoilt(Draws):
    """NaN from some epoch on."""

    def __getitem__(self, index):
        coarse, fine = super().__getitem__(index)
        return coarse * (float("nan") if self.epoch >= 2 else 1), fine


def test_a_fit_that_went_nan_says_so_and_keeps_its_best_weights(tmp_path, caplog):
    pair, told = PatchPair(Spoilt(6), Draws(2, offset=9), Grid((CELLS,) * 3), (0, 0, 0)), []
    fitted = fit(network(), pair, SCHEDULE, tmp_path, device="cpu", progress=lambda f, message: told.append(message))
    assert fitted.diverged_epoch == 2 and fitted.best_epoch < 2
    assert math.isfinite(fitted.best_validation_loss) and "NaN" in told[-1]
    lines = [record.message for record in caplog.records if "diverged" in record.message]
    assert len(lines) == 1 and "epoch 3" in lines[0]
    text = (tmp_path / HISTORY).read_text()
    assert "NaN" not in text and fitted.history[2]["train_loss"] is fitted.history[2]["validation_loss"] is None
    assert len(fitted.history) == 3
    assert fit(network(1), pair, SCHEDULE, tmp_path, device="cpu") == fitted  # it had ended, and is not continued


def test_the_halo_is_seen_but_not_scored(tmp_path):
    class Framed(Draws):
        """The frame of the coarse patch is nonsense; the core's target does not depend on it."""

        def __getitem__(self, index):
            coarse, fine = super().__getitem__(index)
            return torch.nn.functional.pad(coarse, [1] * 6, value=0.0), fine

    grid = Grid((CELLS + 2,) * 3, boundary=("open",) * 3)
    pair = PatchPair(Framed(6), Framed(2, offset=9), grid, (1, 1, 1))
    assert fit(network(), pair, SCHEDULE, tmp_path, device="cpu").best_validation_loss < 1.5


def test_checkpoints_can_be_discarded(tmp_path):
    fit(network(), patches(), SCHEDULE, tmp_path, device="cpu")
    assert (tmp_path / "checkpoints" / LAST).exists()
    discard_checkpoints(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {HISTORY, "history.csv"}


def test_precision_is_full_on_the_cpu_unless_asked():
    assert resolve_precision("auto", "cpu") == "32-true"
    assert resolve_precision("bf16-mixed", "cpu") == "bf16-mixed"


def test_mixed_precision_trains_too(tmp_path):
    torch.manual_seed(0)
    model = build_model("relaxed", Task(2), channels=1, group="O")
    schedule = Schedule(max_epochs=2, patience=2, batch_size=2, learning_rate=1e-2, precision="bf16-mixed")
    fitted = fit(model, patches(), schedule, tmp_path, device="cpu")
    assert fitted.history[-1]["validation_loss"] < fitted.history[0]["train_loss"]


def test_a_budget_of_seconds_ends_the_fit_and_takes_the_step_size_to_zero(tmp_path, monkeypatch):
    """Whatever max_epochs says; and a cut fit has what is left of the seconds."""
    ticks = itertools.count()  # two a step, of which an epoch has three
    monkeypatch.setattr(fitting._Budget, "_now", lambda budget, trainer: next(ticks) / 64)
    schedule = replace(SCHEDULE, max_epochs=1, patience=1000, seconds=20 / 64)
    fitted = fit(network(), patches(), schedule, tmp_path / "whole", device="cpu")
    spent = [line["training_seconds"] for line in fitted.history]
    assert spent == pytest.approx([3 / 64, 6 / 64, 9 / 64, 12 / 64, 15 / 64, 18 / 64, 20 / 64], abs=1e-3)
    assert fitted.history[-1]["learning_rate"] < 1e-2 * SCHEDULE.learning_rate < fitted.history[0]["learning_rate"]
    with pytest.raises(Cut):
        fit(network(), patches(), schedule, tmp_path / "cut", device="cpu", progress=cut_after(3))
    before = [line["training_seconds"] for line in read_history(tmp_path / "cut" / HISTORY)]
    resumed = fit(network(), patches(), schedule, tmp_path / "cut", device="cpu").history
    assert before == spent[:3] and [line["training_seconds"] for line in resumed] == spent
    assert fit(network(1), patches(), schedule, tmp_path / "cut", device="cpu").history == resumed


def test_an_average_of_the_weights_is_what_is_validated_and_kept(tmp_path):
    schedule, averaged = replace(SCHEDULE, ema=0.7), network()
    fitted = fit(averaged, patches(), schedule, tmp_path / "whole", device="cpu")
    kept, _ = mean_loss(averaged, patches(), schedule, "validation"), fit(network(), patches(), SCHEDULE, tmp_path)
    assert kept == pytest.approx(fitted.best_validation_loss, rel=1e-6)
    assert fitted.best_validation_loss != read_history(tmp_path / HISTORY)[fitted.best_epoch]["validation_loss"]
    with pytest.raises(Cut):
        fit(network(), patches(), schedule, tmp_path / "cut", device="cpu", progress=cut_after(3))
    resumed = network()
    fit(resumed, patches(), schedule, tmp_path / "cut", device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(averaged.state_dict().values(), resumed.state_dict().values()))


def test_a_gradient_is_clipped_where_it_is_longer(tmp_path):
    found = {}
    for clip in (None, 1e9, 1e-9):  # Adam's own constant is 1e-8: a gradient that short is a short step
        found[clip] = network()
        fit(found[clip], patches(), replace(SCHEDULE, clip=clip), tmp_path / str(clip), device="cpu")
    start, free, loose, tight = (model.tail.convolution.weight for model in (network(), *found.values()))
    assert torch.equal(free, loose) and (tight - start).abs().max() < 0.2 * (free - start).abs().max()


class SharedDraws(Draws):
    """Processes that are running hear of a new epoch."""

    def __init__(self, samples, offset=0):
        super().__init__(samples, offset)
        self.number = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch):
        self.number[0] = epoch

    def __getitem__(self, index):
        self.epoch = int(self.number)
        return super().__getitem__(index)


def test_patches_read_ahead_by_another_process_are_the_same(tmp_path):
    here, ahead = network(), network()
    pair = PatchPair(SharedDraws(6), SharedDraws(2, offset=9), Grid((CELLS,) * 3), (0, 0, 0))
    schedule = replace(SCHEDULE, max_epochs=3)
    expected = fit(here, patches(), schedule, tmp_path / "here", device="cpu")
    fitted = fit(ahead, pair, replace(schedule, loader_workers=1), tmp_path / "ahead", device="cpu")
    assert [line["train_loss"] for line in fitted.history] == [line["train_loss"] for line in expected.history]
    assert all(torch.equal(a, b) for a, b in zip(here.state_dict().values(), ahead.state_dict().values()))


def test_losses_go_to_the_loggers_that_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "find_spec", lambda name: True)
    monkeypatch.setitem(fitting.LOGGERS, "mlflow", lambda folder: CSVLogger(folder, name="", version="logged"))
    schedule = replace(SCHEDULE, loggers=["mlflow"], max_epochs=2)
    fitted = fit(network(), patches(), schedule, tmp_path, device="cpu")
    with open(tmp_path / "logged" / "metrics.csv") as file:
        logged = [float(row["validation_loss"]) for row in csv.DictReader(file) if row["validation_loss"]]
    with open(tmp_path / "history.csv") as file:
        lines = list(csv.DictReader(file))
    losses = [line["validation_loss"] for line in fitted.history]
    assert logged == pytest.approx(losses) and [float(line["validation_loss"]) for line in lines] == losses


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tmp_path):
    plain, compiled = network(), network()
    expected = fit(plain, patches(), SCHEDULE, tmp_path / "plain", device="cpu")
    fitted = fit(compiled, patches(), replace(SCHEDULE, compile=True), tmp_path / "compiled", device="cpu")
    losses = [line["validation_loss"] for line in expected.history]
    assert [line["validation_loss"] for line in fitted.history] == pytest.approx(losses, rel=1e-3)


def test_a_penalty_keeps_relaxed_weights_together(tmp_path):
    def spread(penalty, folder):
        torch.manual_seed(0)
        model = build_model("relaxed", Task(2), group="C2v(100;100)[100]", channels=1)
        schedule = replace(SCHEDULE, rates="matched", penalty=penalty)
        fit(model, patches(), schedule, tmp_path / folder, device="cpu")
        return sum(power.item() for power in breaking_power(model).values())

    free, held = spread({}, "free"), spread({"all": 10.0}, "held")
    assert held < 0.5 * free
    with pytest.raises(FlowsrError) as refused:
        spread({"T1u": 1.0}, "unknown")
    assert refused.value.variable == "train.penalty" and "B1" in refused.value.expected
