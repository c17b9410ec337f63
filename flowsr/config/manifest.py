"""Manifests: what a data set is, where it lies, and what its files leave unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from flowsr.config.loading import first_problem, read_yaml
from flowsr.config.schema import Settings

Boundary = Literal["periodic", "wall", "open"]


class ManifestVariable(Settings):
    """A variable of the data set."""

    irreps: str = Field(description="Field type, an e3nn irreps string: 1o for a velocity, 0e for a pressure.")
    units: str = Field("1", description="Physical unit; 1 where the data are non-dimensional.")


class ManifestGrid(Settings):
    """The uniform, cell-centred grid."""

    cells: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(description="Cells along x, y, z.")
    lengths: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(description="Sides of the box along x, y, z.")


class Manifest(Settings):
    """One data set."""

    name: str
    description: str
    source: str = Field(description="Who made the data, and how.")
    licence: str
    obtain: str | None = Field(None, description="What to do where the files are missing.")
    reader: str | None = Field(None, description="Registered reader; default: the one that recognizes the files.")
    group: str | None = Field(None, description="Group inside the files.")
    root: str = Field(".", description="Folder that the files lie under, relative to the manifest.")
    files: dict[str, str] = Field(min_length=1, description="Run name to file, relative to the root.")
    variables: dict[str, ManifestVariable] = Field(min_length=1)
    grid: ManifestGrid | None = None
    boundary: tuple[Boundary, Boundary, Boundary] | None = Field(None, description="Along x, y, z.")
    viscosity: NonNegativeFloat | None = Field(None, description="Kinematic viscosity, in the units of the data.")
    length_units: str | None = None


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The content of a manifest, as plain values, every default written out.

    Raises:
        FlowsrError: no such file, YAML that does not parse, an unknown key (with a suggestion) or a wrong value.
    """
    try:
        return Manifest.model_validate(read_yaml(Path(path))).model_dump()
    except ValidationError as error:
        raise first_problem(error, Manifest, path) from None
