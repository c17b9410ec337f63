"""Files of tracks, as the programs that make them write them."""

import h5py
import numpy as np
import pandas as pd
import pytest

from flowsr.errors import FlowsrError
from flowsr.tracks import clouds, open_tracks

ROWS = np.array(
    [[0.1, 0.2, 0.3, 1.0, 0.0, -1.0, 7], [0.5, 0.4, 0.9, 2.0, 0.5, -0.5, 8], [0.9, 0.8, 0.1, 3.0, 1.0, 0.0, 9]]
)
ONERA = """TITLE = "Cylinder wake, particles"
VARIABLES = "X [mm]" "Y [mm]" "Z [mm]" "Vx [m/s]" "Vy [m/s]" "Vz [m/s]" "trackID"
ZONE T="t0010"
"""


def lines(rows, separator=" "):
    return "".join(separator.join(f"{value:g}" for value in row) + "\n" for row in rows)


def check(points, tracks=(7, 8, 9)):
    np.testing.assert_array_equal(points.position, ROWS[:, :3])
    np.testing.assert_array_equal(points.velocity, ROWS[:, 3:6])
    np.testing.assert_array_equal(points.track, tracks)
    assert points.velocity.attrs["irreps"] == "1o" and points.provenance["source_sha256"]


def test_the_columns_of_the_onera_challenges(tmp_path):
    (tmp_path / "a.dat").write_text(ONERA + lines(ROWS))
    points = open_tracks(tmp_path / "a.dat")
    check(points)
    assert points.length_units == "mm" and points.velocity.units == "m/s"
    assert points.lower == [0.1, 0.2, 0.1] and points.boundary == ["open"] * 3
    (tmp_path / "b.dat").write_text("three lines\nthat name\nno columns\n" + lines(ROWS))
    check(open_tracks(tmp_path / "b.dat"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_with_a_header_in_any_order(tmp_path, separator):
    order = [6, 3, 4, 5, 2, 1, 0]
    names = np.array(["x", "y", "z", "u", "v", "w", "track_id"])[order]
    (tmp_path / "a.csv").write_text(separator.join(names) + "\n" + lines(ROWS[:, order], separator))
    check(open_tracks(tmp_path / "a.csv"))


def test_columns_that_are_said(tmp_path):
    rows = np.insert(ROWS, 3, 99.0, axis=1)
    (tmp_path / "a.txt").write_text(lines(rows))
    with pytest.raises(FlowsrError) as refused:
        open_tracks(tmp_path / "a.txt")
    assert "--columns" in refused.value.hint and refused.value.found == "8 columns without names"
    check(open_tracks(tmp_path / "a.txt", columns=["x", "y", "z", "-", "u", "v", "w", "track"]))


def test_a_manifest_says_columns_units_and_box(tmp_path):
    frame = pd.DataFrame(ROWS, columns=["px", "py", "pz", "c0", "c1", "c2", "n"]).assign(t=[1.0, 0.0, 1.0])
    frame.to_parquet(tmp_path / "tracks.parquet")
    named = {"x": "px", "y": "py", "z": "pz", "u": "c0", "v": "c1", "w": "c2", "track": "n", "time": "t"}
    text = f"file: tracks.parquet\ncolumns: {named}\nlength_units: m\nunits: m/s\n".replace("'", "")
    (tmp_path / "m.yaml").write_text(text + "lower: [0, 0, 0]\nupper: [1, 1, 1]\nboundary: [periodic, wall, open]\n")
    points = open_tracks(tmp_path / "m.yaml")
    assert points.length_units == "m" and points.velocity.units == "m/s" and points.upper == [1, 1, 1]
    (before, first), (after, second) = clouds(points)
    assert (before, after) == (0.0, 1.0) and len(first) == 1 and len(second) == 2
    np.testing.assert_array_equal(second.positions, ROWS[[0, 2], :3])
    assert second.boundary == ("periodic", "wall", "open")


def test_the_table_of_flowtracks(tmp_path):
    kind = [("pos", "f8", 3), ("velocity", "f8", 3), ("accel", "f8", 3), ("time", "i4"), ("trajid", "i4")]
    table = np.zeros(3, kind)
    table["pos"], table["velocity"], table["accel"] = ROWS[:, :3], ROWS[:, 3:6], 5.0
    table["trajid"], table["time"] = ROWS[:, 6], 4
    with h5py.File(tmp_path / "scene.h5", "w") as file:
        file["particles"] = table
    points = open_tracks(tmp_path / "scene.h5")
    check(points)
    assert (points.time == 4).all() and (points.acceleration == 5).all()


def test_linked_particles_of_openptv_have_central_differences(tmp_path):
    """A particle that moves by (1, 2, 3) a frame, and one that is seen twice."""
    for frame in range(10, 14):
        place = np.array([1.0, 2.0, 3.0]) * (frame - 10)
        before, after = (-1 if frame == 10 else 0), (-2 if frame == 13 else 0)
        rows = [[before, after, *place]]
        if frame in (11, 12):
            rows.append([-1 if frame == 11 else 1, 1 if frame == 11 else -2, 9, 9, frame])
        (tmp_path / f"ptv_is.{frame}").write_text(f"{len(rows)}\n" + lines(rows))
    points = open_tracks(tmp_path)
    np.testing.assert_array_equal(points.time, [11, 12])
    np.testing.assert_array_equal(points.velocity, [[1, 2, 3]] * 2)
    np.testing.assert_array_equal(points.position, [[1, 2, 3], [2, 4, 6]])
    assert len(set(points.track.values)) == 1
    one = open_tracks(tmp_path / "ptv_is.12", lower=[0, 0, 0], upper=[9, 9, 9])
    np.testing.assert_array_equal(one.position, [[2, 4, 6]])
    with pytest.raises(FlowsrError, match="before and after"):
        open_tracks(tmp_path / "ptv_is.10")


def frames(folder, positions):
    """Snapshots as the second challenge gives them: no velocities."""
    folder.mkdir()
    for number, rows in positions.items():
        head = f"Title = Snapshot {number}\nVariables = X Y Z PartID\nZone I={len(rows)}, F=POINT\n"
        (folder / f"snapshot_{number:04d}.dat").write_text(head + lines(rows))


def test_positions_along_tracks_have_the_velocities_of_the_parabola_through_three_instants(tmp_path):
    """Two accelerated particles, one of them through a periodic side, and one that is seen once."""
    start, speed, felt = np.array([[0.3, 0.3, 0.3], [0.9, 0.1, 0.5]]), np.array([[1.0, -0.5, 0.2], [6, 0, 0]]), 4.0
    seen = {n: start + speed * (t := (n - 7) * 0.01) + felt * t**2 / 2 for n in (6, 7, 8)}
    rows = {n: np.column_stack([np.mod(at, 1.0), [4, 5]]) for n, at in seen.items()}
    rows[7] = np.vstack([rows[7], [0.5, 0.5, 0.5, 6]])
    frames(tmp_path / "f", rows)
    box = {"lower": [0, 0, 0], "upper": [1, 1, 1], "boundary": ["periodic"] * 3, "interval": 0.01}
    table = pd.DataFrame(np.vstack([np.column_stack([of, np.full(len(of), n * 0.01)]) for n, of in rows.items()]))
    table.to_csv(tmp_path / "long.csv", header=["x", "y", "z", "track", "time"], index=False)
    for path in (tmp_path / "f", tmp_path / "f" / "snapshot_0007.dat", tmp_path / "long.csv"):
        points = open_tracks(path, **box)
        np.testing.assert_allclose(points.position, start)
        np.testing.assert_allclose(points.velocity, speed, atol=1e-4)  # positions have six digits
        np.testing.assert_allclose(points.acceleration, np.full((2, 3), felt), atol=0.05)
        np.testing.assert_allclose(points.time, 0.07)
    for lonely in ("snapshot_0006.dat", "snapshot_0008.dat"):
        with pytest.raises(FlowsrError, match="no velocity"):
            open_tracks(tmp_path / "f" / lonely, **box)
    frames(tmp_path / "g", {n: np.column_stack([rows[n][:2, :3], [n, n + 9]]) for n in (6, 7, 8)})
    with pytest.raises(FlowsrError, match="no velocities can be had"):
        open_tracks(tmp_path / "g", **box)
    frames(tmp_path / "h", {})
    with pytest.raises(FlowsrError, match="no tracks in this folder"):
        open_tracks(tmp_path / "h")


def test_what_is_known_of_a_velocity_comes_along(tmp_path):
    table = pd.DataFrame(ROWS[:, :6], columns=list("xyzuvw")).assign(sigma=[0.1, 0.2, 0.0])
    table.to_csv(tmp_path / "a.csv", index=False)
    ((_, cloud),) = clouds(open_tracks(tmp_path / "a.csv"))
    np.testing.assert_array_equal(cloud.uncertainty, [0.1, 0.2, 0.0])
    table.assign(sigma=[0.1, -0.2, 0.0]).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(FlowsrError, match="uncertainty is negative"):
        open_tracks(tmp_path / "a.csv")


def test_accelerations_and_uncertainties_are_in_units_of_velocities_and_lengths(tmp_path):
    """Millimetres and metres a second: an acceleration of 1 m/s^2 is 0.001 (m/s)^2/mm. Differences say their own."""
    names = [f"{name} [{unit}]" for unit, of in (("mm", "xyz"), ("m/s", "uvw")) for name in of]
    table = pd.DataFrame(ROWS[:, :6], columns=names)
    table[["ax [m/s^2]", "ay [m/s^2]", "az [m/s^2]"]] = ROWS[:, :3]
    table["sigma [mm/s]"] = [1.0, 2.0, 3.0]
    table.to_csv(tmp_path / "a.csv", index=False)
    points = open_tracks(tmp_path / "a.csv")
    np.testing.assert_allclose(points.acceleration, 1e-3 * ROWS[:, :3])
    np.testing.assert_allclose(points.uncertainty, [1e-3, 2e-3, 3e-3])
    assert (points.acceleration.units, points.uncertainty.units) == ("(m/s)^2/(mm)", "m/s")
    for column in ("sigma [mm/s^2]", "sigma [mm/frame]"):
        table.rename(columns={"sigma [mm/s]": column}).to_csv(tmp_path / "c.csv", index=False)
        with pytest.raises(FlowsrError, match=r"units do not agree.*uncertainty.*m/s"):
            open_tracks(tmp_path / "c.csv")
    track = pd.DataFrame({"x [mm]": [0.0, 1.0, 3.0], "y": 0.5, "z": 0.5, "t [s]": [0.0, 1.0, 2.0], "id": 1})
    track.to_csv(tmp_path / "b.csv", index=False)
    box = {"lower": (0, 0, 0), "upper": (3, 1, 1)}
    assert open_tracks(tmp_path / "b.csv", **box).velocity.units == "(mm)/(s)"


NAN, TWICE, AWAY, SIDES = (ROWS.copy() for _ in range(4))
NAN[1, 4], TWICE[2, :3], AWAY[0, 0], SIDES[:2, :3] = np.nan, ROWS[0, :3], -4.0, [[0, 0.2, 1], [1, 0.2, 0]]
UNIT = {"lower": [0, 0, 0], "upper": [1, 1, 1]}


@pytest.mark.parametrize(
    "rows, options, told",
    [
        (NAN, {}, ("v", "1 NaN")),
        (TWICE, {}, (None, "1 at the place of another")),
        (SIDES, {**UNIT, "boundary": ["periodic"] * 3}, (None, "1 at the place of another")),
        (AWAY, UNIT, (None, "1 outside")),
        (ROWS, {"boundary": ["periodic"] * 3}, ("lower, upper", None)),
        (ROWS, {"boundary": ["soft"] * 3}, ("boundary", "soft")),
        (ROWS, {"lower": [0, 0, 0], "upper": [1, 1, 0]}, ("lower, upper", "[1.0, 1.0, 0.0]")),
        (ROWS, {"columns": ["x", "y"]}, ("columns", "x y")),
        (ROWS[:, :5], {}, (None, None)),
        (ROWS[:0], {}, (None, None)),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, rows, options, told):
    (tmp_path / "a.dat").write_text(ONERA + lines(rows))
    with pytest.raises(FlowsrError) as refused:
        open_tracks(tmp_path / "a.dat", **options)
    assert "\n" not in str(refused.value) and str(tmp_path / "a.dat") in str(refused.value)
    if told[0]:
        assert refused.value.variable == told[0]
    if told[1]:
        assert told[1] in str(refused.value.found)


@pytest.mark.parametrize("name, content", [("a.h5", b"\x89HDF\r\n"), ("a.dat", b"\xff\xfe\x00"), ("a.csv", b"")])
def test_other_files_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FlowsrError, match=name):
        open_tracks(tmp_path / name)
    with pytest.raises(FlowsrError, match="missing"):
        open_tracks(tmp_path / "missing.dat")
