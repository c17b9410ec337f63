"""Small files that appear whole or not at all, and checksums of files and folders."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

READ_BLOCK = 1 << 20


def write_bytes_atomic(path: str | os.PathLike, data: bytes) -> Path:
    """Write ``data`` to ``path`` so that a reader, or a machine that loses power, sees the old file or the new one.

    The bytes go to a hidden neighbour, are flushed to the disk, and take the name in one step. Folders that are missing
    on the way are made.
    """
    path = replace_bytes(path, data)
    fsync_folder(path.parent)
    return path


def replace_bytes(path: str | os.PathLike, data: bytes) -> Path:
    """:func:`write_bytes_atomic` but for the last step: after a loss of power the *old* file may be back, still whole.

    Half the cost, for files that can be made again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.tmp")
    with open(neighbour, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(neighbour, path)
    return path


def write_text_atomic(path: str | os.PathLike, text: str) -> Path:
    """:func:`write_bytes_atomic` for text, in UTF-8."""
    return write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: str | os.PathLike, value) -> Path:
    """:func:`write_bytes_atomic` for JSON, indented, keys in the order given, NaN refused.

    Raises:
        ValueError: a NaN or an infinity, which JSON does not have.
    """
    return write_text_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def fsync_file(path: str | os.PathLike) -> None:
    """Wait until the file's bytes are on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def fsync_folder(path: str | os.PathLike) -> None:
    """Wait until the folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_checksum(path: str | os.PathLike) -> str:
    """Hexadecimal sha256 of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    _feed(digest, path)
    return digest.hexdigest()


def tree_checksum(path: str | os.PathLike) -> str:
    """Hexadecimal sha256 of a file, or of a folder's relative names and bytes in sorted order.

    Two folders have the same checksum exactly when they hold the same files with the same bytes; empty folders do not
    count.
    """
    path = Path(path)
    if path.is_file():
        return file_checksum(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        _feed(digest, file)
    return digest.hexdigest()


def _feed(digest, path) -> None:
    with open(path, "rb") as file:
        while block := file.read(READ_BLOCK):
            digest.update(block)
