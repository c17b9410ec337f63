"""Strangers' layouts, written here by a few lines of h5py, zarr, numpy and struct, come back with the right axes."""

import json
import struct

import h5py
import numpy as np
import pytest
import yaml
import zarr

from flowsr.data import check_finite, grid_of, open_field
from flowsr.data.field import tensor_irreps
from flowsr.data.readers.base import recognized
from flowsr.errors import FlowsrError
from flowsr.group import octahedral_group
from flowsr.group.fields import representation

X, Y, Z, T = 4, 6, 5, 2


def numbered(times=T, components=3, sides=(X, Y, Z)):
    """(time, component, x, y, z), every value different and exact in float32."""
    return np.arange(times * components * np.prod(sides), dtype="f4").reshape(times, components, *sides)


VELOCITY = numbered()


def cutout(path, *, name="Velocity", times=(1, 2), netcdf=False, y=None, z_names=("zcoor",), **attrs):
    """(nz, ny, nx, c) as the database writes it."""
    with h5py.File(path, "w") as file:
        axes = {"xcoor": np.arange(X) * 0.1, "ycoor": np.arange(Y) * 0.2 if y is None else y}
        axes.update({key: np.arange(Z) * 0.3 + 0.15 * n for n, key in enumerate(z_names)})
        for key, values in axes.items():
            file[key] = values.astype("f4")
            if netcdf:
                file[key].make_scale(key)
        for number, values in zip(times, VELOCITY):
            item = file.create_dataset(f"{name}_{number:04d}", data=values.transpose(3, 2, 1, 0))
            if netcdf:
                for axis, key in enumerate((z_names[0], "ycoor", "xcoor")):
                    item.dims[axis].attach_scale(file[key])
        stated = {"dataset": b"unknown", "t_start": times[0], "t_end": times[-1], "t_step": 1, "filterWidth": 1}
        for axis, n in zip("xyz", (X, Y, Z)):
            stated |= {f"{axis}_start": 1, f"{axis}_end": n, f"{axis}_step": 1}
        file.attrs.update(stated | attrs)
    return path


@pytest.mark.parametrize(("name", "netcdf"), [("Velocity", False), ("velocity", True)])
def test_jhtdb_cutouts_of_both_spellings(tmp_path, name, netcdf):
    path = cutout(tmp_path / "a.h5", name=name, netcdf=netcdf)
    assert recognized(path) == "jhtdb"
    found = open_field(path)
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY)
    assert not found["velocity"]._in_memory and list(found["component"].values) == ["u", "v", "w"]
    np.testing.assert_array_equal(found["velocity"][1, 2, 1:3, ::2, 4].values, VELOCITY[1, 2, 1:3, ::2, 4])
    grid = grid_of(found)
    np.testing.assert_allclose(grid.spacing, (0.1, 0.2, 0.3), rtol=1e-5)
    assert grid.boundary == ("open",) * 3 and found["time"].values.tolist() == [1, 2]
    assert found.attrs["jhtdb"]["filterWidth"] == 1 and "viscosity" not in found.attrs


def test_a_known_simulation_gives_times_viscosity_and_boundaries(tmp_path):
    y = -np.cos(np.pi * np.arange(Y) / (Y - 1) * 0.5)
    found = open_field(cutout(tmp_path / "a.h5", times=(1, 4), dataset="channel", y=y))
    np.testing.assert_allclose(found["time"].values, [0, 3 * 0.0065])
    assert found.attrs["viscosity"] == 5e-5
    grid = grid_of(found)
    assert grid.stretched == (False, True, False) and grid.boundary == ("open",) * 3
    np.testing.assert_allclose(grid.coordinates()[1], y, atol=1e-6)


def test_a_whole_side_of_a_known_simulation_is_periodic_or_a_wall(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        y = -np.cos(np.pi * np.arange(512) / 511)
        for key, values in (("xcoor", np.arange(2048.0)), ("ycoor", y), ("zcoor", np.arange(2.0))):
            file[key] = values
        file.create_dataset("velocity_0001", shape=(2, 512, 2048, 3), dtype="f4", chunks=(1, 64, 64, 3))
        file.attrs["dataset"] = "channel"
    found = open_field(tmp_path / "a.h5")
    assert found.attrs["boundary"] == ["periodic", "wall", "open"]
    grid = grid_of(found)
    assert grid.origin[1] == -1 and grid.lengths[1] == pytest.approx(2)


def test_other_fields_of_a_cutout(tmp_path):
    path = cutout(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        for number, values in zip((1, 2), VELOCITY):
            file[f"Pressure_{number:04d}"] = values[:1].transpose(3, 2, 1, 0) * 2
            file[f"magneticfield_{number:04d}"] = values.transpose(3, 2, 1, 0) * 3
    found = open_field(path)
    np.testing.assert_array_equal(found["pressure"].values, VELOCITY[:, 0] * 2)
    np.testing.assert_array_equal(found["magneticfield"].values, VELOCITY * 3)
    irreps = {name: array.attrs["irreps"] for name, array in found.data_vars.items()}
    assert irreps == {"velocity": "1o", "pressure": "0e", "magneticfield": "1e"}


def test_missing_values_of_a_cutout_are_found(tmp_path):
    path = cutout(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["Velocity_0002"][4, 3, 2, 1] = -999.9
    with pytest.raises(FlowsrError, match=r"1 of 720.*first at time 1, component 1, x 2, y 3, z 4"):
        check_finite(open_field(path))


def test_split_z_coordinates_say_so(tmp_path, caplog):
    found = open_field(cutout(tmp_path / "a.h5", z_names=("zcoor_uv", "zcoor_w")))
    np.testing.assert_allclose(found["z"].values, np.arange(Z) * 0.3, rtol=1e-6)
    assert "half a cell" in found["velocity"].attrs["staggered"] and "half a cell" in caplog.text


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda f: f.__delitem__("zcoor"), "variable: zcoor"),
        (
            lambda f: (f.__delitem__("xcoor"), f.__setitem__("xcoor", np.arange(5.0)), f.attrs.__delitem__("x_end")),
            "shape and coordinates disagree",
        ),
        (lambda f: f.attrs.__setitem__("x_end", 5), "indices and coordinates disagree.*x_start"),
        (lambda f: f.attrs.__setitem__("x_start", 0), "indices and coordinates disagree"),
        (lambda f: f.__setitem__("velocity_0001", f["Velocity_0001"][...]), "stored twice"),
        (lambda f: f.__setitem__("Pressure_0001", np.zeros((Z, Y, X, 1), "f4")), "lacks some of the times"),
        (lambda f: f.__setitem__("gradient_0001", np.zeros((Z, Y, X, 9), "f4")), "gradient"),
        (lambda f: (f.__delitem__("ycoor"), f.__setitem__("ycoor", np.zeros(Y))), "variable: y; expected: increasing"),
    ],
)
def test_cutouts_that_contradict_themselves(tmp_path, change, line):
    path = cutout(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(FlowsrError, match=line):
        open_field(path)


def test_jhtdb_stores_in_zarr_2(tmp_path):
    path = tmp_path / "isotropic1024coarse.zarr"
    root = zarr.create_group(str(path), zarr_format=2)
    array = root.create_array("velocity", shape=(3, 1024, 1024, 1024, 3), chunks=(1, 64, 64, 64, 3), dtype="<f4")
    array[1, :64, :64, :64] = np.arange(64**3 * 3, dtype="f4").reshape(64, 64, 64, 3)
    pressure = root.create_array("pressure", shape=(3, 1024, 1024, 1024, 1), chunks=(1, 64, 64, 64, 1), dtype="<f4")
    pressure[2, :64, :64, :64] = 7
    assert recognized(path) == "jhtdb_zarr"
    found = open_field(path)
    value = found["velocity"][1, 2, 5, 6, 7].values
    assert value == ((7 * 64 + 6) * 64 + 5) * 3 + 2
    assert found["pressure"].dims == ("time", "x", "y", "z") and found["pressure"][2, 1, 2, 3] == 7
    assert grid_of(found).periodic and grid_of(found).lengths[0] == pytest.approx(2 * np.pi)
    np.testing.assert_allclose(found["time"].values, [0, 0.002, 0.004])


def test_a_jhtdb_store_of_another_shape_is_refused(tmp_path):
    root = zarr.create_group(str(tmp_path / "isotropic1024coarse.zarr"), zarr_format=2)
    root.create_array("velocity", shape=(1, 8, 8, 8, 3), chunks=(1, 8, 8, 8, 3), dtype="<f4")
    with pytest.raises(FlowsrError, match="not the shape of this simulation"):
        open_field(tmp_path / "isotropic1024coarse.zarr")


def well(path, *, trajectories=2, flat=True, dims=("x",), kind="PERIODIC", tensors="none"):
    """Two trajectories, scalars, vectors and tensors; one field that varies in neither time nor z."""
    generator = np.random.default_rng(0)
    tensor = generator.normal(size=(trajectories, T, X, Y, Z, 3, 3)).astype("f4")
    if tensors == "symmetric":
        tensor = (tensor + tensor.swapaxes(-1, -2)) / 2
    content = {
        ("t0_fields", "density"): (
            generator.normal(size=(trajectories, T, X, Y, Z)).astype("f4"),
            True,
            True,
            [True] * 3,
        ),
        ("t0_fields", "bottom"): (generator.normal(size=(X, Y)).astype("f4"), False, False, [True, True, False]),
        ("t1_fields", "velocity"): (
            np.stack([VELOCITY.transpose(0, 2, 3, 4, 1) + 1000 * b for b in range(trajectories)]),
            True,
            True,
            [True] * 3,
        ),
        ("t2_fields", "stress"): (tensor.reshape(*tensor.shape[:-2], 9) if flat else tensor, True, True, [True] * 3),
    }
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {"dataset_name": "test", "grid_type": "cartesian", "n_spatial_dims": 3, "n_trajectories": trajectories}
        )
        for name, values in (("time", np.arange(T)), ("x", np.arange(X)), ("y", np.arange(Y)), ("z", np.arange(Z))):
            file[f"dimensions/{name}"] = values.astype("f4")
            file[f"dimensions/{name}"].attrs.update({"sample_varying": False, "time_varying": name == "time"})
        file["dimensions"].attrs["spatial_dims"] = ["x", "y", "z"]
        for name in "xyz":
            group = file.create_group(f"boundary_conditions/{name}_{kind}")
            group.attrs["bc_type"] = kind
            group.attrs["associated_dims"] = name if dims == "bare" else np.array([name], dtype=h5py.string_dtype())
        file["scalars/mach"] = np.arange(trajectories, dtype="f4") + 0.5
        file["scalars/mach"].attrs.update({"sample_varying": True, "time_varying": False})
        for (group, name), (values, sample, time, space) in content.items():
            file[f"{group}/{name}"] = values
            attrs = {"sample_varying": sample, "time_varying": time, "dim_varying": space}
            file[f"{group}/{name}"].attrs.update(attrs)
            if group == "t2_fields":
                file[f"{group}/{name}"].attrs.update({"symmetric": tensors == "symmetric", "antisymmetric": False})
    return path, content


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(("dims", "kind"), [("bare", "PERIODIC"), ("list", "wall"), ("list", "Open")])
def test_the_well_one_trajectory_at_a_time(tmp_path, flat, dims, kind):
    path, content = well(tmp_path / "a.hdf5", flat=flat, dims=dims, kind=kind)
    assert recognized(path) == "well"
    with pytest.raises(FlowsrError, match=r"which trajectory.*0 to 1.*in a manifest: files: .*run: '0'"):
        open_field(path)
    found = open_field(path, run="1")
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY + 1000)
    np.testing.assert_array_equal(found["density"].values, content["t0_fields", "density"][0][1])
    bottom = content["t0_fields", "bottom"][0]
    np.testing.assert_array_equal(found["bottom"].values, np.broadcast_to(bottom[None, :, :, None], (T, X, Y, Z)))
    np.testing.assert_array_equal(found["bottom"][1, 2:4, 3, ::2].values, np.repeat(bottom[2:4, 3, None], 3, 1))
    assert grid_of(found).boundary == (kind.lower(),) * 3
    assert found.attrs["well"]["scalars"] == {"mach": 1.5} and found.attrs["well"]["trajectory"] == 1
    stored = content["t2_fields", "stress"][0][1].reshape(T, X, Y, Z, 9)
    irreps, matrix = tensor_irreps("none")
    np.testing.assert_allclose(found["stress"].values, np.einsum("ij,txyzj->tixyz", matrix, stored), atol=1e-6)
    assert found["stress"].attrs["irreps"] == irreps and found["stress"].dims[1] == "component_9"
    np.testing.assert_allclose(
        found["stress"][1, 4, :, 2].values, np.einsum("j,xzj->xz", matrix[4], stored[1, :, 2]), atol=1e-6
    )


@pytest.mark.parametrize("symmetry", ["none", "symmetric", "antisymmetric"])
def test_tensors_turn_as_their_irreps_say(symmetry):
    group = octahedral_group("Oh")
    irreps, matrix = tensor_irreps(symmetry)
    tensor = np.random.default_rng(1).normal(size=(3, 3))
    tensor = {"none": tensor, "symmetric": tensor + tensor.T, "antisymmetric": tensor - tensor.T}[symmetry]
    np.testing.assert_allclose((matrix.T @ matrix @ tensor.ravel()).reshape(3, 3), tensor, atol=1e-6)
    for element in range(group.order):
        rotation = group.matrices[element]
        turned = rotation @ tensor @ rotation.T
        wanted = representation(irreps, group)[element] @ matrix @ tensor.ravel()
        np.testing.assert_allclose(matrix @ turned.ravel(), wanted, atol=1e-6)


def test_symmetric_tensors_of_the_well_have_six_components(tmp_path):
    path, content = well(tmp_path / "a.hdf5", trajectories=1, tensors="symmetric")
    found = open_field(path)
    assert found["stress"].sizes["component_6"] == 6
    back = np.einsum("ij,tixyz->txyzj", tensor_irreps("symmetric")[1], found["stress"].values)
    np.testing.assert_allclose(back, content["t2_fields", "stress"][0][0].reshape(T, X, Y, Z, 9), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda f: f.attrs.__setitem__("n_spatial_dims", 2), "a cartesian grid with three axes"),
        (lambda f: f.attrs.__setitem__("grid_type", "spherical"), "found: spherical"),
        (lambda f: f["t1_fields/velocity"].attrs.__setitem__("time_varying", False), "axes are not those"),
        (lambda f: f["dimensions"].__delitem__("y"), "variable: dimensions/y"),
        (lambda f: f["boundary_conditions/x_PERIODIC"].attrs.__setitem__("bc_type", "sticky"), "found: 'sticky'"),
        (lambda f: f.__delitem__("boundary_conditions"), "the boundaries are not stated"),
        (lambda f: f.attrs.__setitem__("n_trajectories", 9), "which trajectory"),
        (lambda f: f["dimensions"].attrs.__setitem__("spatial_dims", ["z", "y", "x"]), "other axes than x, y, z"),
        (lambda f: (f["dimensions"].__delitem__("x"), f["dimensions"].__setitem__("x", np.arange(3.0))), "disagree"),
    ],
)
def test_wells_that_contradict_themselves(tmp_path, change, line):
    path, _ = well(tmp_path / "a.hdf5", trajectories=1)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(FlowsrError, match=line):
        open_field(path)


def blastnet(folder, *, header="hash,time,dx,dy,dz", row="{hash},0.0,1e-5,,3e-5"):
    """Two boxes of 4^3 and the CSV above them."""
    box = folder / "HR" / "train"
    box.mkdir(parents=True)
    fields = {}
    for number, key in enumerate(("ab12", "cd34")):
        values = np.arange(4 * 64, dtype="<f4").reshape(4, 4, 4, 4) + 1000 * number
        for name, cube in zip(("RHO_kgm-3_id", "UX_ms-1_id", "UY_ms-1_id", "UZ_ms-1_id"), values):
            (box / f"{name}{key}.dat").write_bytes(struct.pack("<64f", *cube.ravel()))
        fields[key] = values
    (folder / "train.csv").write_text("\n".join([header, *(row.format(hash=key) for key in fields)]) + "\n")
    return box, fields


def test_blastnet_boxes(tmp_path):
    box, fields = blastnet(tmp_path)
    assert recognized(box) == "blastnet"
    with pytest.raises(FlowsrError, match=r"which run.*one of 2: ab12, cd34"):
        open_field(box)
    for found in (open_field(box, run="cd34"), open_field(box / "UX_ms-1_idcd34.dat")):
        np.testing.assert_array_equal(found["velocity"].values[0], fields["cd34"][1:])
        np.testing.assert_array_equal(found["density"].values[0], fields["cd34"][0])
        np.testing.assert_allclose(grid_of(found).spacing, (1e-5, 1e-5, 3e-5))
        assert found["velocity"].attrs["units"] == "m/s"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda box: (box / "UY_ms-1_idab12.dat").unlink(), "no such file"),
        (lambda box: (box / "UZ_ms-1_idab12.dat").write_bytes(b"1" * 255), "not a cube.*found: 255"),
        (lambda box: (box / "RHO_kgm-3_idab12.dat").write_bytes(b"1" * 4 * 27), "cubes of one box differ"),
        (lambda box: (box.parents[1] / "train.csv").write_text("hash,dx\n"), "no CSV lists this box"),
        (lambda box: (box.parents[1] / "train.csv").write_text("hash,dx\nab12,wide\n"), "not a spacing.*dx of ab12"),
        (lambda box: (box.parents[1] / "train.csv").write_text("hash,dx\nab12,-1\n"), "not a spacing"),
    ],
)
def test_boxes_that_are_none(tmp_path, change, line):
    box, _ = blastnet(tmp_path)
    change(box)
    with pytest.raises(FlowsrError, match=line):
        open_field(box, run="ab12")


def manifest(folder, file, **changes):
    content = {
        "name": "test",
        "description": "a test",
        "source": "here",
        "licence": "none",
        "files": {"a": file},
        "variables": {"velocity": {"irreps": "1o", "axes": ["time", "z", "component", "y", "x"]}},
        "grid": {"cells": [X, Y, Z], "lengths": [0.4, 1.2, 1.5]},
        "boundary": ["periodic", "wall", "open"],
        "times": [0.0, 0.5],
    }
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**content, **changes}.items() if v is not None}))
    return path


SCRAMBLED = VELOCITY.transpose(0, 4, 1, 3, 2)


def write_arrays(folder, kind):
    if kind == "npy":
        np.save(folder / "a.npy", SCRAMBLED)
    elif kind == "fortran npy":
        np.save(folder / "a.npy", np.asfortranarray(SCRAMBLED))
    elif kind == "big-endian npy":
        np.save(folder / "a.npy", SCRAMBLED.astype(">f8"))
    elif kind == "npz":
        np.savez_compressed(folder / "a.npz", velocity=SCRAMBLED, other=np.zeros(3))
    elif kind == "raw":
        (folder / "a.bin").write_bytes(SCRAMBLED.astype(">f8").tobytes())
    elif kind == "hdf5":
        with h5py.File(folder / "a.h5", "w") as file:
            file["velocity"] = SCRAMBLED
    else:
        zarr.create_group(str(folder / "a.zarr"), zarr_format=int(kind[-1])).create_array(
            "velocity", data=np.ascontiguousarray(SCRAMBLED), chunks=(1, 2, 3, 3, 2)
        )
    return next(p.name for p in folder.iterdir() if p.name.startswith("a."))


KINDS = ["npy", "fortran npy", "big-endian npy", "npz", "raw", "hdf5", "zarr 2", "zarr 3"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_says_what_bare_arrays_are(tmp_path, kind):
    file = write_arrays(tmp_path, kind)
    found = open_field(manifest(tmp_path, file, dtype=">f8" if kind == "raw" else None))
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY)
    np.testing.assert_array_equal(found["velocity"][1, 1:, 3, :, ::2].values, VELOCITY[1, 1:, 3, :, ::2])
    grid = grid_of(found)
    assert grid.shape == (X, Y, Z) and grid.boundary == ("periodic", "wall", "open")
    np.testing.assert_allclose(grid.lengths, (0.4, 1.2, 1.5))
    assert found["time"].values.tolist() == [0, 0.5]


def test_components_in_arrays_of_their_own_and_coordinates_in_the_file(tmp_path):
    y = np.cumsum([0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, name in enumerate("uvw"):
            file[f"fields/{name}"] = VELOCITY[:, number].transpose(0, 3, 2, 1)
        file["grid/y"], file["clock"] = y, [1.0, 3.0]
    variables = {
        "velocity": {
            "irreps": "1o",
            "path": ["fields/u", "fields/v", "fields/w"],
            "axes": ["time", "z", "y", "x"],
            "units": "m/s",
        }
    }
    coordinates = {"x": [0.5, 1.5, 2.5, 3.5], "y": "grid/y", "z": [1, 2, 3, 4, 5]}
    found = open_field(
        manifest(tmp_path, "a.h5", variables=variables, coordinates=coordinates, grid=None, times="clock")
    )
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY)
    assert grid_of(found).stretched == (False, True, False) and found["time"].values.tolist() == [1, 3]
    assert found["velocity"].attrs["units"] == "m/s"


def test_a_bare_cube_is_refused_and_a_silent_manifest_too(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((8, 8, 8), "f4"))
    with pytest.raises(FlowsrError, match=r"does not say what its axes are.*manifest"):
        open_field(tmp_path / "a.npy")
    silent = {"pressure": {"irreps": "0e", "path": "a"}}
    grid = {"cells": [8, 8, 8], "lengths": [1, 1, 1]}
    with pytest.raises(FlowsrError, match=r"order of the axes is ambiguous.*fits 6 orders"):
        open_field(manifest(tmp_path, "a.npy", variables=silent, grid=grid, times=None))
    np.save(tmp_path / "a.npy", np.zeros((X, Z, Y), "f4"))
    grid = {"cells": [X, Y, Z], "lengths": [1, 1, 1]}
    found = open_field(manifest(tmp_path, "a.npy", variables=silent, grid=grid, times=None))
    assert found["pressure"].shape == (1, X, Y, Z)


def test_consecutive_files_are_one_run(tmp_path):
    names = []
    for number in (1, 2):
        names.append(f"{number}.h5")
        cutout(tmp_path / names[-1], times=(number,))
        with h5py.File(tmp_path / names[-1], "a") as file:
            file[f"Velocity_{number:04d}"][...] = VELOCITY[number - 1].transpose(3, 2, 1, 0)
    options = {"variables": {"velocity": {"irreps": "1o"}}, "grid": None, "boundary": None, "times": None}
    found = open_field(manifest(tmp_path, names, **options))
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY)
    np.testing.assert_array_equal(found["velocity"][::-1, 0].values, VELOCITY[::-1, 0])
    with pytest.raises(FlowsrError, match="times of consecutive files do not increase"):
        open_field(manifest(tmp_path, names[::-1], **options))


@pytest.mark.parametrize("axis", [True, False])
def test_the_times_of_a_manifest_go_round_its_files(tmp_path, axis):
    for number in range(2):
        part = SCRAMBLED[number : number + 1] if axis else SCRAMBLED[number]
        np.save(tmp_path / f"{number}.npy", part)
    axes = ["time", "z", "component", "y", "x"][0 if axis else 1 :]
    variables = {"velocity": {"irreps": "1o", "axes": axes}}
    found = open_field(manifest(tmp_path, ["0.npy", "1.npy"], variables=variables))
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY)
    assert found["time"].values.tolist() == [0.0, 0.5]
    with pytest.raises(FlowsrError, match=r"times do not go into the files.*found: 3"):
        open_field(manifest(tmp_path, ["0.npy", "1.npy"], variables=variables, times=[0.0, 1.0, 2.0]))
    with pytest.raises(FlowsrError, match="the reader jhtdb takes the layout from the file"):
        open_field(manifest(tmp_path, "0.npy", variables=variables, reader="jhtdb"))


def test_trajectories_are_runs_of_a_manifest(tmp_path):
    well(tmp_path / "a.hdf5")
    files = {"first": {"path": "a.hdf5", "run": "0"}, "second": {"path": "a.hdf5", "run": "1"}}
    options = {"variables": {"velocity": {"irreps": "1o"}}, "grid": None, "boundary": None, "times": None}
    splits = {"train": ["first"], "test": ["second"]}
    path = manifest(tmp_path, "a.hdf5", files=files, splits=splits, **options)
    np.testing.assert_array_equal(open_field(path, run="second")["velocity"].values, VELOCITY + 1000)
    with pytest.raises(FlowsrError, match="split test names third"):
        open_field(manifest(tmp_path, "a.hdf5", files=files, splits={"test": ["third"]}, **options), run="first")


def test_attributes_are_plain_values(tmp_path):
    json.dumps(open_field(cutout(tmp_path / "a.h5")).attrs)
    json.dumps(open_field(well(tmp_path / "b.h5")[0], run="0").attrs)
