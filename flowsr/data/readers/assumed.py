"""What a format has no place for, and what is taken for it where no manifest says otherwise; the dataset says so.

VTK, XDMF and OpenFOAM files name no boundaries in our sense, and no parity of a vector. A reader notes what it supposes in
the encodings, which is what nobody stated; :func:`settle` makes it attributes where nothing else did.
"""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

SUPPOSED = "supposed"


def suppose(variable: xr.Variable | xr.Dataset, **attrs) -> None:
    """Note attributes that hold unless somebody states them."""
    variable.encoding[SUPPOSED] = attrs


def settle(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with supposed attributes where it lacks them, and an attribute ``supposed`` that names them."""
    said = []
    for label, owner in [("", dataset), *((f"{name}.", array) for name, array in dataset.data_vars.items())]:
        for name, value in supposed(owner).items():
            if name not in owner.attrs:
                owner.attrs[name] = value
                said.append(f"{label}{name} {_plain(value)}")
    if said:
        dataset.attrs[SUPPOSED] = ", ".join(said) + ": the file does not say; a manifest can"
    return dataset


def supposed(owner) -> Mapping:
    """What was noted of a dataset or variable."""
    return owner.encoding.get(SUPPOSED, {})


def _plain(value) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
