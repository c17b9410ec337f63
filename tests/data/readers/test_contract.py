"""Every reader keeps the one contract that :func:`flowsr.testing.check_reader` asks of all."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkIOLegacy import vtkStructuredPointsWriter
from vtkmodules.vtkIOXML import vtkXMLImageDataWriter

from flowsr.data import convert, write_hdf5
from flowsr.data.readers.base import READERS
from flowsr.data.readers.jhtdb import SIMULATIONS
from flowsr.testing import SAYINGS, check_reader
from tests.data.readers import test_openfoam as foam

WORDS = ("_FillValue", "scale_factor", "add_offset")


def zarr_of(version):
    def write(dataset, folder):
        dataset = dataset.copy()
        dataset.velocity.attrs = {
            k: v.item() if isinstance(v, np.generic) else v
            for k, v in dataset.velocity.attrs.items()
            if k != "_FillValue"
        }
        fill = {"_FillValue": np.float32(-9999)} if (dataset.velocity == -9999).any() else {}
        if fill:
            dataset["velocity"] = dataset.velocity.where(dataset.velocity != -9999)
        dataset.to_zarr(folder / "a.zarr", zarr_format=version, encoding={"velocity": fill})
        return folder / "a.zarr"

    return write


def netcdf(engine):
    def write(dataset, folder):
        dataset = dataset.copy()
        words = {name: dataset.velocity.attrs.pop(name) for name in WORDS if name in dataset.velocity.attrs}
        kind = dataset.velocity.dtype
        dataset.velocity.attrs.update({name: value for name, value in words.items() if name != "_FillValue"})
        encoding = {"dtype": kind.str if kind.byteorder == ">" else kind, "_FillValue": words.get("_FillValue")}
        if "_FillValue" in words:
            dataset["velocity"] = dataset.velocity.where(dataset.velocity != words["_FillValue"])
        if engine == "scipy":
            dataset = dataset.drop_vars("component").assign_attrs(boundary='["periodic", "periodic", "periodic"]')
        dataset.to_netcdf(folder / "a.nc", engine=engine, encoding={"velocity": encoding})
        return folder / "a.nc"

    return write


def hdf5(dataset, folder):
    write_hdf5(dataset, folder / "a.h5")
    if dataset.velocity.dtype.byteorder == ">":
        with h5py.File(folder / "a.h5", "a") as file:
            old = file["velocity"]
            attrs, values = dict(old.attrs), old[...]
            del file["velocity"]
            new = file.create_dataset("velocity", data=values.astype(">f4"))
            for name in ("irreps", "units"):
                new.attrs[name] = attrs[name]
            for axis, dim in enumerate(dataset.velocity.dims):
                new.dims[axis].label = dim
    return folder / "a.h5"


def converted(layout, suffix):
    def write(dataset, folder):
        words = {name: dataset.velocity.attrs.pop(name) for name in WORDS if name in dataset.velocity.attrs}
        write_hdf5(dataset, folder / "in.h5")
        out = convert(folder / "in.h5", folder / f"a.{suffix}", layout=layout)
        (folder / "in.h5").unlink()
        if words:
            with h5py.File(out, "a") as file:
                for name in [n for n in file if n.startswith("velocity")] or ["t1_fields/velocity"]:
                    file[name].attrs.update(words)
        return out

    return write


def edges(dataset):
    """Faces of the cells along x, y, z."""
    axes = [dataset[name].values for name in "xyz"]
    return [axis[0] + (axis[1] - axis[0]) * (np.arange(len(axis) + 1) - 0.5) for axis in axes]


def vtk(suffix):
    """As VTK itself writes it; what is missing is hidden by its ghost cells."""

    def write(dataset, folder):
        values, lines = dataset.velocity.values[0], edges(dataset)
        image = vtkImageData(dimensions=[len(line) for line in lines])
        image.SetOrigin([line[0] for line in lines])
        image.SetSpacing([line[1] - line[0] for line in lines])
        arrays = {"velocity": values.astype(values.dtype.newbyteorder("=")).reshape(3, -1, order="F").T.copy()}
        if "_FillValue" in dataset.velocity.attrs:
            arrays["vtkGhostType"] = np.where(arrays["velocity"][:, 0] == -9999, 32, 0).astype("u1")
        for name, array in arrays.items():
            stored = numpy_to_vtk(array, deep=True)
            stored.SetName(name)
            for number, label in enumerate(dataset.component.values if name == "velocity" else ()):
                stored.SetComponentName(number, str(label))
            image.GetCellData().AddArray(stored)
        writer = vtkXMLImageDataWriter() if suffix == "vti" else vtkStructuredPointsWriter()
        if suffix == "vti" and values.dtype.byteorder == ">":
            writer.SetByteOrderToBigEndian()
        else:
            writer.SetFileType(2) if suffix == "vtk" else None
        writer.SetInputData(image)
        writer.SetFileName(str(folder / f"a.{suffix}"))
        assert writer.Write()
        return folder / f"a.{suffix}"

    return write


def xdmf(dataset, folder):
    """One grid a time, its numbers in HDF5, where attributes say what they mean."""
    words = {k: v for k, v in dataset.velocity.attrs.items() if k != "irreps"}
    lines, grids = edges(dataset), []
    axes = "".join(
        f'<DataItem Format="XML" Dimensions="{len(line)}" Precision="8">{" ".join(map(str, line))}</DataItem>'
        for line in lines
    )
    nodes = " ".join(str(len(line)) for line in lines[::-1])
    shape = f"{' '.join(str(len(line) - 1) for line in lines[::-1])} 3"
    with h5py.File(folder / "a.h5", "w") as file:
        for number, time in enumerate(dataset.time.values):
            file[f"u{number}"] = dataset.velocity.values[number].transpose(3, 2, 1, 0)
            file[f"u{number}"].attrs.update(words)
            grids.append(
                f'<Grid Name="g"><Time Value="{time}"/><Topology TopologyType="3DRectMesh" Dimensions="{nodes}"/>'
                f'<Geometry GeometryType="VXVYVZ">{axes}</Geometry><Attribute Name="U" AttributeType="Vector" '
                f'Center="Cell"><DataItem Dimensions="{shape}" Format="HDF">a.h5:/u{number}</DataItem></Attribute>'
                "</Grid>"
            )
    body = f'<Grid GridType="Collection" CollectionType="Temporal">{"".join(grids)}</Grid>'
    (folder / "a.xdmf").write_text(f'<Xdmf Version="3.0"><Domain>{body}</Domain></Xdmf>')
    return folder / "a.xdmf"


def openfoam(dataset, folder):
    order = np.random.default_rng(0).permutation(dataset.velocity[0, 0].size)
    foam.mesh(folder, order, dict.fromkeys("xyz", "cyclic"), lines=edges(dataset))
    for time, values in zip(dataset.time.values, dataset.velocity.values):
        foam.field(folder / f"{time:g}" / "U", values, order)
    return folder


def blastnet(dataset, folder):
    """Cubes of a hash; the CSV has their spacings."""
    for name, part in zip(("UX", "UY", "UZ"), dataset.velocity.values[0]):
        part.astype("<f4").tofile(folder / f"{name}_ms-1_idab12.dat")
    (folder / "a.csv").write_text("hash,dx,dy,dz\nab12,0.25,,\n")
    return folder


def jhtdb_zarr(dataset, folder):
    """(time, z, y, x, component) in Zarr 2, without coordinates."""
    path = folder / "isotropic1024coarse.zarr"
    values = dataset.velocity.values.transpose(0, 4, 3, 2, 1)
    if "_FillValue" in dataset.velocity.attrs:
        values = np.where(values == -9999, np.float32(-999.9), values)
    root = zarr.create_group(str(path), zarr_format=2)
    root.create_array("velocity", shape=values.shape, chunks=values.shape, dtype=values.dtype)[...] = values
    return path


def cube(times=(0.0, 0.002), low=0.0, step=np.pi / 2, boundary="periodic"):
    """What the layouts that only know boxes of their own can hold: four cells a side."""
    values = np.random.default_rng(0).normal(size=(len(times), 3, 4, 4, 4)).astype("f4")
    coords = {name: low + np.arange(4) * step for name in "xyz"} | {"time": list(times), "component": ["u", "v", "w"]}
    velocity = (("time", "component", *"xyz"), values, {"irreps": "1o", "units": "m/s"})
    return xr.Dataset({"velocity": velocity}, coords, {"boundary": [boundary] * 3})


def bare(suffix):
    """Numbers alone, (time, z, y, x, component): a manifest says all the rest."""

    def write(dataset, folder):
        values = dataset.velocity.values.transpose(0, 4, 3, 2, 1)
        if suffix == "npz":
            np.savez(folder / "a.npz", velocity=values)
        elif suffix == "npy":
            np.save(folder / "a.npy", values)
        else:
            np.ascontiguousarray(values).tofile(folder / "a.raw")
        return folder / f"a.{suffix}"

    return write


def stated(dataset):
    """Of bare numbers: axes, coordinates, times, and of raw ones the type."""
    kind = dataset.velocity.dtype
    return {
        "variables": {"velocity": {"irreps": "1o", "axes": ["time", "z", "y", "x", "component"]}},
        "coordinates": {name: dataset[name].values.tolist() for name in "xyz"},
        "times": dataset.time.values.tolist(),
        "dtype": kind.newbyteorder("<").str if kind.byteorder == "=" else kind.str,
    }


def named(dataset):
    """Of a file that names its arrays: which they are."""
    path = {"irreps": "1o", "path": "velocity", "axes": ["time", "component", "x", "y", "z"]}
    return {"variables": {"velocity": path}, "coordinates": {n: n for n in "xyz"}, "times": "time"}


def times(dataset):
    """Of a file that has no times."""
    return {"times": dataset.time.values.tolist()}


FOREIGN = ["fill", "units", "times", "files", "f8"]
UNLABELLED = [s for s in SAYINGS if s != "labels"]


@pytest.mark.parametrize(
    ("write", "says", "more"),
    [
        pytest.param(zarr_of(2), SAYINGS, {}, id="zarr2"),
        pytest.param(zarr_of(3), SAYINGS, {}, id="zarr3"),
        pytest.param(netcdf("h5netcdf"), SAYINGS, {}, id="netcdf4"),
        pytest.param(netcdf("scipy"), UNLABELLED, {}, id="netcdf3"),
        pytest.param(hdf5, SAYINGS, {}, id="hdf5"),
        pytest.param(converted("jhtdb", "h5"), FOREIGN, {}, id="jhtdb"),
        pytest.param(converted("well", "hdf5"), FOREIGN, {}, id="well"),
        pytest.param(converted("vtk", "vti"), ["units", "f8"], {}, id="vtk_of_ours"),
        pytest.param(vtk("vti"), ["fill", "labels", "f8", "big endian"], {}, id="vtk"),
        pytest.param(vtk("vti"), ["files"], {"layout": times}, id="vtk_series"),
        pytest.param(vtk("vtk"), ["fill", "labels", "f8"], {}, id="vtk_legacy"),
        pytest.param(xdmf, [*FOREIGN, "scale", "big endian", "flips"], {}, id="xdmf"),
        pytest.param(openfoam, ["units", "times", "files"], {}, id="openfoam"),
        pytest.param(blastnet, ["units"], {"field": cube((0.0,), 0.125, 0.25, "open")}, id="blastnet"),
        pytest.param(jhtdb_zarr, ["fill", "times", "f8", "big endian"], {"field": cube()}, id="jhtdb_zarr"),
        pytest.param(bare("npy"), ["times", "files", "f8", "big endian", "flips"], {"layout": stated}, id="npy"),
        pytest.param(bare("npz"), ["times", "files", "f8", "big endian", "flips"], {"layout": stated}, id="npz"),
        pytest.param(bare("raw"), ["times", "files", "f8", "big endian", "flips"], {"layout": stated}, id="raw"),
        pytest.param(netcdf("h5netcdf"), SAYINGS, {"layout": named}, id="netcdf4_described"),
        pytest.param(netcdf("scipy"), UNLABELLED, {"layout": named}, id="netcdf3_described"),
        pytest.param(zarr_of(2), SAYINGS, {"layout": named}, id="zarr2_described"),
        pytest.param(zarr_of(3), SAYINGS, {"layout": named}, id="zarr3_described"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_readers_keep_the_contract(tmp_path, monkeypatch, write, says, more):
    monkeypatch.setitem(
        SIMULATIONS, "isotropic1024coarse", replace(SIMULATIONS["isotropic1024coarse"], cells=(4, 4, 4))
    )
    check_reader(write, tmp_path, says=says, **more)


def test_every_reader_is_asked():
    asked = {
        "zarr",
        "netcdf3",
        "hdf5",
        "jhtdb",
        "well",
        "vtk",
        "xdmf",
        "openfoam",
        "blastnet",
        "jhtdb_zarr",
        "described",
    }
    assert asked == set(READERS)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda d: d.assign(velocity=d.velocity * 2), "as it is"),
        (lambda d: d.assign(velocity=d.velocity.assign_attrs(units="1")), "units"),
        (lambda d: d.assign_coords(time=d.time * 2), "times"),
        (lambda d: d.assign_coords(component=["u", "v", "w"]), "labels"),
    ],
)
def test_a_reader_that_loses_something_is_caught(tmp_path, spoil, line):
    with pytest.raises(AssertionError, match=line):
        check_reader(lambda dataset, folder: hdf5(spoil(dataset), folder), tmp_path, says=["units", "times", "labels"])


def test_what_a_layout_says_is_of_what_is_known(tmp_path):
    with pytest.raises(AssertionError, match="colour"):
        check_reader(hdf5, tmp_path, says=["colour"])
