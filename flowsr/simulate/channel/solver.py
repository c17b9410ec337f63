"""Navier-Stokes in a plane channel: Runge-Kutta for convection, Crank-Nicolson for viscosity, exact no-slip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsr.simulate.channel.chebyshev import lobatto_nodes
from flowsr.simulate.channel.space import HEIGHT, ChannelSpace
from flowsr.simulate.solver import CLOCK_RESOLUTION, Stepper
from flowsr.simulate.spectral import flat_real

# Spalart, Moser and Rogers, J. Comput. Phys. 96, 297, 1991, appendix A: explicit and implicit viscous weights, weights
# of the present and of the last convective term, one line a substep. Third order for convection, second for viscosity.
SUBSTEPS = ((29 / 96, 37 / 160, 8 / 15, 0.0), (-3 / 40, 5 / 24, 5 / 12, -17 / 60), (1 / 6, 1 / 6, 3 / 4, -5 / 12))
STABLE_COURANT = math.sqrt(3) / math.pi  # RK3 on the imaginary axis, for the highest mode of the grid
SURELY_UNSTABLE = 2.0  # times that: below it the fastest point, which is fast but briefly, gets by


@dataclass(frozen=True)
class MeanDrive:
    """What drives the mean flow along x: exactly one of the two.

    Args:
        pressure_gradient: -dp/dx per unit mass, held constant.
        bulk_velocity: mean of u over the channel, held constant by whatever pressure gradient it takes.
    """

    pressure_gradient: float | None = None
    bulk_velocity: float | None = None

    def __post_init__(self):
        if (self.pressure_gradient is None) == (self.bulk_velocity is None):
            raise ValueError("a channel is driven by a pressure gradient or by a bulk velocity, one of the two")


@dataclass(frozen=True)
class _ViscousStep:
    """Factors of one substep for a time step dt, on interleaved real and imaginary parts.

    Args:
        keep, gain: (Ny - 1, x, z) factors of the old state and of what convection adds.
        influence: (Ny - 1, x, z) solutions v with a wall value of nabla^2 v alone, scaled to a slope of 1 at the wall.
        push: (Ny - 1,) mean flow that a pressure gradient adds, scaled to a bulk velocity of 1.
    """

    keep: Tensor
    gain: Tensor
    influence: Tensor
    push: Tensor


class ChannelSolver(Stepper):
    """Velocity between two walls, stepped in time.

    Wall-normal velocity v and vorticity omega_y obey

        d/dt nabla^2 v = h_v + nu nabla^4 v,    d/dt omega_y = h_g + nu nabla^2 omega_y

    with v = v' = omega_y = 0 at the walls (Kim, Moin and Moser 1987). Both are advanced in the eigenbasis of the
    wall-normal second derivative, where Helmholtz and Poisson problems are divisions. The wall values of nabla^2 v that
    make v' vanish follow from a one-by-one influence matrix per wavenumber and parity (Kleiser and Schumann 1980). A
    right-hand side takes nine transforms over x and z; a step takes three of them. Nothing but the state is carried
    from step to step.

    Args:
        space: the discrete space.
        state: initial state; copied.
        viscosity: nu.
        drive: of the mean flow.
        frame_velocity: speed along x of the frame in which the state is held; velocities stay those seen from the
            walls. In a frame that goes along with the flow convection is slower: steps are longer and lose less energy.
        cfl: Courant number: dt = cfl / max(|u| / dx + |v| / dy + |w| / dz), u as seen in the frame, shortened so that
            whole steps end on an output time.
        time_step: a fixed largest step instead; whole steps end on an output time.
        time, step: where the clock and the step count start.
    """

    def __init__(
        self,
        space: ChannelSpace,
        state: Tensor,
        viscosity: float,
        drive: MeanDrive,
        *,
        frame_velocity: float = 0.0,
        cfl: float = 0.5,
        time_step: float | None = None,
        time: float = 0.0,
        step: int = 0,
    ):
        super().__init__(cfl, time, step)
        self.space, self.viscosity, self.drive = space, float(viscosity), drive
        self.frame_velocity, self.time_step = float(frame_velocity), time_step
        self.state = state.to(device=space.device, dtype=space.complex_dtype, copy=True).contiguous()
        self._convection, self._last = torch.empty_like(self.state), torch.empty_like(self.state)
        basis = space.basis
        self._diffusion = space.doubled(self.viscosity * space.laplacian)
        self._wall_response = space.doubled(space.tensor(basis.wall_source)[:, None, None] / space.laplacian)
        self._slope = space.tensor(basis.evaluate([1.0], derivatives=1))  # of the wall basis, at the wall y = 1
        self._unit = space.tensor(basis.inverse.sum(axis=1))  # coefficients of 1
        self._mean_value = space.integrals() / HEIGHT
        spacing = torch.gradient(space.tensor(lobatto_nodes(space.padded[1] - 1)))[0]
        self._inverse_spacing = (space.padded[1] - 1) / space.cells[1] / spacing[:, None, None]
        self._viscous: list[_ViscousStep] = []
        self._viscous_dt = math.nan

    def _speed(self) -> float:
        """max of |u| / dx + |v| / dy + |w| / dz, with the cells' sizes; leaves what is seen for the first substep."""
        self._present = self._seen()
        u, v, w = self._present[0]
        dx, dz = self.space.spacing
        rate = torch.abs(v).mul_(self._inverse_spacing)
        return rate.add_(u.abs(), alpha=1 / dx).add_(w.abs(), alpha=1 / dz).max().item()

    def _steps(self, remaining: float, speed: float) -> float:
        steps = remaining * speed / self.cfl if self.time_step is None else remaining / self.time_step
        return steps * (1 - CLOCK_RESOLUTION)

    def _step_by(self, dt: float) -> None:
        self._prepare(dt)
        for number, (_, _, weight, last_weight) in enumerate(SUBSTEPS):
            velocity, vorticity = self._seen() if number else self._present
            self.space.convection(velocity, vorticity, out=self._convection)
            if self.drive.pressure_gradient is not None:
                self._convection[1, :, 0, 0].real.add_(self._unit, alpha=self.drive.pressure_gradient)
            self._substep(number, weight, last_weight)
        self.space.enforce_reality(self.state)

    def field(self) -> Tensor:
        """Velocity (3, x, y, z) at the cell centres, which are at rest; a new tensor."""
        return self.space.field(self.state, shift=self.frame_velocity * self.time)

    def tendency(self) -> Tensor:
        """d/dt of the state in the frame: convection, viscosity, the drive, and what keeps v' zero at the walls."""
        self.space.convection(*self._seen(), out=self._convection)
        found = self._convection.clone()
        if self.drive.pressure_gradient is not None:
            found[1, :, 0, 0].real.add_(self._unit, alpha=self.drive.pressure_gradient)
        flat_real(found).addcmul_(flat_real(self.state), self._diffusion)
        influence = self._wall_response.clone()
        self._scale_to_slope(influence)
        self._no_slip(flat_real(found)[0], influence)
        if self.drive.bulk_velocity is not None:
            mean = found[1, :, 0, 0].real
            mean.add_(self._unit, alpha=-(self._mean_value @ mean) / (self._mean_value @ self._unit))
        self.space.enforce_reality(found)
        return found

    def _seen(self):
        """Velocity relative to the frame, and vorticity, on the points where products are taken."""
        velocity, vorticity = self.space.physical(self.state)
        velocity[0].sub_(self.frame_velocity)
        return velocity, vorticity

    def _substep(self, number: int, weight: float, last_weight: float) -> None:
        """One substep of a Runge-Kutta step, and the exchange of the present and the last convective term."""
        viscous = self._viscous[number]
        state, present, last = map(flat_real, (self.state, self._convection, self._last))
        if last_weight:
            last.mul_(last_weight).add_(present, alpha=weight)
        else:
            torch.mul(present, weight, out=last)
        state.mul_(viscous.keep).addcmul_(last, viscous.gain)
        self._no_slip(state[0], viscous.influence)
        if self.drive.bulk_velocity is not None:
            mean = self.state[1, :, 0, 0].real
            lack = self.drive.bulk_velocity - self._mean_value @ mean
            mean.add_(viscous.push * lack)
        self._convection, self._last = self._last, self._convection

    def _no_slip(self, v: Tensor, influence: Tensor) -> None:
        """Add the solutions of the homogeneous problem that make v' zero at both walls."""
        even = self.space.basis.even
        for part in (slice(0, even), slice(even, None)):
            slope = torch.mm(self._slope[:, part], v[part].flatten(1)).view(v.shape[1:])
            v[part].addcmul_(influence[part], slope, value=-1)

    def _scale_to_slope(self, influence: Tensor) -> None:
        """Solutions of the homogeneous problem, in place, so that their slope at the wall is 1."""
        even = self.space.basis.even
        for part in (slice(0, even), slice(even, None)):
            influence[part] /= torch.mm(self._slope[:, part], influence[part].flatten(1)).view(influence.shape[1:])

    def _prepare(self, dt: float) -> None:
        """Factors of the three substeps for this time step; those of the last one if it was the same."""
        if dt == self._viscous_dt:
            return
        self._viscous, self._viscous_dt = [], dt
        for explicit, implicit, _, _ in SUBSTEPS:
            gain = dt / (1 - implicit * dt * self._diffusion)
            keep = (1 + explicit * dt * self._diffusion).mul_(gain).div_(dt)
            influence = self._wall_response * gain
            self._scale_to_slope(influence)
            push = self._unit * gain[:, 0, 0]
            self._viscous.append(_ViscousStep(keep, gain, influence, push / (self._mean_value @ push)))

    def _likely_cause(self) -> str:
        courant = self.cfl if self.time_step is None else self.courant
        if courant > SURELY_UNSTABLE * STABLE_COURANT or math.isnan(courant):
            name = "cfl" if self.time_step is None else "time_step"
            return f"a Courant number of {courant:.2g} is beyond the limit {STABLE_COURANT:.2f}: lower {name}"
        return "the grid is too coarse for the Reynolds number: aim at 12 x 6 wall units along x and z or less"
