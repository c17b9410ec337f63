"""Where the files of a manifest lie, whether they are there or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsr.errors import FlowsrError


@dataclass(frozen=True)
class ManifestedFile:
    """A file of a manifest, there or not.

    Args:
        path: absolute path under the manifest's root.
        url: where it is fetched from, or None.
        sha256: of its bytes, or None where it is not known.
        run: which run inside it, where it holds several.
    """

    path: Path
    url: str | None
    sha256: str | None
    run: str | None


def files_of(manifest: dict[str, Any], path: Path, run: str) -> list[ManifestedFile]:
    """The consecutive files of a run.

    Args:
        manifest: as :func:`flowsr.config.manifest.read_manifest` gives it.
        path: of the manifest.

    Raises:
        FlowsrError: no such run, or a file outside the root.
    """
    if run not in manifest["files"]:
        expected = f"one of {', '.join(manifest['files'])}"
        raise FlowsrError("no such run", file=path, variable="run", expected=expected, found=run)
    stated = manifest["files"][run]
    stated = stated if isinstance(stated, dict) else {"path": stated, "url": None, "sha256": None, "run": None}
    names = [stated["path"]] if isinstance(stated["path"], str) else stated["path"]
    if not names or (len(names) > 1 and (stated["url"] or stated["sha256"])):
        raise FlowsrError("url and sha256 are those of one file", file=path, variable=f"files.{run}", found=len(names))
    root = (path.parent / manifest["root"]).resolve()
    files = []
    for name in names:
        file = (root / name).resolve()
        if not file.is_relative_to(root):
            raise FlowsrError("a file outside the root", file=path, variable=f"files.{run}", expected=root, found=name)
        files.append(ManifestedFile(file, stated["url"], stated["sha256"], stated["run"]))
    return files
