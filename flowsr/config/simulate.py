"""Settings of the simulate stage: a flow by name, what fluid and frame add to it, and how it is run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from flowsr.config.base import Settings
from flowsr.config.channel import ChannelSettings

TWO_PI = 6.283185307179586
Triple = tuple[float, float, float]
FlowName = Literal[
    "forced_isotropic",
    "fixed_energy",
    "linear_forcing",
    "helical",
    "kolmogorov",
    "kolmogorov_fourfold",
    "abc_forced",
    "decaying",
    "taylor_green",
    "abc",
    "channel",
]
#: Settings that came after the first runs were made: at their defaults they are left out of records.
LATER = (
    "target",
    "lengths",
    "dealiasing",
    "forcing_mode",
    "rotation",
    "stratification",
    "prandtl",
    "mean_flow",
    "passive_scalar",
    "scalar_gradient",
    "schmidt",
    "spectrum",
    "channel",
)


class Target(Settings):
    """The turbulence that is wanted; what is not stated otherwise is worked out from it."""

    re_lambda: PositiveFloat | None = Field(None, description="Reynolds number on the Taylor scale; decides the grid.")
    kmax_eta: PositiveFloat = Field(1.4, description="Largest wavenumber times Kolmogorov length; for the viscosity.")


class SimulateSettings(Settings):
    """Direct numerical simulation in a periodic box, or between walls."""

    flow: FlowName = Field(
        "forced_isotropic",
        description="forced_isotropic: constant power at low wavenumbers; fixed_energy: their energy held; "
        "linear_forcing: at all wavenumbers; helical: into right-handed waves; kolmogorov: sin(k y) e_x; "
        "kolmogorov_fourfold: + sin(k x) e_y; abc_forced; decaying: unforced, from a random start; taylor_green and abc: "
        "unforced, from those vortices; "
        "channel: between walls, all but the seeds under `channel`.",
    )
    target: Target | None = Field(None, description="Works out viscosity and cells, where they are not given.")
    cells: PositiveInt | tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        64, description="Grid cells along each side, or along x, y, z."
    )
    lengths: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        (TWO_PI, TWO_PI, TWO_PI), description="Sides of the box along x, y, z."
    )
    viscosity: PositiveFloat = Field(0.0075, description="Kinematic viscosity nu.")
    power: PositiveFloat = Field(0.1, description="Power per unit mass that the forcing spends, or about spends.")
    forcing_cutoff: PositiveFloat = Field(2.5, description="Wavenumber below which a forcing of the large scales acts.")
    forcing_mode: PositiveInt = Field(1, description="Waves of a Kolmogorov force in the box.")
    rotation: Triple = Field((0, 0, 0), description="Angular velocity of the frame along x, y, z.")
    stratification: Triple = Field((0, 0, 0), description="Buoyancy frequency times upward direction, along x, y, z.")
    prandtl: PositiveFloat = Field(1.0, description="Viscosity over diffusivity of the buoyancy.")
    mean_flow: Triple = Field((0, 0, 0), description="Velocity of a uniform stream along x, y, z.")
    passive_scalar: bool = Field(False, description="Carry a passive scalar, stored as `scalar`.")
    scalar_gradient: Triple = Field((0, 0, 0), description="Mean gradient of the passive scalar, along x, y, z.")
    schmidt: PositiveFloat = Field(1.0, description="Viscosity over diffusivity of the passive scalar.")
    spectrum: list[tuple[PositiveFloat, PositiveFloat]] = Field(
        [], description="Rows of k, E(k) for the start of `decaying`; default: k^4 exp(-2 (k / forcing_cutoff)^2)."
    )
    seeds: Annotated[list[int], Field(min_length=1)] = Field([0, 1, 2], description="One independent run per seed.")
    batch: PositiveInt = Field(
        1, description="Seeds simulated together, for a GPU that one box leaves idle; they share the time step."
    )
    spin_up_time: float = Field(12.0, ge=0, description="Time run on half the grid first (forced flows).")
    settle_time: float = Field(2.0, ge=0, description="Time on the full grid before the first snapshot (forced flows).")
    duration: PositiveFloat = Field(20.0, description="Time from the first snapshot to the last.")
    snapshot_interval: PositiveFloat = Field(1.0, description="Time between snapshots.")
    cfl: PositiveFloat = Field(1.25, description="Courant number that sets the time step, max of sum |u_i| dt / dx_i.")
    precision: Literal["float32", "float64"] = "float32"
    dealiasing: Literal["sphere", "cube"] = Field("sphere", description="sphere: more wavenumbers; cube: alias-free.")
    channel: ChannelSettings | None = Field(None, description="The flow `channel`; default: the minimal flow unit.")

    @model_validator(mode="after")
    def _channel_apart(self) -> SimulateSettings:
        """A channel shares nothing but the seeds with the box, and nothing is silently left unused."""
        if self.flow != "channel" and self.channel is not None:
            raise ValueError("settings of a channel, but the flow is not `channel`")
        others = set(type(self).model_fields) - {"flow", "seeds", "channel"}
        unused = sorted(name for name in others if getattr(self, name) != type(self).model_fields[name].default)
        if self.flow == "channel" and unused:
            raise ValueError(f"{', '.join(unused)}: not of a channel; its settings stand under `channel`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _resolve_target(cls, values: Any) -> Any:
        """Fill in what a target decides and the user did not state."""
        if not isinstance(values, dict) or not values.get("target"):
            return values
        from flowsr.simulate.resolution import cells_for, viscosity_for

        try:
            target = Target.model_validate(values["target"])
        except ValidationError:
            return values  # to be reported where it stands
        stated = {name: field.default for name, field in cls.model_fields.items()} | values
        resolved = dict(values)
        try:
            power, cutoff = float(stated["power"]), float(stated["forcing_cutoff"])
            lengths = [float(length) for length in stated["lengths"]]
            if target.re_lambda is not None and "cells" not in values:
                cells = [cells_for(target.re_lambda, target.kmax_eta, cutoff, length) for length in lengths]
                resolved["cells"] = stated["cells"] = cells[0] if len(set(cells)) == 1 else cells
            cells = [stated["cells"]] * 3 if isinstance(stated["cells"], int) else list(stated["cells"])
            coarsest = min(n * TWO_PI / length for n, length in zip(cells, lengths))  # cells on a side of 2 pi
            resolved.setdefault("viscosity", viscosity_for(coarsest, target.kmax_eta, power))
        except (TypeError, ValueError, ZeroDivisionError):
            return values  # a value that is no number: to be reported where it stands
        return resolved

    def recorded(self) -> dict[str, Any]:
        """What decides the result of each seed, as JSON has it; later settings at their defaults are left out."""
        if self.flow == "channel":
            return {"flow": self.flow, **(self.channel or ChannelSettings()).model_dump(mode="json")}
        stated = self.model_dump(mode="json", exclude={"seeds", "batch", "target"})
        blank = type(self)().model_dump(mode="json", include=set(LATER))
        return {name: value for name, value in stated.items() if name not in blank or value != blank[name]}
