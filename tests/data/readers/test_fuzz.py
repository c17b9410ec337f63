"""Hostile files of every layout with every defect: opened and equal, or refused in one line; nothing else."""

import json
import re
import struct
import zipfile

import h5py
import numpy as np
import pytest
import yaml
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import netcdf_file

from flowsr.data import check_finite, open_field
from flowsr.errors import FlowsrError
from tests.data.readers.test_openfoam import VELOCITY, case

SIDES = (3, 4, 2)
TRUTH = np.arange(2 * 3 * 24, dtype="f4").reshape(2, 3, *SIDES)
AXES = dict(zip("xyz", [(np.arange(n) + 0.5) * 0.5 for n in SIDES]))
DTYPES = ["<f4", ">f4", "<f8", ">f8", "<f2", "<i4", ">i8", "u1", "<c8", "?", "S3", "<M8[s]"]
DEFECTS = (
    *(
        "none",
        "truncate",
        "flip",
        "garbage",
        "empty",
        "dtype",
        "drop axis",
        "short axis",
        "long axis",
        "nan axis",
        "repeat axis",
    ),
    *(
        "fall axis",
        "text axis",
        "2-d axis",
        "scalar axis",
        "drop field",
        "odd shape",
        "zero side",
        "transpose",
        "nan",
        "inf",
        "missing",
    ),
    *("external link", "soft link loop", "huge claim", "huge chunk", "strange attribute", "long name"),
)


class Content:
    """What goes into a file: arrays by name, attributes by name; defects change it before it is written."""

    def __init__(self, layout, defect, draw):
        self.layout, self.defect = layout, defect
        self.axis = draw(st.sampled_from("xyz"))
        self.field = TRUTH.copy()
        self.axes = {name: values.copy() for name, values in AXES.items()}
        self.attrs = {"boundary": ["periodic", "wall", "open"], "viscosity": 0.1}
        self.dropped = False
        self.change(draw)

    def change(self, draw):
        values = self.axes[self.axis]
        kind = self.defect
        if kind == "dtype":
            chosen = np.dtype(draw(st.sampled_from(DTYPES)))
            self.field = np.zeros(TRUTH.shape, chosen) if chosen.kind in "SM" else TRUTH.astype(chosen)
        elif kind == "drop axis":
            del self.axes[self.axis]
        elif kind in ("short axis", "long axis"):
            n = len(values) + (1 if kind == "long axis" else -1)
            self.axes[self.axis] = (np.arange(n) + 0.5) * 0.5
        elif kind == "nan axis":
            values[draw(st.integers(0, len(values) - 1))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
        elif kind == "repeat axis":
            values[-1] = values[-2]
        elif kind == "fall axis":
            self.axes[self.axis] = values[::-1].copy()
        elif kind == "text axis":
            self.axes[self.axis] = np.array([b"a"] * len(values))
        elif kind == "2-d axis":
            self.axes[self.axis] = values[None]
        elif kind == "scalar axis":
            self.axes[self.axis] = np.float64(1.0)
        elif kind == "drop field":
            self.dropped = True
        elif kind == "odd shape":
            shape = draw(st.lists(st.integers(1, 4), min_size=0, max_size=7))
            self.field = np.zeros(shape, "f4")
        elif kind == "zero side":
            self.field = self.field[:, :, :0]
        elif kind == "transpose":
            self.field = self.field.transpose(*draw(st.permutations(range(5))))
        elif kind in ("nan", "inf", "missing"):
            self.field.flat[draw(st.integers(0, TRUTH.size - 1))] = {"nan": np.nan, "inf": np.inf, "missing": -999.9}[
                kind
            ]
        elif kind == "strange attribute":
            name = draw(st.sampled_from(["boundary", "viscosity", "irreps"]))
            self.attrs[name] = draw(
                st.sampled_from(["", "periodic", 3, -1.0, float("nan"), [1, 2], "x" * 5000, "{", "[1,", True])
            )

    def per_point(self, order):
        """The field with its last axes in another order, where it still has five."""
        return np.ascontiguousarray(self.field.transpose(order)) if self.field.ndim == 5 else self.field


def spoiled(file, content, name):
    """Defects of the HDF5 container itself."""
    if content.defect == "external link":
        del file[name]
        file[name] = h5py.ExternalLink("/etc/hostname", "/x")
    elif content.defect == "soft link loop":
        del file[name]
        file[name] = h5py.SoftLink("/" + name)
    elif content.defect == "huge claim":
        shape = (*(10**7 if n > 3 else n for n in file[name].shape[:-1]), 10**9)
        dtype = file[name].dtype
        del file[name]
        file.create_dataset(name, shape=shape, dtype=dtype, chunks=(1,) * (len(shape) - 1) + (64,))
    elif content.defect == "huge chunk":
        shape, dtype = (*file[name].shape[:-1], 1 << 30), file[name].dtype
        del file[name]
        file.create_dataset(
            name, shape=shape, dtype=dtype, chunks=(*(1,) * (len(shape) - 1), (1 << 30) - 1), compression="gzip"
        )
    elif content.defect == "long name":
        file["v" * 900] = np.zeros(3)


def write_hdf5(folder, content):
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({k: v for k, v in content.attrs.items() if k != "irreps"})
        file["time"] = [0.0, 1.0]
        for name, values in content.axes.items():
            file[name] = values
        if not content.dropped:
            file["velocity"] = content.field.astype("i8") if content.field.dtype.kind == "M" else content.field
            if content.field.ndim == 5:
                for axis, label in enumerate(("time", "component", "x", "y", "z")):
                    file["velocity"].dims[axis].label = label
            file["velocity"].attrs["irreps"] = content.attrs.get("irreps", "1o")
            spoiled(file, content, "velocity")
    return path


def write_cutout(folder, content):
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        for name, values in content.axes.items():
            file[f"{name}coor"] = values
        file.attrs.update({k: v for k, v in content.attrs.items() if k != "boundary"})
        if not content.dropped:
            values = content.per_point((0, 4, 3, 2, 1))
            values = values.astype("i8") if values.dtype.kind == "M" else values
            for number in range(2):
                file[f"velocity_{number + 1:04d}"] = values[number] if values.ndim and len(values) > number else values
            spoiled(file, content, "velocity_0002")
    return path


def write_well(folder, content):
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"n_trajectories": 1, "n_spatial_dims": 3, "grid_type": "cartesian"})
        file["dimensions/time"] = [0.0, 1.0]
        for name, values in content.axes.items():
            file[f"dimensions/{name}"] = values
        for name, kind in zip("xyz", ("PERIODIC", "WALL", "OPEN")):
            group = file.create_group(f"boundary_conditions/{name}")
            group.attrs.update(
                {"bc_type": content.attrs.get("viscosity") if content.defect == "strange attribute" else kind}
            )
            group.attrs["associated_dims"] = name
        group = file.create_group("t1_fields")
        if not content.dropped:
            values = content.per_point((0, 2, 3, 4, 1))[None]
            group["velocity"] = values.astype("i8") if values.dtype.kind == "M" else values
            group["velocity"].attrs.update({"sample_varying": True, "time_varying": True, "dim_varying": [True] * 3})
            spoiled(group, content, "velocity")
    return path


def write_zarr(folder, content):
    path = folder / "a.zarr"
    root = zarr.create_group(str(path), zarr_format=3)
    root.attrs.update({k: v for k, v in content.attrs.items() if k != "irreps" and v == v})
    root.create_array("time", data=np.array([0.0, 1.0]), dimension_names=("time",))
    for name, values in content.axes.items():
        values = np.asarray(values)
        if values.dtype.kind != "S":
            root.create_array(name, data=values, dimension_names=(name,) if values.ndim == 1 else None)
    if not content.dropped:
        field = np.zeros(content.field.shape, "i8") if content.field.dtype.kind in "MS" else content.field
        dims = ("time", "component", "x", "y", "z") if field.ndim == 5 else None
        options = {"dimension_names": dims, "attributes": {"irreps": content.attrs.get("irreps", "1o")}}
        if content.defect in ("huge claim", "huge chunk"):
            side = 10**12 if content.defect == "huge claim" else 1 << 34
            chunk = 64 if content.defect == "huge claim" else 1 << 34
            root.create_array("velocity", shape=(2, 3, 3, 4, side), chunks=(1, 3, 1, 1, chunk), dtype="f4", **options)
        elif field.size:
            root.create_array("velocity", data=np.ascontiguousarray(field), **options)
    return path


def write_npz(folder, content):
    arrays = {**content.axes, **({} if content.dropped else {"velocity": content.per_point((0, 4, 1, 3, 2))})}
    np.savez(folder / "a.npz", **arrays)
    coordinates = {name: name for name in content.axes}
    manifest = {
        "name": "a",
        "description": "",
        "source": "",
        "licence": "",
        "files": {"a": "a.npz"},
        "times": [0.0, 1.0],
        "variables": {"velocity": {"irreps": "1o", "path": "velocity", "axes": ["time", "z", "component", "y", "x"]}},
        "boundary": ["periodic", "wall", "open"],
        "coordinates": coordinates,
    }
    (folder / "a.yaml").write_text(yaml.safe_dump(manifest))
    return folder / "a.npz", folder / "a.yaml"


def write_blastnet(folder, content):
    box = np.arange(4 * 8, dtype="<f4").reshape(4, 2, 2, 2)
    for name, cube in zip(("RHO_kgm-3_id", "UX_ms-1_id", "UY_ms-1_id", "UZ_ms-1_id"), box):
        (folder / f"{name}a.dat").write_bytes(struct.pack("<8f", *cube.ravel()))
    spacing = {"drop axis": "", "nan axis": "nan", "fall axis": "-1", "text axis": "wide"}.get(content.defect, "0.5")
    (folder / "a.csv").write_text("hash,dx,dy,dz\n" + ("" if content.dropped else f"a,{spacing},0.5,0.5\n"))
    return folder / "UX_ms-1_ida.dat"


def write_vtr(folder, content):
    """One snapshot on a rectilinear grid with raw numbers behind the XML; nodes are the cells' centres."""
    arrays, blob = "", b""
    coordinates = ""
    for name in "xyz":
        values = np.atleast_1d(content.axes.get(name, np.empty(0)))
        listed = " ".join(v.decode() if isinstance(v, bytes) else repr(float(v)) for v in values.ravel())
        coordinates += f'<DataArray type="Float64" Name="{name}" format="ascii">{listed}</DataArray>'
    field = content.field[0] if content.field.ndim == 5 else content.field
    kinds = {"f4": "Float32", "f8": "Float64", "i4": "Int32", "i8": "Int64", "u1": "UInt8"}
    field = field if field.dtype.str[1:] in kinds else np.zeros(field.shape, "i4")
    if not content.dropped:
        data = (np.moveaxis(field, 0, -1).transpose(2, 1, 0, 3) if field.ndim == 4 else field).astype(
            field.dtype.newbyteorder("<")
        )
        count = field.shape[0] if field.ndim == 4 else 1
        arrays = (
            f'<DataArray type="{kinds[field.dtype.str[1:]]}" Name="velocity" NumberOfComponents="{count}" '
            'format="appended" offset="0"/>'
        )
        blob = np.uint64(data.nbytes).tobytes() + data.tobytes()
    sides = field.shape[1:] if field.ndim == 4 else SIDES
    extent = " ".join(f"0 {n - 1}" for n in sides)
    if content.defect in ("huge claim", "huge chunk"):
        extent = "0 2000000 0 3000000 0 4000000"
    (folder / "a.vtr").write_bytes(
        f'<VTKFile type="RectilinearGrid" version="1.0" byte_order="LittleEndian" header_type="UInt64">'
        f"<RectilinearGrid "
        f'WholeExtent="{extent}"><Piece Extent="{extent}"><PointData>{arrays}</PointData><Coordinates>{coordinates}'
        '</Coordinates></Piece></RectilinearGrid><AppendedData encoding="raw">_'.encode()
        + blob
        + b"</AppendedData></VTKFile>"
    )
    return folder / "a.vtr"


def write_xdmf(folder, content):
    """Two snapshots at the nodes of a rectilinear grid; coordinates in the XML, fields in HDF5."""
    geometry, grids = "", ""
    for name in "xyz":
        values = np.atleast_1d(content.axes.get(name, np.empty(0)))
        listed = " ".join(v.decode() if isinstance(v, bytes) else repr(float(v)) for v in values.ravel())
        geometry += f'<DataItem Dimensions="{values.size}" Precision="8">{listed}</DataItem>'
    field = content.per_point((0, 4, 3, 2, 1))
    field = field.astype("i8") if field.dtype.kind == "M" else field
    with h5py.File(folder / "a.h5", "w") as file:
        for number in range(0 if content.dropped else 2):
            file[f"u{number}"] = field[number] if field.ndim and len(field) > number else field
        if not content.dropped:
            spoiled(file, content, "u1")
    sides = field.shape[1:4] if field.ndim == 5 else SIDES[::-1]
    shape = " ".join(map(str, sides))
    for number in range(2):
        attribute = (
            f'<Attribute Name="velocity" AttributeType="Vector" Center="Node">'
            f'<DataItem Dimensions="{shape} 3" Format="HDF">'
            f"a.h5:/u{number}</DataItem></Attribute>"
        )
        grids += (
            f'<Grid><Time Value="{number}.0"/><Topology TopologyType="3DRectMesh" Dimensions="{shape}"/>'
            f'<Geometry GeometryType="VXVYVZ">{geometry}</Geometry>{"" if content.dropped else attribute}</Grid>'
        )
    (folder / "a.xdmf").write_text(
        f'<Xdmf><Domain><Grid GridType="Collection" CollectionType="Temporal">{grids}</Grid></Domain></Xdmf>'
    )
    return folder / "a.xdmf"


def write_netcdf3(folder, content):
    path = folder / "a.nc"
    with netcdf_file(path, "w", version=2) as file:
        file.boundary = json.dumps(["periodic", "wall", "open"])
        if content.defect == "strange attribute":
            file.boundary = str(content.attrs["boundary"])
        file.createDimension("time", None)
        file.createVariable("time", "f8", ("time",))[:] = [0.0, 1.0]
        field = (
            content.field
            if content.field.dtype.str[1:] in ("f4", "f8", "i4", "u1")
            else np.zeros(content.field.shape, "i4")
        )
        field = field.astype("i1") if field.dtype == "u1" else field
        names = ["time", "component", *"xyz"] if field.ndim == 5 else [f"n{i}" for i in range(field.ndim)]
        for name, n in zip(names, field.shape):
            if name != "time":
                file.createDimension(name, n)
        for name, values in content.axes.items():
            values = np.asarray(values)
            dims = (
                [name]
                if values.ndim == 1 and file.dimensions.get(name) == len(values)
                else [f"{name}{i}" for i in range(values.ndim)]
            )
            for dim, n in zip(dims, values.shape):
                if dim not in file.dimensions:
                    file.createDimension(dim, n)
            file.createVariable(name, "c" if values.dtype.kind == "S" else "f8", tuple(dims))[...] = values
        if not content.dropped and field.size and field.shape[:1] == (2,):
            stored = file.createVariable("velocity", field.dtype.str[1:], tuple(names))
            stored[:] = field
            stored.irreps = "1o"
    return path


WRITERS = {
    "hdf5": write_hdf5,
    "jhtdb": write_cutout,
    "well": write_well,
    "zarr": write_zarr,
    "npz": write_npz,
    "blastnet": write_blastnet,
    "vtk": write_vtr,
    "xdmf": write_xdmf,
    "netcdf3": write_netcdf3,
}
#: Layouts that hold one snapshot, that keep arrays of text or other kinds as zeros, or that lack HDF5's defects.
SINGLE = ("vtk",)
WITHOUT_CONTAINER = ("npz", "zarr", "vtk", "netcdf3")


def damage(path, defect, draw):
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    file = draw(st.sampled_from(files))
    whole = bytearray(file.read_bytes())
    if defect == "truncate":
        whole = whole[: draw(st.integers(0, max(0, len(whole) - 1)))]
    elif defect == "flip" and whole:
        for _ in range(draw(st.integers(1, 4))):
            whole[draw(st.integers(0, len(whole) - 1))] ^= 1 << draw(st.integers(0, 7))
    elif defect == "garbage":
        whole = bytearray(draw(st.binary(min_size=1, max_size=200)))
    elif defect == "empty":
        whole = bytearray()
    file.write_bytes(whole)


SOUND = ("none",)
HOPELESS = (
    *("drop axis", "short axis", "long axis", "nan axis", "repeat axis", "text axis", "2-d axis", "scalar axis"),
    *("drop field", "zero side", "nan", "inf", "external link", "soft link loop", "huge chunk", "garbage", "empty"),
)
CONTAINER = ("external link", "soft link loop", "huge claim", "huge chunk", "long name")


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data(), layout=st.sampled_from(sorted(WRITERS)), defect=st.sampled_from(DEFECTS))
def test_any_file_is_read_as_it_is_or_refused_in_one_line(tmp_path_factory, data, layout, defect):
    folder = tmp_path_factory.mktemp("fuzz")
    content = Content(layout, defect, data.draw)
    written = WRITERS[layout](folder, content)
    path, opened = written if isinstance(written, tuple) else (written, written)
    if defect in ("truncate", "flip", "garbage", "empty"):
        damage(path, defect, data.draw)
    try:
        found = open_field(opened)
        velocity = found["velocity"]
        small = velocity.size < 10**6
        values = velocity.values if small else velocity[0, 0, 0, 0, :4].values
        if small:
            check_finite(found)
    except FlowsrError as error:
        assert "\n" not in str(error) and len(str(error)) < 6000
        assert defect not in SOUND, f"a sound file was refused: {error}"
        return
    assert values.dtype.kind == "f"
    if layout == "blastnet" or defect in ("flip", "huge claim", "strange attribute", "truncate"):
        return
    if layout in ("vtk", "xdmf") and defect in ("2-d axis", "odd shape"):  # a list of numbers has no dims
        return
    applied = not (defect in CONTAINER and layout in WITHOUT_CONTAINER)
    applied &= not (layout in SINGLE and defect in ("nan", "inf"))  # in a snapshot that the file has, or in the other
    assert not (applied and defect in HOPELESS), f"{layout} with {defect} was read as a field"
    wanted = content.field[:1] if layout in SINGLE else content.field
    if defect == "fall axis":  # unambiguous: the axis is flipped, and the field with it
        wanted = np.flip(wanted, 2 + "xyz".index(content.axis))
        content.axes[content.axis] = content.axes[content.axis][::-1]
    assert values.shape == TRUTH[: len(wanted)].shape
    np.testing.assert_array_equal(values, wanted)
    for name in "xyz":
        np.testing.assert_array_equal(found[name].values, content.axes[name])


def test_links_out_of_the_file_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.zeros((2, 3, *SIDES), "f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["velocity"] = h5py.ExternalLink("other.h5", "/secret")
    with pytest.raises(FlowsrError, match="a link into another file"):
        open_field(tmp_path / "a.h5")
    layout = h5py.VirtualLayout((2, 3, *SIDES), "f4")
    layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", (2, 3, *SIDES))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_virtual_dataset("velocity", layout)
    with pytest.raises(FlowsrError, match="in another file"):
        open_field(tmp_path / "b.h5")
    root = zarr.create_group(str(tmp_path / "c.zarr"))
    root.create_array("x", data=np.arange(3.0), dimension_names=("x",))
    zarr.create_group(str(tmp_path / "d.zarr")).create_array("velocity", data=np.zeros((2, 3, *SIDES), "f4"))
    (tmp_path / "c.zarr" / "velocity").symlink_to(tmp_path / "d.zarr" / "velocity")
    with pytest.raises(FlowsrError, match="leads out of the store"):
        open_field(tmp_path / "c.zarr")


def test_an_archive_that_unpacks_to_absurdly_more_is_refused(tmp_path, monkeypatch):
    from flowsr.data.readers import described as raw

    monkeypatch.setattr(raw, "LARGEST_MEMBER", 1 << 16)
    np.savez_compressed(tmp_path / "a.npz", velocity=np.zeros((2, 3, 64, 64, 64), "f4"))
    with pytest.raises(FlowsrError, match="absurdly more than its size"):
        raw.npz_arrays(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("../../evil.npy", b"x")
    with pytest.raises(FlowsrError, match="not a numpy array"):
        raw.npz_arrays(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", velocity=np.array([{}], dtype=object))
    with pytest.raises(FlowsrError, match="not unpickled"):
        raw.npz_arrays(tmp_path / "c.npz")


@pytest.mark.parametrize("inner", ["../b.zarr/velocity", "/etc", "../../etc/passwd"])
def test_paths_in_manifests_stay_inside(tmp_path, inner):
    for name in ("a", "b"):
        root = zarr.create_group(str(tmp_path / f"{name}.zarr"))
        root.create_array("velocity", data=np.zeros((2, 3, *SIDES), "f4"))
    manifest = {
        "name": "a",
        "description": "",
        "source": "",
        "licence": "",
        "files": {"a": "a.zarr"},
        "variables": {"velocity": {"irreps": "1o", "path": inner}},
        "boundary": ["open"] * 3,
        "grid": {"cells": list(SIDES), "lengths": [1, 1, 1]},
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(FlowsrError, match="leads out of the store"):
        open_field(tmp_path / "m.yaml")


@settings(max_examples=14, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data(), defect=st.sampled_from(["truncate", "flip", "garbage", "empty", "drop file", "huge count"]))
def test_a_damaged_openfoam_case_is_read_as_it_is_or_refused_in_one_line(tmp_path_factory, data, defect):
    root = case(tmp_path_factory.mktemp("case") / "a")
    file = data.draw(st.sampled_from(sorted(p for p in root.rglob("*") if p.is_file())))
    whole = file.read_bytes()
    if defect == "drop file":
        file.unlink()
    elif defect == "huge count":
        file.write_bytes(re.sub(rb"(?m)\b\d+$", b"2000000000", whole, count=1))
    else:
        damage(file, defect, data.draw)
    try:
        found = open_field(root)
        values = {name: found[name].values for name in ("velocity", "pressure") if name in found}
    except FlowsrError as error:
        assert "\n" not in str(error) and len(str(error)) < 6000
        return
    assert values and all(v.dtype == "f4" for v in values.values())
    if defect == "flip" or file.name in ("points", "boundary", "controlDict"):  # flipped or cut, these may be others
        return
    truth = {"velocity": VELOCITY, "pressure": VELOCITY[:, 0] * 2}
    for name, read in values.items():
        np.testing.assert_array_equal(read, truth[name])
