"""Tracers along a simulation: closed forms, their order in time, and what an experiment does to them."""

import numpy as np
import pytest

from flowsr.cli import main
from flowsr.errors import FlowsrError
from flowsr.simulate import Simulation
from flowsr.simulate.channel.solver import ChannelSolver, MeanDrive
from flowsr.simulate.channel.space import ChannelSpace
from flowsr.simulate.channel.start import disturbed
from flowsr.simulate.job import simulate
from flowsr.simulate.settings import Channel
from flowsr.simulate.tracers import Tracers, acceleration_of, carry, channel_from, solver_from
from flowsr.tracks import open_tracks

N, NU = 16, 0.05
#: The ABC flow decays as exp(-nu t) and keeps its shape, whatever its strength: an exact solution of Navier-Stokes.
DECAYING = Simulation(flow="decaying", cells=N, viscosity=NU, seeds=[0])


def abc(x, y, z):
    return np.stack([np.sin(z) + np.cos(y), np.sin(x) + np.cos(z), np.sin(y) + np.cos(x)])


@pytest.fixture(scope="module")
def snapshot():
    centres = (np.arange(N) + 0.5) * 2 * np.pi / N
    return abc(*np.meshgrid(centres, centres, centres, indexing="ij"))


def test_acceleration_is_minus_the_pressure_gradient_and_the_decay(snapshot):
    """A Beltrami flow's pressure is -|u|^2 / 2, but for a constant."""
    found = acceleration_of(DECAYING, snapshot)
    k = np.fft.fftfreq(N, 1 / N)
    half = (snapshot**2).sum(0) / 2
    shaped = [k.reshape([-1 if a == axis else 1 for a in range(3)]) for axis in range(3)]
    slope = np.stack([np.fft.ifftn(1j * each * np.fft.fftn(half)).real for each in shaped])
    np.testing.assert_allclose(found, slope - NU * snapshot, atol=1e-10)


def test_tracers_follow_the_decaying_flow(snapshot):
    tracks = carry(DECAYING, snapshot, Tracers(count=40, steps=3, interval=0.2, seed=1), time=5.0)
    assert list(tracks.columns) == ["time", "track", "x", "y", "z", "u", "v", "w", "ax", "ay", "az"]
    assert tracks.time.unique().tolist() == [5.0, 5.2, 5.4]
    places = tracks[tracks.time == 5.0][["x", "y", "z"]].to_numpy()
    steps = 400
    for step in range(steps):  # the same by an integration of its own, two hundred times finer
        t, dt = 0.4 * step / steps, 0.4 / steps
        middle = places + dt / 2 * np.exp(-NU * t) * abc(*places.T).T
        places = places + dt * np.exp(-NU * (t + dt / 2)) * abc(*middle.T).T
    last = tracks[tracks.track.isin(range(40)) & (tracks.time > 5.3)]
    away = (last[["x", "y", "z"]].to_numpy() - places + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(away).max() < 2e-4
    np.testing.assert_allclose(last[["u", "v", "w"]], np.exp(-NU * 0.4) * abc(*places.T).T, atol=5e-4)


def test_noise_moves_what_is_measured_and_dropped_particles_are_not_seen(snapshot):
    clean, seen = (
        carry(DECAYING, snapshot, Tracers(count=400, steps=2, interval=0.05, **how))
        for how in ({}, {"noise": 0.5, "dropped": 0.25})
    )
    assert len(clean) == 800 and 520 < len(seen) < 680
    assert set(seen[seen.time == 0].track) != set(seen[seen.time > 0].track)
    both = clean[clean.time == 0].merge(seen[seen.time == 0], on="track", suffixes=("", "_seen"))
    away = (both.x_seen - both.x + np.pi) % (2 * np.pi) - np.pi
    assert np.std(away) == pytest.approx(0.5 * 2 * np.pi / N, rel=0.15)
    np.testing.assert_array_equal(both.u, both.u_seen)
    assert seen[["x", "y", "z"]].to_numpy().min() >= 0 and seen[["x", "y", "z"]].to_numpy().max() <= 2 * np.pi


@pytest.fixture(scope="module")
def channel():
    """A disturbed channel after some steps, on a grid that is too coarse for it: products do not fit on the cells."""
    settings = Channel(cells=(12, 24, 12))
    space = ChannelSpace(settings.cells, (settings.lengths[0], settings.lengths[2]))
    state = disturbed(space, "turbulent", settings.re_tau, 0)
    solver = ChannelSolver(space, state, settings.viscosity, settings.mean_drive, cfl=0.3)
    for _ in range(15):
        solver.advance(1.0)
    return settings, solver


@pytest.mark.parametrize("drive", [MeanDrive(pressure_gradient=1.0), MeanDrive(bulk_velocity=15.0)])
def test_the_tendency_of_a_channel_is_the_limit_of_its_steps(channel, drive):
    settings, before = channel
    solver = ChannelSolver(before.space, before.state, settings.viscosity, drive, time_step=1e-6)
    solver.advance(1e-6)  # to that bulk velocity
    tendency, state = solver.tendency(), solver.state.clone()
    dt = solver.advance(2e-6)
    change = (solver.state - state) / dt
    for found, expected in zip(tendency, change):
        assert (found - expected).abs().max() < 1e-3 * expected.abs().max()


def test_tracers_between_walls_feel_what_changes_their_velocity(channel):
    settings, solver = channel
    velocity, h = solver.field().numpy(), 1e-3
    back = channel_from(settings, velocity.astype(np.float32))
    np.testing.assert_allclose(back.field(), velocity, atol=1e-4)
    tracks = carry(Simulation("channel", channel=settings), velocity, Tracers(count=150, steps=2, interval=h))
    parts = (tracks[tracks.time == time] for time in (0.0, h))
    (x, u, a), (y, v, b) = (
        (part[["x", "y", "z"]].to_numpy(), part[["u", "v", "w"]].to_numpy(), part[["ax", "ay", "az"]].to_numpy())
        for part in parts
    )
    assert np.abs(y[:, 1]).max() <= 1
    moved = y - x
    moved -= np.round(moved / settings.lengths) * settings.lengths * np.array([1, 0, 1])
    np.testing.assert_allclose(moved, h / 2 * (u + v), atol=1e-5)
    assert np.sqrt(np.mean((v - u - h / 2 * (a + b)) ** 2)) < 0.02 * np.sqrt(np.mean((v - u) ** 2))


def test_tracers_of_poiseuille_flow_go_straight_and_feel_nothing():
    settings = Channel(cells=(4, 16, 4), re_tau=100.0)
    y = settings.grid.coordinates()[1]
    velocity = np.zeros((3, 4, 16, 4))
    velocity[0] = (50 * (1 - y**2))[:, None]  # the parabola that the pressure gradient drives
    tracks = carry(Simulation("channel", channel=settings), velocity, Tracers(count=60, steps=2, interval=0.01))
    np.testing.assert_allclose(tracks.u, 50 * (1 - tracks.y**2), atol=1e-4)
    np.testing.assert_allclose(tracks[["v", "w", "ax", "ay", "az"]], 0, atol=1e-4)
    first, last = tracks[tracks.time == 0], tracks[tracks.time > 0]
    moved = last.x.to_numpy() - first.x.to_numpy() - 0.01 * first.u.to_numpy()
    np.testing.assert_allclose(moved - np.round(moved / np.pi) * np.pi, 0, atol=1e-5)
    np.testing.assert_allclose(last.y, first.y, atol=1e-6)


def test_what_cannot_be_carried_is_refused(snapshot):
    with pytest.raises(FlowsrError, match="carried"):
        solver_from(Simulation(flow="decaying", cells=N, viscosity=NU, stratification=(0, 0, 1.0)), snapshot)
    for wrong in ({"count": 0}, {"steps": 0}, {"interval": 0.0}, {"noise": -1.0}, {"dropped": 1.0}):
        with pytest.raises(FlowsrError, match="no tracks"):
            Tracers(**wrong)


def test_a_stored_run_becomes_tracks_that_are_one_command_from_a_field(tmp_path, capsys):
    tiny = Simulation(flow="decaying", cells=N, viscosity=NU, seeds=[0], duration=0.1, snapshot_interval=0.1)
    (store,) = simulate(tmp_path / "run.zarr", tiny)
    for name in ("t.csv", "t.parquet"):
        asked = ["--count", "60", "--steps", "2", "--snapshot", "0"]
        assert main(["tracers", str(store), str(tmp_path / name), *asked]) == 0
        points = open_tracks(tmp_path / "t.yaml")
        assert points.sizes["point"] == 120 and points.attrs["boundary"] == ["periodic"] * 3
        assert points.acceleration.dims == points.velocity.dims
    short = Channel(cells=(4, 8, 4), spin_up_time=0.0, duration=0.01, snapshot_interval=0.01)
    (between,) = simulate(tmp_path / "channel.zarr", Simulation("channel", channel=short, seeds=[0]))
    assert main(["tracers", str(between), str(tmp_path / "c.csv"), "--count", "40", "--noise", "0.3"]) == 0
    assert open_tracks(tmp_path / "c.yaml").attrs["boundary"] == ["periodic", "wall", "periodic"]
    target = tmp_path / "field.zarr"
    assert main(["tracks", str(tmp_path / "t.yaml"), str(target), "--cells", "4", "4", "4"]) == 0
    capsys.readouterr()
    for wrong in (["--snapshot", "7"], ["--count", "0"]):
        assert main(["tracers", str(store), str(tmp_path / "u.csv"), *wrong]) == 2
    assert main(["tracers", str(store), str(tmp_path / "u.txt")]) == 2
    assert main(["tracers", str(target), str(tmp_path / "u.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 4
