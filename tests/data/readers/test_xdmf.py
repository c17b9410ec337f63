"""XDMF files written by hand, with h5py or with numbers in the XML, come back with the right axes."""

import h5py
import numpy as np
import pytest
import yaml

from flowsr.data import check_finite, convert, grid_of, inspect, open_field
from flowsr.errors import FlowsrError

SIDES = X, Y, Z = 4, 6, 5
LINES = np.arange(X + 1) * 0.5, np.cumsum([0, 0.1, 0.2, 0.15, 0.3, 0.2, 0.1]), np.arange(Z + 1) * 2.0
TIMES = (0.5, 0.75)


def numbered(sides=SIDES):
    """(time, component, x, y, z), every value different."""
    return np.arange(2 * 3 * np.prod(sides), dtype="f4").reshape(2, 3, *sides)


def item(values, inline, place, text=None):
    shape = " ".join(map(str, values.shape))
    kind = f'Dimensions="{shape}" NumberType="Float" Precision="{values.itemsize}"'
    if inline:
        return f'<DataItem {kind} Format="XML">{" ".join(map(repr, values.ravel().tolist()))}</DataItem>'
    return f'<DataItem {kind} Format="HDF"> {text or f"a.h5:/{place}"} </DataItem>'


def xdmf(path, *, inline=False, center="Cell", stretched=False, collection=True, text=None, tail=""):
    sides = SIDES if center == "Cell" else tuple(n + 1 for n in SIDES)
    velocity = numbered(sides)
    nodes = " ".join(str(n + 1) for n in SIDES[::-1])
    grids = []
    with h5py.File(path.with_name("a.h5"), "w") as file:
        for number, time in enumerate(TIMES):
            u, p = velocity[number].transpose(3, 2, 1, 0), velocity[number, 0].T * 2.0
            file[f"u{number}"], file[f"p{number}"] = u, p
            if stretched:
                items = "".join(item(line, True, "") for line in LINES)
                shape, geometry = "3DRectMesh", f'<Geometry GeometryType="VXVYVZ">{items}</Geometry>'
            else:
                items = item(np.array([3.0, 2.0, 1.0]), True, "") + item(np.array([0.3, 0.2, 0.1]), True, "")
                shape, geometry = "3DCoRectMesh", f'<Geometry GeometryType="ORIGIN_DXDYDZ">{items}</Geometry>'
            grids.append(
                f'<Grid Name="g" GridType="Uniform"><Time Value="{time}"/>'
                f'<Topology TopologyType="{shape}" Dimensions="{nodes}"/>'
                f'{geometry}<Attribute Name="U" AttributeType="Vector" Center="{center}">'
                f"{item(u, inline, f'u{number}', text)}"
                f'</Attribute><Attribute Name="p" Center="{center}">'
                f"{item(p, inline, f'p{number}')}</Attribute>{tail}</Grid>"
            )
    body = "".join(grids) if collection else grids[0]
    if collection:
        body = f'<Grid GridType="Collection" CollectionType="Temporal">{body}</Grid>'
    path.write_text(
        f'<?xml version="1.0"?><!DOCTYPE Xdmf SYSTEM "Xdmf.dtd" []><Xdmf Version="2.0"><Domain>{body}</Domain></Xdmf>'
    )
    return path


def assert_same(found, sides=SIDES):
    velocity = numbered(sides)
    assert not found["velocity"]._in_memory
    np.testing.assert_array_equal(found["velocity"].values, velocity)
    np.testing.assert_array_equal(found["pressure"].values, velocity[:, 0] * 2)
    np.testing.assert_array_equal(found["velocity"][1, 2, 1:3, ::2, 4].values, velocity[1, 2, 1:3, ::2, 4])
    np.testing.assert_array_equal(found["velocity"][:, 1:, 3, 1:5:3].values, velocity[:, 1:, 3, 1:5:3])
    assert found["time"].values.tolist() == list(TIMES)


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("stretched", [False, True])
def test_cells_at_several_times(tmp_path, inline, stretched):
    found = open_field(xdmf(tmp_path / "a.xdmf", inline=inline, stretched=stretched))
    assert_same(found)
    grid = grid_of(found)
    assert grid.stretched == (False, stretched, False)
    if stretched:
        np.testing.assert_allclose(found["y"].values, (LINES[1][1:] + LINES[1][:-1]) / 2)
    else:
        np.testing.assert_allclose(grid.origin, (1, 2, 3))
        np.testing.assert_allclose(grid.spacing, (0.1, 0.2, 0.3))


def test_nodes_and_a_single_time(tmp_path):
    found = open_field(xdmf(tmp_path / "a.xmf", center="Node"))
    assert_same(found, tuple(n + 1 for n in SIDES))
    assert "nodes" in found.attrs["values_at"]
    np.testing.assert_allclose(found["z"].values, 3 + 0.3 * np.arange(Z + 1))
    one = open_field(xdmf(tmp_path / "b.xmf", collection=False))
    np.testing.assert_array_equal(one["velocity"].values, numbered()[:1])


def test_vectors_joined_from_their_components_and_snapshots_out_of_one_array(tmp_path):
    path = xdmf(tmp_path / "a.xdmf")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["all"] = numbered()[:, :, ...].transpose(0, 4, 3, 2, 1)
        for number in range(2):
            for c in range(3):
                file[f"{'uvw'[c]}{number}"] = numbered()[number, c].T
    shape = f"{Z} {Y} {X}"
    for number in range(2):
        joined = "".join(f'<DataItem Dimensions="{shape}" Format="HDF">b.h5:/{c}{number}</DataItem>' for c in "uvw")
        old = item(numbered()[number].transpose(3, 2, 1, 0), False, f"u{number}")
        new = f'<DataItem ItemType="Function" Function="JOIN($0, $1, $2)" Dimensions="{shape} 3">{joined}</DataItem>'
        slab = (
            f'<DataItem ItemType="HyperSlab" Dimensions="{shape} 3"><DataItem Dimensions="3 5" Format="XML">'
            f"{number} 0 0 0 0 1 1 1 1 1 1 {shape} 3</DataItem>"
            f'<DataItem Dimensions="2 {shape} 3" Format="HDF">b.h5:/all</DataItem></DataItem>'
        )
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        (tmp_path / "slab.xdmf").write_text(
            text.replace(old, slab) if number == 0 else (tmp_path / "slab.xdmf").read_text().replace(old, slab)
        )
    assert_same(open_field(path))
    assert_same(open_field(tmp_path / "slab.xdmf"))


def test_a_part_of_a_large_array_is_read_alone(tmp_path, monkeypatch):
    from flowsr.data.readers import vtk

    monkeypatch.setattr(vtk, "LARGEST_WHOLE", 100)
    for inline in (False, True):
        assert_same(open_field(xdmf(tmp_path / "a.xdmf", inline=inline)))


def test_arrays_made_of_one_another_without_end_are_refused(tmp_path):
    path = xdmf(tmp_path / "a.xdmf", inline=True, collection=False)
    levels = '<DataItem Name="d0" Dimensions="1" Format="XML">1</DataItem>'
    for n in range(1, 40):
        two = f'<DataItem Reference="XML">/Xdmf/Domain/DataItem[{n}]</DataItem>' * 2
        levels += f'<DataItem ItemType="Function" Function="JOIN($0, $1)">{two}</DataItem>'
    attribute = (
        '<Attribute Name="deep"><DataItem Reference="XML">/Xdmf/Domain/DataItem[40]</DataItem></Attribute></Grid>'
    )
    text = path.read_text().replace("<Domain>", f"<Domain>{levels}").replace("</Grid>", attribute)
    path.write_text(text.replace('Name="deep"', 'Name="deep" Center="Cell"'))
    with pytest.raises(FlowsrError, match="arrays made of too many others; variable: deep"):
        open_field(path)


def test_references_and_times_of_the_collection(tmp_path):
    path = xdmf(tmp_path / "a.xdmf")
    text = path.read_text()
    start, stop = text.index("<Topology"), text.index("<Attribute")
    shared = text[start:stop]
    refer = '<Topology Reference="/Xdmf/Domain/Topology[1]"/><Geometry Reference="/Xdmf/Domain/Geometry[1]"/>'
    for time in TIMES:
        text = text.replace(f'<Time Value="{time}"/>', "")
    text = text.replace(shared, refer).replace("<Domain>", f"<Domain>{shared}", 1)
    listed = '"Temporal"><Time TimeType="HyperSlab"><DataItem Dimensions="3" Format="XML">0.5 0.25 2</DataItem></Time>'
    path.write_text(text.replace('"Temporal">', listed))
    assert_same(open_field(path))


def test_a_manifest_names_them_and_convert_copies_them(tmp_path):
    xdmf(tmp_path / "a.xdmf")
    manifest = {
        "name": "a",
        "description": "",
        "source": "",
        "licence": "",
        "files": {"a": "a.xdmf"},
        "times": [7.0, 8.0],
        "variables": {"velocity": {"irreps": "1o"}},
        "boundary": ["periodic", "wall", "open"],
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest))
    found = open_field(convert(tmp_path / "m.yaml", tmp_path / "b.h5"))
    np.testing.assert_array_equal(found["velocity"].values, numbered())
    assert found["time"].values.tolist() == [7, 8] and found.attrs["boundary"] == ["periodic", "wall", "open"]
    assert "xdmf" in "\n".join(inspect(tmp_path / "a.xdmf").lines())


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("a.h5:/u1", "../a.h5:/u1", "a file outside its folder; variable: U"),
        ("a.h5:/u1", "/etc/hostname:/u1", "a file outside its folder"),
        ("a.h5:/u1", "b.h5:/u1", "b.h5: no such file; variable: U"),
        ("a.h5:/u1", "a.h5:/v", "no such array; variable: /v"),
        ("a.h5:/u1", "a.h5:/p1", "XDMF and HDF5 disagree"),
        ("<Domain>", "<Domain><xi:include href='/etc/passwd'/>", "no entities, no xi:include"),
        ('"Xdmf.dtd" []', '"Xdmf.dtd" [<!ENTITY a "b">]', "no entities"),
        ("3DCoRectMesh", "3DSMesh", "not a grid of three axes.*3dsmesh"),
        ('"Temporal"', '"Spatial"', "not one box at several times"),
        ("6 7 5", "6 7 9", "shape and grid disagree|XDMF and HDF5 disagree"),
        ("6 7 5", "6 7 -5", "not dimensions"),
        ('<Time Value="0.75"/>', '<Time Value="0.5"/>', "times do not increase"),
        ("</Xdmf>", "", "damaged or not readable; found: XML"),
    ],
)
def test_what_is_refused(tmp_path, old, new, line):
    path = xdmf(tmp_path / "a.xdmf")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FlowsrError, match=line) as raised:
        open_field(path)
    assert "\n" not in str(raised.value)


def test_numbers_that_are_missing_are_found_when_read(tmp_path):
    path = xdmf(tmp_path / "a.xdmf", inline=True)
    path.write_text(path.read_text().replace("119.0 239.0 359.0</", "119.0 239.0</"))
    with pytest.raises(FlowsrError, match="size and shape disagree; variable: U; expected: 360 numbers; found: 359"):
        open_field(path)["velocity"].load()
    path = xdmf(tmp_path / "b.xdmf")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["u1"][4, 3, 2, 1] = np.nan
    with pytest.raises(FlowsrError, match=r"1 of 720.*time 1, component 1, x 2, y 3, z 4"):
        check_finite(open_field(path))


@pytest.mark.parametrize(("name", "empty"), [("vtkGhostType", 32), ("vtkValidCellMask", 0)])
def test_what_vtk_says_has_no_value_is_nan(tmp_path, name, empty):
    mask = np.resize(np.array([empty, 1 if empty == 0 else 0, 1 if empty == 0 else 2]), SIDES)
    words = " ".join(map(str, mask.T.ravel()))
    shape = " ".join(map(str, SIDES[::-1]))
    data = f'<DataItem Dimensions="{shape}" NumberType="UChar" Precision="1" Format="XML">{words}</DataItem>'
    found = open_field(xdmf(tmp_path / "a.xdmf", tail=f'<Attribute Name="{name}" Center="Cell">{data}</Attribute>'))
    expected = np.where(mask == empty, np.nan, numbered())
    np.testing.assert_array_equal(found["velocity"].values, expected)
    np.testing.assert_array_equal(found["velocity"][1, 0, 1:3, 2].values, expected[1, 0, 1:3, 2])
    assert name not in found and name not in found.attrs.get("left_out", "")
