"""Files of a manifest that lie behind a URL: fetched with resume, checked by sha256, whole or not there."""

from __future__ import annotations

import logging
import os
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import urlparse

from flowsr.data.manifest_files import files_of
from flowsr.errors import FlowsrError
from flowsr.files import file_checksum

log = logging.getLogger(__name__)

SCHEMES = ("https",)
BLOCK = 1 << 20
TIMEOUT = 30


def fetch(manifest: str | os.PathLike, run: str | None = None) -> list[Path]:
    """Fetch the files of a manifest that are missing and have a URL.

    What has arrived when the connection breaks is kept beside the target, and the next call goes on from there.

    Args:
        manifest: a manifest (``.yaml``).
        run: only this run's files.

    Returns:
        The files that are there now.

    Raises:
        FlowsrError: no network, no URL, a scheme that is not allowed, or bytes whose sha256 is not the stated one.
    """
    from flowsr.config.manifest import read_manifest

    content = read_manifest(manifest)
    found = []
    for name in content["files"] if run is None else [run]:
        for file in files_of(content, Path(manifest), name):
            if not file.path.exists():
                if file.url is None:
                    raise FlowsrError("no URL for this file", file=file.path, hint=content["obtain"])
                allowed(file.url, file.path)
                fetch_url(file.url, file.path, file.sha256, content["obtain"])
            check_sha256(file.path, file.sha256)
            found.append(file.path)
    return found


def allowed(url: str, file) -> None:
    """Refuse a URL that is not https.

    Raises:
        FlowsrError: another scheme, or no host.
    """
    parsed = urlparse(url)
    if parsed.scheme not in SCHEMES or not parsed.netloc:
        raise FlowsrError("a URL that is not fetched", file=file, variable="url", expected="https://...", found=url)


def check_sha256(path: Path, sha256: str | None) -> None:
    """Refuse a file whose bytes are not the stated ones; each file is read for this once in a process.

    Raises:
        FlowsrError: another checksum.
    """
    if sha256 is None or path.is_dir():
        return
    state = path.stat()
    found = _checksum(str(path), state.st_size, state.st_mtime_ns)
    if found != sha256.lower():
        raise FlowsrError(
            "the checksum differs",
            file=path,
            variable="sha256",
            expected=sha256,
            found=found,
            hint="remove the file and fetch it again, or correct the manifest",
        )


@lru_cache(maxsize=4096)
def _checksum(path: str, size: int, modified: int) -> str:
    return file_checksum(path)


def fetch_url(url: str, target: Path, sha256: str | None, obtain: str | None = None) -> Path:
    """Fetch one file through pooch; see :func:`fetch`."""
    try:
        import pooch
        import requests
    except ImportError:
        raise FlowsrError("files are fetched by pooch", file=target, expected="pip install pooch requests") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}" if sha256 else None,
            fname=target.name,
            path=target.parent,
            downloader=partial(_resumed, target.with_name(f".{target.name}.partial")),
        )
    except requests.exceptions.RequestException as error:
        raise FlowsrError(
            "cannot be fetched",
            file=target,
            expected=f"an answer from {urlparse(url).netloc}",
            found=type(error).__name__,
            hint=obtain or "try again where there is a network; what has arrived is kept",
        ) from None
    except ValueError as error:
        raise FlowsrError(
            "the checksum differs",
            file=target,
            variable="sha256",
            expected=sha256,
            found=" ".join(str(error).split())[:120],
        ) from None
    if sha256 is None:
        log.warning("%s: sha256 %s, which the manifest does not state", target.name, file_checksum(target))
    return target


def _resumed(unfinished: Path, url: str, output_file: str, _) -> None:
    """Download to an unfinished file beside the target, going on where an earlier attempt ended."""
    import requests

    done = unfinished.stat().st_size if unfinished.exists() else 0
    with requests.get(url, stream=True, timeout=TIMEOUT, headers={"Range": f"bytes={done}-"} if done else {}) as answer:
        if answer.status_code == 416:
            unfinished.unlink()
        answer.raise_for_status()
        with open(unfinished, "ab" if answer.status_code == 206 else "wb") as file:
            for block in answer.iter_content(BLOCK):
                file.write(block)
    os.replace(unfinished, output_file)
