"""The manifests for programs' own layouts read small files that are written here to those programs' descriptions."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from scipy.io import netcdf_file

from flowsr.data import grid_of, open_field
from flowsr.data.inspect import inspect
from flowsr.errors import FlowsrError

MANIFESTS = Path(__file__).parents[2] / "data_manifests"
GENERATOR = np.random.default_rng(1)


def used(name, folder):
    return Path(shutil.copy(MANIFESTS / f"{name}.yaml", folder))


def test_pdebench(tmp_path):
    sides, values = (4, 5, 6), GENERATOR.normal(size=(5, 5, 21, 4, 5, 6)).astype("f4")
    with h5py.File(tmp_path / "3D_CFD_Rand_M1.0_Eta1e-08_Zeta1e-08_periodic_Train.hdf5", "w") as file:
        for name, array in zip(("Vx", "Vy", "Vz", "density", "pressure"), values):
            file[name] = array  # (sample, time, x, y, z)
        for axis, n in zip("xyz", sides):
            file[f"{axis}-coordinate"] = (np.arange(n) + 0.5) / n
        file["t-coordinate"] = np.arange(22) * 0.05
    found = open_field(used("pdebench_cfd_3d", tmp_path), run="sample_3")
    np.testing.assert_array_equal(found.velocity.values, values[:3, 3].swapaxes(0, 1))
    np.testing.assert_array_equal(found.density.values, values[3, 3])
    assert found.time.values[-1] == 1.0 and grid_of(found).lengths == pytest.approx((1, 1, 1))


def test_dedalus(tmp_path):
    sides, velocity = (4, 5, 6), GENERATOR.normal(size=(2, 3, 4, 5, 6))
    (tmp_path / "snapshots").mkdir()
    with h5py.File(tmp_path / "snapshots" / "snapshots_s1.h5", "w") as file:
        scales, tasks = file.create_group("scales"), file.create_group("tasks")
        tasks["u"] = velocity
        for name, values in (("sim_time", [0.0, 0.5]), ("wall_time", [3.0, 9.0]), ("iteration", [0, 7])):
            scales[name] = values
            scales[name].make_scale(name)
            tasks["u"].dims[0].attach_scale(scales[name])
        tasks["u"].dims[0].label = "t"
        for number, (axis, n) in enumerate(zip("xyz", sides)):
            name = f"{axis}_hash_77de68daecd823babbb58edb1c8e14d7106e83bb"
            scales[name] = 2 * np.pi * np.arange(n) / n
            scales[name].make_scale(name)
            tasks["u"].dims[number + 2].label = axis
            tasks["u"].dims[number + 2].attach_scale(scales[name])
    found = open_field(used("dedalus_box", tmp_path))
    np.testing.assert_array_equal(found.velocity.values, velocity)
    assert found.time.values.tolist() == [0.0, 0.5] and grid_of(found).lengths == pytest.approx((2 * np.pi,) * 3)


def test_channelflow(tmp_path):
    velocity, y = GENERATOR.normal(size=(3, 6, 7, 4)), np.cos(np.pi * np.arange(7) / 6)
    with netcdf_file(tmp_path / "u0.nc", "w", version=2) as file:
        for name, values in (("X", np.arange(4) * np.pi / 2), ("Y", y), ("Z", np.arange(6) * np.pi / 6)):
            file.createDimension(name, len(values))
            file.createVariable(name, "f8", (name,))[:] = values
        for name, part in zip("XYZ", velocity):
            file.createVariable(f"Velocity_{name}", "f8", ("Z", "Y", "X"))[:] = part
    path = used("channelflow", tmp_path)
    found = open_field(path)
    np.testing.assert_array_equal(found.velocity.values[0], velocity.transpose(0, 3, 2, 1)[:, :, ::-1])
    grid = grid_of(found)
    assert (grid.origin[1], grid.lengths[1]) == (-1.0, 2.0) and grid.lengths[0] == pytest.approx(2 * np.pi)
    assert any("y decreases and is flipped" in line for line in inspect(path).lines())
    np.testing.assert_array_equal(open_field(tmp_path / "u0.nc").velocity.values, found.velocity.values)


def palm(path):
    """u, v and w of two times, each on faces of its own, and temperature at the centres."""
    nx, ny, nz, step = 6, 5, 4, 10.0
    zu, zw = np.array([0.0, *((np.arange(nz) + 0.5) * step)]), np.arange(nz + 1) * step
    xu, yv = np.arange(nx) * step, np.arange(ny) * step
    dims = {
        "u": ("zu_3d", "y", "xu"),
        "v": ("zu_3d", "yv", "x"),
        "w": ("zw_3d", "y", "x"),
        "theta": ("zu_3d", "y", "x"),
    }
    axes = {"xu": xu, "x": xu + step / 2, "yv": yv, "y": yv + step / 2, "zu_3d": zu, "zw_3d": zw}
    data = {
        name: (("time", *own), GENERATOR.normal(size=(2, nz + 1, ny, nx)).astype("f4"), {"units": "m/s"})
        for name, own in dims.items()
    }
    coords = {name: (name, values, {"units": "meters"}) for name, values in axes.items()}
    dataset = xr.Dataset(data, {"time": ("time", [600.0, 1200.0], {"units": "seconds"}), **coords})
    dataset.u[0, 2, 1, 1] = -9999.0  # inside a building
    dataset.to_netcdf(path, engine="h5netcdf", encoding={name: {"_FillValue": np.float32(-9999)} for name in dims})
    return dataset.where(dataset > -9999)


def test_palm(tmp_path):
    written = palm(tmp_path / "DATA_3D_NETCDF")
    found = open_field(used("palm_les", tmp_path))
    u, v, w, theta = (written[name].values.transpose(0, 3, 2, 1) for name in ("u", "v", "w", "theta"))
    centred = [
        (u + np.roll(u, -1, 1))[..., 1:] / 2,
        (v + np.roll(v, -1, 2))[..., 1:] / 2,
        (w[..., 1:] + w[..., :-1]) / 2,
    ]
    np.testing.assert_allclose(found.velocity.values, np.stack(centred, 1))
    assert np.isnan(found.velocity.values).sum() == 2 and "averaged from faces" in found.velocity.attrs["staggered"]
    part = found.velocity[1, :, 4:, ::2, 1].values
    np.testing.assert_allclose(part, np.stack(centred, 1)[1, :, 4:, ::2, 1])
    np.testing.assert_allclose(found.velocity[1, 0, 5, 2].values, centred[0][1, 5, 2])
    np.testing.assert_allclose(found.z, [5, 15, 25, 35])
    assert grid_of(found).lengths == (60.0, 50.0, 40.0) and found.attrs["length_units"] == "m"
    alone = open_field(tmp_path / "DATA_3D_NETCDF", boundary=("periodic", "periodic", "open"))
    np.testing.assert_array_equal(alone.theta.values, theta[..., 1:])
    np.testing.assert_allclose(alone.velocity.values, found.velocity.values)
    # without the word periodic the last cells have no face behind them
    short = open_field(tmp_path / "DATA_3D_NETCDF")
    np.testing.assert_allclose(short.velocity.values, found.velocity.values[:, :, :-1, :-1])
    assert "left out" in short.velocity.attrs["staggered"]


def wrf(path, engine="h5netcdf", start=0, hill=0.0, times=2):
    """U, V and W on faces, and levels 50 m apart that move by up to 2 m and follow a hill."""
    nx, ny, nz = 6, 5, 8
    dims = {"time": "Time", "z": "bottom_top", "y": "south_north", "x": "west_east"}
    data = {}
    for name, axis in (("U", "x"), ("V", "y"), ("W", "z"), ("T", None), ("PH", "z"), ("PHB", "z")):
        own = [f"{dim}_stag" if a == axis else dim for a, dim in dims.items()]
        sides = [n + (a == axis) for a, n in zip(dims, (times, nz, ny, nx))]
        data[name] = (own, GENERATOR.normal(size=sides).astype("f4"), {"units": "m s-1"})
    faces = 50.0 * np.arange(nz + 1)[:, None, None] + hill * np.linspace(0, 1, nx)
    moving = 2.0 * np.sin(np.arange(nz + 1))[:, None, None] * np.where(np.arange(nx) % 2, 1, -1)
    data["PHB"] = (
        data["PHB"][0],
        np.broadcast_to(9.81 * faces, data["PHB"][1].shape).astype("f4"),
        {"units": "m2 s-2"},
    )
    data["PH"] = (data["PH"][0], np.broadcast_to(9.81 * moving, data["PH"][1].shape).astype("f4"), {"units": "m2 s-2"})
    dates = np.array([f"0001-01-01_00:{10 * (start + n):02d}:00".encode() for n in range(times)])
    data |= {
        "XLAT": (("Time", "south_north", "west_east"), np.zeros((times, ny, nx), "f4")),
        "Times": (("Time",), dates),
    }
    data["TSLB"] = (("Time", "soil_layers_stag", "south_north", "west_east"), np.zeros((times, 4, ny, nx), "f4"))
    dataset = xr.Dataset(data, attrs={"DX": np.float32(50.0), "DY": np.float32(40.0)})
    dataset.to_netcdf(path, engine=engine)
    u, v, w = (dataset[name].values for name in "UVW")
    centred = [u[..., 1:] + u[..., :-1], v[:, :, 1:] + v[:, :, :-1], w[:, 1:] + w[:, :-1]]
    return np.stack(centred, 1).transpose(0, 1, 4, 3, 2) / 2


WRFOUT = "wrfout_d01_0001-01-01_00_00_00"


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_wrf(tmp_path, engine):
    expected = wrf(tmp_path / WRFOUT, engine)
    found = open_field(used("wrf_les", tmp_path))
    np.testing.assert_allclose(found.velocity.values, expected, rtol=1e-6)
    assert found.time.values.tolist() == [0.0, 600.0] and found.attrs["length_units"] == "m"
    np.testing.assert_allclose(grid_of(found).lengths, (300.0, 200.0, 400.0), rtol=1e-6)
    np.testing.assert_allclose(found.z, 25 + 50.0 * np.arange(8), atol=1e-3)
    assert "XLAT" in found.attrs["left_out"] and "TSLB" in found.attrs["left_out"]
    assert any("levels differ by up to 4.0% of a layer" in line for line in inspect(tmp_path / WRFOUT).lines())


def test_levels_that_follow_the_ground_are_refused_unless_heights_are_stated(tmp_path):
    expected = wrf(tmp_path / WRFOUT, hill=100.0)
    manifest = used("wrf_les", tmp_path)
    with pytest.raises(FlowsrError, match="interpolate to fixed heights first") as refused:
        open_field(manifest)
    assert refused.value.variable == "PH + PHB" and refused.value.found == "104%"
    heights = (25 + 50.0 * np.arange(8)).tolist()
    manifest.write_text(f"{manifest.read_text()}coordinates: {{z: {heights}}}\n")
    np.testing.assert_allclose(open_field(manifest).velocity.values, expected, rtol=1e-6)


def test_files_of_one_wrf_run_are_joined_though_their_mean_levels_differ(tmp_path):
    first, second = wrf(tmp_path / "a"), wrf(tmp_path / "b", start=3, hill=1.0)
    manifest = used("wrf_les", tmp_path)
    manifest.write_text(manifest.read_text().replace(f"a: {WRFOUT}", "a: [a, b]"))
    found = open_field(manifest)
    np.testing.assert_allclose(found.velocity.values, np.concatenate([first, second]), rtol=1e-6)
    assert found.time.values.tolist() == [0.0, 600.0, 1800.0, 2400.0]


def test_components_on_faces_as_a_manifest_says(tmp_path):
    u, v, w = (GENERATOR.normal(size=(4 + (a == 0), 5 + (a == 1), 6 + (a == 2))) for a in range(3))
    np.savez(tmp_path / "a.npz", a=u, b=v, c=w)
    (tmp_path / "m.yaml").write_text(
        "name: m\ndescription: d\nsource: s\nlicence: none\nfiles: {a: a.npz}\n"
        "variables: {velocity: {irreps: 1o, path: [a, b, c], axes: [x, y, z], staggered: true}}\n"
        "grid: {cells: [4, 5, 6], lengths: [4, 5, 6]}\nboundary: [open, open, open]\n"
    )
    found = open_field(tmp_path / "m.yaml").velocity
    for number, part in enumerate((u[1:] + u[:-1], v[:, 1:] + v[:, :-1], w[..., 1:] + w[..., :-1])):
        np.testing.assert_allclose(found.values[0, number], part / 2)
    assert "averaged from faces" in found.attrs["staggered"]
