"""What has to be known to make a result again: versions, settings, seeds, checksums."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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
    """Versions of Python and of the packages that shape a result; those not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def fingerprint(values: Any) -> str:
    """sha256 of a JSON-able value, the same for equal values whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
