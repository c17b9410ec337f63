"""What has to be known to make a result again: versions, settings, seeds, checksums."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

from flowsr.registry import GROUPS

PACKAGES = (
    "flowsr",
    "torch",
    "e3nn",
    "lightning",
    "torchmetrics",
    "numpy",
    "scipy",
    "xarray",
    "zarr",
    "h5py",
    "prefect",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result, those that extend flowsr included."""
    return dict(_versions(tuple(sys.path)))


@lru_cache(maxsize=1)
def _versions(path: tuple[str, ...]) -> dict[str, str]:
    """Of what is installed on a path: hundreds of small files are read for it, and it is told with every step."""
    found, there = {"python": platform.python_version()}, entry_points()
    extensions = {e.dist.name for group in GROUPS for e in there.select(group=group) if e.dist is not None}
    for package in (*PACKAGES, *sorted(extensions - set(PACKAGES))):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def fingerprint(values: Any) -> str:
    """sha256 of a JSON-able value, the same for equal values whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
