import contextlib

import numpy as np
import pytest
import torch

from flowsr.config.study import Experiment
from flowsr.errors import FlowsrError
from flowsr.files import tree_checksum
from flowsr.pipeline import stages
from flowsr.simulate import BandPower, BoxSolver, Channel, Simulation, diagnose, job, random_solenoidal, simulate
from flowsr.simulate.diagnostics import budget_residual, read_table
from flowsr.simulate.flows import STEADY_ENERGY
from flowsr.simulate.spectral import resample
from tests.simulate.boxes import cube
from tests.simulate.runs import SHORT, read

SEEDS = [3, 8]


def stores(folder):
    return [folder / f"seed_{seed}.zarr" for seed in SEEDS]


def together(outputs, seeds=SEEDS, **changes):
    return simulate(outputs, Simulation(**SHORT, **changes), seeds=seeds, device="cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return together(stores(tmp_path_factory.mktemp("batch")))


def test_the_members_are_those_of_one_solver_that_steps_them_together(finished):
    coarse, fine = cube(8, torch.float32), cube(16, torch.float32)
    energy = STEADY_ENERGY * (0.1 / 2.5) ** (2 / 3)
    start = torch.stack([random_solenoidal(coarse, seed, energy, 2.5) for seed in SEEDS], dim=1)
    solver = BoxSolver(coarse, start, 0.06, forces=[BandPower(coarse, 0.1, 2.5)], cfl=0.5)
    while solver.time < 1.0:
        solver.advance(1.0)
    state = resample(solver.state, coarse, fine)
    solver = BoxSolver(fine, state, 0.06, forces=[BandPower(fine, 0.1, 2.5)], cfl=0.5, time=1.0, step=solver.step)
    fields = [read(store) for store in finished]
    for snapshot, time in enumerate(fields[0].time.values):
        while solver.time < time:
            solver.advance(time)
        for member, field in enumerate(fields):
            np.testing.assert_array_equal(field.velocity[snapshot].values, solver.field()[:, member].numpy())
    for member, store in enumerate(finished):
        last = {name: values[-1] for name, values in read_table(store.with_suffix(".csv")).items()}
        expected = diagnose(solver.member(member))
        assert {name: last[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_each_store_names_its_seed_and_its_company(finished):
    for seed, store in zip(SEEDS, finished):
        config = read(store).attrs["provenance"]["config"]
        assert (config["seed"], config["batch"]) == (seed, SEEDS)


def test_the_budget_of_each_member_closes(finished):
    for store in finished:
        table = read_table(store.with_suffix(".csv"))
        np.testing.assert_array_equal(table["budget_residual"], budget_residual(table))
        assert np.isnan(table["budget_residual"][0]) and abs(table["budget_residual"][-1]) < 0.01


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("where", ["_save", "_write_snapshot", "_write_tables"])
def test_interrupted_and_gone_on_with_it_ends_with_the_same_bits(finished, tmp_path, monkeypatch, where):
    part, calls = getattr(job._Run, where), [0]

    def breaks_off(self, *arguments):
        calls[0] += 1
        part(self, *arguments)
        if calls[0] in (1, 3):
            raise Interrupted

    monkeypatch.setattr(job._Run, where, breaks_off)
    monkeypatch.setattr(job, "RESTART_SECONDS", 0.0)
    again = stores(tmp_path)
    while not all(store.exists() for store in again):
        with contextlib.suppress(Interrupted):
            together(again)
    assert calls[0] > 1
    for one, other in zip(finished, again):
        assert tree_checksum(one) == tree_checksum(other)
        assert one.with_suffix(".csv").read_bytes() == other.with_suffix(".csv").read_bytes()


def test_killed_between_two_publications_it_publishes_the_rest(finished, tmp_path, monkeypatch):
    from flowsr.data.store import FieldStore

    publish, again = FieldStore.publish, stores(tmp_path)

    def first_only(self, *options):
        if self.target != again[0]:
            raise Interrupted
        publish(self, *options)

    with monkeypatch.context() as patch:
        patch.setattr(FieldStore, "publish", first_only)
        with pytest.raises(Interrupted):
            together(again)
    assert [store.exists() for store in again] == [True, False]
    together(again)
    assert [tree_checksum(store) for store in again] == [tree_checksum(store) for store in finished]


@pytest.mark.parametrize("seeds", [[], [1], [1, 1]])
def test_a_batch_has_one_seed_a_store(tmp_path, seeds):
    with pytest.raises(FlowsrError, match="one seed a store"):
        together(stores(tmp_path), seeds)


def test_channels_are_not_stepped_together(tmp_path):
    with pytest.raises(FlowsrError, match="channels are not stepped together"):
        simulate(stores(tmp_path), Simulation("channel", channel=Channel()), seeds=SEEDS)


def test_an_experiment_simulates_in_batches_and_reuses_them(finished, tmp_path):
    experiment = Experiment(
        name="batched", output=tmp_path, device="cpu", threads=1, simulate={**SHORT, "seeds": [*SEEDS, 5], "batch": 2}
    )
    done = stages.simulate(experiment)
    assert [step.step.title for step in done] == ["simulate seeds 3, 8", "simulate seed 5"]
    made = [tmp_path / "simulate" / f"seed_{seed:03d}.zarr" for seed in SEEDS]
    for one, other in zip(finished, made):
        np.testing.assert_array_equal(read(one).velocity, read(other).velocity)
    assert all(step.reused for step in stages.simulate(experiment))


def test_a_run_that_blows_up_leaves_its_table(tmp_path):
    violent = {**SHORT, "viscosity": 1e-4, "cfl": 30.0, "duration": 50.0, "snapshot_interval": 10.0}
    with pytest.raises(FlowsrError, match="blew up"):
        simulate(stores(tmp_path), Simulation(**violent), seeds=SEEDS, device="cpu")
    table = read_table(stores(tmp_path)[0].with_suffix(".csv"))
    assert len(table["time"]) >= 1 and not stores(tmp_path)[0].exists()
