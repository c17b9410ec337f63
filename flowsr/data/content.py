"""What a field is read from: its files, their checksums, and whether they changed while they were read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from flowsr.data.manifest import files_of, is_manifest, read_manifest
from flowsr.errors import BadValue
from flowsr.files import files_in, tree_checksum

#: Names of the files that an XDMF file's numbers are in, as it has them: ``fields.h5:/velocity``.
_HEAVY = re.compile(r"[^\s<>\"':]+\.(?:h5|hdf5|hdf)\b")


class Content:
    """The files and folders that decide what a source holds, as they are when this is made.

    Args:
        source: what :func:`flowsr.data.open_field` opens.
        group: a group inside a store, which alone counts then.
        run: one of a manifest's; default: all of them.

    Attributes:
        paths: files, and folders with all in them.
        checksums: sha256 of each.
    """

    def __init__(self, source: Path, group: str | None = None, run: str | None = None):
        self.source = Path(source)
        self.paths = list(paths_of(self.source, group, run))
        self._states = [_state(path) for path in self.paths]
        self.checksums = [tree_checksum(path) for path in self.paths]

    @property
    def checksum(self) -> str:
        """Of all together: that of the file or folder where there is one."""
        if len(self.checksums) == 1:
            return self.checksums[0]
        return hashlib.sha256("".join(self.checksums).encode()).hexdigest()

    def refuse_changed(self) -> None:
        """See that the source is what it was; its bytes are read again only where the file system says that it changed.

        Raises:
            BadValue: its content is another, or it is gone.
        """
        for path, state, checksum in zip(self.paths, self._states, self.checksums):
            if _state(path) == state:
                continue
            found = tree_checksum(path) if path.exists() else "no such file"
            if found != checksum:
                message, hint = "the source changed while it was read", "run again when nothing writes to it"
                raise BadValue(message, file=path, expected=f"sha256 {checksum}", found=found, hint=hint)


def paths_of(source: Path, group: str | None = None, run: str | None = None) -> Iterator[Path]:
    """The files and folders of a :class:`Content`."""
    if is_manifest(source):
        manifest = read_manifest(source)
        yield source
        for name in manifest.files if run is None else [run]:
            yield from (file.path for file in files_of(manifest, source, name))
        return
    folder = source / (group or "")
    yield folder if folder.is_dir() else source
    if source.suffix.lower() in (".xdmf", ".xmf") and source.is_file():
        named = {source.parent / name for name in _HEAVY.findall(source.read_text(errors="replace"))}
        yield from sorted(path for path in named if path.is_file())


def _state(path: Path) -> list[tuple]:
    """What changes when somebody writes to a file, or puts another in its place."""
    files = [path] if path.is_file() else files_in(path)
    states = [(file, file.stat()) for file in files]
    return [(file, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for file, s in states]
