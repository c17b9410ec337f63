"""Navier-Stokes in a periodic box: pseudo-spectral, rotation form, RK4 with the viscous term integrated exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flowsr.errors import FlowsrError
from flowsr.simulate.forces import Force
from flowsr.simulate.spectral import PeriodicBox, flat_real

RK4_IMAGINARY_LIMIT = 2 * math.sqrt(2)  # of the classical Runge-Kutta stability region along the imaginary axis
SURELY_UNSTABLE = 2.0  # times that limit: below it turbulence, whose fastest point is fast but briefly, gets by
CLOCK_RESOLUTION = 1e-12  # a step shorter than this share of the time to go: the time step has collapsed


class BoxSolver:
    """Velocity in a periodic box, stepped in time.

    du/dt = P[u x omega + f] - nu k^2 u for the coefficients u, with P the projection on solenoidal fields (Canuto,
    Hussaini, Quarteroni and Zang, Spectral Methods: Evolution to Complex Geometries, 2007, section 3.3). A right-hand
    side takes nine transforms: three of u and three of omega back, three of u x omega forth. Buffers are made once.

    Args:
        box: the truncated Fourier space.
        velocity: (3, Nx, Ny, Nz // 2 + 1) initial coefficients; copied.
        viscosity: nu, length squared per time; 0 is allowed.
        forces: body forces, added up.
        cfl: Courant number: dt = cfl / max(sum_i |u_i| / dx_i), shortened so that whole steps end on an output time.
            The error it makes in the velocity after three turnover times (32^3, Re_lambda 24, against cfl 0.1): 2e-5 at
            0.8, 1e-4 at 1.3, 3e-4 at 1.6, everything at 2.5.
        time, step: where the clock and the step count start.
    """

    def __init__(
        self,
        box: PeriodicBox,
        velocity: Tensor,
        viscosity: float,
        *,
        forces: Sequence[Force] = (),
        cfl: float = 1.25,
        time: float = 0.0,
        step: int = 0,
    ):
        self.box, self.viscosity, self.forces, self.cfl = box, float(viscosity), tuple(forces), float(cfl)
        self.velocity = velocity.to(device=box.device, dtype=box.complex_dtype, copy=True).contiguous()
        self.time, self.step = float(time), int(step)
        self.courant = math.nan  # of the step last taken
        self._tendency, self._base, self._sum, self._stage = (torch.empty_like(self.velocity) for _ in range(4))
        self._potential = torch.empty_like(self.velocity[0])
        self._decay = torch.empty_like(box.k_squared_flat)
        fields = (torch.empty(3, *box.grid.shape, dtype=box.dtype, device=box.device) for _ in range(3))
        self._u, self._omega, self._product = fields

    def advance(self, until: float) -> float:
        """Take one step, at most to the time ``until``, which whole steps of nearly equal length hit exactly.

        The step depends on the state and on ``until`` alone: a run continued from a saved state repeats it bit by bit.

        Returns:
            the time step.

        Raises:
            FlowsrError: the velocity is not finite, or the time step has collapsed.
        """
        self._add_tendency(self.velocity)
        speed = self._courant_speed()
        count, dt = self._divide(until - self.time, speed)
        self._runge_kutta(dt)
        self.box.enforce_reality(self.velocity)
        self.courant = dt * speed
        self.time = until if count == 1 else self.time + dt
        self.step += 1
        return dt

    def tendency(self, velocity: Tensor) -> Tensor:
        """du/dt of coefficients (3, Nx, Ny, Nz // 2 + 1): convection, pressure, forces and viscosity together."""
        self._add_tendency(velocity)
        return self._tendency - self.viscosity * self.box.k_squared * velocity

    def injected_power(self) -> Tensor:
        """<f . u>, the power per unit mass that the forces put in now; a float64 scalar tensor."""
        self._tendency.zero_()
        for force in self.forces:
            force.add(self.velocity, self._tendency)
        return self.box.inner(self._tendency, self.velocity)

    def field(self) -> Tensor:
        """The velocity (3, x, y, z) at cell centres; a new tensor."""
        return self.box.backward(self.velocity)

    def _divide(self, remaining: float, speed: float) -> tuple[int, float]:
        """How many equal steps ``remaining`` takes at this speed, and how long each is."""
        if not math.isfinite(speed):
            raise self.blow_up("the velocity is not finite")
        steps = remaining * speed / self.cfl
        if steps * CLOCK_RESOLUTION > 1:
            raise self.blow_up(f"the time step fell to {remaining / steps:.1e}")
        count = max(1, math.ceil(steps))
        return count, remaining / count

    def blow_up(self, what: str) -> FlowsrError:
        """The error that says where the run broke off and what most likely broke it."""
        limit = self.stable_courant
        viscosity = "the viscosity is too small for the grid, or the forcing too strong: aim at kmax*eta of 1.3 or more"
        if self.cfl > SURELY_UNSTABLE * limit:
            cause = f"cfl {self.cfl:g} is far beyond the stability limit {limit:.2f}: lower it"
        elif self.cfl > limit:
            cause = f"{viscosity}; or cfl {self.cfl:g}, which is stable for certain only up to {limit:.2f}"
        else:
            cause = viscosity
        return FlowsrError(
            f"the simulation blew up at step {self.step}, time {self.time:.6g}: {what}", hint=f"likely cause: {cause}"
        )

    @property
    def stable_courant(self) -> float:
        """Courant number up to which RK4 is stable for advection of the highest kept mode."""
        return RK4_IMAGINARY_LIMIT / (2 * math.pi * self.box.radius)

    def _runge_kutta(self, dt: float) -> None:
        """Classical RK4 in the variable exp(nu k^2 t) u; the first tendency is already there."""
        v, n, base, total, stage = map(
            flat_real, (self.velocity, self._tendency, self._base, self._sum, self._stage)
        )
        half_decay = self._decay
        torch.mul(self.box.k_squared_flat, -0.5 * self.viscosity * dt, out=half_decay).exp_()
        torch.mul(v, half_decay, out=base)
        n.mul_(half_decay)
        torch.add(base, n, alpha=dt / 6, out=total)
        torch.add(base, n, alpha=dt / 2, out=stage)
        self._add_tendency(self._stage)
        total.add_(n, alpha=dt / 3)
        torch.add(base, n, alpha=dt / 2, out=stage)
        self._add_tendency(self._stage)
        total.add_(n, alpha=dt / 3)
        torch.add(base, n, alpha=dt, out=stage).mul_(half_decay)
        self._add_tendency(self._stage)
        torch.mul(total, half_decay, out=v).add_(n, alpha=dt / 6)

    def _add_tendency(self, velocity: Tensor) -> None:
        """P[u x omega + f] of ``velocity`` into the tendency buffer; leaves u in physical space behind."""
        box, tendency = self.box, self._tendency
        box.curl(velocity, out=tendency)
        box.backward(velocity, out=self._u)
        box.backward(tendency, out=self._omega)
        u, omega, product = self._u, self._omega, self._product
        for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            torch.mul(u[b], omega[c], out=product[a])
            product[a].addcmul_(u[c], omega[b], value=-1)
        box.forward_product(product, out=tendency)
        for force in self.forces:
            force.add(velocity, tendency)
        box.project(tendency, scratch=self._potential)

    def _courant_speed(self) -> float:
        """max over the grid of sum_i |u_i| / dx_i, from the physical velocity of the last tendency."""
        total, part = self._product[0], self._product[1]
        torch.abs(self._u[0], out=total).mul_(1 / self.box.grid.spacing[0])
        for a in (1, 2):
            total.add_(torch.abs(self._u[a], out=part), alpha=1 / self.box.grid.spacing[a])
        return total.max().item()
