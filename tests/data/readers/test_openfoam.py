"""OpenFOAM cases written by hand as plain text: a box of bricks whose cells are numbered at random."""

import gzip
import re
from itertools import product

import numpy as np
import pytest
import yaml

from flowsr.data import check_finite, convert, grid_of, inspect, open_field
from flowsr.errors import FlowsrError

SIDES = X, Y, Z = 4, 6, 5
LINES = np.linspace(0, 1, X + 1), np.cumsum([0, 0.1, 0.2, 0.15, 0.3, 0.2, 0.1]), np.linspace(0, 2, Z + 1)
VELOCITY = np.arange(2 * 3 * X * Y * Z, dtype="f4").reshape(2, 3, *SIDES)
CLASSES = {1: ("volScalarField", "scalar"), 3: ("volVectorField", "vector"), 6: ("volSymmTensorField", "symmTensor")}
CHANNEL = {"x": "cyclic", "y": "wall", "z": "cyclic"}


def head(kind, name):
    return f"FoamFile {{ version 2.0; format ascii; class {kind}; object {name}; }}\n"


def listed(rows):
    return f"{len(rows)}\n(\n" + "\n".join(rows) + "\n)\n"


def quad(axis, i, j, k, sides=SIDES):
    """Numbers of the corners of the face below cell (i, j, k) along an axis, its normal along the axis."""
    nx, ny = sides[0] + 1, sides[1] + 1
    a, b = ((0, 1, 0), (0, 0, 1)) if axis == 0 else ((0, 0, 1), (1, 0, 0)) if axis == 1 else ((1, 0, 0), (0, 1, 0))
    steps = [(0, 0, 0), a, tuple(p + q for p, q in zip(a, b)), b]
    return [i + p + nx * (j + q + ny * (k + r)) for p, q, r in steps]


def mesh(root, order, kinds=CHANNEL, points=None, lines=LINES):
    """constant/polyMesh of the box; ``order[n]`` is where in the box (x fastest) cell n is."""
    sides = [len(line) - 1 for line in lines]
    label = np.empty(np.prod(sides), int)
    label[order] = np.arange(len(label))
    inner, outer = [], {f"{axis}_{end}": [] for axis in "xyz" for end in ("low", "high")}
    for axis in range(3):
        for place in product(*(range(n + (a == axis)) for a, n in enumerate(sides))):
            below = list(place)
            below[axis] -= 1
            cell = lambda p: int(label[p[0] + sides[0] * (p[1] + sides[1] * p[2])])  # noqa: E731
            corners = quad(axis, *place, sides)
            if place[axis] == 0:
                outer["xyz"[axis] + "_low"].append((corners[::-1], cell(place)))
            elif place[axis] == sides[axis]:
                outer["xyz"[axis] + "_high"].append((corners, cell(below)))
            else:
                one, two = cell(below), cell(place)
                inner.append((corners, one, two) if one < two else (corners[::-1], two, one))
    inner.sort(key=lambda face: face[1:])
    faces, owner = [f[0] for f in inner], [f[1] for f in inner]
    patches = []
    for name, members in outer.items():
        patches.append(f"{name} {{ type {kinds[name[0]]}; nFaces {len(members)}; startFace {len(faces)}; }}")
        faces += [corners for corners, _ in members]
        owner += [cell for _, cell in members]
    if points is None:
        points = np.array([(x, y, z) for z in lines[2] for y in lines[1] for x in lines[0]])
    folder = root / "constant" / "polyMesh"
    folder.mkdir(parents=True)
    (folder / "points").write_text(
        head("vectorField", "points") + listed([f"({x!r} {y!r} {z!r})" for x, y, z in points.tolist()])
    )
    (folder / "faces").write_text(head("faceList", "faces") + listed([f"4({a} {b} {c} {d})" for a, b, c, d in faces]))
    (folder / "owner").write_text(head("labelList", "owner") + listed(list(map(str, owner))))
    (folder / "neighbour").write_text(head("labelList", "neighbour") + listed([str(f[2]) for f in inner]))
    (folder / "boundary").write_text(head("polyBoundaryMesh", "boundary") + listed(patches))
    (root / "system").mkdir()
    control = "startTime 0; endTime 1; deltaT 0.5; writeControl timeStep; writeInterval 1;\n"
    (root / "system" / "controlDict").write_text(head("dictionary", "controlDict") + control)


def field(path, values, order, form="ascii"):
    """A field (component, x, y, z) in a time folder."""
    path.parent.mkdir(exist_ok=True)
    kind, item = CLASSES[len(values)]
    rows = values.transpose(3, 2, 1, 0).reshape(-1, len(values))[order]
    sides = " ".join(f"{axis}_{end} {{ type zeroGradient; }}" for axis in "xyz" for end in ("low", "high"))
    text = head(kind, path.name) + "dimensions [0 1 -1 0 0 0 0];\n"
    if form == "binary":
        text = text.replace("format ascii;", 'format binary; arch "LSB;label=32;scalar=64";')
        text += f"internalField nonuniform List<{item}>\n{len(rows)}\n("
        path.write_bytes(text.encode() + rows.astype("<f8").tobytes() + f")\n;\nboundaryField {{ {sides} }}\n".encode())
        return
    rows = [repr(r[0]) if len(r) == 1 else "(" + " ".join(map(repr, r)) + ")" for r in rows.tolist()]
    text += f"internalField nonuniform List<{item}> {listed(rows)};\nboundaryField {{ {sides} }}\n"
    if form == "gz":
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def case(root, *, form="ascii", kinds=CHANNEL, points=None):
    order = np.random.default_rng(0).permutation(X * Y * Z)
    mesh(root, order, kinds, points)
    for number, time in enumerate(("0", "0.25")):
        field(root / time / "U", VELOCITY[number], order, form)
        field(root / time / "p", VELOCITY[number, :1] * 2, order, form)
    return root


@pytest.mark.parametrize("form", ["ascii", "gz", "binary"])
def test_cells_are_sorted_into_the_box(tmp_path, form):
    found = open_field(case(tmp_path / "a", form=form))
    assert not found["velocity"]._in_memory
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY)
    np.testing.assert_array_equal(found["pressure"].values, VELOCITY[:, 0] * 2)
    np.testing.assert_array_equal(found["velocity"][1, 2, 1:3, ::2, 4].values, VELOCITY[1, 2, 1:3, ::2, 4])
    assert found["time"].values.tolist() == [0, 0.25]
    grid = grid_of(found)
    assert grid.boundary == ("periodic", "wall", "periodic") and grid.stretched == (False, True, False)
    np.testing.assert_allclose(grid.lengths, [line[-1] for line in LINES], rtol=1e-6)
    np.testing.assert_allclose(found["y"].values, (LINES[1][1:] + LINES[1][:-1]) / 2, rtol=1e-6)


def test_a_case_is_inspected_and_converted_and_its_foam_file_is_the_case(tmp_path):
    root = case(tmp_path / "a", kinds={"x": "patch", "y": "wall", "z": "cyclic"})
    (root / "a.foam").touch()
    lines = "\n".join(inspect(root / "a.foam").lines())
    assert "openfoam" in lines and "float32" in lines and "boundary open/wall/periodic" in lines
    found = open_field(convert(root, tmp_path / "b.zarr"))
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY)
    manifest = {
        "name": "a",
        "description": "",
        "source": "",
        "licence": "",
        "files": {"a": "a"},
        "viscosity": 0.1,
        "variables": {"flow": {"irreps": "1o", "path": "U"}},
        "boundary": ["open", "wall", "periodic"],
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(manifest))
    np.testing.assert_array_equal(open_field(tmp_path / "m.yaml")["flow"].values, VELOCITY)


def test_symmetric_tensors_have_their_components_in_place(tmp_path):
    from flowsr.data.field import six_component_irreps

    root = case(tmp_path / "a")
    order = np.random.default_rng(0).permutation(X * Y * Z)
    values = np.random.default_rng(1).normal(size=(6, *SIDES)).astype("f4")  # xx xy xz yy yz zz
    for time in ("0", "0.25"):
        field(root / time / "R", values, order)
    found = open_field(root)["R"]
    np.testing.assert_allclose(
        found.values[0], np.einsum("ij,jxyz->ixyz", six_component_irreps()[1], values[[0, 3, 5, 1, 4, 2]]), atol=1e-6
    )


def test_a_field_that_is_not_at_all_times_is_left_out(tmp_path):
    root = case(tmp_path / "a")
    (root / "0" / "p").unlink()
    found = open_field(root)
    assert list(found.data_vars) == ["velocity"] and "p (not at all times)" in found.attrs["left_out"]


def test_meshes_that_are_no_box_are_refused(tmp_path):
    points = np.array([(x, y, z) for z in LINES[2] for y in LINES[1] for x in LINES[0]])
    skewed = points.copy()
    skewed[:, 0] += 0.1 * skewed[:, 1]
    with pytest.raises(FlowsrError, match="not a box of bricks; variable: x"):
        open_field(case(tmp_path / "a", points=skewed))
    moved = points.copy()
    moved[60] += 0.01
    with pytest.raises(FlowsrError, match="not a box of bricks"):
        open_field(case(tmp_path / "b", points=moved))


def drop(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def huge(path):
    path.write_bytes(re.sub(rb"(?m)^\d+$", b"2000000000", path.read_bytes(), count=1))


def stray(label):
    return lambda path: path.write_bytes(re.sub(rb"\n37\n", b"\n%d\n" % label, path.read_bytes(), count=1))


@pytest.mark.parametrize(
    ("part", "change", "line"),
    [
        ("constant/polyMesh/points", drop, "an incomplete case; expected: constant/polyMesh/points"),
        ("constant/polyMesh/points", cut, "damaged or not readable"),
        ("constant/polyMesh/faces", cut, "damaged or not readable"),
        ("constant/polyMesh/owner", cut, "damaged or not readable"),
        ("constant/polyMesh/neighbour", cut, "damaged or not readable"),
        ("0.25/U", cut, "damaged or not readable; variable: U"),
        ("constant/polyMesh/points", huge, "damaged or not readable"),
        ("constant/polyMesh/faces", huge, "damaged or not readable"),
        ("constant/polyMesh/owner", huge, "damaged or not readable"),
        ("constant/polyMesh/owner", stray(99999999), "damaged or not readable"),
        ("constant/polyMesh/owner", stray(-37), "damaged or not readable"),
        ("constant/polyMesh/owner", stray(433), "damaged|not a box|no cells"),
        ("constant/polyMesh/neighbour", stray(99999999), "damaged or not readable"),
        ("constant/polyMesh/neighbour", stray(433), "damaged|not a box|no cells"),
        ("system/controlDict", drop, "an incomplete case"),
    ],
)
def test_damaged_cases(tmp_path, part, change, line):
    root = case(tmp_path / "a")
    change(root / part)
    with pytest.raises(FlowsrError, match=line) as raised:
        open_field(root)["velocity"].load()
    assert "\n" not in str(raised.value)


def test_nan_and_pieces(tmp_path):
    root = case(tmp_path / "a")
    values = VELOCITY[1].copy()
    values[1, 2, 3, 4] = np.nan
    field(root / "0.25" / "U", values, np.random.default_rng(0).permutation(X * Y * Z), "binary")
    with pytest.raises(FlowsrError, match=r"1 of 720.*time 1, component 1, x 2, y 3, z 4"):
        check_finite(open_field(root))
    (root / "constant" / "polyMesh").rename(root / "elsewhere")
    (root / "processor0").mkdir()
    with pytest.raises(FlowsrError, match=r"a case in pieces.*reconstructPar"):
        open_field(root)


def test_a_case_is_looked_at_once_while_it_does_not_change(tmp_path, monkeypatch):
    from flowsr.data.readers import vtk

    root, looks, look = case(tmp_path / "a"), [], vtk.first_look
    monkeypatch.setattr(vtk, "first_look", lambda *a: (looks.append(a), look(*a))[1])
    for _ in range(2):
        open_field(root)["velocity"][0].load()
    assert len(looks) == 2  # the mesh, one field at one time
    field(root / "0" / "U", VELOCITY[1] + 0.5, np.random.default_rng(0).permutation(X * Y * Z))
    np.testing.assert_array_equal(open_field(root)["velocity"][0].values, VELOCITY[1] + 0.5)
    assert len(looks) == 3


@pytest.mark.parametrize("width", [4, 8])
def test_labels_in_binary_are_checked_too(tmp_path, width):
    root = case(tmp_path / "a")
    for part in ("owner", "neighbour"):
        path = root / "constant" / "polyMesh" / part
        labels = np.array(path.read_text().split("(")[1].split(")")[0].split(), f"<i{width}")
        text = (
            f'FoamFile {{ format binary; arch "LSB;label={8 * width};scalar=64"; class labelList; object {part}; }}\n'
        )
        path.write_bytes(f"{text}{len(labels)}\n(".encode() + labels.tobytes() + b")\n")
    np.testing.assert_array_equal(open_field(root)["velocity"].values, VELOCITY)
    labels[5] = 5000
    path.write_bytes(f"{text}{len(labels)}\n(".encode() + labels.tobytes() + b")\n")
    with pytest.raises(FlowsrError, match="damaged or not readable"):
        open_field(root)


def one_patch(root, together, kind):
    """The case with several patches, whose faces follow one another, made one."""
    path = root / "constant" / "polyMesh" / "boundary"
    text = path.read_text()
    found = [
        (name, *map(int, re.search(rf"{name} {{ type \w+; nFaces (\d+); startFace (\d+)", text).groups()))
        for name in together
    ]
    count, start = sum(n for _, n, _ in found), min(s for _, _, s in found)
    for name in together[1:]:
        text = re.sub(rf"{name} {{[^}}]*}}\n", "", text)
    text = re.sub(
        rf"{together[0]} {{[^}}]*}}", f"{together[0]} {{ type {kind}; nFaces {count}; startFace {start}; }}", text
    )
    path.write_text(text.replace("\n6\n", f"\n{7 - len(together)}\n").replace("}\n6\n", f"}}\n{7 - len(together)}\n"))
    return root


def test_a_patch_on_both_sides_is_walls_on_both(tmp_path):
    # as the tutorial pipeCyclic has it: all walls in one patch, the rest cyclic
    root = one_patch(case(tmp_path / "a"), ["y_low", "y_high"], "wall")
    found = open_field(root)
    assert found.attrs["boundary"] == ["periodic", "wall", "periodic"] and "boundary" not in found.attrs["assumed"]
    np.testing.assert_array_equal(found["velocity"].values, VELOCITY)


def test_a_patch_without_a_meaning_leaves_the_walls_of_the_other_axes(tmp_path):
    root = one_patch(
        case(tmp_path / "a", kinds={"x": "cyclic", "y": "wall", "z": "empty"}), ["z_low", "z_high"], "empty"
    )
    found = open_field(root)
    assert list(found.attrs["boundary"]) == ["periodic", "wall", "open"] and "boundary" in found.attrs["assumed"]


def test_one_patch_around_four_sides_is_a_duct(tmp_path):
    root = one_patch(
        case(tmp_path / "a", kinds={"x": "cyclic", "y": "wall", "z": "wall"}),
        ["y_low", "y_high", "z_low", "z_high"],
        "wall",
    )
    assert open_field(root).attrs["boundary"] == ["periodic", "wall", "wall"]
