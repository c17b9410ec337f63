"""VTK files written by hand, and by VTK's own writers, come back with the right axes; what is no box is refused."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
import yaml

from flowsr.data import check_finite, convert, grid_of, inspect, open_field
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from tests.data.fields import random_field, store_field

SIDES = X, Y, Z = 4, 6, 5
STRETCHED = np.cumsum([0, 0.1, 0.2, 0.15, 0.3, 0.2, 0.1])


def numbered(sides=SIDES, start=0, dtype="f4"):
    """(component, x, y, z), every value different."""
    return (np.arange(3 * np.prod(sides)) + start).reshape(3, *sides).astype(dtype)


def flat(values):
    """In VTK's order: x fastest, components together."""
    return values.transpose(3, 2, 1, 0) if values.ndim == 4 else values.transpose(2, 1, 0)


def text(values):
    return " ".join(map(repr, np.ravel(values).tolist()))


def xml(
    path, place="CellData", *, velocity=None, pressure=None, kind="ImageData", geometry="", first=(0, 0, 0), raw=False
):
    """A VTK XML file; numbers as text, or raw behind the XML."""
    sides = SIDES if place == "CellData" else tuple(n + 1 for n in SIDES)
    velocity = numbered(sides) if velocity is None else velocity
    pressure = numbered(sides)[1] * 2.0 if pressure is None else pressure
    extent = " ".join(f"{o} {o + n}" for o, n in zip(first, SIDES))
    where = ' Origin="1 2 3" Spacing="0.1 0.2 0.3"' if kind == "ImageData" else ""
    arrays, blob = "", b""
    for name, values, count in (("U", velocity, 3), ("p", pressure, 1)):
        form = {4: "Float32", 8: "Float64"}[values.itemsize]
        head = f'<DataArray type="{form}" Name="{name}" NumberOfComponents="{count}"'
        if raw:
            arrays += f'{head} format="appended" offset="{len(blob)}"/>'
            order = ">" if raw == "big" else "<"
            data = flat(values).astype(values.dtype.newbyteorder(order)).tobytes()
            blob += np.array(len(data), f"{order}u8").tobytes() + data
        else:
            arrays += f'{head} format="ascii">{text(flat(values))}</DataArray>'
    order = "BigEndian" if raw == "big" else "LittleEndian"
    path.write_bytes(
        f'<?xml version="1.0"?><VTKFile type="{kind}" version="1.0" byte_order="{order}" header_type="UInt64">'
        f'<{kind} WholeExtent="{extent}"{where}><Piece Extent="{extent}"><{place}>{arrays}</{place}>{geometry}</Piece>'
        f"</{kind}>".encode()
        + (b'<AppendedData encoding="raw">_' + blob + b"</AppendedData>" if raw else b"")
        + b"</VTKFile>"
    )
    return path


def coordinates(lines):
    arrays = (
        f'<DataArray type="Float64" Name="{n}" format="ascii">{text(a)}</DataArray>' for n, a in zip("xyz", lines)
    )
    return f"<Coordinates>{''.join(arrays)}</Coordinates>"


def legacy(path, *, binary=False, kind="STRUCTURED_POINTS", place="CELL_DATA"):
    sides = SIDES if place == "CELL_DATA" else tuple(n + 1 for n in SIDES)
    velocity, pressure = numbered(sides), (numbered(sides)[1] * 2).astype("f8")
    put = (lambda a: a.astype(a.dtype.newbyteorder(">")).tobytes()) if binary else (lambda a: text(a).encode())
    nodes = tuple(n + 1 for n in SIDES)
    out = f"# vtk DataFile Version 3.0\nby hand\n{'BINARY' if binary else 'ASCII'}\nDATASET {kind}\n".encode()
    out += "DIMENSIONS {} {} {}\n".format(*nodes).encode()
    if kind == "STRUCTURED_POINTS":
        out += b"ORIGIN 1 2 3\nSPACING 0.1 0.2 0.3\n"
    else:
        for axis, line in zip("XYZ", (np.arange(X + 1.0), STRETCHED, np.arange(Z + 1.0))):
            out += f"{axis}_COORDINATES {len(line)} double\n".encode() + put(line) + b"\n"
    out += f"{place} {np.prod(sides)}\nSCALARS p double 1\nLOOKUP_TABLE default\n".encode() + put(flat(pressure))
    out += b"\nVECTORS U float\n" + put(flat(velocity)) + b"\n"
    path.write_bytes(out)
    return path


def assert_same(found, sides=SIDES):
    assert not found["velocity"]._in_memory
    np.testing.assert_array_equal(found["velocity"].values, numbered(sides)[None])
    np.testing.assert_array_equal(found["pressure"].values, numbered(sides)[1][None] * 2)
    np.testing.assert_array_equal(found["velocity"][0, 2, 1:3, ::2, 4].values, numbered(sides)[2, 1:3, ::2, 4])
    np.testing.assert_array_equal(found["velocity"][:, 1:, 3, 1:5:3].values, numbered(sides)[None, 1:, 3, 1:5:3])
    assert found["velocity"].dims == ("time", "component", "x", "y", "z")
    assert found["velocity"].attrs["irreps"] == "1o" and found["pressure"].attrs["irreps"] == "0e"
    assert found["velocity"].attrs["stored_as"] == "U" and "velocity.irreps 1o" in found.attrs["assumed"]


@pytest.mark.parametrize("raw", [False, True, "big"])
def test_image_data(tmp_path, raw):
    found = open_field(xml(tmp_path / "a.vti", raw=raw))
    assert_same(found)
    grid = grid_of(found)
    np.testing.assert_allclose(grid.origin, (1, 2, 3))
    np.testing.assert_allclose(grid.spacing, (0.1, 0.2, 0.3))
    assert grid.boundary == ("open",) * 3 and found.attrs["values_at"] == "cells"


def test_an_extent_that_begins_elsewhere(tmp_path):
    found = open_field(xml(tmp_path / "a.vti", first=(7, -2, 3)))
    assert_same(found)
    np.testing.assert_allclose(grid_of(found).origin, (1.7, 1.6, 3.9))


def test_values_at_nodes_are_said_to_be(tmp_path):
    found = open_field(xml(tmp_path / "a.vti", "PointData"))
    assert_same(found, tuple(n + 1 for n in SIDES))
    assert "nodes" in found.attrs["values_at"]
    np.testing.assert_allclose(found["x"].values, 1 + 0.1 * np.arange(X + 1))


@pytest.mark.parametrize("compressor", ["ZLib", "LZ4"])
def test_what_vtk_itself_compresses_in_pieces(tmp_path, compressor):
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkIOXML import vtkXMLImageDataWriter

    image = vtkImageData()
    image.SetDimensions(X + 1, Y + 1, Z + 1)
    for name, values in (("U", numbered()), ("p", numbered()[1] * 2)):
        array = numpy_to_vtk(np.ascontiguousarray(flat(values)).reshape(X * Y * Z, -1), deep=1)
        array.SetName(name)
        image.GetCellData().AddArray(array)
    writer = vtkXMLImageDataWriter()
    writer.SetInputData(image)
    getattr(writer, f"SetCompressorTypeTo{compressor}")()
    writer.SetNumberOfPieces(3)
    writer.SetFileName(str(tmp_path / "a.vti"))
    writer.Write()
    assert_same(open_field(tmp_path / "a.vti"))


def test_rectilinear_grids_keep_their_stretched_axis(tmp_path):
    lines = (np.arange(X + 1) * 0.5, STRETCHED, np.arange(Z + 1) * 2.0)
    for kind in (False, True):
        found = open_field(xml(tmp_path / "a.vtr", kind="RectilinearGrid", geometry=coordinates(lines), raw=kind))
        assert_same(found)
        grid = grid_of(found)
        assert grid.stretched == (False, True, False) and grid.lengths[1] == pytest.approx(STRETCHED[-1])
        np.testing.assert_allclose(found["y"].values, (STRETCHED[1:] + STRETCHED[:-1]) / 2)


def structured(path, lines, bend=0.0):
    points = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)
    points[1, 2, 3, 0] += bend
    body = text(points.transpose(2, 1, 0, 3))
    geometry = f'<Points><DataArray type="Float64" NumberOfComponents="3" format="ascii">{body}</DataArray></Points>'
    return xml(path, kind="StructuredGrid", geometry=geometry)


def test_structured_grids_that_are_rectilinear_and_others(tmp_path):
    lines = (np.arange(X + 1) * 0.5, STRETCHED, np.arange(Z + 1) * 2.0)
    found = open_field(structured(tmp_path / "a.vts", lines))
    assert_same(found)
    np.testing.assert_allclose(found["y"].values, (STRETCHED[1:] + STRETCHED[:-1]) / 2)
    with pytest.raises(FlowsrError, match=r"b.vts: not a rectilinear grid; variable: x; .*0.1 off"):
        open_field(structured(tmp_path / "b.vts", lines, bend=0.1))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("kind", ["STRUCTURED_POINTS", "RECTILINEAR_GRID"])
@pytest.mark.parametrize("place", ["CELL_DATA", "POINT_DATA"])
def test_legacy_files(tmp_path, binary, kind, place):
    found = open_field(legacy(tmp_path / "a.vtk", binary=binary, kind=kind, place=place))
    assert_same(found, SIDES if place == "CELL_DATA" else tuple(n + 1 for n in SIDES))
    if kind == "RECTILINEAR_GRID":
        np.testing.assert_allclose(grid_of(found).lengths[1] if place == "CELL_DATA" else found["y"][-1], STRETCHED[-1])


def test_symmetric_tensors_become_irreps(tmp_path):
    from flowsr.group import octahedral_group
    from flowsr.group.fields import representation

    path = xml(tmp_path / "a.vti")
    rows = np.random.default_rng(0).normal(size=(X * Y * Z, 6))
    array = f'<DataArray type="Float64" Name="stress" NumberOfComponents="6" format="ascii">{text(rows)}</DataArray>'
    path.write_text(path.read_text().replace("</CellData>", array + "</CellData>"))
    found = open_field(path)["stress"]
    assert found.shape == (1, 6, *SIDES)
    irreps = found.attrs["irreps"]
    value = found.values[0, :, 1, 2, 3]
    xx, yy, zz, xy, yz, xz = rows.reshape(Z, Y, X, 6)[3, 2, 1]
    tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    assert np.sum(value**2) == pytest.approx(np.sum(tensor**2))
    group = octahedral_group("Oh")
    for element, matrix in zip(representation(irreps, group), group.matrices):
        turned = matrix @ tensor @ matrix.T
        rows[:] = [turned[0, 0], turned[1, 1], turned[2, 2], turned[0, 1], turned[1, 2], turned[0, 2]]
        from flowsr.data.field import six_component_irreps

        np.testing.assert_allclose(six_component_irreps()[1] @ rows[0], element @ value, atol=1e-12)


@pytest.mark.parametrize(("stretched", "suffix"), [(False, "vti"), (False, "vtr"), (True, "vtr")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_convert_writes_comes_back_exactly(tmp_path, stretched, suffix, dtype):
    middles = tuple((STRETCHED[1:] + STRETCHED[:-1]) / 2 * (1 + 1e-3))
    grid = Grid(
        SIDES,
        (0.1, 1.06 / 6, 0.3),
        ("open", "wall", "periodic"),
        (0.1, 0.0, 0.3),
        (None, middles if stretched else None, None),
    )
    source = open_field(
        store_field(random_field(grid, [0.1, 0.7], dtype=dtype, simulation='"é" <&>'), tmp_path / "a.zarr")
    )
    found = open_field(convert(tmp_path / "a.zarr", tmp_path / f"b.{suffix}", time=1))
    xr.testing.assert_identical(found.load(), source.isel(time=[1]).load())


def test_image_data_hold_no_stretched_axis_and_vtk_no_half_precision(tmp_path):
    grid = Grid(
        SIDES, (0.1, STRETCHED[-1] / 6, 0.3), ("open",) * 3, (0, 0, 0), (None, tuple(STRETCHED[1:] - 0.05), None)
    )
    store_field(random_field(grid, [0.0]), tmp_path / "a.zarr")
    with pytest.raises(FlowsrError, match=r"/b.vti: image data have no stretched axes.*vtr"):
        convert(tmp_path / "a.zarr", tmp_path / "b.vti")
    store_field(random_field(Grid(SIDES), [0.0], dtype="float16"), tmp_path / "c.zarr")
    with pytest.raises(FlowsrError, match=r"VTK has no such numbers.*float16"):
        convert(tmp_path / "c.zarr", tmp_path / "c.vti")
    assert not list(tmp_path.glob("*.vti"))


def test_files_of_one_run_as_a_manifest_names_them(tmp_path):
    for number in range(3):
        xml(tmp_path / f"step_{number}.vti", velocity=numbered(start=1000 * number), raw=True)
    manifest = {
        "name": "a",
        "description": "",
        "source": "",
        "licence": "",
        "times": [0.0, 0.1, 0.3],
        "viscosity": 0.2,
        "files": {"a": [f"step_{n}.vti" for n in range(3)]},
        "boundary": ["periodic", "wall", "periodic"],
        "variables": {"speed": {"irreps": "1o", "path": "U"}, "three": {"irreps": "1e", "path": ["p", "p", "p"]}},
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest))
    found = open_field(tmp_path / "m.yaml")
    np.testing.assert_array_equal(found["speed"].values, np.stack([numbered(start=1000 * n) for n in range(3)]))
    np.testing.assert_array_equal(found["three"].values[1, 2], numbered()[1] * 2)
    assert found["time"].values.tolist() == [0.0, 0.1, 0.3] and found.attrs["boundary"] == [
        "periodic",
        "wall",
        "periodic",
    ]
    assert "assumed" not in found.attrs
    for change, line in (
        ({"variables": {"velocity": {"irreps": "1o", "path": "V"}}}, "no such array; variable: velocity; expected: V"),
        ({"dtype": "<f4"}, "the reader vtk takes the layout from the file; variable: dtype"),
        ({"times": None}, "the times of consecutive files do not increase"),
        ({"variables": {"velocity": {"irreps": "1o", "path": ["p", "U", "p"]}}}, "components are scalars"),
    ):
        (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest | change))
        with pytest.raises(FlowsrError, match=line):
            open_field(tmp_path / "m.yaml")


def changed(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda p: changed(p, b"ImageData", b"UnstructuredGrid"), "not a grid of three axes.*UnstructuredGrid"),
        (lambda p: changed(p, b"0 4 0 6 0 5", b"0 4000000 0 600000 0 500000"), "claims more numbers than it can hold"),
        (
            lambda p: changed(p, b'NumberOfComponents="3"', b'NumberOfComponents="33333333333333"'),
            "claims more numbers",
        ),
        (lambda p: changed(p, b"0 4 0 6 0 5", b"0 4 0 6 0 0"), "not a grid of three axes"),
        (lambda p: changed(p, b"Spacing", b'Direction="0 1 0 1 0 0 0 0 1" Spacing'), "a rotated grid"),
        (lambda p: changed(p, b"Float32", b"Int32"), "no field|not real|damaged"),
        (
            lambda p: changed(p, b"0.1 0.2 0.3", b"0.1 nan 3"),
            "not three numbers; variable: Spacing; found: '0.1 nan 3'",
        ),
        (lambda p: changed(p, b"0.1 0.2 0.3", b"inf 1 1"), "not three numbers; variable: Spacing"),
        (lambda p: changed(p, b"1 2 3", b"1 2 nan"), "not three numbers; variable: Origin"),
        (lambda p: changed(p, b"1 2 3", b"1 2"), "not three numbers; variable: Origin"),
    ],
)
def test_files_that_are_no_field(tmp_path, change, line):
    path = change(xml(tmp_path / "a.vti", pressure=numbered()[1]))
    with pytest.raises(FlowsrError, match=line) as raised:
        open_field(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("depth", [99_999, pytest.param(2_000_000, marks=pytest.mark.slow)])
def test_elements_deep_in_one_another_end_no_more_than_a_process_of_their_own(tmp_path, depth, monkeypatch):
    monkeypatch.setattr("flowsr.quarantine.PATIENCE", 1)
    path = changed(xml(tmp_path / "a.vti"), b"<CellData>", b"<A>" * depth + b"</A>" * depth + b"<CellData>")
    try:
        assert_same(open_field(path))
    except FlowsrError as error:
        assert "damaged or not readable" in str(error)
        assert "ended the process" in error.found or "no end after" in error.found


def test_a_count_beyond_all_memory_is_one_line(tmp_path):
    path = changed(
        legacy(tmp_path / "a.vtk", binary=True, kind="RECTILINEAR_GRID"),
        b"X_COORDINATES 5",
        b"X_COORDINATES 9223372036854775807",
    )
    with pytest.raises(FlowsrError, match=r"a.vtk: ") as raised:
        open_field(path)
    assert "\n" not in str(raised.value)


def test_a_part_of_a_large_array_is_read_alone(tmp_path, monkeypatch):
    from flowsr.data.readers import vtk

    monkeypatch.setattr(vtk, "LARGEST_WHOLE", 100)
    for path in (xml(tmp_path / "a.vti", first=(7, -2, 3)), legacy(tmp_path / "a.vtk")):
        assert_same(open_field(path))
    nodes = open_field(xml(tmp_path / "b.vti", "PointData", first=(7, -2, 3)))
    assert_same(nodes, tuple(n + 1 for n in SIDES))


def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path):
    for write in (lambda p: xml(p, raw=True), xml, legacy, lambda p: legacy(p, binary=True)):
        whole = write(tmp_path / "a.vt").read_bytes()
        for length in np.linspace(1, len(whole) - 6, 24).astype(int):
            (tmp_path / "b.vt").write_bytes(whole[:length])
            try:
                found = open_field(tmp_path / "b.vt")
            except FlowsrError as error:
                assert "\n" not in str(error)
                continue
            if "velocity" not in found:  # a legacy file that ends between two fields is a file with one field
                np.testing.assert_array_equal(found["pressure"].values, numbered()[None, 1] * 2)
                continue
            values = found["velocity"].values
            np.testing.assert_array_equal(values, numbered()[None])


def test_nan_is_counted_and_located(tmp_path):
    velocity = numbered()
    velocity[1, 2, 3, 4] = np.nan
    path = xml(tmp_path / "a.vti", velocity=velocity, raw=True)
    with pytest.raises(FlowsrError, match=r"1 of 360.*component 1, x 2, y 3, z 4"):
        check_finite(open_field(path))


def test_integers_are_left_out_and_said_to_be(tmp_path):
    path = changed(
        xml(tmp_path / "a.vti", pressure=numbered()[1]),
        b'<DataArray type="Float32" Name="p"',
        b'<DataArray type="Int32" Name="id"',
    )
    path.write_text(path.read_text().replace(".0", ""))
    found = open_field(path)
    assert list(found.data_vars) == ["velocity"] and "id (int32)" in found.attrs["left_out"]


def test_inspect_says_what_was_assumed(tmp_path):
    lines = "\n".join(inspect(xml(tmp_path / "a.vti")).lines())
    assert "vtk: a VTK file" in lines and "the file does not say; a manifest can" in lines and "U in the file" in lines


def test_without_vtk_one_line_says_what_to_install(tmp_path):
    xml(tmp_path / "a.vti")
    script = (
        "import sys; sys.modules['vtkmodules'] = None\n"
        "from flowsr.data import open_field\nfrom flowsr.errors import FlowsrError\n"
        f"try: open_field({str(tmp_path / 'a.vti')!r})\nexcept FlowsrError as e: print(e)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.count("\n") == 1 and "pip install 'flowsr[formats]'" in said


@pytest.mark.parametrize("mode", ["Ascii", "Binary", "Appended"])
@pytest.mark.parametrize("compressor", ["None", "ZLib"])
@pytest.mark.parametrize("kind", ["RectilinearGrid", "StructuredGrid"])
def test_coordinates_in_all_of_vtks_encodings(tmp_path, mode, compressor, kind):
    from vtkmodules import vtkCommonDataModel, vtkIOXML
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonCore import vtkPoints

    lines = (np.arange(X + 1) * 0.5, STRETCHED, np.arange(Z + 1) * 2.0)
    grid = getattr(vtkCommonDataModel, f"vtk{kind}")()
    grid.SetDimensions(X + 1, Y + 1, Z + 1)
    if kind == "RectilinearGrid":
        for axis, line in zip("XYZ", lines):
            getattr(grid, f"Set{axis}Coordinates")(numpy_to_vtk(line, deep=1))
    else:
        points = vtkPoints()
        corners = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).transpose(2, 1, 0, 3)
        points.SetData(numpy_to_vtk(np.ascontiguousarray(corners).reshape(-1, 3), deep=1))
        grid.SetPoints(points)
    for name, values in (("U", numbered()), ("p", numbered()[1] * 2)):
        array = numpy_to_vtk(np.ascontiguousarray(flat(values)).reshape(X * Y * Z, -1), deep=1)
        array.SetName(name)
        grid.GetCellData().AddArray(array)
    writer = getattr(vtkIOXML, f"vtkXML{kind}Writer")()
    writer.SetInputData(grid)
    getattr(writer, f"SetDataModeTo{mode}")()
    getattr(writer, f"SetCompressorTypeTo{compressor}")()
    writer.SetFileName(str(tmp_path / "a.vt"))
    writer.Write()
    found = open_field(tmp_path / "a.vt")
    assert_same(found)
    np.testing.assert_allclose(found["y"].values, (STRETCHED[1:] + STRETCHED[:-1]) / 2, rtol=1e-6)


def test_coordinates_that_are_too_few_are_not_made_up(tmp_path):
    short = (np.arange(X + 1) * 0.5, STRETCHED[:-1], np.arange(Z + 1) * 2.0)
    with pytest.raises(FlowsrError, match=r"coordinates and grid disagree.*\[5, 7, 6\] numbers.*found: \[5, 6, 6\]"):
        open_field(xml(tmp_path / "a.vtr", kind="RectilinearGrid", geometry=coordinates(short)))


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999", "a", "1_0"])
def test_coordinates_behind_one_that_is_no_number_are_not_made_up(tmp_path, word):
    """VTK stops there, and leaves whatever is in memory in the place of the others."""
    lines = coordinates((np.arange(X + 1) * 0.5, STRETCHED, np.arange(Z + 1) * 2.0))
    last = f"{text(np.array([Z * 2.0]))}</DataArray></Coordinates>"
    assert lines.endswith(last)
    geometry = lines.removesuffix(last) + f"{word}</DataArray></Coordinates>"
    with pytest.raises(FlowsrError, match=r"coordinates and grid disagree.*\[5, 7, 6\] numbers.*found: \[5, 7, 5\]"):
        open_field(xml(tmp_path / "a.vtr", kind="RectilinearGrid", geometry=geometry))


def masked_xml(path, place, masks, *, legacy_form=False):
    """A VTK file with arrays of masks beside the values, (x, y, z) of bytes by name."""
    if legacy_form:
        legacy(path, place="CELL_DATA" if place == "CellData" else "POINT_DATA")
        with open(path, "a") as file:
            for name, mask in masks.items():
                file.write(f"\nSCALARS {name} unsigned_char 1\nLOOKUP_TABLE default\n{text(flat(mask))}\n")
        return path
    xml(path, place)
    arrays = "".join(
        f'<DataArray type="{"UInt8" if name == "vtkGhostType" else "Int8"}" Name="{name}" format="ascii">'
        f"{text(flat(mask))}</DataArray>"
        for name, mask in masks.items()
    )
    path.write_text(path.read_text().replace(f"</{place}>", f"{arrays}</{place}>"))
    return path


@pytest.mark.parametrize("form", ["xml", "legacy"])
@pytest.mark.parametrize(
    ("place", "name", "missing", "kept"),
    [
        ("CellData", "vtkGhostType", (32, 8, 1, 33), (0, 2, 4, 16)),  # hidden, refined, another's
        ("PointData", "vtkGhostType", (2, 1, 3), (0, 4)),
        ("PointData", "vtkValidPointMask", (0,), (1,)),
    ],
)
def test_what_vtk_says_has_no_value_is_nan(tmp_path, form, place, name, missing, kept):
    sides = SIDES if place == "CellData" else tuple(n + 1 for n in SIDES)
    mask = np.resize(np.array([kept[0], missing[0], *kept, *missing, kept[0]]), sides)
    path = masked_xml(
        tmp_path / ("a.vti" if form == "xml" else "a.vtk"), place, {name: mask}, legacy_form=form == "legacy"
    )
    found = open_field(path)
    empty = np.isin(mask, missing)
    assert empty.any() and not empty.all() and name not in found and name not in found.attrs.get("left_out", "")
    expected = np.where(empty, np.nan, numbered(sides))
    np.testing.assert_array_equal(found["velocity"][0].values, expected)
    np.testing.assert_array_equal(found["velocity"][0, 1, 1:3, 2, ::2].values, expected[1, 1:3, 2, ::2])
    assert inspect(path).variables[0].bad > 0


def test_a_large_masked_array_is_read_box_by_box(tmp_path, monkeypatch):
    from flowsr.data.readers import vtk

    monkeypatch.setattr(vtk, "LARGEST_WHOLE", 0)
    mask = np.resize(np.array([0, 32, 0]), SIDES)
    found = open_field(masked_xml(tmp_path / "a.vti", "CellData", {"vtkGhostType": mask}))
    expected = np.where(mask == 32, np.nan, numbered())[:, 1:3, 2:5, 1]
    np.testing.assert_array_equal(found["velocity"][0, :, 1:3, 2:5, 1].values, expected)
