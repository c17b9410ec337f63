"""Manifests: what a data set is, where it lies, what its files leave unsaid; how it is opened and fetched.

A file's own words and the manifest's must agree, and complete each other. Files that lie behind a URL are fetched with
resume, checked by sha256, and are whole or not there.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import re
import socket
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin, urlparse

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE, grid_of, validate
from flowsr.data.readers.base import READERS, Boundary, ReadOptions, Request, accepting, fill_defaults, read
from flowsr.data.readers.lazy import FromVariable, Join
from flowsr.data.readers.levels import MOST_MOVED, MOVING
from flowsr.data.readers.units import alike, from_reference, in_length, in_units, note
from flowsr.errors import FlowsrError, contradiction, missing_file, missing_variable
from flowsr.files import check_ours, file_checksum, open_new

log = logging.getLogger(__name__)

Space = Literal["x", "y", "z"]
SplitName = Literal["train", "validation", "test"]

#: Dataset attributes that a manifest may declare.
ATTRIBUTES = ("boundary", "viscosity", "length_units")
#: How coarse fields were made; files of one run agree on it.
OPERATOR = ("degrade_operator", "degrade_factor", "weight", "width")
SCHEMES = ("https",)
BLOCK = 1 << 20
TIMEOUT = 30
REDIRECTS = 10
STRICT = {"extra": "forbid"}


@dataclass(frozen=True)
class ManifestVariable:
    """A variable of the data set."""

    __pydantic_config__ = STRICT

    irreps: str
    """Field type, an e3nn irreps string: 1o for a velocity, 0e for a pressure."""
    units: str | None = None
    """Physical unit, 1 where the data are non-dimensional; default: the file's, or 1."""
    path: str | list[str] | None = None
    """Array inside the file, or one array a component."""
    axes: list[str] | None = None
    """What the array's axes are, in order: time, component, x, y, z, and any that ``select`` takes one entry of."""
    staggered: bool = False
    """Whether each component lies on the faces of its own axis, from the first to the last: neighbours are averaged."""

    def __post_init__(self):
        if self.axes is not None and not (set(SPACE) <= set(self.axes) and len(self.axes) == len(set(self.axes))):
            raise ValueError(f"axes are each named once, x, y and z among them, got {self.axes}")
        if self.staggered and (self.path is None or isinstance(self.path, str) or self.axes is None):
            raise ValueError("staggered components have a path each, and axes")


@dataclass(frozen=True)
class ManifestGrid:
    """The cell-centred grid; uniform, unless coordinates say otherwise."""

    __pydantic_config__ = STRICT

    cells: tuple[int, int, int]
    """Cells along x, y, z."""
    lengths: tuple[float, float, float]
    """Sides of the box along x, y, z."""
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Low corner, where the files are silent."""

    def __post_init__(self):
        if not all(value > 0 for value in (*self.cells, *self.lengths)):
            raise ValueError(f"cells and lengths are positive, got {self.cells} and {self.lengths}")


@dataclass(frozen=True)
class ManifestFile:
    """A run's file, or its consecutive files."""

    __pydantic_config__ = STRICT

    path: str | list[str]
    """Relative to the root; several are joined along time."""
    url: str | None = None
    """Where the file is fetched from, https only."""
    sha256: str | None = None
    """Checksum of its bytes, in hexadecimal."""
    run: str | None = None
    """Which run of the file, where it holds several."""
    select: dict[str, int] = field(default_factory=dict)
    """Number along an axis that flowsr does not know, of this run: ``sample: 3``."""

    def __post_init__(self):
        if self.sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", self.sha256):
            raise ValueError(f"sha256 has 64 hexadecimal digits, got {self.sha256!r}")


@dataclass(frozen=True)
class DataSet:
    """Where data come from and what may be done with them, as a manifest declares it."""

    name: str
    """Name of the data set."""
    source: str
    """Who made the data, and how."""
    licence: str
    """Licence of the data."""
    citation: str | None = None
    """What to cite."""
    checked: str | None = None
    """What was verified of the manifest, and what was not."""


@dataclass(frozen=True)
class Manifest:
    """One data set.

    Raises:
        ValueError: no files or variables, a split that names no run or a run of another split, or a value out of range.
    """

    __pydantic_config__ = STRICT

    name: str
    """Name of the data set."""
    description: str
    """What the data are."""
    source: str
    """Who made the data, and how."""
    licence: str
    """Licence of the data."""
    files: dict[str, str | list[str] | ManifestFile]
    """Run name to file."""
    variables: dict[str, ManifestVariable]
    """Name to what the variable is."""
    citation: str | None = None
    """What to cite."""
    checked: str | None = None
    """What was verified of this manifest, and what was not."""
    obtain: str | None = None
    """What to do where the files are missing."""
    reader: str | None = None
    """Registered reader; default: the one that recognizes the files."""
    group: str | None = None
    """Group inside the files."""
    root: str = "."
    """Folder that the files lie under, relative to the manifest."""
    splits: dict[SplitName, list[str]] | None = None
    """Which runs are for what, whole; default: every run is split in time."""
    coordinates: dict[Space, str | list[float]] | None = None
    """Cell centres: arrays inside the file, or numbers."""
    times: str | list[float] | None = None
    """Times: an array inside the file, or numbers."""
    dtype: str | None = None
    """Of raw numbers, with their byte order."""
    grid: ManifestGrid | None = None
    """The grid; default: the files'."""
    boundary: tuple[Boundary, Boundary, Boundary] | None = None
    """Along x, y, z."""
    walls: dict[Space, tuple[float, float]] | None = None
    """Where the walls of an axis are, such as ``y: [-1, 1]`` where its outermost nodes lie in them."""
    select: dict[str, int] = field(default_factory=dict)
    """Number along an axis that flowsr does not know: ``sample: 3``."""
    links: bool = False
    """Whether files may be links that lead out of the root, to a scratch disk say."""
    viscosity: float | None = None
    """Kinematic viscosity, in the units of the data."""
    length_units: str | None = None
    """Unit of lengths."""

    def __post_init__(self):
        if not (self.files and self.variables):
            raise ValueError("files and variables each name one or more")
        if self.dtype is not None and not re.fullmatch("[<>]f[48]", self.dtype):
            raise ValueError(f"dtype is one of <f4, >f4, <f8, >f8, got {self.dtype!r}")
        for axis, (low, high) in (self.walls or {}).items():
            if not low < high:
                raise ValueError(f"walls.{axis} are a lower and an upper end, got {low} and {high}")
        if self.viscosity is not None and not self.viscosity >= 0:
            raise ValueError(f"viscosity is not negative, got {self.viscosity}")
        given: dict[str, str] = {}
        for split, runs in (self.splits or {}).items():
            for run in runs:
                if run not in self.files:
                    raise ValueError(f"split {split} names {run}, which is no run")
                if given.setdefault(run, split) != split:
                    raise ValueError(f"run {run} is in the splits {given[run]} and {split}")

    @property
    def data_set(self) -> DataSet:
        """Where the data come from."""
        return DataSet(self.name, self.source, self.licence, self.citation, self.checked)

    def split_of(self, run: str) -> str | None:
        """The split that a run is for, or None where the manifest does not say."""
        return next((split for split, runs in (self.splits or {}).items() if run in runs), None)

    def declared_layout(self) -> list[str]:
        """What the manifest says in place of the files: of path, axes, coordinates, times and dtype."""
        names = [n for n in ("path", "axes") if any(getattr(v, n) is not None for v in self.variables.values())]
        return names + [name for name in ("coordinates", "times", "dtype") if getattr(self, name)]


@dataclass(frozen=True)
class SourceFile:
    """A file of a manifest, there or not.

    Args:
        path: absolute path under the manifest's root.
        url: where it is fetched from, or None.
        sha256: of its bytes, or None where it is not known.
        run: which run inside it, where it holds several.
        select: number along axes that flowsr does not know.
    """

    path: Path
    url: str | None
    sha256: str | None
    run: str | None
    select: dict[str, int] = field(default_factory=dict)


def is_manifest(path: Path) -> bool:
    """Whether a path is taken for a manifest, by its suffix."""
    return path.suffix in (".yaml", ".yml")


def read_manifest(path: str | os.PathLike) -> Manifest:
    """The content of a manifest.

    Raises:
        FlowsrError: no such file, YAML that does not parse, an unknown key (with a suggestion) or a wrong value.
    """
    from flowsr.settings import read_settings  # YAML is checked by pydantic, which the domain does without

    return read_settings(Manifest, path)


def data_set_of(dataset: xr.Dataset) -> DataSet | None:
    """Where a dataset, or what it was made from, comes from; None where no manifest declared it."""
    provenance = dataset.attrs.get("provenance")
    while isinstance(provenance, dict):
        known = provenance.get("data_set")
        if isinstance(known, dict) and known.keys() == {f.name for f in fields(DataSet)}:
            return DataSet(**{name: value if value is None else str(value) for name, value in known.items()})
        provenance = provenance.get("source_provenance")
    return None


def files_of(manifest: Manifest, path: Path, run: str) -> list[SourceFile]:
    """The consecutive files of a run.

    Args:
        path: of the manifest.

    Raises:
        FlowsrError: no such run, or a file outside the root.
    """
    if run not in manifest.files:
        expected = f"one of {', '.join(manifest.files)}"
        raise FlowsrError("no such run", file=path, variable="run", expected=expected, found=run)
    entry, refused = manifest.files[run], functools.partial(FlowsrError, file=path, variable=f"files.{run}")
    entry = entry if isinstance(entry, ManifestFile) else ManifestFile(entry)
    names = [entry.path] if isinstance(entry.path, str) else entry.path
    if not names or (len(names) > 1 and (entry.url or entry.sha256)):
        raise refused("url and sha256 are those of one file", found=len(names))
    root = (path.parent / manifest.root).resolve()
    for name in names:
        inside = Path(os.path.normpath(root / name)).is_relative_to(root)
        if inside and not (manifest.links or (root / name).resolve().is_relative_to(root)):
            hint = "links: true in the manifest follows links, where you trust who wrote it"
            where = {"expected": root, "found": f"{name}, a link to {(root / name).resolve()}"}
            raise refused("a link that leads out of the root", **where, hint=hint)
        if not inside:
            raise refused("a file outside the root", expected=root, found=name)
    return [SourceFile((root / name).resolve(), entry.url, entry.sha256, entry.run, entry.select) for name in names]


def open_manifest(path: Path, options: ReadOptions) -> xr.Dataset:
    """Open one run of a manifest; see :func:`flowsr.data.open_field`.

    Attributes that the file leaves out come from the manifest; ``provenance`` gets an entry ``data_set``, the fields of
    :class:`DataSet`.

    Raises:
        FlowsrError: a bad manifest, a run that it does not have, a file that is missing, lies outside the root or says
            something else than the manifest.
    """
    manifest, run = read_manifest(path), options.run
    if run is None and len(manifest.files) > 1:
        raise FlowsrError("which run?", file=path, variable="run", expected=f"one of {', '.join(manifest.files)}")
    files = files_of(manifest, Path(path), next(iter(manifest.files)) if run is None else run)
    for file in files:
        if not file.path.exists():
            fetched = f"fetch it with flowsr.data.fetch({str(path)!r}, FOLDER)" if file.url else None
            raise missing_file(file.path, hint="; ".join(filter(None, [fetched, manifest.obtain])) or None)
        check_sha256(file.path, file.sha256)
    reader, layouts = _layouts(manifest, files, path)
    reader = options.reader or reader
    said = {
        "group": options.group or manifest.group,
        "reader": reader,
        "boundary": options.boundary or manifest.boundary,
        "irreps": {name: variable.irreps for name, variable in manifest.variables.items()},
    }
    select = [{**manifest.select, **file.select, **options.select} for file in files]
    asked = zip(files, layouts, select, strict=True)
    requests = [Request.of(options, run=f.run, layout=layout, select=chosen, **said) for f, layout, chosen in asked]
    datasets = [read(file.path, request) for file, request in zip(files, requests)]
    source, first = datasets[0].encoding["source"], files[0].path
    dataset = _with_walls(_complete(joined(datasets, first), manifest, first), manifest.walls or {})
    dataset = fill_defaults(complete(dataset, options, first))
    validate(dataset, first)
    grid, declared = grid_of(dataset, first), manifest.grid
    if declared and (grid.shape != declared.cells or not np.allclose(grid.lengths, declared.lengths, rtol=1e-4)):
        found = f"{grid.shape} cells over {tuple(round(length, 6) for length in grid.lengths)}"
        raise disagreement("grid", f"{declared.cells} cells over {declared.lengths}", found, first)
    dataset.encoding["source"] = source
    return dataset


def _with_walls(dataset: xr.Dataset, walls: dict[Space, tuple[float, float]]) -> xr.Dataset:
    for axis, ends in walls.items():
        dataset[axis].attrs["extent"] = [float(end) for end in ends]
    return dataset


def joined(datasets: list[xr.Dataset], file) -> xr.Dataset:
    """Consecutive snapshots in several files as one run.

    Raises:
        FlowsrError: files that differ in grid, variables or field types, or whose times do not increase.
    """
    first, *others = datasets
    if not others:
        return first
    datasets, said = [first], ("first file", "files of one run differ")
    for other in others:
        name = other.encoding.get("source", file)
        for key in first.data_vars:
            kinds = [(d[key].dims, d[key].attrs.get("irreps")) for d in (first, other) if key in d]
            if len(kinds) < 2 or kinds[0] != kinds[1]:
                raise FlowsrError("files of one run differ in their variables", file=name, variable=key)
            other = in_units(other, str(key), first[key].attrs.get("units"), name, *said)
        other = from_reference(in_length(other, first.attrs.get("length_units"), name, *said), first, name)
        for axis in SPACE:
            slack = MOST_MOVED * np.diff(first[axis].values).min() if MOVING in first[axis].attrs else 0.0
            _check_axes(first[axis].values, other[axis].values, axis, name, slack)
        _check_alike(first.attrs, other.attrs, (*ATTRIBUTES, *OPERATOR), "", name)
        datasets.append(other)
        if "converted" in other.attrs:
            note(first, f"{Path(str(name)).name}: {other.attrs['converted']}")
    times = np.concatenate([d["time"].values for d in datasets])
    if not np.all(np.diff(times) > 0):
        message, hint = "the times of consecutive files do not increase", "state times, or the files in their order"
        raise FlowsrError(message, file=file, variable="time", found=times[:8].tolist(), hint=hint)
    whole = xr.Dataset(coords={**first.drop_dims("time").coords, "time": times}, attrs=first.attrs)
    whole.encoding.update(first.encoding)
    for key, array in first.data_vars.items():
        parts = Join([FromVariable(d[key].variable, file, str(key)) for d in datasets])
        whole[key] = parts.as_variable(array.dims, array.attrs)
        whole[key].encoding.update(array.encoding)
    return whole


def _check_axes(first: np.ndarray, other: np.ndarray, axis: str, file, slack: float = 0.0) -> None:
    """Refuse a file of a run on another grid; what is left of a conversion of its unit is no other grid.

    Args:
        slack: by how much axes may differ, which are means of what moves.
    """
    same, slack = np.shape(first) == np.shape(other), max(slack, 1e-9 * float(np.ptp(first)), 1e-300)
    if not same or not np.allclose(first, other, rtol=0, atol=slack):
        raise FlowsrError("files of one run differ in their grid", file=file, variable=axis)


def _check_alike(first: dict, other: dict, names: tuple[str, ...], prefix: str, file) -> None:
    """Refuse a file of a run that states something else than the first one does."""
    for name in names:
        expected, found = first.get(name), other.get(name)
        if not (expected is None or found is None or agree(expected, found)):
            message, expected = "files of one run differ", f"{expected} as in the first file"
            raise contradiction(message, file=file, variable=prefix + name, expected=expected, found=found)


def agree(one, other) -> bool:
    """Whether two statements are the same: numbers written to fewer digits and units in another spelling are."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (one, other)):
        return bool(np.isclose(one, other, rtol=1e-9, atol=0))
    if isinstance(one, str) and isinstance(other, str):
        return alike(one, other)
    return one == other or np.array_equal(np.ravel(one), np.ravel(other))


def _layouts(manifest: Manifest, files: list[SourceFile], path: Path) -> tuple[str | None, list[dict[str, Any] | None]]:
    """The reader, and what the manifest says in place of each file; None where the files speak for themselves."""
    declared = manifest.declared_layout()
    if not declared:
        return manifest.reader, [None] * len(files)
    reader = manifest.reader or accepting(files[0].path) or "described"
    takes = READERS[reader].takes
    if not takes.issuperset(declared):
        expected, found = f"{', '.join(sorted(takes)) or 'nothing'} from the manifest", ", ".join(declared)
        where = {"variable": next(key for key in declared if key not in takes), "expected": expected, "found": found}
        hint = "the reader 'described' takes all of them"
        raise FlowsrError(f"the reader {reader} takes the layout from the file", file=path, **where, hint=hint)
    layout = {key: asdict(manifest)[key] for key in ("variables", "coordinates", "times", "dtype", "grid")}
    times = manifest.times
    if not isinstance(times, list):
        return reader, [layout] * len(files)
    share, left = divmod(len(times), len(files))
    if left or not share:
        where = {"variable": "times", "expected": f"as many for each of {len(files)} files", "found": len(times)}
        raise FlowsrError("times do not go into the files", file=path, **where)
    return reader, [{**layout, "times": times[n * share : (n + 1) * share]} for n in range(len(files))]


def _complete(dataset: xr.Dataset, manifest: Manifest, file: Path) -> xr.Dataset:
    missing = [name for name in manifest.variables if name not in dataset.data_vars]
    if missing:
        raise missing_variable(missing[0], dataset.data_vars, file=file)
    dataset = dataset[list(manifest.variables)]
    for name, variable in manifest.variables.items():
        _fill_attributes(dataset[name].attrs, {"irreps": variable.irreps}, f"{name}.", file)
        dataset = in_units(dataset, name, variable.units, file)
        dataset[name].attrs.setdefault("units", "1")
    dataset = in_length(dataset, manifest.length_units, file)
    _fill_attributes(dataset.attrs, {name: getattr(manifest, name) for name in ATTRIBUTES}, "", file)
    own = dataset.attrs.get("provenance", {})
    own = own if isinstance(own, dict) else {"file": own}
    return dataset.assign_attrs(provenance={**own, "data_set": asdict(manifest.data_set)})


def complete(dataset: xr.Dataset, options: ReadOptions, file: object) -> xr.Dataset:
    """The dataset with what options say of it, where it is silent.

    Raises:
        FlowsrError: an option that contradicts the file, or names a variable that it has not.
    """
    for word in ("units", "irreps"):
        for name, value in getattr(options, word).items():
            if name not in dataset.data_vars:
                raise missing_variable(name, dataset.data_vars, file=file)
            if word == "units":
                dataset = in_units(dataset, name, value, file, "--units")
            else:
                _fill_attributes(dataset[name].attrs, {word: value}, f"{name}.", file, f"--{word}")
    _fill_attributes(dataset.attrs, {"boundary": options.boundary}, "", file, "--boundary")
    return dataset


def _fill_attributes(attrs: dict, declared: dict, prefix: str, file: object, said: str = "manifest") -> None:
    """Add what is declared to attributes that lack it; refuse what contradicts them."""
    for name, value in declared.items():
        value = list(value) if isinstance(value, tuple) else value
        if value is None:
            continue
        found = attrs.setdefault(name, value)
        if not agree(found, value):
            raise disagreement(prefix + name, value, found, file, said)


def disagreement(variable: str, declared, found, file, said: str = "manifest") -> FlowsrError:
    """The error where a file says something else than its manifest, or an option."""
    expected = f"{declared} ({said})"
    return contradiction(f"file and {said} disagree", file=file, variable=variable, expected=expected, found=found)


def fetch(manifest: str | os.PathLike, folder: str | os.PathLike, run: str | None = None) -> list[Path]:
    """Fetch the files of a manifest that are missing and have a URL and a checksum.

    What has arrived when the connection breaks is kept beside the target, and the next call resumes from there.

    Args:
        manifest: a manifest (``.yaml``).
        folder: nothing is written outside it, whatever the manifest says; the manifest's root is it or lies in it.
        run: only this run's files.

    Returns:
        The files that are there now.

    Raises:
        FlowsrError: no network, no URL or no sha256 for it, a scheme or an address that is not allowed, bytes whose
            sha256 is not the declared one, or a file that would be hidden or outside the folder.
    """
    content = read_manifest(manifest)
    folder, present = Path(folder).resolve(), []
    for name in content.files if run is None else [run]:
        for file in files_of(content, Path(manifest), name):
            if not file.path.exists():
                if file.url is None:
                    raise FlowsrError("no URL for this file", file=file.path, hint=content.obtain)
                if file.sha256 is None:
                    where = {"variable": "sha256", "expected": "the checksum of what is fetched", "found": "none"}
                    raise FlowsrError("a URL without a checksum", file=file.path, **where, hint=content.obtain)
                inside = file.path.is_relative_to(folder)
                if not inside or any(part.startswith(".") for part in file.path.relative_to(folder).parts):
                    where = {"variable": f"files.{name}", "expected": f"no hidden file, under {folder}"}
                    raise FlowsrError("not a place to fetch a file to", file=manifest, **where, found=file.path)
                check_url(file.url, file.path)
                fetch_url(file.url, file.path, file.sha256, content.obtain)
            check_sha256(file.path, file.sha256)
            present.append(file.path)
    return present


def check_url(url: str, file) -> None:
    """Refuse a URL that is not https.

    Raises:
        FlowsrError: another scheme, or no host.
    """
    parsed = urlparse(url)
    if parsed.scheme not in SCHEMES or not parsed.netloc:
        raise FlowsrError("a URL that is not fetched", file=file, variable="url", expected="https://...", found=url)


def check_redirect(url: str, other: str, file) -> None:
    """Refuse a redirect to this machine, to a private network, or from https to something else.

    Raises:
        FlowsrError: such a redirect.
    """
    parsed = urlparse(other)
    where = {"file": file, "variable": "url", "found": other}
    if parsed.scheme not in ("http", "https") or (urlparse(url).scheme == "https" and parsed.scheme != "https"):
        raise FlowsrError("a redirect that is not followed", expected="https://...", **where)
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(parsed.hostname, None)}
    except (OSError, UnicodeError):
        return  # no such host: there is nothing to connect to, unless through a proxy
    if not all(ipaddress.ip_address(address.partition("%")[0]).is_global for address in found):
        raise FlowsrError("a redirect that is not followed", expected="a public address", **where)


def check_sha256(path: Path, sha256: str | None) -> None:
    """Refuse a file whose bytes are not the declared ones; each file is read for this once in a process.

    Raises:
        FlowsrError: another checksum.
    """
    if sha256 is None or path.is_dir():
        return
    state = path.stat()
    found = _checksum(str(path), state.st_size, state.st_mtime_ns)
    if found != sha256.lower():
        where = {"file": path, "variable": "sha256", "expected": sha256, "found": found}
        hint = "remove the file and fetch it again, or correct the manifest"
        raise contradiction("the checksum differs", **where, hint=hint)


@functools.lru_cache(maxsize=4096)
def _checksum(path: str, size: int, modified: int) -> str:
    return file_checksum(path)


def fetch_url(url: str, target: Path, sha256: str, obtain: str | None = None) -> Path:
    """Fetch one file through pooch; see :func:`fetch`."""
    try:
        import pooch
        import requests
    except ImportError:
        raise FlowsrError("files are fetched by pooch", file=target, expected="pip install pooch requests") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    downloader = functools.partial(_resumed, target.with_name(f".{target.name}.partial"))
    try:
        pooch.retrieve(url, f"sha256:{sha256}", fname=target.name, path=target.parent, downloader=downloader)
    except requests.exceptions.RequestException as error:
        expected, found = f"an answer from {urlparse(url).netloc}", type(error).__name__
        hint = obtain or "try again where there is a network; what has arrived is kept"
        raise FlowsrError("cannot be fetched", file=target, expected=expected, found=found, hint=hint) from None
    except ValueError as error:
        where = {"variable": "sha256", "expected": sha256, "found": " ".join(str(error).split())[:120]}
        raise contradiction("the checksum differs", file=target, **where) from None
    return target


def _resumed(unfinished: Path, url: str, output_file: str, _) -> None:
    """Download to an unfinished file beside the target, from where an earlier attempt ended."""
    import requests

    done = 0
    if os.path.lexists(unfinished):
        check_ours(unfinished)
        done = unfinished.stat().st_size
    headers = {"Range": f"bytes={done}-"} if done else {}
    for _hop in range(REDIRECTS):
        answer = requests.get(url, stream=True, timeout=TIMEOUT, headers=headers, allow_redirects=False)
        if not answer.is_redirect:
            break
        answer.close()
        other = urljoin(url, answer.headers["location"])
        check_redirect(url, other, output_file)
        url = other
    else:
        raise requests.exceptions.TooManyRedirects
    with answer:
        if answer.status_code == 416:
            unfinished.unlink()
        answer.raise_for_status()
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(unfinished, flags), "ab") if answer.status_code == 206 else open_new(unfinished) as file:
            for block in answer.iter_content(BLOCK):
                file.write(block)
    os.replace(unfinished, output_file)
