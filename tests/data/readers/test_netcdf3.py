"""NetCDF 3 files, in flowsr's layout and as a manifest describes them."""

import numpy as np
import pytest
import yaml
from scipy.io import netcdf_file

from flowsr.data import convert, grid_of, inspect, open_field
from flowsr.errors import FlowsrError

SIDES = X, Y, Z = 4, 6, 5
VELOCITY = np.arange(2 * 3 * X * Y * Z, dtype="f4").reshape(2, 3, *SIDES)


def write(path, version=1, record=False, order=("time", "component", "x", "y", "z"), names=("x", "y", "z"), dtype="f4"):
    with netcdf_file(path, "w", version=version) as file:
        for name, n in zip(("time", "component", *names), VELOCITY.shape):
            file.createDimension(name, None if name == "time" and record else n)
        for name, n, d in zip(names, SIDES, (0.5, 0.25, 2.0)):
            file.createVariable(name, "f8", (name,))[:] = (np.arange(n) + 0.5) * d
        file.createVariable("time", "f8", ("time",))[:] = [0.5, 1.0]
        renamed = [dict(zip("xyz", names)).get(name, name) for name in order]
        values = VELOCITY.transpose([["time", "component", "x", "y", "z"].index(name) for name in order])
        stored = file.createVariable("velocity", dtype, tuple(renamed))
        stored[:] = values
        stored.irreps, stored.units = "1o", "m/s"
        file.boundary = '["periodic", "wall", "open"]'
    return path


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("record", [False, True])
def test_flowsr_layout(tmp_path, version, record):
    found = open_field(write(tmp_path / "a.nc", version, record))
    assert not found["velocity"]._in_memory
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY)
    np.testing.assert_array_equal(found["velocity"][1, 2, 1:3, ::2, 4].values, VELOCITY[1, 2, 1:3, ::2, 4])
    assert found["velocity"].dtype == np.float32 and found["velocity"].attrs["units"] == "m/s"
    assert grid_of(found).boundary == ("periodic", "wall", "open") and grid_of(found).spacing == (0.5, 0.25, 2.0)
    back = open_field(convert(tmp_path / "a.nc", tmp_path / "b.nc"))
    np.testing.assert_array_equal(back["velocity"].values, VELOCITY)
    assert "netcdf3" in "\n".join(inspect(tmp_path / "a.nc").lines())


@pytest.mark.parametrize("record", [False, True])
def test_another_order_as_a_manifest_says(tmp_path, record):
    write(tmp_path / "a.nc", 2, record, ("time", "z", "y", "component", "x"), ("lon", "lat", "height"))
    np.testing.assert_array_equal(open_field(tmp_path / "a.nc")["velocity"].values, VELOCITY)  # its names tell
    manifest = {
        "name": "a",
        "description": "",
        "source": "",
        "licence": "",
        "files": {"a": "a.nc"},
        "times": "time",
        "variables": {"flow": {"irreps": "1o", "path": "velocity", "axes": ["time", "z", "y", "component", "x"]}},
        "coordinates": {"x": "lon", "y": "lat", "z": "height"},
        "boundary": ["periodic", "wall", "open"],
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest))
    found = open_field(tmp_path / "m.yaml")
    assert not found["flow"]._in_memory
    np.testing.assert_array_equal(found["flow"].values, VELOCITY)
    assert found["time"].values.tolist() == [0.5, 1.0]
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest | {"times": "hours"}))
    with pytest.raises(FlowsrError, match=r"no such array; variable: hours; found: .*velocity"):
        open_field(tmp_path / "m.yaml")


def test_what_is_refused(tmp_path):
    whole = write(tmp_path / "a.nc").read_bytes()
    for length in np.linspace(4, len(whole) - 1, 30).astype(int):
        (tmp_path / "b.nc").write_bytes(whole[:length])
        with pytest.raises(FlowsrError) as raised:
            open_field(tmp_path / "b.nc")["velocity"].load()
        assert "\n" not in str(raised.value)
    (tmp_path / "b.nc").write_bytes(b"CDF\x05" + whole[4:])
    with pytest.raises(FlowsrError, match=r"a version of NetCDF that is not read.*nccopy"):
        open_field(tmp_path / "b.nc")
    with pytest.raises(FlowsrError, match=r"not real numbers; variable|variable: velocity; expected: a float"):
        open_field(write(tmp_path / "c.nc", dtype="i4"))
    with pytest.raises(FlowsrError, match="NetCDF 3 has no groups"):
        open_field(tmp_path / "a.nc", group="coarse")
