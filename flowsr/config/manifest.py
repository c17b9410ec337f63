"""Manifests: what a data set is, where it lies, and what its files leave unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from flowsr.config.load import first_problem, read_yaml
from flowsr.config.schema import Settings

Boundary = Literal["periodic", "wall", "open"]
Axis = Literal["time", "component", "x", "y", "z"]
Split = Literal["train", "validation", "test"]


class ManifestVariable(Settings):
    """A variable of the data set."""

    irreps: str = Field(description="Field type, an e3nn irreps string: 1o for a velocity, 0e for a pressure.")
    units: str = Field("1", description="Physical unit; 1 where the data are non-dimensional.")
    path: str | list[str] | None = Field(None, description="Array inside the file, or one array a component.")
    axes: list[Axis] | None = Field(
        None, min_length=3, max_length=5, description="What the array's axes are, in order."
    )

    @field_validator("axes")
    @classmethod
    def _once(cls, axes):
        if axes is not None and len(set(axes)) != len(axes):
            raise ValueError("each axis once")
        return axes


class ManifestGrid(Settings):
    """The cell-centred grid; uniform, unless coordinates say otherwise."""

    cells: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(description="Cells along x, y, z.")
    lengths: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(description="Sides of the box along x, y, z.")
    origin: tuple[float, float, float] = Field((0.0, 0.0, 0.0), description="Low corner, where the files are silent.")


class ManifestFile(Settings):
    """A run's file, or its consecutive files."""

    path: str | list[str] = Field(description="Relative to the root; several are joined along time.")
    url: str | None = Field(None, description="Where the file is fetched from, https only.")
    sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{64}$")
    run: str | None = Field(None, description="Which run of the file, where it holds several.")


class Manifest(Settings):
    """One data set."""

    name: str
    description: str
    source: str = Field(description="Who made the data, and how.")
    licence: str
    citation: str | None = Field(None, description="What to cite.")
    checked: str | None = Field(None, description="What was verified of this manifest, and what was not.")
    obtain: str | None = Field(None, description="What to do where the files are missing.")
    reader: str | None = Field(None, description="Registered reader; default: the one that recognizes the files.")
    group: str | None = Field(None, description="Group inside the files.")
    root: str = Field(".", description="Folder that the files lie under, relative to the manifest.")
    files: dict[str, str | list[str] | ManifestFile] = Field(min_length=1, description="Run name to file.")
    splits: dict[Split, list[str]] | None = Field(None, description="Which runs are for what.")
    variables: dict[str, ManifestVariable] = Field(min_length=1)
    coordinates: dict[Literal["x", "y", "z"], str | list[float]] | None = Field(
        None, description="Cell centres: arrays inside the file, or numbers."
    )
    times: str | list[float] | None = Field(None, description="Times: an array inside the file, or numbers.")
    dtype: str | None = Field(None, pattern="^[<>]f[48]$", description="Of raw numbers, with their byte order.")
    grid: ManifestGrid | None = None
    boundary: tuple[Boundary, Boundary, Boundary] | None = Field(None, description="Along x, y, z.")
    viscosity: NonNegativeFloat | None = Field(None, description="Kinematic viscosity, in the units of the data.")
    length_units: str | None = None

    @model_validator(mode="after")
    def _splits_name_runs(self):
        for split, runs in (self.splits or {}).items():
            for run in runs:
                if run not in self.files:
                    raise ValueError(f"split {split} names {run}, which is no run")
        return self


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The content of a manifest, as plain values, every default written out.

    Raises:
        FlowsrError: no such file, YAML that does not parse, an unknown key (with a suggestion) or a wrong value.
    """
    try:
        return Manifest.model_validate(read_yaml(Path(path))).model_dump()
    except ValidationError as error:
        raise first_problem(error, Manifest, path) from None
