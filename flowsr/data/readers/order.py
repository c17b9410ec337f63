"""Datasets put in flowsr's order by their own labels: components named w, v, u, axes that decrease."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.errors import FlowsrError

log = logging.getLogger(__name__)

#: Endings of the labels of a vector's components along x, y, z.
LABELS = (("u", "v", "w"), ("x", "y", "z"), ("0", "1", "2"), ("1", "2", "3"))
#: Where a reader notes what it assumes, in the encoding of a dataset or variable; and the attribute that says what was.
ASSUMED = "assumed"
VECTORS = ("1o", "1e", "1x1o", "1x1e")
#: Attribute that says what was flipped or put in order when a file was read.
TURNED = "turned"


def in_order(dataset: xr.Dataset, file: Path) -> xr.Dataset:
    """The dataset with a vector's components in the order of x, y, z, and with axes that increase; nothing is read.

    Labels that are in nobody's order (``a``, ``b``, ``c``) are left as they are. What is done is logged, and noted in
    the attribute ``turned``.

    Raises:
        FlowsrError: labels of which two are the same.
    """
    done = []
    order = _order(dataset, file)
    if order not in (None, [0, 1, 2]):
        labels = ", ".join(map(str, dataset["component"].values))
        dataset = dataset.isel(component=order)
        done.append(f"components {labels} put in order")
    for name in SPACE:
        if name in dataset.coords and dataset[name].dims == (name,) and dataset[name].dtype.kind in "fiu":
            values = dataset[name].values
            if len(values) > 1 and np.all(values[1:] < values[:-1]):
                dataset = dataset.isel({name: slice(None, None, -1)})
                done.append(f"{name} decreases and is flipped")
    if done:
        note = ", ".join(done)
        log.warning("%s: %s", file.name, note)
        dataset.attrs[TURNED] = note
    return dataset


def _irreps(array: xr.DataArray) -> str | None:
    """The field type, stated or to be assumed."""
    return array.attrs.get("irreps") or array.encoding.get(ASSUMED, {}).get("irreps")


def _order(dataset: xr.Dataset, file: Path) -> list[int] | None:
    """Places of the components along x, y, z, or None where the labels do not say."""
    vector = any("component" in a.dims and _irreps(a) in VECTORS for a in dataset.data_vars.values())
    if not vector or "component" not in dataset.coords or dataset.sizes["component"] != 3:
        return None
    if dataset["component"].dtype.kind == "f":  # numbers that nobody wrote (NetCDF fills them) name no component
        return None
    labels = [str(label).strip().lower() for label in dataset["component"].values]
    if len(set(labels)) < 3:
        where = {"file": file, "variable": "component", "expected": "three labels, such as u, v, w"}
        raise FlowsrError("two components of one name", **where, found=", ".join(labels))
    return places(labels)


def places(labels: Sequence[str]) -> list[int] | None:
    """Which of three labels is along x, y, z, or None where they do not say."""
    labels = [label.strip().lower() for label in labels]
    if len({label[:-1] for label in labels}) > 1:
        return None
    ends = [label[-1:] for label in labels]
    return next(([ends.index(end) for end in known] for known in LABELS if set(ends) == set(known)), None)
