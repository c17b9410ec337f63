"""Settings of a symmetry discovery: which data, and where the results go, beside what the domain declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flowsr.data.open import Input
from flowsr.settings import adapter, apply_overrides, first_problem, read_yaml
from flowsr.simulate.settings import Simulation
from flowsr.symmetry.discover import SEEDS, Method
from flowsr.symmetry.tasks import SampleSettings


@dataclass(frozen=True, kw_only=True)
class SymmetrySettings(Method, SampleSettings):
    """One discovery: one kind of data, one task, one output folder."""

    name: str
    """Shown in the report."""
    output: Path
    """Folder that everything is written to."""
    inputs: list[Path | Input] | None = None
    """Files, paths or ``{path: ..., boundary: ..., time: ...}``, each run by itself; default: what `simulate` makes."""
    simulate: Simulation | None = None
    """Turbulence to make first, where there are no inputs."""
    seeds: tuple[int, ...] = tuple(range(SEEDS))
    """Of the networks."""
    threads: int | None = None
    """CPU threads; default: all cores."""
    order_parameters: bool = True
    """Ask as well what an equivariant network lacks, where input and target are on one periodic grid (Curie)."""

    def __post_init__(self):
        Method.__post_init__(self)
        SampleSettings.__post_init__(self)
        if (not self.inputs) == (self.simulate is None):
            raise ValueError("give either inputs or simulate")
        if not self.seeds or (self.threads is not None and not 1 <= self.threads <= 4096):
            raise ValueError("seeds are one or more, threads 1 to 4096")

    def as_json(self) -> dict[str, Any]:
        """Every setting, those of the parts nested, as JSON holds it."""
        return _SETTINGS.dump_python(self, mode="json")


_SETTINGS = adapter(SymmetrySettings)


def load_symmetry(path: str | Path, overrides: Sequence[str] = ()) -> SymmetrySettings:
    """The discovery described by a YAML file; ``extends`` and overrides as for an experiment.

    Raises:
        FlowsrError: no such file, YAML that does not parse, an unknown key or a wrong value.
    """
    return parse_symmetry(apply_overrides(read_yaml(Path(path)), overrides), source=path)


def parse_symmetry(values: dict[str, Any], source: object = None) -> SymmetrySettings:
    """Validate a nested dictionary of settings; ``source`` is the file named in errors."""
    try:
        return _SETTINGS.validate_python(values)
    except ValidationError as error:
        raise first_problem(error, SymmetrySettings, source) from None
