"""Files of particle tracks, read into one layout.

A dataset of points holds, along the dim ``point``: ``position`` and ``velocity`` (point, component), ``acceleration``
and ``uncertainty`` where they were measured, and the coordinates ``time`` and ``track``; its attributes are ``lower``
and ``upper`` corner and ``boundary`` of the measured box, ``length_units`` and ``provenance``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from flowsr import __version__
from flowsr.data.readers.meeting import meet
from flowsr.data.readers.names import velocity_among
from flowsr.data.readers.units import conversion, is_known
from flowsr.errors import FlowsrError, missing_file, unreadable
from flowsr.files import tree_checksum
from flowsr.grid import BOUNDARIES
from flowsr.tracks.cloud import Cloud

COMPONENTS = ("u", "v", "w")
#: What a column may be called, without its unit and in small letters; a velocity's as in every file
#: (:func:`flowsr.data.readers.names.velocity_among`).
NAMES: dict[str, tuple[str, ...]] = {
    "x": ("x", "posx", "x_pos", "position_x", "pos_0"),
    "y": ("y", "posy", "y_pos", "position_y", "pos_1"),
    "z": ("z", "posz", "z_pos", "position_z", "pos_2"),
    "ax": ("ax", "a_x", "accx", "acceleration_x", "accel_0"),
    "ay": ("ay", "a_y", "accy", "acceleration_y", "accel_1"),
    "az": ("az", "a_z", "accz", "acceleration_z", "accel_2"),
    "uncertainty": ("uncertainty", "sigma", "std", "sigma_u", "velocity_uncertainty"),
    "track": ("track", "trackid", "track_id", "id", "trajid", "particle", "partid", "part_id"),
    "time": ("time", "t", "frame"),
}
#: Columns of a text file that does not name them, by how many there are (ONERA challenges: four or seven).
UNNAMED = {4: ("x", "y", "z", "track"), 6: ("x", "y", "z", "u", "v", "w"), 7: ("x", "y", "z", "u", "v", "w", "track")}
NEEDED = ("x", "y", "z", "u", "v", "w")
SEVERAL = "a table with columns x y z u v w"


@dataclass(frozen=True)
class TracksManifest:
    """A table of tracks, described: which column is what, in which units, in which box."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    file: str
    """Path of the table, relative to the manifest: CSV, text in columns, or Parquet."""
    columns: dict[str, str] = field(default_factory=dict)
    """What is what: x, y, z, u, v, w, ax, ay, az, uncertainty, track, time to the name of its column; default: by
    their names."""
    length_units: str | None = None
    """Of the positions; default: as the file says, or 1."""
    units: str | None = None
    """Of the velocities; default: as the file says, or 1."""
    lower: tuple[float, float, float] | None = None
    """Low corner of the box; default: that of the particles."""
    upper: tuple[float, float, float] | None = None
    """High corner of the box; default: that of the particles."""
    boundary: tuple[str, str, str] = ("open", "open", "open")
    """periodic, wall or open along x, y, z."""


def open_tracks(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    lower: Sequence[float] | None = None,
    upper: Sequence[float] | None = None,
    boundary: Sequence[str] | None = None,
    interval: float = 1.0,
) -> xr.Dataset:
    """Read particles with their velocities, or positions along tracks, whose velocities are central differences.

    Args:
        path: text in columns with any number of header lines (the ONERA challenges: three, then X Y Z, velocities and
            a track's number), ``.csv``, ``.parquet``, the HDF5 table of flowtracks and OpenPTV (``particles`` with
            ``pos``, ``velocity``, ``time``, ``trajid``), a folder or one file of OpenPTV's ``ptv_is``, a folder of
            tables whose names end in the number of their frame (the challenges' snapshots: X Y Z and a track's number),
            or one of them, or a manifest ``.yaml`` (:class:`TracksManifest`).
        columns: what the columns of a table are, in order, where it does not say: x y z u v w ax ay az uncertainty
            track time, or ``-`` for one that is ignored.
        lower, upper: corners of the box; default: those of the particles, whose sides are then open.
        boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.
        interval: time between two frames, where frames are numbered.

    Returns:
        The points, sorted by time as in the file; units as the file has them, but for those of accelerations and
        uncertainties that it states: they become those of the velocity squared over length, and of the velocity.

    Raises:
        FlowsrError: no such file, columns that cannot be told apart, NaN, two particles at one place, particles
            outside the box, or positions without tracks through three instants.
    """
    path = Path(path)
    if not path.exists():
        raise missing_file(path)
    box: dict[str, Any] = {"lower": lower, "upper": upper, "boundary": boundary}
    names, units = columns, {}
    source = path
    if path.suffix in (".yaml", ".yml"):
        from flowsr.settings import read_settings  # YAML is checked by pydantic, which the domain does without

        manifest = read_settings(TracksManifest, path)
        source = path.parent / manifest.file
        if not source.is_file():
            raise missing_file(source, variable="file")
        units = {"length_units": manifest.length_units, "units": manifest.units}
        box = {name: given or getattr(manifest, name) for name, given in box.items()}
        table, said = _table(source, None, manifest.columns)
    elif path.name.startswith("ptv_is") or (path.is_dir() and any(path.glob("ptv_is.*"))):
        table, said = _ptv_is(path), {}
        table[["u", "v", "w"]] /= interval
        table["time"] *= interval
    elif path.is_dir():
        table, said = _frames(path, names, interval)
    elif path.suffix in (".h5", ".hdf5", ".hdf"):
        table, said = _flowtracks(path), {}
    else:
        table, said = _table(path, names, {})
        if "u" not in table and "time" not in table:  # one snapshot of many
            table, said = _frames(path, names, interval)
    said = {**said, **{name: unit for name, unit in units.items() if unit}}
    if "u" not in table:
        table = _differences(table, source, box)
        said.pop("acceleration", None)
        if "length_units" in said and "time" in said:
            said.setdefault("units", f"({said['length_units']})/({said['time']})")
    return _points(table, source, {"length_units": "1", "units": "1", **said}, **box)


def clouds(points: xr.Dataset) -> Iterator[tuple[float, Cloud]]:
    """The instants of a dataset of points: time and particles, in order of time."""
    measured = {"accelerations": points.get("acceleration"), "uncertainty": points.get("uncertainty")}
    box = tuple(points.attrs["lower"]), tuple(points.attrs["upper"]), tuple(points.attrs["boundary"])
    for time in np.unique(points.time.values):
        now = points.time.values == time
        more = {name: None if of is None else of.values[now] for name, of in measured.items()}
        yield float(time), Cloud(points.position.values[now], points.velocity.values[now], *box, **more)


def _table(path: Path, names: Sequence[str] | None, columns: dict[str, str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """A table under the names of :data:`NAMES`, and the units that its header states."""
    try:
        if path.suffix == ".parquet":
            frame, header = pd.read_parquet(path), None
        else:
            frame, header = _text(path)
    except (ValueError, OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise unreadable(error, path) from None
    if names is not None:
        if len(names) != frame.shape[1]:
            expected = f"{frame.shape[1]} names, one a column"
            raise FlowsrError("the columns", file=path, variable="columns", expected=expected, found=" ".join(names))
        header = [str(each) for each in names]
    elif header is None and path.suffix == ".parquet":
        header = [str(each) for each in frame.columns]
    if header is None:
        if frame.shape[1] not in UNNAMED:
            expected = "a header line with names, or four, six or seven columns"
            hint = "say what they are: --columns x,y,z,u,v,w,-,track"
            found = f"{frame.shape[1]} columns without names"
            raise FlowsrError("what are these columns", file=path, expected=expected, found=found, hint=hint)
        header = list(UNNAMED[frame.shape[1]])
    frame.columns = pd.Index(header)
    said = {column: name for name, column in columns.items()}
    words = {said.get(column, _bare(column)): column for column in reversed(header)}
    parts = velocity_among({word: {} for word in words}) or ()
    found = {name: words[part] for name, part in zip(COMPONENTS, parts)}
    for name, known in [*NAMES.items(), *((name, ()) for name in COMPONENTS)]:
        if name in columns:
            if columns[name] not in header:
                expected = "one of " + ", ".join(header)
                where = {"file": path, "variable": f"columns.{name}", "expected": expected, "found": columns[name]}
                raise FlowsrError("no such column", **where)
            found[name] = columns[name]
        else:
            same = [each for each in header if _bare(each) in known]
            if same:
                found[name] = same[0]
    missing = [name for name in NEEDED if name not in found]
    if missing and (missing != list(COMPONENTS) or "track" not in found):
        hint = "say what the columns are: --columns x,y,z,u,v,w (- for one to ignore), or a manifest"
        where = {"file": path, "variable": ", ".join(missing), "expected": SEVERAL, "found": ", ".join(header)}
        raise FlowsrError("columns are missing", hint=hint, **where)
    of = {"length_units": "x", "units": "u", "acceleration": "ax", "uncertainty": "uncertainty", "time": "time"}
    said = {name: _unit(found[column]) for name, column in of.items() if column in found}
    table = pd.DataFrame({name: frame[column].to_numpy() for name, column in found.items()})
    return table, {name: unit for name, unit in said.items() if unit}


def _text(path: Path) -> tuple[pd.DataFrame, list[str] | None]:
    """Numbers in columns below any number of lines that are none, and the names that one of those lines gives."""
    header: list[str] = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if _numbers(line):
                break
            header.append(line.strip())
            if len(header) > 200:
                break
        else:
            raise FlowsrError("no numbers in this file", file=path, expected=SEVERAL)
    if len(header) > 200:
        raise FlowsrError("200 lines without numbers in columns", file=path, expected=SEVERAL)
    separator = ";" if ";" in line else "," if "," in line else r"\s+"
    frame = pd.read_csv(path, sep=separator, skiprows=len(header), header=None, comment="#", skip_blank_lines=True)
    frame = frame.dropna(axis=1, how="all")  # a separator at the end of each line
    names = None
    for text in header:
        quoted = re.findall(r'"([^"]*)"', text)
        named = re.sub(r"(?i)^variables\s*=", "", text)  # Tecplot's names, in quotes or not
        between = separator if named == text else r"[\s,]+"
        plain = [each.strip() for each in re.split(between, named.lstrip("#% ").strip()) if each.strip()]
        for candidate in (quoted, plain):
            if len(candidate) == frame.shape[1]:
                names = candidate
    return frame, names


def _numbers(line: str) -> bool:
    parts = [part for part in re.split(r"[\s,;]+", line.strip()) if part]
    try:
        return len([float(part) for part in parts]) >= 4
    except ValueError:
        return False


def _bare(name: str) -> str:
    """A column's name without its unit, in small letters: ``X [mm]`` is ``x``."""
    return re.sub(r"[\[(].*", "", name).strip().lower()


def _unit(name: str) -> str | None:
    found = re.search(r"[\[(]([^\])]*)[\])]", name)
    return found[1].strip() if found else None


def _flowtracks(path: Path) -> pd.DataFrame:
    import h5py

    from flowsr.quarantine.hdf5 import dataset_at, read

    meet(path)
    try:
        with h5py.File(path) as file:
            table = dataset_at(file, "particles", path) if "particles" in set(file) else None
            if table is None or table.dtype.names is None or table.ndim != 1:
                expected, found = "a table 'particles' as flowtracks writes it", ", ".join(file)
                raise FlowsrError("no table of tracks", file=path, expected=expected, found=found)
            rows = read(table, (slice(None),), path)
    except OSError as error:
        raise unreadable(error, path) from None
    names = rows.dtype.names
    missing = [name for name in ("pos", "velocity", "time", "trajid") if name not in names]
    if missing:
        where = {"file": path, "variable": ", ".join(missing), "found": ", ".join(names)}
        raise FlowsrError("columns of the table are missing", **where)
    parts = {"pos": "xyz", "velocity": "uvw", "accel": ("ax", "ay", "az")}
    columns = {key: rows[name][:, i] for name, keys in parts.items() if name in names for i, key in enumerate(keys)}
    return pd.DataFrame({**columns, "time": rows["time"].astype(float), "track": rows["trajid"]})


def _ptv_is(path: Path) -> pd.DataFrame:
    """OpenPTV's text files, one a frame: number of particles, then previous, next, x, y, z of each.

    Velocities are central differences over the frames before and after, in lengths per frame; particles without both
    are left out.
    """
    folder = path if path.is_dir() else path.parent
    files = {int(each.suffix[1:]): each for each in folder.glob("ptv_is.*") if each.suffix[1:].isdigit()}
    if not files:
        raise FlowsrError("no tracks in this folder", file=folder, expected="files ptv_is.<frame>")
    frames: dict[int, np.ndarray] = {}
    for number, file in files.items():
        try:
            count, *numbers = file.read_text().split()
            rows = np.array(numbers, dtype=float).reshape(int(count), 5)
        except ValueError as error:
            raise unreadable(error, file) from None
        frames[number] = rows
    if not path.is_dir():
        chosen = [int(path.suffix[1:])]
    else:
        chosen = sorted(number for number in frames if number - 1 in frames and number + 1 in frames)
    tracks: dict[tuple[int, int], int] = {}
    parts = []
    for number in sorted(frames):
        rows, before = frames[number], number - 1
        for index, previous in enumerate(rows[:, 0].astype(int)):
            tracks[number, index] = tracks.get((before, previous), len(tracks)) if previous >= 0 else len(tracks)
        if number not in chosen:
            continue
        if before not in frames or number + 1 not in frames:
            message, expected = "velocities need the frames before and after", f"ptv_is.{before} and .{number + 1}"
            raise FlowsrError(message, file=files[number], expected=expected)
        earlier, later = rows[:, 0].astype(int), rows[:, 1].astype(int)
        both = np.flatnonzero((earlier >= 0) & (later >= 0))
        try:
            change = frames[number + 1][later[both], 2:] - frames[before][earlier[both], 2:]
        except IndexError as error:
            raise unreadable(error, files[number]) from None
        named = dict(zip("xyzuvw", [*rows[both, 2:].T, *(change / 2).T]))
        track = [tracks[number, index] for index in both]
        parts.append(pd.DataFrame({**named, "time": float(number), "track": track}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*NEEDED, "time", "track"])


def _frames(path: Path, names: Sequence[str] | None, interval: float) -> tuple[pd.DataFrame, dict[str, str]]:
    """Tables of a folder whose names end in the number of their frame, as one; of one file and its two neighbours."""
    files: dict[int, Path] = {}
    for file in sorted((path if path.is_dir() else path.parent).iterdir()):
        number = re.search(r"(\d+)$", file.stem)
        if number and file.is_file() and (file.suffix == path.suffix or path.is_dir()):
            if int(number[1]) in files:
                found = f"{files[int(number[1])].name} and {file.name}"
                raise FlowsrError("two files of one frame", file=file.parent, expected="one", found=found)
            files[int(number[1])] = file
    if not path.is_dir():
        number = next((number for number, file in files.items() if file == path), None)
        around = [] if number is None else [number - 1, number, number + 1]
        if number is None or any(each not in files for each in around):
            expected = "velocities, or files of the frames before and after beside it"
            raise FlowsrError("positions at one instant have no velocity", file=path, expected=expected)
        files = {each: files[each] for each in around}
    if not files:
        raise FlowsrError(
            "no tracks in this folder", file=path, expected="ptv_is.<frame>, or tables of numbered frames"
        )
    parts, said = [], {}
    for number, file in sorted(files.items()):
        table, said = _table(file, names, {})
        parts.append(table.assign(time=number * interval))
    return pd.concat(parts, ignore_index=True), said


def _differences(table: pd.DataFrame, path: Path, box: dict[str, Any]) -> pd.DataFrame:
    """Positions along tracks with their velocities and accelerations: those that are seen an instant before and after.

    The parabola through three instants: exact where the acceleration does not change.
    """
    if "time" not in table or "track" not in table:
        expected = "columns u v w, or track and time"
        raise FlowsrError("there are no velocities, and no tracks to take them from", file=path, expected=expected)
    table = table.sort_values(["track", "time"], kind="stable", ignore_index=True)
    instants, at = np.unique(table["time"].to_numpy(), return_inverse=True)
    track, position = table["track"].to_numpy(), table[["x", "y", "z"]].to_numpy(dtype=float)
    middle = np.arange(1, len(table) - 1)
    for step in (-1, 1):
        middle = middle[(track[middle + step] == track[middle]) & (at[middle + step] == at[middle] + step)]
    if not len(middle):
        raise FlowsrError("no velocities can be had", file=path, expected="tracks through three instants or more")
    back, on = position[middle] - position[middle - 1], position[middle + 1] - position[middle]
    if box["boundary"] and box["lower"] is not None and box["upper"] is not None:
        lengths = np.subtract(box["upper"], box["lower"])
        periodic = [each == "periodic" for each in box["boundary"]]
        back, on = (step - np.where(periodic, lengths * np.round(step / lengths), 0.0) for step in (back, on))
    dt = np.diff(instants)
    before, after = dt[at[middle] - 1][:, None], dt[at[middle]][:, None]
    velocity = (back / before * after + on / after * before) / (before + after)
    acceleration = 2 * (on / after - back / before) / (before + after)
    measured = dict(zip((*COMPONENTS, "ax", "ay", "az"), np.concatenate([velocity, acceleration], 1).T))
    return table.iloc[middle].assign(**measured).reset_index(drop=True)


def _points(table: pd.DataFrame, path: Path, units: dict[str, str], *, lower, upper, boundary) -> xr.Dataset:
    if not len(table):
        raise FlowsrError("no particles", file=path)
    try:
        numbers = {name: table[name].to_numpy(dtype=np.float64) for name in table if name != "track"}
    except (ValueError, TypeError) as error:
        raise unreadable(error, path) from None
    for name, values in numbers.items():
        bad = np.count_nonzero(~np.isfinite(values))
        if bad:
            where = {"file": path, "variable": name, "expected": "numbers", "found": f"{bad} NaN or infinite"}
            raise FlowsrError("values are missing", hint="leave those particles out of the file", **where)
    position = np.stack([numbers[name] for name in "xyz"], 1)
    time = numbers.get("time", np.zeros(len(table)))
    boundary = tuple(boundary or ("open",) * 3)
    if len(boundary) != 3 or any(each not in BOUNDARIES for each in boundary):
        expected = f"three of {', '.join(BOUNDARIES)}"
        raise FlowsrError("unknown boundaries", file=path, variable="boundary", expected=expected, found=boundary)
    if "periodic" in boundary and (lower is None or upper is None):
        hint = "say where the box ends: --lower 0 0 0 --upper 1 1 1"
        raise FlowsrError("a periodic side needs to know its box", file=path, variable="lower, upper", hint=hint)
    lower = np.array(position.min(0) if lower is None else lower, dtype=float)
    upper = np.array(position.max(0) if upper is None else upper, dtype=float)
    if lower.shape != (3,) or upper.shape != (3,) or not (upper > lower).all():
        found = f"{lower.tolist()} and {upper.tolist()}"
        raise FlowsrError("a box needs three positive sides", file=path, variable="lower, upper", found=found)
    outside = ((position < lower) | (position > upper)).any(1)
    if outside.any():
        hint = "widen --lower and --upper, or leave them out of the file"
        where = {"file": path, "expected": f"{lower.tolist()} to {upper.tolist()}", "found": f"{outside.sum()} outside"}
        raise FlowsrError("particles lie outside the box", hint=hint, **where)
    opposite = (position == upper) & (np.array(boundary) == "periodic")  # the same place as the lower side
    same = pd.DataFrame(np.column_stack([time, np.where(opposite, lower, position)])).duplicated()
    if same.any():
        where = {"file": path, "expected": "one particle a place", "found": f"{same.sum()} at the place of another"}
        raise FlowsrError("particles stand twice in the file", **where)
    dims, length, speed = ("point", "component"), units["length_units"], units["units"]
    felt = f"({speed})^2/({length})"
    for kind, of, unit in (("acceleration", ("ax", "ay", "az"), felt), ("uncertainty", ("uncertainty",), speed)):
        said = units.get(kind, unit)
        converted = conversion(said, unit)
        comparable = "1" not in (speed, length) and (is_known(said) or is_known(unit))
        if converted is None and comparable:
            expected = f"a unit that is one of {unit}, as velocities and lengths have it"
            raise FlowsrError("units do not agree", file=path, variable=kind, expected=expected, found=said)
        factor, _ = converted or (1.0, 0.0)
        numbers |= {name: factor * numbers[name] for name in of if name in numbers}
    velocity = np.stack([numbers[name] for name in COMPONENTS], 1)
    fields = {
        "position": (dims, position, {"units": length}),
        "velocity": (dims, velocity, {"units": speed, "irreps": "1o"}),
    }
    if all(name in numbers for name in ("ax", "ay", "az")):
        accelerations = np.stack([numbers[name] for name in ("ax", "ay", "az")], 1)
        fields["acceleration"] = (dims, accelerations, {"units": felt, "irreps": "1o"})
    if "uncertainty" in numbers:
        if numbers["uncertainty"].min() < 0:
            where = {"file": path, "variable": "uncertainty", "expected": "standard deviations, not below 0"}
            raise FlowsrError("an uncertainty is negative", found=float(numbers["uncertainty"].min()), **where)
        fields["uncertainty"] = ("point", numbers["uncertainty"], {"units": speed})
    track = table["track"].to_numpy() if "track" in table else np.arange(len(table))
    order = np.argsort(time, kind="stable")
    points = xr.Dataset(
        fields,
        {"time": ("point", time), "track": ("point", track), "component": list(COMPONENTS)},
        {
            "lower": lower.tolist(),
            "upper": upper.tolist(),
            "boundary": list(boundary),
            "length_units": length,
            "provenance": {"source": path.name, "source_sha256": tree_checksum(path), "flowsr": __version__},
        },
    )
    return points.isel(point=order)
