"""What xarray writes opens here with the same values, and what flowsr writes opens in xarray: whatever the dataset."""

from __future__ import annotations

import json
import tempfile
import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowsr.data import convert, open_field, write_hdf5

FORMATS = ("netcdf4", "netcdf3", "zarr2", "zarr3")
QUICK, ALL = 16, 500
DIMS = ("time", "component", "x", "y", "z")
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
FINITE = st.floats(-1e6, 1e6, allow_nan=False)
ATTRIBUTE = st.one_of(
    TEXT,
    st.integers(-(2**31), 2**31 - 1),
    FINITE,
    st.just(float("nan")),
    st.lists(FINITE, min_size=2, max_size=3),
    st.lists(st.integers(-100, 100), min_size=2, max_size=3),
    FINITE.map(np.float32),
    st.integers(-100, 100).map(np.int16),
    st.lists(FINITE, min_size=2, max_size=3).map(lambda values: np.array(values, "f4")),
)
NAMES = st.sampled_from(["institution", "note", "Reynolds", "history", "tag 1", "a-b"])
#: How a variable is stored, as xarray's encoding has it.
PACKED = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["i1", "i2", "i4", "u1", "u2"]),
        "scale_factor": st.sampled_from([0.1, 0.25, 1.0, 3.0]),
        "add_offset": st.sampled_from([0.0, -2.5, 10.0]),
        "_FillValue": st.just(100),
    }
)
#: What a coordinate may be stored as; classic NetCDF has no 64-bit and no unsigned integers, and xarray makes do.
NUMBERS = st.sampled_from(
    ["f8", "f4", ">f8", ">f4", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i2", ">i8", ">u4"]
)
#: Arrays that are no fields: listed by flowsr, and ignored.
KINDS = st.sampled_from(["bool", "text", "date", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">f4"])
FLOATING = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["f4", "f8", ">f4", ">f8"])},
    optional={"_FillValue": st.sampled_from([-9999.0, 1e20, float("nan"), -1.0]), "scale_factor": st.just(0.5)},
)
SECONDS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1, "milliseconds": 1e-3, "microseconds": 1e-6}
SECONDS |= {"nanoseconds": 1e-9}
CALENDARS = st.sampled_from(
    [{}, {"units": "s"}, {"units": "seconds since 2001-02-03"}, {"units": "days since 1-1-1", "calendar": "noleap"}]
)


@st.composite
def datasets(draw):
    """A dataset in the flowsr layout with anything that a file may say of it, and how xarray is to store it."""
    sides = draw(st.tuples(*[st.integers(2, 4)] * 3))
    times, generator = draw(st.integers(1, 3)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coords = {"time": np.cumsum(generator.random(times) + 0.1).round(3)}
    coords |= {n: (np.arange(m) + 0.5) * d for n, m, d in zip("xyz", sides, generator.random(3).round(2) + 0.1)}
    coords["component"] = ["u", "v", "w"]
    for name in draw(st.lists(st.sampled_from(["time", *"xyz"]), unique=True)):
        kind = np.dtype(draw(NUMBERS))
        count = len(coords[name])
        numbers = np.arange(count) * draw(st.integers(1, 20)) if kind.kind in "iu" else coords[name]
        coords[name] = numbers.astype(kind)
    dated = draw(st.sampled_from(["", "s", "ms", "ns"]))
    if dated:
        start = np.datetime64(draw(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))).replace(microsecond=0))
        coords["time"] = (start + np.arange(times) * np.timedelta64(draw(st.integers(1, 10**6)), "s")).astype(
            f"datetime64[{dated}]"
        )
    variables, encoding = {}, {}
    for name in draw(st.lists(st.sampled_from(["velocity", "pressure", "T 2m", "k-eps"]), min_size=1, unique=True)):
        vector = name == "velocity"
        dims = DIMS if vector else (DIMS[0], *DIMS[2:])
        stored = draw(st.one_of(st.just({}), FLOATING, PACKED))
        values = generator.normal(size=[dict(zip(DIMS, (times, 3, *sides)))[d] for d in dims])
        values = np.asarray(values, draw(st.sampled_from(["f4", "f8", "f2", ">f4"])))
        if "scale_factor" in stored and np.dtype(stored["dtype"]).kind in "iu":
            counts = generator.integers(0, 90, values.shape)  # what packing can hold, so that nothing is rounded
            values = (counts * stored["scale_factor"] + stored["add_offset"]).astype(values.dtype)
        missing = draw(st.sampled_from([0.0, 0.1, 1.0]))
        values[generator.random(values.shape) < missing] = np.nan
        attrs = draw(st.dictionaries(NAMES, ATTRIBUTE, max_size=2))
        attrs |= {"irreps": "1o" if vector else "0e", "units": draw(st.sampled_from(["m/s", "1", "K"]))}
        variables[name], encoding[name] = (dims, values, attrs), stored
    dataset = xr.Dataset(variables, coords, draw(st.dictionaries(NAMES, ATTRIBUTE, max_size=3)))
    if not dated:
        dataset["time"].attrs.update(draw(CALENDARS))
    for number, kind in enumerate(draw(st.lists(KINDS, max_size=2))):
        dims = draw(st.sampled_from([(), ("x",), ("time",), DIMS[2:], ("time", *DIMS[2:])]))
        dims = dims[:1] if kind in ("text", "date") else dims
        shape = [dataset.sizes[dim] for dim in dims]
        values = generator.integers(0, 100, shape)
        values = values.astype({"text": "U3", "date": "datetime64[s]"}.get(kind, kind))
        owner = dataset.coords if draw(st.booleans()) and len(dims) < 3 else dataset
        owner[f"aside {number}"] = (dims, values)
    if "velocity" not in variables:
        dataset = dataset.drop_vars("component")
    dataset.attrs["boundary"] = ["periodic", "periodic", "periodic"]
    return dataset, {name: how for name, how in encoding.items() if how}


def written(dataset, encoding, kind, folder):
    """The dataset as xarray writes it."""
    path, clean = folder / f"{kind}.{'zarr' if 'zarr' in kind else 'nc'}", dict(encoding)
    if not kind.startswith("zarr"):  # NetCDF has no half precision, and xarray's classic one no 64 bits turned round
        how = {"f2": "f4", ">i8": "i8"}
        other = {
            n: a.astype(how[a.dtype.str.strip("<")])
            for n, a in dataset.variables.items()
            if a.dtype.str.strip("<") in how
        }
        dataset = dataset.assign({n: a for n, a in other.items() if n in dataset.data_vars})
        dataset = dataset.assign_coords({n: a for n, a in other.items() if n not in dataset.data_vars})
    if kind.startswith("zarr"):
        plain = dataset.copy()
        for owner in (plain, *plain.variables.values()):  # JSON has neither NaN nor numpy's numbers
            owner.attrs = {
                k: v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for k, v in owner.attrs.items()
            }
            owner.attrs = {k: v for k, v in owner.attrs.items() if v == v}
        plain.to_zarr(path, zarr_format=int(kind[-1]), encoding=clean)
    elif kind == "netcdf3":
        plain = dataset.drop_vars("component", errors="ignore")
        plain = plain.assign_attrs(boundary=json.dumps(dataset.attrs["boundary"]))
        for how in clean.values():
            if how.get("dtype") in ("u1", "u2"):
                return None
        if any(a.dtype.str in (">u2", ">u4", ">u8", ">i8") for a in plain.variables.values()):
            return None  # xarray makes do for native integers alone
        plain.to_netcdf(path, engine="scipy", encoding=clean)
    else:
        dataset.to_netcdf(path, engine="h5netcdf", encoding=clean)
    return path


def opened(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        how = {"decode_times": False}
        if path.suffix == ".zarr":
            return xr.open_zarr(path, **how)
        return xr.open_dataset(path, engine="scipy" if path.name == "netcdf3.nc" else "h5netcdf", **how)


def same(one, other):
    one, other = np.asarray(one), np.asarray(other)
    if isinstance(one.flat[0], str) or one.dtype.kind in "OSU":
        return one.tolist() == other.tolist()
    return one.size == other.size and np.array_equal(one.ravel(), other.ravel(), equal_nan=True)


def assert_opens_here(path):
    with opened(path) as theirs:
        ours = open_field(path)
        theirs = theirs.reset_coords([name for name in theirs.coords if name not in theirs.dims])
        fields = {
            n
            for n, a in theirs.data_vars.items()
            if a.dtype.kind == "f" and (a.dims == ("time",) or {*"xyz"} <= {*a.dims})
        }
        assert set(ours.data_vars) == fields
        left_out = ours.attrs.pop("left_out", "")
        assert all(name in left_out for name in theirs.data_vars if name not in fields and theirs[name].ndim)
        theirs = theirs[sorted(fields)]
        for name in fields:
            expected = theirs[name].variable.set_dims(dict(ours[name].sizes)).transpose(*ours[name].dims)
            np.testing.assert_array_equal(ours[name].values, expected.values.astype(ours[name].dtype))
            # xarray may unpack into a wider type than CF asks for, never into a narrower one than we
            np.testing.assert_allclose(ours[name].values, expected.values, rtol=1e-6, atol=0)
        for name in ("x", "y", "z"):
            np.testing.assert_array_equal(ours[name].values, theirs[name].values)
        dated = " since " in str(theirs.time.attrs.get("units"))  # such times are counted in seconds here
        seconds = SECONDS[theirs.time.attrs["units"].partition(" ")[0]] if dated else 1
        np.testing.assert_allclose(ours.time.values, theirs.time.values.astype(float) * seconds, rtol=1e-12)
        for name in theirs.variables:
            for key, value in theirs[name].attrs.items():
                if name == "time" and dated and key in ("units", "calendar"):
                    continue
                assert same(ours[name].attrs[key], value), (name, key)


def assert_opens_there(path, dataset):
    with opened(path) as theirs:
        theirs.load()
        assert set(theirs.data_vars) == set(dataset.data_vars)
        for name in (*dataset.data_vars, *dataset.coords):
            kinds = theirs[name].dtype.kind, dataset[name].dtype.kind
            alike = any(
                set(kinds) <= group for group in ({"O", "U", "T"}, {"i", "u"})
            )  # coordinates are int64 in a store
            assert kinds[0] == kinds[1] or alike, (name, *kinds)
            np.testing.assert_array_equal(theirs[name].values, dataset[name].values)
            assert theirs[name].dims == dataset[name].dims
            for key, value in dataset[name].attrs.items():
                assert key in theirs[name].attrs, (name, key)
                if not isinstance(value, float) or value == value:
                    assert same(theirs[name].attrs[key], value), (name, key)
        for key, value in dataset.attrs.items():
            assert key in theirs.attrs, key
            if not isinstance(value, float) or value == value:
                assert same(theirs.attrs[key], value), key
    for metadata in path.rglob("zarr.json") if path.is_dir() else ():
        json.loads(metadata.read_text(), parse_constant=pytest.fail)


def check(case, kind):
    dataset, encoding = case
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = written(dataset, encoding, kind, folder)
        if path is None:
            return
        assert_opens_here(path)
        ours = open_field(path).load()
        assert_opens_there(convert(path, folder / "ours.zarr"), ours)
        assert_opens_there(convert(path, folder / "ours.nc"), ours)
        assert_opens_there(write_hdf5(ours, folder / "ours.h5"), ours)


how = dict(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@settings(max_examples=QUICK, **how)
@given(datasets(), st.sampled_from(FORMATS))
def test_both_ways(case, kind):
    check(case, kind)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=ALL, **how)
@given(datasets(), st.sampled_from(FORMATS))
def test_both_ways_for_many(case, kind):
    check(case, kind)
