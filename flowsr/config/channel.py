"""Settings of the plane channel, the simulate stage's flow between walls."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from flowsr.config.base import Settings

PI = 3.141592653589793


class ChannelSettings(Settings):
    """Direct numerical simulation between walls at y = -1 and 1; in half heights and friction velocities."""

    re_tau: PositiveFloat = Field(180.0, description="Reynolds number u_tau h / nu; decides the viscosity.")
    cells: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (32, 64, 32), description="Grid cells along x, y, z, even; stretched along y."
    )
    lengths: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        (PI, 2.0, 0.4 * PI), description="Sides of the box along x, y, z; 2 along y."
    )
    drive: Literal["pressure", "flux"] = Field(
        "pressure", description="pressure: constant pressure gradient; flux: constant bulk velocity."
    )
    cfl: PositiveFloat = Field(0.5, description="Courant number that sets the time step, stable up to 0.55.")
    time_step: PositiveFloat | None = Field(None, description="A largest time step instead of the Courant number.")
    start: Literal["turbulent", "laminar"] = Field("turbulent", description="Mean profile, randomly disturbed.")
    wall_dealiasing: bool = Field(False, description="De-alias products along y too.")
    spin_up_time: float = Field(3.0, ge=0, description="Time before the first snapshot.")
    duration: PositiveFloat = Field(12.0, description="Time from the first snapshot to the last.")
    snapshot_interval: PositiveFloat = Field(0.25, description="Time between snapshots.")
