"""Files as programs write them open by the names that programs use; options and manifests say what they do not."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml

from flowsr.cli import main
from flowsr.data import ReadOptions, grid_of, open_field
from flowsr.data.convert import convert
from flowsr.data.independence import Split
from flowsr.data.inspect import inspect
from flowsr.data.open import Input
from flowsr.data.pairs import Ingest, ingest, runs_to_ingest
from flowsr.data.readers.names import axis_of, velocity_among
from flowsr.data.readers.units import conversion
from flowsr.data.suggest import BLANK, suggested_manifest
from flowsr.errors import FlowsrError

SIDES = {"x": 8, "y": 6, "z": 5}
AXES = {"x": (np.arange(8) + 0.5) * 0.5, "y": (np.arange(6) + 0.5) * 0.25, "z": (np.arange(5) + 0.5) * 0.125}
LENGTHS = (4.0, 1.5, 0.625)
WHOLE = ("time", "component", "x", "y", "z")
VELOCITY = np.random.default_rng(0).normal(size=(2, 3, *SIDES.values())).astype("f4")
KNOWN = {"lon": "x", "lat": "y", "lev": "z", "nx": "x", "ny": "y", "nz": "z", "t": "time", "i": "x", "j": "y", "k": "z"}
PERIODIC = ("periodic",) * 3


def les(names=("u", "v", "w"), dims=("time", "z", "y", "x"), coordinates=True) -> xr.Dataset:
    """The velocity as three scalars, dims in any order under any names."""
    axes = [KNOWN.get(dim, dim) for dim in dims]
    values = VELOCITY if "time" in axes else VELOCITY[:1]
    found = xr.Dataset()
    for number, name in enumerate(names):
        part = values[:, number] if "time" in axes else values[0, number]
        stored = [axis for axis in ("time", "x", "y", "z") if axis in axes]
        found[name] = (dims, part.transpose([stored.index(axis) for axis in axes]).copy(), {"units": "m s-1"})
    for dim, axis in zip(dims, axes) if coordinates else ():
        found = found.assign_coords({dim: (dim, np.array([0.0, 0.1]) if axis == "time" else AXES[axis])})
    return found


def saved(dataset: xr.Dataset, folder, kind: str = "netcdf4", name: str = "a"):
    path = folder / f"{name}.{'zarr' if kind.startswith('zarr') else 'nc'}"
    if kind.startswith("zarr"):
        dataset.to_zarr(path, zarr_format=int(kind[-1]), consolidated=False)
    else:
        dataset.to_netcdf(path, engine="h5netcdf" if kind == "netcdf4" else "scipy")
    return path


def manifest(folder, **content):
    head = {"name": "m", "description": "d", "source": "s", "licence": "none"}
    path = folder / "m.yaml"
    path.write_text(yaml.safe_dump({**head, **content}))
    return path


@pytest.mark.parametrize("kind", ["netcdf4", "netcdf3", "zarr2", "zarr3"])
@pytest.mark.parametrize(
    ("names", "dims"),
    [
        (("u", "v", "w"), ("time", "z", "y", "x")),
        (("ux", "uy", "uz"), ("z", "y", "x")),
        (("Velocity_X", "Velocity_Y", "Velocity_Z"), ("t", "lev", "lat", "lon")),
        (("U", "V", "W"), ("i", "j", "k")),
    ],
)
def test_three_scalars_are_a_velocity(tmp_path, kind, names, dims):
    path = saved(les(names, dims), tmp_path, kind)
    found = open_field(path)
    expected = VELOCITY if len(dims) == 4 else VELOCITY[:1]
    assert found.velocity.dims == WHOLE and not found.velocity._in_memory
    np.testing.assert_array_equal(found.velocity.values, expected)
    np.testing.assert_array_equal(found.velocity[0, 1, 2:7:2, 3, ::-1].values, expected[0, 1, 2:7:2, 3, ::-1])
    assert found.velocity.attrs["irreps"] == "1o" and found.velocity.attrs["units"] == "m s-1"
    assert list(found.component.values) == ["u", "v", "w"] and found.time.values.tolist() == [0.0, 0.1][: len(expected)]
    np.testing.assert_allclose(grid_of(found).lengths, LENGTHS)
    assert "boundary open/open/open" in found.attrs["assumed"]
    assert open_field(path, boundary=("periodic", "wall", "open")).attrs["boundary"] == ["periodic", "wall", "open"]


@pytest.mark.parametrize(
    "names",
    [
        *("vx vy vz", "Vx Vy Vz", "velocity_x velocity_y velocity_z", "u_x u_y u_z", "u1 u2 u3", "u0 u1 u2"),
        *("ua va wa", "x_velocity y_velocity z_velocity", "vel:0 vel:1 vel:2", "uvel vvel wvel", "U-X U-Y U-Z"),
    ],
)
def test_names_of_a_velocity(names):
    names = names.split()
    assert velocity_among({name: {} for name in [*reversed(names), "pressure", "T"]}) == tuple(names)


@pytest.mark.parametrize("names", ["u v p", "a b c", "u0 u1 u2 u3", "uu vv ww", "u v w_variance"])
def test_names_of_no_velocity(names):
    assert velocity_among({name: {} for name in names.split()}) is None


@pytest.mark.parametrize(
    "words", [("eastward_wind", "northward_wind", "upward_air_velocity"), ("x_wind", "y_wind", "upward_air_velocity")]
)
def test_standard_names_come_before_names(words):
    known = {name: {"standard_name": word} for name, word in zip("abc", words)}
    assert velocity_among({**known, "u": {}, "v": {}, "w": {}}) == ("a", "b", "c")


def test_names_of_axes():
    for axis, names in {
        "x": "x i nx lon longitude west_east west_east_stag xu x_c X Xp1 grid_xt x-coordinate imax x1v dim_x Nx",
        "z": "z lev bottom_top zu_3d zw_3d k nk height depth z_dim",
        "time": "t Time Times nt time_counter t-coordinate XTIME",
        "component": "component c comp dim",
        None: "it lat_bnds nv DateStrLen sample ensemble soil_layers_stag phony_dim_0 member u",
    }.items():
        assert {name: axis_of(name) for name in names.split()} == dict.fromkeys(names.split(), axis)
    assert axis_of("distance", {"axis": "Y"}) == "y" and axis_of("q", {"standard_name": "altitude"}) == "z"


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("velocity", ("time", "component", "x", "y", "z")),
        ("U", ("time", "z", "y", "x", "vdim")),
        ("wind", ("t", "lev", "lat", "lon", "dim_4")),
        ("u", None),
        ("velocity", None),
    ],
)
def test_an_array_of_three_components_with_a_velocitys_name_is_one(tmp_path, name, dims):
    known = [KNOWN.get(dim, dim) for dim in dims or ("time", "z", "y", "x", "component")]
    order = [WHOLE.index(axis if axis in WHOLE else "component") for axis in known]
    labels = ["w", "u", "v"]  # of which the file says so, whatever their dim is called
    axes = {"time": np.array([0.0, 0.1]), **AXES}
    if dims is None:
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            for axis, values in axes.items():
                file[axis] = values
            file[name] = VELOCITY.transpose(order)
    else:
        stored = VELOCITY[:, [2, 0, 1]] if "component" in dims else VELOCITY
        coords = {d: axes[a] for d, a in zip(dims, known) if a in axes} | {"component": labels}
        dataset = xr.Dataset({name: (dims, stored.transpose(order))}, {k: v for k, v in coords.items() if k in dims})
        path = saved(dataset, tmp_path)
    found = open_field(path)
    np.testing.assert_array_equal(found.velocity.values, VELOCITY)
    assert "velocity.irreps 1o" in found.attrs["assumed"] and list(found.component.values) == ["u", "v", "w"]
    assert found.velocity.attrs.get("stored_as", "velocity") == name


def test_an_array_of_three_of_anything_else_is_left_to_say(tmp_path):
    dataset = xr.Dataset({"species": (("time", "kind", "x", "y", "z"), VELOCITY)}, {"time": [0.0, 0.1], **AXES})
    with pytest.raises(FlowsrError, match="--select kind=0"):
        open_field(saved(dataset, tmp_path))
    dataset = dataset.rename(species="magnetic_field", kind="component")
    with pytest.raises(FlowsrError, match="--irreps magnetic_field=1o"):
        open_field(saved(dataset, tmp_path, name="b"))
    found = open_field(tmp_path / "b.nc", irreps={"magnetic_field": "1e"})
    np.testing.assert_array_equal(found.magnetic_field.values, VELOCITY)


def test_one_time_more_than_snapshots_is_left_out(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:  # as PDEBench has them
        for axis, values in {"t": np.arange(3) * 0.05, **AXES}.items():
            file[f"{axis}-coordinate"] = values
        for number, name in enumerate(("Vx", "Vy", "Vz")):
            file[name] = np.stack([0 * VELOCITY[:, number], VELOCITY[:, number]])
    found = open_field(tmp_path / "a.h5", select={"sample": 1}, axes=("sample", "time", "x", "y", "z"))
    np.testing.assert_array_equal(found.velocity.values, VELOCITY)
    assert found.time.values.tolist() == [0.0, 0.05] and "its last of 3 times" in found.attrs["left_out"]
    with pytest.raises(FlowsrError, match="select is for axes that flowsr does not know"):
        open_field(tmp_path / "a.h5", select={"sample": 1, "time": 0}, axes=("sample", "time", "x", "y", "z"))


def test_arrays_that_are_no_fields_are_listed_and_ignored(tmp_path):
    dataset = les(dims=("time", "k", "j", "i"))
    dataset["mask"] = (("k", "j", "i"), np.ones((5, 6, 8), "i1"))
    dataset["dx_of"] = ("i", np.ones(8))
    dataset["nu"] = ((), 0.1)
    dataset["lon_bnds"] = (("i", "nv"), np.ones((8, 2)))
    dataset["topography"] = (("j", "i"), np.ones((6, 8)))
    dataset["p"] = dataset.u * 2
    path = saved(dataset, tmp_path)
    found = open_field(path)
    assert set(found.data_vars) == {"velocity", "p"} and found.p.attrs["irreps"] == "0e"
    np.testing.assert_array_equal(found.p.values, 2 * VELOCITY[:, 0])
    lines = "\n".join(inspect(path).lines())
    assert all(name in lines for name in ("mask (int8)", "dx_of", "nu", "lon_bnds", "topography"))


def test_what_is_missing_is_named_with_the_option_that_says_it(tmp_path):
    path = saved(les(dims=("nx", "ny", "nz"), coordinates=False), tmp_path)
    with pytest.raises(FlowsrError, match="--lengths") as caught:
        open_field(path)
    assert caught.value.variable == "x"
    found = open_field(path, lengths=LENGTHS, boundary=PERIODIC)
    np.testing.assert_array_equal(found.velocity.values, VELOCITY[:1])
    np.testing.assert_allclose(found.y, AXES["y"])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for number, name in enumerate("uvw"):
            file[name] = VELOCITY[:, number].transpose(0, 3, 2, 1)
        file["time"] = [0.0, 1.0]
    with pytest.raises(FlowsrError, match="--axes"):
        open_field(tmp_path / "b.h5")
    found = open_field(tmp_path / "b.h5", axes=("time", "z", "y", "x"), lengths=LENGTHS)
    np.testing.assert_array_equal(found.velocity.values, VELOCITY)
    np.save(tmp_path / "c.npy", VELOCITY[0].transpose(3, 2, 1, 0))
    with pytest.raises(FlowsrError, match="--axes and --lengths"):
        open_field(tmp_path / "c.npy")
    how = ReadOptions(axes=("z", "y", "x", "component"), lengths=LENGTHS, irreps={"velocity": "1o"}, boundary=PERIODIC)
    np.testing.assert_array_equal(open_field(tmp_path / "c.npy", how).velocity.values, VELOCITY[:1])


def test_spacings_of_the_file_make_coordinates(tmp_path):
    dataset = les(dims=("nz", "ny", "nx"), coordinates=False).assign_attrs(DX=0.5, dy=0.25, Lz=0.625)
    found = open_field(saved(dataset, tmp_path))
    for axis in "xyz":
        np.testing.assert_allclose(found[axis], AXES[axis])


@pytest.mark.parametrize("way", ["option", "manifest", "run"])
def test_one_entry_of_an_axis_that_flowsr_does_not_know(tmp_path, way):
    samples = xr.concat([les() * factor for factor in (1, 2, 3)], "sample")
    path = saved(samples, tmp_path)
    both = [Input(path=path, select={"sample": number}) for number in (1, 2)]
    assert [source.name for source in runs_to_ingest(both)] == ["a_sample_1", "a_sample_2"]
    with pytest.raises(FlowsrError, match=r"--select sample=0") as caught:
        open_field(path)
    assert caught.value.variable == "u" and caught.value.found == "sample"
    velocity = {"velocity": {"irreps": "1o", "path": ["u", "v", "w"], "axes": ["sample", "time", "z", "y", "x"]}}
    stated = {"variables": velocity, "boundary": list(PERIODIC)}
    if way == "option":
        found = open_field(path, select={"sample": 2})
    elif way == "manifest":
        found = open_field(manifest(tmp_path, files={"a": "a.nc"}, select={"sample": 2}, **stated))
    else:
        files = {f"sample_{n}": {"path": "a.nc", "select": {"sample": n}} for n in range(3)}
        found = open_field(manifest(tmp_path, files=files, **stated), run="sample_2")
    np.testing.assert_array_equal(found.velocity.values, 3 * VELOCITY)
    for wrong in ({"sample": 3}, {"ensemble": 0}):
        with pytest.raises(FlowsrError, match="no such"):
            open_field(path, select=wrong)


@pytest.mark.parametrize("by_manifest", [False, True])
def test_three_scalars_of_a_vtk_file_are_a_velocity(tmp_path, by_manifest):
    head = "# vtk DataFile Version 3.0\nt\nASCII\nDATASET STRUCTURED_POINTS\nDIMENSIONS 8 6 5\n"
    text = head + "ORIGIN 0 0 0\nSPACING 0.5 0.25 0.125\nPOINT_DATA 240\n"
    for name, part in zip(("Ux", "Uy", "Uz"), VELOCITY[0].astype("f8")):
        listed = " ".join(map(repr, part.ravel(order="F").tolist()))
        text += f"SCALARS {name} double 1\nLOOKUP_TABLE default\n{listed}\n"
    path = tmp_path / "a.vtk"
    path.write_text(text)
    if by_manifest:
        path = manifest(
            tmp_path, files={"a": "a.vtk"}, variables={"velocity": {"irreps": "1o"}}, boundary=list(PERIODIC)
        )
    np.testing.assert_array_equal(open_field(path).velocity.values, VELOCITY[:1])


def test_xdmf_behind_a_long_comment_is_known(tmp_path):
    (tmp_path / "a.xmf").write_text(f"<?xml version='1.0'?><!--{'x' * 9000}--><Xdmf Version='2.0'></Xdmf>")
    with pytest.raises(FlowsrError) as caught:
        open_field(tmp_path / "a.xmf")
    assert "not a format" not in str(caught.value)


@pytest.mark.parametrize("pieces", ["processor0", "processors4", "processors12_0-3"])
def test_an_openfoam_case_in_pieces_is_told_to_be_put_together(tmp_path, pieces):
    for folder in (pieces, "system", "constant"):
        (tmp_path / folder).mkdir()
    (tmp_path / "system" / "controlDict").touch()
    with pytest.raises(FlowsrError, match="reconstructPar"):
        open_field(tmp_path)


def test_time_and_its_ranges(tmp_path):
    path = saved(les(), tmp_path)
    np.testing.assert_array_equal(open_field(path, time=1).velocity.values, VELOCITY[1:])
    np.testing.assert_array_equal(open_field(path, time="0:2").velocity.values, VELOCITY)
    with pytest.raises(FlowsrError, match="no such snapshot"):
        open_field(path, time=2)
    with pytest.raises(FlowsrError, match="time is a number"):
        open_field(path, time="first")


# -- units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "wanted", "factor"),
    [
        ("m/s", "m s-1", (1, 0)),
        ("cm/s", "m/s", (0.01, 0)),
        ("m s**-1", "km/h", (3.6, 0)),
        ("m.s-1", "cm/s", (100, 0)),
        ("kg m-3", "g/cm^3", (0.001, 0)),
        ("hours", "s", (3600, 0)),
        ("degC", "K", (1, 273.15)),
        ("code", "code", (1, 0)),
        ("code", "m", None),
        ("1", "m/s", None),
        ("Pa", "m/s", None),
        ("m" * 500, "m", None),
    ],
)
def test_units(found, wanted, factor):
    assert conversion(found, wanted) == factor


def in_cgs(dataset):
    """The flow in centimetres and minutes."""
    out = dataset.assign(velocity=(dataset.velocity * 6000).assign_attrs(irreps="1o", units="cm/min"))
    axes = {axis: (axis, dataset[axis].values * 100, {"units": "cm"}) for axis in "xyz"}
    out = out.assign_coords(time=("time", dataset.time.values / 60, {"units": "min"}), **axes)
    return out.assign_attrs(viscosity=0.02 * 1e4 * 60, length_units="cm")


def stated(times=(0.0,)) -> xr.Dataset:
    axes = {name: (name, values, {"units": "m"}) for name, values in AXES.items()}
    data = {
        "velocity": (WHOLE, np.resize(VELOCITY, (len(times), *VELOCITY.shape[1:])), {"irreps": "1o", "units": "m/s"})
    }
    coords = {"time": ("time", np.array(times), {"units": "s"}), "component": ["u", "v", "w"], **axes}
    return xr.Dataset(data, coords, {"boundary": list(PERIODIC), "viscosity": 0.02})


def test_a_velocity_in_another_unit_takes_lengths_times_and_viscosity_along(tmp_path):
    dataset = stated((0.0, 6.0))
    found = open_field(saved(in_cgs(dataset), tmp_path), units={"velocity": "m/s"})
    np.testing.assert_allclose(found.velocity.values, dataset.velocity.values, rtol=1e-6)
    assert found.velocity.attrs["units"] == "m/s" and found.velocity.dtype == np.float32
    for name in ("time", "x", "y", "z"):
        np.testing.assert_allclose(found[name], dataset[name], rtol=1e-12)
    assert found.attrs["viscosity"] == pytest.approx(0.02) and found.attrs["length_units"] == "m"
    assert "velocity converted from cm/min to m/s" in found.attrs["converted"]


def test_units_of_axes_follow_the_velocity(tmp_path):
    dataset = les().assign_coords(x=("x", AXES["x"] / 1000, {"units": "km"}), time=("time", [0.0, 1.0], {"units": "h"}))
    found = open_field(saved(dataset, tmp_path))
    np.testing.assert_allclose(found.x, AXES["x"])
    np.testing.assert_allclose(found.time, [0.0, 3600.0])
    assert found.attrs["length_units"] == "m" and found.x.attrs["units"] == "m"


def test_times_since_other_dates_are_one_clock(tmp_path):
    for name, since, hours in (("a", "2000-01-01 00:00:00", [0.0, 1.0]), ("b", "2000-01-02", [0.5, 1.5])):
        dataset = les().assign_coords(time=("time", np.array(hours), {"units": f"hours since {since}"}))
        saved(dataset, tmp_path, name=name)
    whole = manifest(tmp_path, files={"a": ["a.nc", "b.nc"]}, variables={"velocity": {"irreps": "1o"}})
    np.testing.assert_allclose(open_field(whole).time, [0.0, 3600.0, 24.5 * 3600, 25.5 * 3600])


def test_runs_of_an_ingest_are_brought_to_the_units_of_the_first(tmp_path):
    times = np.arange(9.0)
    inputs = [Input(path=saved(stated(times), tmp_path)), Input(path=saved(in_cgs(stated(times)), tmp_path, name="b"))]
    settings = Ingest(factor=(2, 2, 1), split=Split(turnover_time=0.5))
    ingest(inputs, tmp_path / "pairs", settings)
    one, other = (open_field(tmp_path / "pairs" / "train" / f"{name}.zarr", group="coarse") for name in "ab")
    np.testing.assert_allclose(one.velocity.values, other.velocity.values, rtol=1e-5)
    assert one.velocity.attrs["units"] == other.velocity.attrs["units"] == "m/s"


# -- manifests ---------------------------------------------------------------------------------------------------------


def test_a_manifest_takes_coordinates_times_and_units_of_the_file(tmp_path):
    saved(les(("a", "b", "c")), tmp_path)
    velocity = {"irreps": "1o", "path": ["a", "b", "c"], "axes": ["time", "z", "y", "x"]}
    found = open_field(
        manifest(tmp_path, files={"r": "a.nc"}, variables={"velocity": velocity}, boundary=list(PERIODIC))
    )
    np.testing.assert_array_equal(found.velocity.values, VELOCITY)
    np.testing.assert_allclose(found.time, [0.0, 0.1])
    assert found.velocity.attrs["units"] == "m s-1" and grid_of(found).lengths == pytest.approx(LENGTHS)
    wrong = {"x": (AXES["x"] * 2).tolist()}
    with pytest.raises(FlowsrError, match="file and manifest disagree") as caught:
        open_field(
            manifest(
                tmp_path,
                files={"r": "a.nc"},
                variables={"velocity": velocity},
                boundary=list(PERIODIC),
                coordinates=wrong,
            )
        )
    assert caught.value.variable == "x"


@pytest.mark.parametrize("nodes", [np.cos(np.pi * np.arange(6) / 5), np.linspace(-1, 1, 6)])
def test_walls_at_the_outermost_nodes(tmp_path, nodes):
    saved(les().assign_coords(y=nodes), tmp_path)
    content = {
        "files": {"a": "a.nc"},
        "variables": {"velocity": {"irreps": "1o"}},
        "boundary": ["periodic", "wall", "periodic"],
        "walls": {"y": [-1, 1]},
    }
    grid = grid_of(open_field(manifest(tmp_path, **content)))
    assert grid.origin[1] == -1 and grid.lengths[1] == 2 and grid.widths()[1].sum() == pytest.approx(2)
    with pytest.raises(FlowsrError, match="does not hold"):
        open_field(manifest(tmp_path, **{**content, "walls": {"y": [0, 1]}}))


def test_links_are_followed_where_the_manifest_says_so(tmp_path):
    scratch, here = tmp_path / "scratch", tmp_path / "here"
    scratch.mkdir(), here.mkdir()
    saved(les(), scratch)
    os.symlink(scratch / "a.nc", here / "a.nc")
    content = {"files": {"a": "a.nc"}, "variables": {"velocity": {"irreps": "1o"}}, "boundary": list(PERIODIC)}
    with pytest.raises(FlowsrError, match="links: true") as caught:
        open_field(manifest(here, **content))
    assert str(scratch) in caught.value.found
    np.testing.assert_array_equal(open_field(manifest(here, links=True, **content)).velocity.values, VELOCITY)
    with pytest.raises(FlowsrError, match="outside the root"):
        open_field(manifest(here, links=True, **{**content, "files": {"a": "../scratch/a.nc"}}))


# -- the manifest that would read it -----------------------------------------------------------------------------------


def test_the_printed_manifest_opens_the_file_with_its_blanks_filled(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        for number, name in enumerate(("Vx", "Vy", "Vz")):
            file[name] = np.stack([VELOCITY[:, number], 2 * VELOCITY[:, number]])
        for axis, values in AXES.items():
            file[f"{axis}-coordinate"] = values
        file["t-coordinate"] = [0.0, 0.1]
    assert main(["inspect", "a.h5"]) == 2
    printed = capsys.readouterr()
    assert printed.out == suggested_manifest("a.h5") and "--axes" in printed.err
    assert main(["inspect", "a.h5", "--manifest"]) == 0
    text = capsys.readouterr().out
    assert text.count(BLANK) > 3 and "[FILL, FILL, x, y, z]" in text
    filled = text.replace("[FILL, FILL, x, y, z]", "[sample, time, x, y, z]").replace(BLANK, "periodic")
    with open("mine.yaml", "w") as file:
        file.write(filled + "select: {sample: 1}\n")
    np.testing.assert_array_equal(open_field("mine.yaml").velocity.values, 2 * VELOCITY)


@pytest.mark.parametrize("kind", ["netcdf4", "netcdf3", "zarr3"])
def test_the_printed_manifest_of_a_file_that_opens_opens_it(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = saved(les().assign_attrs(viscosity=0.1), tmp_path, kind)
    text = suggested_manifest(path.name)
    assert BLANK not in text.partition("\n")[2]
    (tmp_path / "mine.yaml").write_text(text)
    found = open_field("mine.yaml")
    np.testing.assert_array_equal(found.velocity.values, VELOCITY)
    assert found.attrs["viscosity"] == 0.1


# -- the same words everywhere -----------------------------------------------------------------------------------------


def test_the_same_words_on_inspect_and_convert(tmp_path, capsys):
    path = saved(xr.concat([les(), les() * 2], "sample"), tmp_path)
    words = ["--select", "sample=1", "--time", "1", "--boundary", "periodic", "--units", "velocity=cm/s"]
    assert main(["inspect", str(path), *words]) == 0
    assert "[cm/s]" in capsys.readouterr().out
    assert main(["convert", str(path), str(tmp_path / "b.zarr"), *words]) == 0
    found = open_field(tmp_path / "b.zarr")
    np.testing.assert_allclose(found.velocity.values, 200 * VELOCITY[1:], rtol=1e-6)
    assert found.attrs["boundary"] == list(PERIODIC)
    capsys.readouterr()
    for wrong in (["--select", "sample"], ["--lengths", "a,b,c"], ["--boundary", "wet"], ["--units", "velocity=Pa"]):
        assert main(["inspect", str(path), "--select", "sample=1", *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_contradiction_of_an_option_is_refused(tmp_path):
    path = saved(stated(), tmp_path)
    for words, variable in (
        ({"boundary": ("wall",) * 3}, "boundary"),
        ({"irreps": {"velocity": "1e"}}, "velocity.irreps"),
    ):
        with pytest.raises(FlowsrError, match="file and --") as caught:
            open_field(path, **words)
        assert caught.value.variable == variable
    with pytest.raises(FlowsrError, match="no such variable"):
        open_field(path, units={"pressure": "Pa"})


def test_what_was_read_by_options_converts_and_comes_back(tmp_path):
    target = convert(saved(les(), tmp_path), tmp_path / "b.nc", ReadOptions(boundary=PERIODIC))
    np.testing.assert_array_equal(open_field(target).velocity.values, VELOCITY)


def test_inputs_of_an_experiment_say_how_they_are_read():
    from flowsr.config.study import parse_experiment

    def inputs(*given):
        return parse_experiment({"name": "a", "output": "o", "ingest": {"inputs": list(given)}}).ingest.inputs

    plain, chosen = inputs("a.nc", {"path": "b.h5", "run": "1", "select": {"sample": 3}, "boundary": list(PERIODIC)})
    assert Input.of(plain).path.name == "a.nc" and (chosen.run, chosen.select, chosen.boundary) == (
        "1",
        {"sample": 3},
        PERIODIC,
    )
    for wrong, line in (
        ({"path": "a", "rum": 1}, "unknown key 'ingest.inputs.0.rum'"),
        ({"run": "1"}, "path' is required"),
    ):
        with pytest.raises(FlowsrError, match=line):
            inputs(wrong)
