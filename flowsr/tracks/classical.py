"""Fields from particles without training: the interpolations that are in use, and two that know the flow has no
divergence.

Every method is called as ``method(cloud, points)`` and gives an :class:`Estimate`. Velocities are taken about the mean
of the cloud, so that a uniform wind changes nothing else.

- ``nearest``, ``linear`` (Delaunay), ``rbf`` (thin-plate splines of the nearest particles), ``gaussian`` (adaptive
  Gaussian windowing: Agui and Jimenez, J. Fluid Mech. 185, 447, 1987), ``local_fit`` (moving least squares, degree 1);
- ``bspline``: cubic B-splines on a grid, fitted to the particles with penalties on divergence and roughness, as
  FlowFit does (Gesemann, Huhn, Schanz and Schroeder, Lisbon 2016);
- ``navier_stokes``: the same with a pressure, fitted to measured accelerations and to Navier-Stokes;
- ``solenoidal``: kriging whose covariance is the structure function of isotropic turbulence, D_LL = r^p and, because
  the flow has no divergence, D_NN = (1 + p/2) D_LL (de Karman and Howarth, Proc. R. Soc. A 164, 192, 1938). Its
  field has no divergence either. (Matrix-valued radial functions without divergence: Narcowich and Ward, Math. Comp.
  63, 661, 1994.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from scipy.interpolate import LinearNDInterpolator, RBFInterpolator
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, cg

from flowsr.errors import FlowsrError
from flowsr.registry import Registry
from flowsr.tracks.cloud import Cloud

#: Points that are done at once; what a method needs besides is some hundred times 8 bytes a point.
BATCH = 20_000
#: Mean distance to the nearest of particles at random places, in the cube root of the volume of each: Gamma(4/3) (3 / 4
#: pi)^(1/3) (Chandrasekhar, Rev. Mod. Phys. 15, 1, 1943).
MEAN_DISTANCE = 0.55396


@dataclass(frozen=True, eq=False)
class Estimate:
    """A field at the points that were asked for.

    Args:
        velocity: (points, 3).
        gradient: (points, 3, 3), derivative of component i along axis j at [i, j]; None where a method has none.
        uncertainty: (points,) standard deviation of a velocity's component, in the mean of the three; None: not known.
        pressure: (points,) over the density; None: not known.
    """

    velocity: np.ndarray
    gradient: np.ndarray | None = None
    uncertainty: np.ndarray | None = None
    pressure: np.ndarray | None = None

    @property
    def vorticity(self) -> np.ndarray | None:
        """(points, 3)."""
        return None if self.gradient is None else vorticity(self.gradient)


def vorticity(gradient: np.ndarray) -> np.ndarray:
    """Curl of a velocity from its gradient (..., 3, 3), derivative of component i along axis j at [i, j]."""
    g = gradient
    return np.stack([g[..., 2, 1] - g[..., 1, 2], g[..., 0, 2] - g[..., 2, 0], g[..., 1, 0] - g[..., 0, 1]], -1)


Method = Callable[[Cloud, np.ndarray], Estimate]
METHODS: Registry[Method] = Registry("method for particles")


def _in_batches(evaluate: Callable[[np.ndarray], Estimate], points: np.ndarray, size: int = BATCH) -> Estimate:
    parts = [evaluate(points[start : start + size]) for start in range(0, len(points), size)]
    return joined(parts)


def joined(parts: Sequence[Estimate]) -> Estimate:
    """Estimates of several batches of points as one."""

    def of(name: str) -> np.ndarray | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    return Estimate(of("velocity"), of("gradient"), of("uncertainty"), of("pressure"))


@METHODS.register("nearest")
def nearest(cloud: Cloud, points: np.ndarray) -> Estimate:
    """The velocity of the nearest particle."""
    return Estimate(cloud.velocities[cloud.nearest(points, 1)[1][:, 0]])


@METHODS.register("linear")
def linear(cloud: Cloud, points: np.ndarray) -> Estimate:
    """Linear on the tetrahedra of a Delaunay mesh; beyond the outermost particles the nearest one's velocity."""
    mesh, values = _meshed(cloud)
    points = cloud.wrapped(points)
    velocity, gradient = mesh(points), np.zeros((len(points), 3, 3))
    simplex = mesh.tri.find_simplex(points)
    inside = simplex >= 0
    # barycentric coordinates are linear in the point: their gradients are rows of the mesh's transform
    corners = mesh.tri.simplices[simplex[inside]]
    inverse = mesh.tri.transform[simplex[inside], :3]
    differences = values[corners[:, :3]] - values[corners[:, 3:]]
    gradient[inside] = np.einsum("pci,pcj->pij", differences, inverse)
    lost = ~np.isfinite(velocity).all(1) | ~np.isfinite(gradient).all((1, 2))
    velocity[lost], gradient[lost] = nearest(cloud, points[lost]).velocity, 0.0
    return Estimate(velocity, gradient)


@lru_cache(maxsize=1)
def _meshed(cloud: Cloud) -> tuple[LinearNDInterpolator, np.ndarray]:
    """The mesh and the velocities of its corners, kept from one batch of points to the next."""
    positions, owner = cloud.images(3 * cloud.spacing)
    values = cloud.velocities[owner]
    return LinearNDInterpolator(positions, values), values


@METHODS.register("rbf")
def rbf(cloud: Cloud, points: np.ndarray, neighbours: int = 40) -> Estimate:
    """Thin-plate splines through the nearest particles of each point."""
    positions, owner = cloud.images(4 * cloud.spacing)
    spline = RBFInterpolator(positions, cloud.velocities[owner], neighbors=min(neighbours, len(positions)))
    return Estimate(spline(cloud.wrapped(points)))


@METHODS.register("gaussian")
def gaussian(cloud: Cloud, points: np.ndarray, width: float = 1.24, neighbours: int = 32) -> Estimate:
    """Mean of the velocities about a point with weights exp(-r^2 / H^2), H = ``width`` times the mean distance between
    nearest particles, which the neighbours themselves decide (Agui and Jimenez: 1.24 is best without noise)."""
    distances, indices = cloud.nearest(points, neighbours)
    spacing = (4 / 3 * np.pi * distances[:, -1:] ** 3 / distances.shape[1]) ** (1 / 3)
    # less the nearest one's distance, which changes no weight after they are normalized and lets none underflow
    weights = np.exp(-(distances**2 - distances[:, :1] ** 2) / (width * MEAN_DISTANCE * spacing) ** 2)
    weights /= weights.sum(1, keepdims=True)
    return Estimate(np.einsum("pn,pni->pi", weights, cloud.velocities[indices]))


@METHODS.register("local_fit")
def local_fit(cloud: Cloud, points: np.ndarray, neighbours: int = 20) -> Estimate:
    """A linear field fitted to the nearest particles, near ones weighted more; its gradient is the estimate's."""
    return _in_batches(partial(_local_fit, cloud, neighbours=neighbours), points)


def _local_fit(cloud: Cloud, points: np.ndarray, neighbours: int) -> Estimate:
    distances, indices = cloud.nearest(points, neighbours)
    points = cloud.wrapped(points)
    reach = distances[:, -1:] * 1.001
    offsets = cloud.displacement(cloud.wrapped(cloud.positions)[indices] - points[:, None]) / reach[..., None]
    weights = (1 - (distances / reach) ** 2) ** 2
    design = np.concatenate([np.ones((*distances.shape, 1)), offsets], -1)
    moment = np.einsum("pn,pna,pnb->pab", weights, design, design) + 1e-9 * np.eye(4)
    mean = cloud.velocities.mean(0)
    right = np.einsum("pn,pna,pni->pai", weights, design, cloud.velocities[indices] - mean)
    found = np.linalg.solve(moment, right)
    return Estimate(found[:, 0] + mean, np.moveaxis(found[:, 1:], 1, 2) / reach[..., None])


# -- kriging with the structure function of turbulence -----------------------------------------------------------------

EXPONENT, NEIGHBOURS = 3.0, 40
#: Points whose equations are made and solved at once: as many as a cache holds, which takes half the time of thousands.
KRIGED = 32
_LINEAR_FROM = 2.0  # from this exponent on the covariance grows so fast that linear fields have to be fitted as well


def _structure(offsets: np.ndarray, p: float) -> np.ndarray:
    """p r^(p-2) r r^T - (p + 2) r^p 1 for offsets (..., 3): minus the structure function of an isotropic solenoidal
    field whose longitudinal one grows as r^p (von Karman and Howarth 1938), but for a factor."""
    r = np.sqrt((offsets**2).sum(-1))[..., None, None]
    outer = offsets[..., :, None] * offsets[..., None, :]
    return p * np.where(r > 0, r, 1.0) ** (p - 2) * outer - (p + 2) * r**p * np.eye(3)


def _structure_slopes(offsets: np.ndarray, amplitudes: np.ndarray, p: float) -> np.ndarray:
    """(..., 3, 3): derivative along k of (structure a)_i at [i, k]; offsets of points from particles, not zero."""
    r = np.maximum(np.sqrt((offsets**2).sum(-1)), 1e-12)[..., None, None]
    along = (offsets * amplitudes).sum(-1)[..., None, None]
    d, a = offsets, amplitudes
    mixed = along * np.eye(3) + d[..., :, None] * a[..., None, :] - (p + 2) * a[..., :, None] * d[..., None, :]
    return p * r ** (p - 2) * mixed + p * (p - 2) * r ** (p - 4) * along * d[..., :, None] * d[..., None, :]


def _solenoidal_fields(offsets: np.ndarray, linear: bool) -> np.ndarray:
    """(..., 3, fields): the constant fields, and the linear ones without divergence, at offsets (..., 3)."""
    constant = np.broadcast_to(np.eye(3), (*offsets.shape[:-1], 3, 3))
    if not linear:
        return constant
    return np.concatenate([constant, np.einsum("fij,...j->...if", _TRACELESS, offsets)], -1)


def _traceless() -> np.ndarray:
    """(8, 3, 3): a basis of the matrices without trace."""
    single = [np.outer(np.eye(3)[i], np.eye(3)[j]) for i in range(3) for j in range(3) if i != j]
    return np.stack([*single, np.diag([1.0, -1.0, 0.0]), np.diag([1.0, 1.0, -2.0])])


_TRACELESS = _traceless()


@METHODS.register("solenoidal")
def solenoidal(
    cloud: Cloud,
    points: np.ndarray,
    neighbours: int = NEIGHBOURS,
    exponent: float = EXPONENT,
    noise: float | None = None,
    uncertainty: bool = False,
) -> Estimate:
    """Kriging from the nearest particles with the structure function of isotropic turbulence, D_LL = r^p.

    The best linear estimate for such a flow, and free of divergence. It has no length of its own, so that it is the
    same in all units; every velocity gradient without trace is met exactly.

    Args:
        cloud, points: particles, and where the field is asked for, (points, 3).
        neighbours: particles that a point sees.
        exponent: p, from 0 to 4 but not 2: 2/3 in the inertial range; where a flow is smooth between particles, higher.
        noise: standard deviation of a measured velocity about that of the flow, in its unit; default: what is known of
            each particle, or else what meets some particles best that are left out (:func:`noise_of`).
        uncertainty: give the estimate's standard deviation too, with the strength of the structure function that the
            neighbours' velocities have.

    Raises:
        ValueError: an exponent outside its range.
    """
    if not 0 < exponent < 4 or exponent == 2:
        raise ValueError(f"the exponent is from 0 to 4 and not 2, got {exponent}")
    if noise is None and cloud.uncertainty is None:
        noise = noise_of(cloud, neighbours, exponent)
    if noise is not None:
        cloud = replace(cloud, uncertainty=np.full(len(cloud), float(noise)))
    options = {"neighbours": neighbours, "p": exponent, "uncertainty": uncertainty}
    return _in_batches(partial(_kriged, cloud, **options), points, KRIGED)


#: Noise that kriging is tried with, over what it misses without, until one is no better than the one before.
NOISE = (0.1, 0.2, 0.4, 0.8)
LEFT = 300  # particles that are left out, at most


@lru_cache(maxsize=1)
def noise_of(cloud: Cloud, neighbours: int = NEIGHBOURS, exponent: float = EXPONENT) -> float:
    """The noise of the velocities with which :func:`solenoidal` meets particles best that it is not told of.

    Zero where none of :data:`NOISE` is better by a hundredth. Who is left out is decided by how fast particles are
    about the mean, so that neither axes nor order, origin or unit have a say.
    """
    about_mean = cloud.velocities - cloud.velocities.mean(0)
    order = np.argsort((about_mean**2).sum(1), kind="stable")
    every = max(10, -(-len(cloud) // LEFT))
    left, told = order[every // 2 :: every], cloud.of(np.delete(order, np.s_[every // 2 :: every]))

    def missed(noise: float) -> float:
        found = solenoidal(told, cloud.positions[left], neighbours, exponent, noise).velocity
        return float(np.sqrt(np.mean((found - cloud.velocities[left]) ** 2)))

    best, least = 0.0, missed(0.0)
    without = least
    for share in NOISE:
        tried = missed(share * without)
        if tried > 0.99 * least:
            break
        best, least = share * without, tried
    return best


def _kriged(cloud: Cloud, points: np.ndarray, neighbours: int, p: float, uncertainty: bool) -> Estimate:
    indices, reach, offsets, whole, right = _kriging_system(cloud, points, neighbours, p)
    values, sign, strength = 3 * offsets.shape[1], 1 if p < 2 else -1, None
    if cloud.uncertainty is not None and cloud.uncertainty.any():
        variance = np.tile(cloud.uncertainty[indices] ** 2, 3)
        strength = _strength(whole, right, variance, sign)
        diagonal = np.arange(values)
        whole[:, diagonal, diagonal] += sign * variance / strength[:, None]
    if uncertainty:  # covariances of the particles and the fitted fields with the flow at the point
        there = np.zeros((len(points), whole.shape[1], 3))
        there[:, :values] = np.moveaxis(_structure(offsets, p), 1, 2).reshape(len(points), values, 3)
        there[:, values : values + 3] = np.eye(3)
        right = np.concatenate([right, there], -1)
    found = np.linalg.solve(whole, right)
    estimate = _kriged_field(offsets, reach, found[..., 0], p)
    if not uncertainty:
        return estimate
    if strength is None:
        strength = sign * (found[:, :, 0] * right[:, :, 0]).sum(1) / (values - (whole.shape[1] - values))
    known = -sign * np.einsum("pai,pai->p", right[..., 1:], found[..., 1:])  # the field's own covariance is 0 at 0
    return replace(estimate, uncertainty=np.sqrt(np.maximum(strength * known / 3, 0.0)))


def _kriging_system(cloud: Cloud, points: np.ndarray, neighbours: int, p: float) -> tuple[np.ndarray, ...]:
    """For each point: its neighbours, how far it sees (points, 1, 1), their offsets in that, the equations' two sides.

    Values stand by component, and by particle within it.
    """
    distances, indices = cloud.nearest(points, neighbours)
    reach = distances[:, -1][:, None, None]
    offsets = cloud.displacement(cloud.wrapped(cloud.positions[indices]) - cloud.wrapped(points)[:, None]) / reach
    count, seen = distances.shape
    fields = _solenoidal_fields(np.swapaxes(offsets, 0, 1), linear=p > _LINEAR_FROM)  # (particles, points, 3, fields)
    fields = np.moveaxis(fields, 0, 2).reshape(count, 3 * seen, -1)
    unknowns = 3 * seen + fields.shape[-1]
    whole = np.zeros((count, unknowns, unknowns))
    _structure_between(offsets, p, out=whole)
    whole[:, : 3 * seen, 3 * seen :] = fields
    whole[:, 3 * seen :, : 3 * seen] = np.swapaxes(fields, 1, 2)
    right = np.zeros((count, unknowns, 1))
    right[:, : 3 * seen, 0] = np.swapaxes(cloud.velocities[indices], 1, 2).reshape(count, -1)
    return indices, reach, offsets, whole, right


def _structure_between(offsets: np.ndarray, p: float, out: np.ndarray) -> None:
    """:func:`_structure` of all pairs of offsets (points, particles, 3), by component, into the corner of ``out``.

    Six blocks are different, and each is symmetric: a third of the work of all nine.
    """
    seen = offsets.shape[1]
    along = np.ascontiguousarray(np.moveaxis(offsets, 2, 0))
    apart = along[..., :, None] - along[..., None, :]
    squared = (apart**2).sum(0)
    near = np.sqrt(squared)
    if p < _LINEAR_FROM:
        near[:, range(seen), range(seen)] = 1.0  # no particle is away from itself; the rest is 0 there anyway
    near = p * near ** (p - 2)
    far = (p + 2) / p * near * squared
    for i in range(3):
        row = near * apart[i]
        for j in range(i + 1):
            block = row * apart[j]
            if i == j:
                block -= far
            out[:, i * seen : (i + 1) * seen, j * seen : (j + 1) * seen] = block
            if i != j:
                out[:, j * seen : (j + 1) * seen, i * seen : (i + 1) * seen] = block


def _kriged_field(offsets: np.ndarray, reach: np.ndarray, found: np.ndarray, p: float) -> Estimate:
    """The field at the points, of the solution (points, unknowns)."""
    count, seen = offsets.shape[:2]
    amplitudes, weights = np.swapaxes(found[:, : 3 * seen].reshape(count, 3, seen), 1, 2), found[:, 3 * seen :]
    velocity = np.einsum("pnij,pnj->pi", _structure(-offsets, p), amplitudes) + weights[:, :3]
    gradient = _structure_slopes(-offsets, amplitudes, p).sum(1)
    if p > _LINEAR_FROM:
        gradient += np.einsum("pf,fij->pij", weights[:, 3:], _TRACELESS)
    return Estimate(velocity, gradient / reach)


def left_out(
    cloud: Cloud, neighbours: int = NEIGHBOURS, particles: slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`solenoidal` misses of each particle that it is not told of, and its gradient where it is.

    Both come of one solution: the miss is the particle's amplitude over its block of the inverse (Dubrule,
    Mathematical Geology 15, 687, 1983).

    Args:
        cloud: particles; what is known of their noise is not used.
        neighbours: that a particle sees, itself among them.
        particles: of which it is asked.

    Returns:
        (particles, 3) measured velocity less the one of the others, and (particles, 3, 3) the gradient.
    """
    misses, gradients, asked = [], [], cloud.positions[particles]
    for start in range(0, len(asked), KRIGED):
        _, reach, offsets, whole, right = _kriging_system(cloud, asked[start : start + KRIGED], neighbours, EXPONENT)
        own = np.zeros((len(offsets), whole.shape[1], 3))
        nearest = np.arange(3) * offsets.shape[1]  # of a particle is itself, in each component
        own[:, nearest] = np.eye(3)
        found = np.linalg.solve(whole, np.concatenate([right, own], -1))
        misses.append(np.linalg.solve(found[:, nearest, 1:], found[:, nearest, :1])[..., 0])
        gradients.append(_kriged_field(offsets, reach, found[..., 0], EXPONENT).gradient)
    return np.concatenate(misses), np.concatenate(gradients)


def _strength(whole: np.ndarray, right: np.ndarray, variance: np.ndarray, sign: int) -> np.ndarray:
    """Of the structure function, (points,), which the velocities themselves decide, less their noise.

    Without fields that are fitted anyway, u^T W u has the expectation strength (values - fields) + trace(W noise).
    """
    values = variance.shape[1]
    inverse = sign * np.linalg.inv(whole)[:, :values, :values]
    scatter = np.einsum("pi,pij,pj->p", right[:, :values, 0], inverse, right[:, :values, 0])
    due = (np.diagonal(inverse, axis1=1, axis2=2) * variance).sum(1)
    strength = np.maximum(scatter - due, 0.02 * scatter) / (values - (whole.shape[1] - values))
    return np.maximum(strength, np.finfo(float).tiny)


# -- cubic B-splines on a grid -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SplineGrid:
    """Cubic B-splines on a uniform grid over the box of a cloud.

    Args:
        lower, spacing: corner of the box and size of the cells along x, y, z.
        cells: number of cells along x, y, z.
        periodic: which axes are.
    """

    lower: np.ndarray
    spacing: np.ndarray
    cells: tuple[int, int, int]
    periodic: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Splines along x, y, z: three more than cells where an axis is not periodic."""
        return tuple(n if p else n + 3 for n, p in zip(self.cells, self.periodic))

    def axis(self, axis: int, coordinates: np.ndarray, derivative: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values (points, 4) of the splines that are not zero at some coordinates of an axis."""
        s = (coordinates - self.lower[axis]) / self.spacing[axis]
        cell = np.clip(np.floor(s).astype(int), 0, self.cells[axis] - 1)
        t = s - cell
        # the four cubic pieces on a cell, in powers of t: splines centred at cell - 1 ... cell + 2
        pieces = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6
        powers = np.polynomial.Polynomial
        values = np.stack(
            [powers(piece).deriv(derivative)(t) if derivative else powers(piece)(t) for piece in pieces], -1
        )
        indices = cell[:, None] + np.arange(4)
        indices = (indices - 1) % self.cells[axis] if self.periodic[axis] else indices
        return indices, values / self.spacing[axis] ** derivative

    def matrix(self, points: np.ndarray, derivative: tuple[int, int, int] = (0, 0, 0)) -> csr_matrix:
        """Takes coefficients (splines, in C order) to values, or derivatives, at points."""
        parts = [self.axis(a, points[:, a], derivative[a]) for a in range(3)]
        (ix, vx), (iy, vy), (iz, vz) = parts
        values = vx[:, :, None, None] * vy[:, None, :, None] * vz[:, None, None, :]
        shape = self.shape
        columns = (ix[:, :, None, None] * shape[1] + iy[:, None, :, None]) * shape[2] + iz[:, None, None, :]
        rows = np.repeat(np.arange(len(points)), 64)
        return csr_matrix((values.ravel(), (rows, columns.ravel())), shape=(len(points), int(np.prod(shape))))

    def along(self, axis: int, derivative: int, at: str = "centres") -> np.ndarray:
        """(places, splines): values or derivatives of one axis's splines at the centres or the corners of the cells."""
        count = self.cells[axis] + (at == "corners" and not self.periodic[axis])
        first = 0.5 if at == "centres" else 0.0
        indices, values = self.axis(
            axis, self.lower[axis] + (np.arange(count) + first) * self.spacing[axis], derivative
        )
        dense = np.zeros((count, self.shape[axis]))
        np.add.at(dense, (np.arange(count)[:, None], indices), values)
        return dense


#: Weights of the second derivatives that splines are tried with, until one is worse than the one before.
ROUGHNESS = (0.003, 0.01, 0.03, 0.1, 0.3)


@METHODS.register("bspline")
def bspline(
    cloud: Cloud,
    points: np.ndarray,
    cells_per_particle: float = 8.0,
    divergence: float = 3.0,
    roughness: float | None = None,
    tolerance: float = 1e-4,
) -> Estimate:
    """Cubic B-splines fitted by least squares: |u(x_p) - u_p|^2 + penalties on divergence and on second derivatives.

    Args:
        cells_per_particle: of the spline grid; FlowFit takes 5 to 25.
        divergence: weight of the mean squared divergence, in cells and per particle.
        roughness: weight of the mean squared second derivatives, likewise; default: the one of :data:`ROUGHNESS` whose
            fit misses least of a tenth of the particles, when it is not told of them. Noise asks for more.
        tolerance: of the conjugate gradients' residual.
    """
    return _splined(cloud, points, _fitted(cloud, cells_per_particle, divergence, roughness, tolerance))


@METHODS.register("navier_stokes")
def navier_stokes(
    cloud: Cloud,
    points: np.ndarray,
    cells_per_particle: float = 8.0,
    divergence: float = 3.0,
    roughness: float | None = None,
    tolerance: float = 1e-4,
    weight: float = 0.01,
    viscosity: float = 0.0,
) -> Estimate:
    """:func:`bspline` with a pressure, both fitted to accelerations and to Navier-Stokes, in any box.

    |a_p + grad p - nu laplacian u|^2 and a penalty on laplacian p + d_i u_j d_j u_i, which is linearized about the
    velocity of the last fit, twice (Newton); as FlowFit does.

    Args:
        weight: of the mean squared laplacian p + d_i u_j d_j u_i, in cells over the RMS of the velocity gradient, and
            per particle.
        viscosity: nu, where viscous accelerations are not to be neglected.
        cells_per_particle, divergence, roughness, tolerance: as of :func:`bspline`.

    Raises:
        FlowsrError: particles without accelerations.
    """
    if cloud.accelerations is None:
        hint = "columns ax ay az, or tracks through three instants; bspline does without"
        raise FlowsrError("no accelerations were measured", variable="ax", hint=hint)
    return _splined(
        cloud, points, _fitted(cloud, cells_per_particle, divergence, roughness, tolerance, weight, viscosity)
    )


@dataclass(frozen=True, eq=False)
class _Splines:
    """A fit: coefficients (3, splines) of the velocity about the mean of the cloud, and of the pressure (splines,)."""

    grid: SplineGrid
    velocity: np.ndarray
    mean: np.ndarray
    pressure: np.ndarray | None = None


def _splined(cloud: Cloud, points: np.ndarray, found: _Splines) -> Estimate:
    def evaluate(batch: np.ndarray) -> Estimate:
        batch, grid = cloud.wrapped(batch), found.grid
        velocity = (grid.matrix(batch) @ found.velocity.T) + found.mean
        slopes = [grid.matrix(batch, tuple(unit)) @ found.velocity.T for unit in np.eye(3, dtype=int)]
        pressure = None if found.pressure is None else grid.matrix(batch) @ found.pressure
        return Estimate(velocity, np.stack(slopes, -1), pressure=pressure)

    return _in_batches(evaluate, points)


def _certainty(uncertainty: np.ndarray) -> np.ndarray:
    """Weights of particles, one in the mean: inverse variances, none more than a hundred times that of the median."""
    least = max(0.1 * float(np.median(uncertainty)), np.finfo(float).tiny)
    weights = 1 / np.maximum(uncertainty / least, 1.0) ** 2
    return weights / weights.mean()


#: Derivatives: first, and second with how often each stands in the sum over all pairs of axes.
_FIRST = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
_SECOND = {(2, 0, 0): 1, (0, 2, 0): 1, (0, 0, 2): 1, (1, 1, 0): 2, (1, 0, 1): 2, (0, 1, 1): 2}
#: Weight of the pressure's mean squared second derivatives, and how often Navier-Stokes is linearized.
_PRESSURE_ROUGHNESS, _LINEARIZED = 0.0003, 2


class _SplineFit:
    """Least squares of splines on the grid of a cloud: derivatives are in cells, weights per particle."""

    def __init__(self, cloud: Cloud, cells_per_particle: float, tolerance: float):
        side = cloud.spacing / cells_per_particle ** (1 / 3)
        cells = tuple(max(4, int(np.ceil(length / side - 1e-6))) for length in cloud.lengths)
        self.grid = grid = SplineGrid(np.array(cloud.lower), cloud.lengths / cells, cells, cloud.periodic)
        self.tolerance, self.share = tolerance, len(cloud) / np.prod(cells)
        # splines that alternate in sign have no value at centres and no slope at corners: each order where it sees them
        places = ("centres", "centres", "corners")
        self.h = h = float(np.prod(grid.spacing) ** (1 / 3))
        self.one = [[grid.along(axis, n, places[n]) * h**n for n in range(3)] for axis in range(3)]
        self.value_at_corners = [grid.along(axis, 0, "corners") for axis in range(3)]

    def derivative(self, values: np.ndarray, orders: tuple[int, ...], transposed: bool = False) -> np.ndarray:
        """Of coefficients (splines of each axis), on the grid's centres or, for second ones along an axis, corners."""
        for axis, order in enumerate(orders):
            step = self.value_at_corners[axis] if order == 0 and 2 in orders else self.one[axis][order]
            values = np.moveaxis(np.tensordot(step.T if transposed else step, values, (1, axis)), 0, axis)
        return values

    def bend(self, values: np.ndarray, roughness: float, found: np.ndarray) -> None:
        """Add the gradient of half the penalty on second derivatives to what is found."""
        for orders, often in _SECOND.items():
            bent = self.derivative(self.derivative(values, orders), orders, transposed=True)
            found += roughness * self.share * often * bent

    def solved(
        self, normal: Callable[[np.ndarray], np.ndarray], right: np.ndarray, start: np.ndarray | None = None
    ) -> np.ndarray:
        """Coefficients (right's shape) of the normal equations."""
        size = right.size
        flat = LinearOperator((size, size), matvec=lambda x: normal(x.reshape(right.shape)).ravel(), dtype=np.float64)
        begin = None if start is None else start.ravel()
        return cg(flat, right.ravel(), begin, rtol=self.tolerance, maxiter=400)[0].reshape(right.shape)

    def centres(self) -> np.ndarray:
        """(cells, 3)."""
        grid = self.grid
        axes = [low + (np.arange(n) + 0.5) * d for low, n, d in zip(grid.lower, grid.cells, grid.spacing)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


@lru_cache(maxsize=1)
def _fitted(
    cloud: Cloud,
    cells_per_particle: float,
    divergence: float,
    roughness: float | None,
    tolerance: float,
    navier_stokes: float = 0.0,
    viscosity: float = 0.0,
) -> _Splines:
    """Kept from one batch of points to the next."""
    if roughness is None:
        roughness = _smoothing(cloud, cells_per_particle, divergence, tolerance)
    fit, mean = _SplineFit(cloud, cells_per_particle, tolerance), cloud.velocities.mean(0)
    grid, share, derivative = fit.grid, fit.share, fit.derivative
    data = grid.matrix(cloud.wrapped(cloud.positions))
    weighted = data.T if cloud.uncertainty is None else data.T.multiply(_certainty(cloud.uncertainty)).tocsr()

    def normal(values: np.ndarray) -> np.ndarray:
        result = np.stack([(weighted @ (data @ each.ravel())).reshape(grid.shape) for each in values])
        total = sum(derivative(each, unit) for each, unit in zip(values, _FIRST))
        for component, unit in enumerate(_FIRST):
            result[component] += divergence * share * derivative(total, unit, transposed=True)
            fit.bend(values[component], roughness, result[component])
        return result

    right = np.stack([(weighted @ each).reshape(grid.shape) for each in (cloud.velocities - mean).T])
    found = fit.solved(normal, right)
    if not navier_stokes:
        return _Splines(grid, found.reshape(3, -1), mean)
    found = np.concatenate([found, np.zeros_like(found[:1])])
    for _ in range(_LINEARIZED):
        balance = _Balance(fit, cloud, found[:3], navier_stokes * share, viscosity)
        found = balance.solved(normal, right, found)
    pressure = found[3].ravel() * balance.unit
    pressure -= np.mean(grid.matrix(fit.centres()) @ pressure)  # splines are a partition of one
    return _Splines(grid, found[:3].reshape(3, -1), mean, pressure)


@lru_cache(maxsize=1)
def _smoothing(cloud: Cloud, cells_per_particle: float, divergence: float, tolerance: float) -> float:
    """Of :data:`ROUGHNESS` the best by what is left out: every tenth particle along x."""
    order, misses = np.argsort(cloud.positions[:, 0], kind="stable"), []
    left, told = order[::10], np.delete(order, np.s_[::10])
    for roughness in ROUGHNESS:
        found = _fitted.__wrapped__(cloud.of(told), cells_per_particle, divergence, roughness, tolerance)
        missed = _splined(cloud, cloud.positions[left], found).velocity - cloud.velocities[left]
        misses.append(float(np.mean(missed**2)))
        if len(misses) > 1 and misses[-1] > misses[-2]:
            break
    return ROUGHNESS[int(np.argmin(misses))]


class _Balance:
    """laplacian p + d_i u_j d_j u_i at the cells' centres, linearized about a velocity, and accelerations at particles.

    Everything is a velocity: in cells over the RMS of the velocity gradient, so is the pressure.
    """

    def __init__(self, fit: _SplineFit, cloud: Cloud, velocity: np.ndarray, weight: float, viscosity: float):
        self.fit, self.grid, self.weight = fit, fit.grid, weight
        grid, centres, at = fit.grid, fit.centres(), cloud.wrapped(cloud.positions)
        slope = np.stack([[grid.matrix(centres, unit) @ each.ravel() for unit in _FIRST] for each in velocity])
        size = np.sqrt(np.mean(slope**2))
        self.unit = size * fit.h
        self.source = fit.h / size * np.einsum("ijc,jic->c", slope, slope).reshape(grid.cells)
        # d (d_i u_j d_j u_i) = 2 d_i u_j d_j du_i, and slope holds d_i u_j at [j, i]
        self.slope = 2 * slope.reshape(3, 3, *grid.cells) / size
        self.second = [grid.along(axis, 2) * fit.h**2 for axis in range(3)]
        self.at_particles = [grid.matrix(at, unit) * fit.h for unit in _FIRST]
        felt = cloud.accelerations
        if viscosity:
            twice = [grid.matrix(at, tuple(2 * n for n in unit)) for unit in _FIRST]
            felt = felt - viscosity * sum(each @ velocity.reshape(3, -1).T for each in twice)
        self.pull = -sum(each.T @ of for each, of in zip(self.at_particles, felt.T / size)).reshape(grid.shape)

    def solved(self, normal: Callable[[np.ndarray], np.ndarray], right: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Coefficients (4, splines of each axis) of velocity and pressure together."""

        def both(values: np.ndarray) -> np.ndarray:
            left = self.weight * (self._linear(values[:3]) + self._laplacian(values[3]))
            pulled = [each.T @ (each @ values[3].ravel()) for each in self.at_particles]
            pressure = sum(pulled).reshape(self.grid.shape) + self._laplacian(left, transposed=True)
            self.fit.bend(values[3], _PRESSURE_ROUGHNESS, pressure)
            return np.concatenate([normal(values[:3]) + self._linear_transposed(left), pressure[None]])

        source = self.weight * self.source
        pull = self.pull + self._laplacian(source, transposed=True)
        return self.fit.solved(both, np.concatenate([right + self._linear_transposed(source), pull[None]]), start)

    def _linear(self, velocity: np.ndarray) -> np.ndarray:
        pairs = [(i, j) for i in range(3) for j in range(3)]
        return sum(self.slope[j, i] * self.fit.derivative(velocity[i], _FIRST[j]) for i, j in pairs)

    def _linear_transposed(self, left: np.ndarray) -> np.ndarray:
        parts = [[self.fit.derivative(self.slope[j, i] * left, _FIRST[j], True) for j in range(3)] for i in range(3)]
        return np.stack([sum(part) for part in parts])

    def _laplacian(self, values: np.ndarray, transposed: bool = False) -> np.ndarray:
        found = 0.0
        for along in range(3):
            part = values
            for axis in range(3):
                step = self.second[axis] if axis == along else self.fit.one[axis][0]
                part = np.moveaxis(np.tensordot(step.T if transposed else step, part, (1, axis)), 0, axis)
            found = found + part
        return found
