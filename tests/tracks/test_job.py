"""From a simulated flow to particles, and back to a field on a grid."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from flowsr.cli import main
from flowsr.data import open_field
from flowsr.data.field import tensor_irreps
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.tracks import (
    METHODS,
    Cloud,
    Truth,
    grid_points,
    open_tracks,
    seed_particles,
    tracks_to_field,
    vorticity,
    write_columns,
)
from flowsr.tracks.learned import save_network
from flowsr.tracks.network import NetworkOptions, TracksNetwork
from flowsr.tracks.particles import WallTruth, known_everywhere, pressure_of, pressure_of_velocity

GRID = Grid((16, 16, 16), (2 * np.pi / 16,) * 3, origin=(0.5, 0.0, -1.0))


@pytest.fixture(scope="module")
def abc():
    """The ABC flow, whose vorticity is its velocity (Dombre et al., J. Fluid Mech. 167, 353, 1986)."""
    return Truth(beltrami(grid_points(GRID)).T.reshape(3, *GRID.shape), GRID)


def beltrami(at):
    x, y, z = at.T
    return np.stack([np.sin(z) + np.cos(y), np.sin(x) + np.cos(z), np.sin(y) + np.cos(x)], 1)


def test_truth_is_known_between_the_cells(abc):
    places = np.random.default_rng(0).uniform(-3, 9, (200, 3))
    np.testing.assert_allclose(abc.velocity_at(places), beltrami(places), atol=1e-4)
    np.testing.assert_allclose(vorticity(abc.gradient_at(places)), beltrami(places), atol=3e-4)
    with pytest.raises(ValueError, match="periodic"):
        Truth(abc.velocity, Grid((16, 16, 16), boundary=("wall", "periodic", "periodic")))


def between(at):
    """Zero on walls at y = -1 and 1, without divergence."""
    x, y, z = at.T
    return np.stack([(1 - y**2) * (3 + np.cos(z)), 0 * x, (1 - y**2) ** 2 * np.sin(2 * x)], 1)


@pytest.fixture(scope="module")
def channel():
    centres = -np.cos(np.pi * (np.arange(16) + 0.5) / 16)
    boundary = ("periodic", "wall", "periodic")
    grid = Grid((12, 16, 10), (np.pi / 6, 1 / 8, np.pi / 5), boundary, (0.3, -1.0, 0.0), (None, tuple(centres), None))
    return WallTruth(between(grid_points(grid)).T.reshape(3, *grid.shape), grid)


def test_truth_between_walls_is_at_rest_on_them(channel):
    places = np.random.default_rng(0).uniform([-3, -1, -3], [9, 1, 9], (200, 3))
    np.testing.assert_allclose(channel.velocity_at(places), between(places), atol=1e-4)
    step = 1e-6 * np.eye(3)
    inner = places * [1, 0.99, 1]
    slope = np.stack([(between(inner + each) - between(inner - each)) / 2e-6 for each in step], -1)
    np.testing.assert_allclose(channel.gradient_at(inner), slope, atol=1e-3)
    places[:100, 1], places[100:, 1] = -1, 1
    np.testing.assert_allclose(channel.velocity_at(places), 0, atol=1e-6)
    even = Grid((12, 16, 10), (np.pi / 6, 1 / 8, np.pi / 5), channel.grid.boundary, channel.grid.origin)
    with pytest.raises(ValueError, match="Chebyshev"):
        known_everywhere(channel.velocity, even)


def test_walls_hold_the_fluid(channel):
    """Particles at rest on the walls are added once, and every method is better near the walls for it."""
    cloud = seed_particles(channel, 300, np.random.default_rng(0), noise=0.5)
    assert cloud.positions[:, 1].min() >= -1 and cloud.positions[:, 1].max() <= 1
    cloud = seed_particles(channel, 300, np.random.default_rng(0))
    held = cloud.with_walls()
    assert len(held.with_walls()) == len(held) > len(cloud)
    np.testing.assert_array_equal(held.velocities[len(cloud) :], 0)
    assert set(np.abs(held.positions[len(cloud) :, 1])) == {1.0}
    places = np.random.default_rng(1).uniform([0, 0.9, 0], [6, 1, 6], (60, 3))
    for name, quick in (("linear", {}), ("bspline", {"roughness": 0.003}), ("solenoidal", {})):
        free, tied = (
            np.sqrt(np.mean((METHODS[name](each, places, **quick).velocity - between(places)) ** 2))
            for each in (cloud, held)
        )
        assert tied < 0.5 * free


def test_particles_carry_the_flow_at_their_places_and_noise_moves_what_is_measured(abc):
    cloud = seed_particles(abc, 500, np.random.default_rng(0))
    np.testing.assert_allclose(cloud.velocities, beltrami(cloud.positions), atol=1e-4)
    noisy = seed_particles(abc, 500, np.random.default_rng(0), noise=0.5, dropped=0.2)
    assert 350 < len(noisy) < 450
    away = noisy.velocities - beltrami(noisy.positions)
    # a position off by half a cell, 0.2, on a flow whose gradient has an RMS of about 1.4 along any line
    assert 0.1 < np.sqrt(np.mean(away**2)) < 0.4


def test_the_best_methods_know_vorticity_and_are_ordered_as_published(abc):
    """Splines and kriging that know of the divergence are ahead of linear, which is ahead of the nearest particle."""
    cloud = seed_particles(abc, 800, np.random.default_rng(1))
    places = np.random.default_rng(2).uniform(0, 6, (150, 3))
    error = {}
    for name in ("nearest", "linear", "bspline", "solenoidal"):
        found = METHODS[name](cloud, places)
        error[name] = np.sqrt(np.mean((found.velocity - beltrami(places)) ** 2))
        if name in ("bspline", "solenoidal"):
            assert np.sqrt(np.mean((found.vorticity - beltrami(places)) ** 2)) < 0.15
    assert max(error["bspline"], error["solenoidal"]) < 0.4 * error["linear"] < 0.4 * error["nearest"]


def test_accelerations_tell_the_pressure_in_any_box_and_more_of_the_velocity(tmp_path):
    """Of a Beltrami flow without viscosity, a = -grad p = grad |u|^2 / 2; few particles in an open part of its box."""
    places, at = (np.random.default_rng(seed).uniform(1 + seed / 3, 4 - seed / 3, (25, 3)) for seed in (0, 1))
    slope = [(beltrami(places + step) - beltrami(places - step)) / 2e-6 for step in 1e-6 * np.eye(3)]  # exact to 1e-9
    felt = np.einsum("jpi,pj->pi", slope, beltrami(places))
    cloud = Cloud(places, beltrami(places), (1.0,) * 3, (4.0,) * 3, ("open",) * 3, felt)
    how = {"roughness": 0.003, "tolerance": 1e-3, "cells_per_particle": 2.0}
    plain, found = (METHODS[name](cloud, at, **how) for name in ("bspline", "navier_stokes"))
    assert np.corrcoef(found.pressure, -(beltrami(at) ** 2).sum(1) / 2)[0, 1] > 0.98
    off = [np.sqrt(np.mean((each.vorticity - beltrami(at)) ** 2)) for each in (plain, found)]
    assert off[1] < 0.8 * off[0]
    with pytest.raises(FlowsrError, match="accelerations"):
        METHODS["navier_stokes"](replace(cloud, accelerations=None), at)
    table = np.column_stack([places, beltrami(places), felt])
    np.savetxt(tmp_path / "t.txt", table, header="x y z u v w ax ay az", comments="")
    how = {
        "method": "navier_stokes",
        "options": {"tolerance": 0.1, "roughness": 0.1, "viscosity": 0.1},
        "cells": (4, 4, 4),
    }
    store = tracks_to_field(open_tracks(tmp_path / "t.txt"), tmp_path / "f.zarr", pressure=True, **how)
    header = write_columns(store, tmp_path / "f.csv").read_text().split("\n")[0].split(",")
    assert header[15] == "P [1]" and np.isfinite(open_field(store).pressure).all()


@pytest.mark.slow
def test_several_workers_write_the_same_field(abc, tmp_path):
    cloud = seed_particles(abc, 300, np.random.default_rng(3))
    np.savetxt(tmp_path / "t.dat", np.column_stack([cloud.positions, cloud.velocities]))
    points, folder = open_tracks(tmp_path / "t.dat"), tmp_path / "network"
    save_network(folder, TracksNetwork(NetworkOptions(width=3, neighbours=8)), {})
    for method, options in (("network", {"model": folder}), ("solenoidal", {}), ("linear", {})):
        one, two = (
            open_field(
                tracks_to_field(
                    points, tmp_path / f"{method}_{n}.zarr", method=method, options=options, cells=(6, 5, 4), workers=n
                )
            )
            for n in (1, 2)
        )
        np.testing.assert_allclose(one.velocity, two.velocity, atol=1e-6)
        np.testing.assert_allclose(one.vorticity, two.vorticity, atol=1e-5)


def test_a_file_becomes_a_field_and_the_command_says_where(abc, tmp_path, capsys):
    cloud = seed_particles(abc, 400, np.random.default_rng(3))
    table = np.column_stack([cloud.positions, cloud.velocities, np.arange(400)])
    np.savetxt(tmp_path / "tracks.dat", table, header='VARIABLES = "X [m]" "Y [m]" "Z [m]" "U [m/s]" "V" "W" "id"')
    box = ["--lower", "0.5", "0", "-1", "--upper", *(f"{low + 2 * np.pi:.12f}" for low in GRID.origin)]
    asked = ["--cells", "8", "8", "8", "--boundary", "periodic", "periodic", "periodic", *box]
    assert main(["tracks", str(tmp_path / "tracks.dat"), str(tmp_path / "field.zarr"), *asked]) == 0
    assert "field.zarr" in capsys.readouterr().out
    field = open_field(tmp_path / "field.zarr")
    assert field.velocity.shape == (1, 3, 8, 8, 8) and field.velocity.units == "m/s"
    assert field.vorticity.irreps == "1e" and field.vorticity.units == "(m/s)/(m)"
    coarse = Grid((8, 8, 8), (2 * np.pi / 8,) * 3, origin=GRID.origin)
    truth = beltrami(grid_points(coarse)).T.reshape(3, 8, 8, 8)
    for found in (field.velocity[0], field.vorticity[0]):
        assert np.sqrt(np.mean((found.values - truth) ** 2)) < 0.2
    # the gradient's nine components hold the same vorticity, and no divergence
    matrix = tensor_irreps("none")[1]
    gradient = np.einsum("nxyz,nc->xyzc", field.velocity_gradient[0].values, matrix).reshape(8, 8, 8, 3, 3)
    np.testing.assert_allclose(np.moveaxis(vorticity(gradient), -1, 0), field.vorticity[0], atol=1e-5)
    assert np.abs(np.trace(gradient, axis1=-2, axis2=-1)).max() < 1e-5
    xr.open_zarr(tmp_path / "field.zarr", consolidated=False).load()


def test_columns_as_the_challenges_ask_for_them(abc, tmp_path, capsys):
    """Three lines, x fastest, gradients in the unit of a rate; the uncertainty, where asked; and read back."""
    cloud = seed_particles(abc, 200, np.random.default_rng(3))
    table = np.column_stack([1000 * cloud.positions, cloud.velocities])
    np.savetxt(tmp_path / "t.txt", table, header='"X [mm]" "Y [mm]" "Z [mm]" "U [m/s]" "V [m/s]" "W [m/s]"')
    for name in ("field.dat", "field.csv"):
        asked = ["--cells", "3", "4", "5", "--uncertainty", "--workers", "1"]
        assert main(["tracks", str(tmp_path / "t.txt"), str(tmp_path / name), *asked]) == 0
    assert main(["tracks", str(tmp_path / "t.txt"), str(tmp_path / "f.dat"), "--uncertainty", "--method", "rbf"]) == 2
    assert "solenoidal" in capsys.readouterr().err
    title, variables, zone, *rows = (tmp_path / "field.dat").read_text().splitlines()
    assert title.startswith("TITLE") and zone == 'ZONE T="t = 0", I=3, J=4, K=5, F=POINT' and len(rows) == 60
    assert variables.split('"')[1::2][3:8] == ["U [m/s]", "V [m/s]", "W [m/s]", "dUdX [1/s]", "dUdY [1/s]"]
    numbers, field = (
        np.array([row.split() for row in rows], dtype=float),
        xr.open_zarr(tmp_path / "field.zarr", consolidated=False),
    )
    assert field.x.max() > 1000
    np.testing.assert_allclose(numbers[1, :3], [field.x[1], field.y[0], field.z[0]], rtol=1e-6)
    np.testing.assert_allclose(numbers[:, 3], field.velocity[0, 0].values.ravel("F"), rtol=1e-6)
    curl = np.stack([numbers[:, 13] - numbers[:, 11], numbers[:, 8] - numbers[:, 12], numbers[:, 9] - numbers[:, 7]])
    for i in range(3):
        np.testing.assert_allclose(curl[i], 1000 * field.vorticity[0, i].values.ravel("F"), rtol=1e-3, atol=1e-2)
    assert field.uncertainty.irreps == "0e" and field.uncertainty.units == "m/s"
    np.testing.assert_allclose(numbers[:, 15], field.uncertainty[0].values.ravel("F"), rtol=1e-6)
    for name in ("field.dat", "field.csv"):
        back = open_tracks(tmp_path / name)
        np.testing.assert_allclose(back.velocity, numbers[:, 3:6], rtol=1e-6)
        assert back.length_units == "mm"


def test_options_and_methods_that_are_not_there_are_one_line(abc, tmp_path, capsys):
    cloud = seed_particles(abc, 20, np.random.default_rng(3))
    np.savetxt(tmp_path / "t.dat", np.column_stack([cloud.positions, cloud.velocities]))
    points = open_tracks(tmp_path / "t.dat")
    with pytest.raises(FlowsrError, match="nearest"):
        tracks_to_field(points, tmp_path / "f.zarr", method="nearst")
    with pytest.raises(FlowsrError, match="no such option"):
        tracks_to_field(points, tmp_path / "f.zarr", method="nearest", options={"noise": 1.0})
    assert main(["tracks", str(tmp_path / "t.dat"), str(tmp_path / "f.zarr"), "--method", "nearst"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "f.zarr").exists()
    few = points.isel(point=slice(0, 3))
    with pytest.raises(FlowsrError, match="too few"):
        tracks_to_field(few, tmp_path / "f.zarr")


def test_a_field_of_other_particles_is_not_taken_for_this_one(abc, tmp_path):
    """The file is the same, what its columns are said to be is not."""
    cloud = seed_particles(abc, 20, np.random.default_rng(3))
    np.savetxt(tmp_path / "t.dat", np.column_stack([cloud.positions, cloud.velocities]))
    how = {"method": "nearest", "cells": (2, 2, 2)}
    tracks_to_field(open_tracks(tmp_path / "t.dat", columns="xyzuvw"), tmp_path / "f.zarr", **how)
    tracks_to_field(open_tracks(tmp_path / "t.dat", columns="xyzuvw"), tmp_path / "f.zarr", **how)
    with pytest.raises(FlowsrError, match="other data"):
        tracks_to_field(open_tracks(tmp_path / "t.dat", columns="xyzvuw"), tmp_path / "f.zarr", **how)


@pytest.mark.parametrize("method", ["solenoidal", "linear"])
def test_particles_in_planes_are_taken_and_those_in_one_plane_are_one_line(tmp_path, method, capsys):
    places = grid_points(Grid((11, 11, 3)))
    table = np.column_stack([places, places @ np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]])])
    for name, rows in (("all", table), ("one", table[places[:, 2] == 0.5])):
        np.savetxt(tmp_path / f"{name}.dat", rows[np.argsort(rows[:, 2], kind="stable")])
    box = ["--lower", "0", "0", "0", "--upper", "11", "11", "3", "--cells", "2", "2", "2", "--method", method]
    assert main(["tracks", str(tmp_path / "all.dat"), str(tmp_path / "all.zarr"), *box]) == 0
    assert main(["tracks", str(tmp_path / "one.dat"), str(tmp_path / "one.zarr"), *box]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error:") and "particles in one plane" in told
    assert not (tmp_path / "one.zarr").exists()


def test_pressure_is_that_of_the_gradient_and_is_written_where_asked(abc, tmp_path, capsys):
    """A Beltrami flow's pressure is -|u|^2 / 2, but for a constant."""
    fine = grid_points(GRID)
    exact = -(beltrami(fine) ** 2).sum(1).reshape(GRID.shape) / 2
    np.testing.assert_allclose(pressure_of(abc.gradient_at(fine), GRID), exact - exact.mean(), atol=1e-3)
    found = pressure_of_velocity(beltrami(fine), GRID)
    np.testing.assert_allclose(found, exact - exact.mean(), atol=1e-10)
    places = np.random.default_rng(0).uniform(-3, 9, (50, 3))
    there = -(beltrami(places) ** 2).sum(1) / 2
    np.testing.assert_allclose(abc.pressure_at(places), there - exact.mean(), atol=1e-4)
    cloud = seed_particles(abc, 300, np.random.default_rng(3))
    np.savetxt(tmp_path / "t.dat", np.column_stack([cloud.positions, cloud.velocities]))
    box = ["--lower", *map(str, cloud.lower), "--upper", *map(str, cloud.upper)]
    asked = ["tracks", str(tmp_path / "t.dat"), str(tmp_path / "f.zarr"), "--cells", "8", "8", "8", "--pressure", *box]
    assert main(asked) == 2  # open sides
    assert "periodic" in capsys.readouterr().err and not (tmp_path / "f.zarr").exists()
    assert main([*asked, "--boundary", "periodic", "periodic", "periodic"]) == 0
    found = open_field(tmp_path / "f.zarr").pressure
    coarse = -(beltrami(grid_points(Grid((8, 8, 8), (2 * np.pi / 8,) * 3, origin=GRID.origin))) ** 2).sum(1) / 2
    assert found.irreps == "0e"
    assert np.corrcoef(found.values.ravel(), coarse)[0, 1] > 0.9
