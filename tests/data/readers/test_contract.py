"""Every reader keeps the one contract that :func:`flowsr.testing.check_reader` asks of all."""

import h5py
import numpy as np
import pytest

from flowsr.data import convert, write_hdf5
from flowsr.testing import SAYINGS, check_reader

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


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (zarr_of(2), SAYINGS),
        (zarr_of(3), SAYINGS),
        (netcdf("h5netcdf"), SAYINGS),
        (netcdf("scipy"), [s for s in SAYINGS if s != "labels"]),
        (hdf5, SAYINGS),
        (converted("jhtdb", "h5"), ["fill", "units", "times", "f8"]),
        (converted("well", "hdf5"), ["fill", "units", "times", "f8"]),
        (converted("vtk", "vti"), ["units", "f8"]),
    ],
    ids=["zarr2", "zarr3", "netcdf4", "netcdf3", "hdf5", "jhtdb", "well", "vtk"],
)
@pytest.mark.filterwarnings("ignore")
def test_readers_keep_the_contract(tmp_path, write, says):
    check_reader(write, tmp_path, says=says)


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
