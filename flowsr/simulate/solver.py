"""Navier-Stokes in a periodic box: pseudo-spectral, rotation form, RK4 with the viscous term integrated exactly."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from flowsr.errors import FlowsrError
from flowsr.simulate.forces import VELOCITY, Force
from flowsr.simulate.scalars import Scalar
from flowsr.simulate.spectral import PeriodicBox, flat_real

RK4_IMAGINARY_LIMIT = 2 * math.sqrt(2)  # of the classical Runge-Kutta stability region along the imaginary axis
SURELY_UNSTABLE = 2.0  # times that limit: below it turbulence, whose fastest point is fast but briefly, gets by
WAVE_RESOLUTION = 4.0  # a step turns the phase of the fastest wave by at most cfl / 4
CLOCK_RESOLUTION = 1e-12  # a step shorter than this share of the time to go: the time step has collapsed


class Stepper(ABC):
    """A flow that is stepped in time.

    Args:
        cfl: Courant number that sets the time step.
        time, step: where the clock and the step count start.

    Attributes:
        courant: of the step last taken; NaN before the first.
    """

    def __init__(self, cfl: float, time: float, step: int):
        self.cfl, self.time, self.step, self.courant = float(cfl), float(time), int(step), math.nan

    def advance(self, until: float) -> float:
        """Take one step, at most to the time ``until``, which whole steps of nearly equal length hit exactly.

        The step depends on the state and on ``until`` alone: a run continued from a saved state repeats it bit by bit.

        Returns:
            the time step.

        Raises:
            FlowsrError: the velocity is not finite, or the time step has collapsed.
        """
        speed, remaining = self._speed(), until - self.time
        if not math.isfinite(speed):
            raise self.blow_up("the velocity is not finite")
        steps = self._steps(remaining, speed)
        if steps * CLOCK_RESOLUTION > 1:
            raise self.blow_up(f"the time step fell to {remaining / steps:.1e}")
        count = max(1, math.ceil(steps))
        dt = remaining / count
        self._step_by(dt)
        self.courant = dt * speed
        self.time = until if count == 1 else self.time + dt
        self.step += 1
        return dt

    def blow_up(self, what: str) -> FlowsrError:
        """The error that says where the run broke off and what most likely broke it."""
        where = f"step {self.step}, time {self.time:.6g}"
        return FlowsrError(f"the simulation blew up at {where}: {what}", hint=f"likely cause: {self._likely_cause()}")

    @abstractmethod
    def _speed(self) -> float:
        """The Courant number of a time step of 1 from the present state."""

    @abstractmethod
    def _steps(self, remaining: float, speed: float) -> float:
        """How many steps of the largest length the remaining time takes at this speed."""

    @abstractmethod
    def _step_by(self, dt: float) -> None:
        """Step the state, after :meth:`_speed`, which may have prepared what both need."""

    @abstractmethod
    def _likely_cause(self) -> str:
        """What most likely breaks a run with these settings."""


class BoxSolver(Stepper):
    """Velocity, and scalars it carries, in a periodic box, stepped in time.

    du/dt = P[u x omega + f] - nu k^2 u for the coefficients u, with P the projection on solenoidal fields (Canuto,
    Hussaini, Quarteroni and Zang, Spectral Methods: Evolution to Complex Geometries, 2007, section 3.3). A right-hand
    side takes nine transforms: three of u and three of omega back, three of u x omega forth. A scalar s adds
    ds/dt = -div(u s) + f - kappa k^2 s and four transforms. Buffers are made once.

    Args:
        box: the truncated Fourier space.
        state: (3 + scalars, Nx, Ny, Nz // 2 + 1) initial coefficients, velocity first; copied. Several members, seeds
            of one flow on one device, stand between: (3 + scalars, member, Nx, Ny, Nz // 2 + 1). They share the time
            step, that of the fastest.
        viscosity: nu, length squared per time; 0 is allowed.
        forces: body forces, added up.
        scalars: what the components of the state after the velocity are.
        cfl: Courant number: dt = cfl / max(sum_i |u_i| / dx_i), shortened so that whole steps end on an output time.
            The error it makes in the velocity after three turnover times (32^3, Re_lambda 24, against cfl 0.1): 2e-5 at
            0.8, 1e-4 at 1.3, 3e-4 at 1.6, everything at 2.5.
            Waves are resolved too: their frequency times dt is at most cfl / 4.
        time, step: where the clock and the step count start.

    Attributes:
        state: the coefficients now; ``velocity`` is the view of its first three.

    Raises:
        ValueError: a state that has not one component for each scalar besides the velocity.
    """

    def __init__(
        self,
        box: PeriodicBox,
        state: Tensor,
        viscosity: float,
        *,
        forces: Sequence[Force] = (),
        scalars: Sequence[Scalar] = (),
        cfl: float = 1.25,
        time: float = 0.0,
        step: int = 0,
    ):
        if len(state) != 3 + len(scalars):
            wanted = 3 + len(scalars)
            raise ValueError(f"a velocity and {len(scalars)} scalars have {wanted} components, got {len(state)}")
        super().__init__(cfl, time, step)
        self.box, self.viscosity = box, float(viscosity)
        self.forces = tuple(sorted(forces, key=lambda force: force.closing))
        self.scalars = tuple(scalars)
        self.state = state.to(device=box.device, dtype=box.complex_dtype, copy=True).contiguous()
        self.velocity = self.state[VELOCITY]
        self.mean_velocity = tuple(map(sum, zip((0.0, 0.0, 0.0), *(force.mean_velocity for force in self.forces))))
        self._wave_rate = WAVE_RESOLUTION * sum(force.frequency for force in self.forces)
        self._tendency, self._base, self._sum, self._stage = (torch.empty_like(self.state) for _ in range(4))
        self._potential = torch.empty_like(self.state[0])
        self._flux = torch.empty_like(self.velocity) if scalars else None
        place = {"dtype": box.dtype, "device": box.device}
        # nu, or one diffusivity a component where a scalar's differs; broadcasts over coefficients
        each = [self.viscosity] * 3 + [scalar.diffusivity for scalar in self.scalars]
        sides = [1] * (self.state.dim() - 1)
        self._diffusivity = torch.tensor(each, **place).reshape(-1, *sides)
        if len(set(each)) == 1:
            self._diffusivity = torch.tensor(each[0], **place).reshape(1, 1, 1)
        self._decay = torch.empty(*self._diffusivity.shape[:-3], *box.k_squared_flat.shape, **place)
        fields = (torch.empty(3, *self.state.shape[1:-3], *box.grid.shape, **place) for _ in range(3))
        self._u, self._omega, self._product = fields

    def _speed(self) -> float:
        self._add_tendency(self.state)
        return max(self._courant_speed(), self._wave_rate)

    def _steps(self, remaining: float, speed: float) -> float:
        return remaining * speed / self.cfl

    def _step_by(self, dt: float) -> None:
        self._runge_kutta(dt)
        self.box.enforce_reality(self.state)

    def tendency(self, state: Tensor) -> Tensor:
        """d/dt of coefficients shaped as the state: convection, pressure, forces and diffusion together."""
        self._add_tendency(state)
        return self._tendency - self._diffusivity * self.box.k_squared * state

    def injected_power(self) -> Tensor:
        """<f . u>, the power per unit mass that the driving forces put in now, of each member; float64."""
        drives = [force for force in self.forces if force.drives]
        if not any(force.closing for force in drives):
            return self._work(drives, self._tendency.zero_())
        self._convect(self.state)
        for force in self.forces:
            if not force.drives:
                force.add(self.state, self._tendency)
        before = self.box.inner(self._tendency[VELOCITY], self.velocity)
        return self._work(drives, self._tendency) - before

    def _work(self, forces: Sequence[Force], tendency: Tensor) -> Tensor:
        """<t . u> of what is in ``tendency`` and the forces, which are added to it."""
        for force in forces:
            force.add(self.state, tendency)
        return self.box.inner(tendency[VELOCITY], self.velocity)

    def field(self) -> Tensor:
        """The velocity (3, [member,] x, y, z) at cell centres, the mean stream included; a new tensor."""
        field = self.box.backward(self.velocity)
        for component, mean in zip(field, self.mean_velocity):
            if mean:
                component += mean
        return field

    def scalar_field(self, index: int = 0) -> Tensor:
        """A scalar ([member,] x, y, z) at cell centres; a new tensor."""
        return self.box.backward(self.state[3 + index])

    def member(self, index: int) -> BoxSolver:
        """A solver of one member alone, as it stands now, for diagnosis or to go on without the others."""
        same = {name: getattr(self, name) for name in ("forces", "scalars", "cfl", "time", "step")}
        alone = BoxSolver(self.box, self.state[:, index], self.viscosity, **same)
        alone.courant = self.courant
        return alone

    def _likely_cause(self) -> str:
        limit = self.stable_courant
        viscosity = "the viscosity is too small for the grid, or the forcing too strong: aim at kmax*eta of 1.3 or more"
        if self.cfl > SURELY_UNSTABLE * limit:
            cause = f"cfl {self.cfl:g} is far beyond the stability limit {limit:.2f}: lower it"
        elif self.cfl > limit:
            cause = f"{viscosity}; or cfl {self.cfl:g}, which is stable for certain only up to {limit:.2f}"
        else:
            cause = viscosity
        for scalar in self.scalars:
            if scalar.diffusivity < self.viscosity:
                cause += f"; or the diffusivity of {scalar.name}, {scalar.diffusivity:.3g}, smaller than the viscosity"
        return cause

    @property
    def stable_courant(self) -> float:
        """Courant number up to which RK4 is stable for advection of the highest kept mode."""
        return RK4_IMAGINARY_LIMIT / (2 * math.pi * self.box.radius)

    def _runge_kutta(self, dt: float) -> None:
        """Classical RK4 in the variable exp(nu k^2 t) u; the first tendency is already there."""
        v, n, base, total, stage = map(flat_real, (self.state, self._tendency, self._base, self._sum, self._stage))
        # exp(-kappa k^2 dt / 2), one array for all components or one for each
        rate = -0.5 * self.viscosity * dt if self._decay.dim() == 3 else self._diffusivity * (-0.5 * dt)
        half_decay = torch.mul(self.box.k_squared_flat, rate, out=self._decay).exp_()
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

    def _add_tendency(self, state: Tensor) -> None:
        """P[u x omega + f] and -div(u s) + f of ``state`` into the tendency buffer; leaves u in physical space."""
        self._convect(state)
        for force in self.forces:
            force.add(state, self._tendency)
        self.box.project(self._tendency[VELOCITY], scratch=self._potential)

    def _convect(self, state: Tensor) -> None:
        """u x omega and -div(u s) into the tendency buffer; leaves u in physical space behind."""
        box, velocity, tendency = self.box, state[VELOCITY], self._tendency[VELOCITY]
        box.curl(velocity, out=tendency)
        box.backward(velocity, out=self._u)
        box.backward(tendency, out=self._omega)
        u, omega, product = self._u, self._omega, self._product
        for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            torch.mul(u[b], omega[c], out=product[a])
            product[a].addcmul_(u[c], omega[b], value=-1)
        box.forward_product(product, out=tendency)
        for component in range(3, len(state)):
            scalar = box.backward(state[component], out=omega[0])
            torch.mul(u, scalar, out=product)
            box.forward_product(product, out=self._flux)
            box.minus_divergence(self._flux, out=self._tendency[component])

    def _courant_speed(self) -> float:
        """max over the grid of sum_i |u_i| / dx_i, from the physical velocity of the last tendency."""
        total, part = self._product[0], self._product[1]
        torch.abs(self._stream(0), out=total).mul_(1 / self.box.grid.spacing[0])
        for a in (1, 2):
            total.add_(torch.abs(self._stream(a), out=part), alpha=1 / self.box.grid.spacing[a])
        return total.max().item()

    def _stream(self, axis: int) -> Tensor:
        """A velocity component of the last tendency, that of the mean stream included."""
        mean = self.mean_velocity[axis]
        return torch.add(self._u[axis], mean, out=self._product[2]) if mean else self._u[axis]
