"""Small networks that are strictly equivariant under O(3), on points and on grids, with room for an order parameter.

Both are polynomials: linear equivariant maps, and one tensor product that makes them quadratic, as the equations of
motion are. Both take a second input that is the same everywhere, a vector in the
irreps :data:`PARAMETER`; with zeros there they are ordinary equivariant networks. Turning the input, the parameter and
the output together changes nothing, to round-off, for every rotation and reflection of a point set and for the 48 of
O_h on a grid.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor, nn

PARAMETER = ("0e", "0o", "1o", "1e", "2e", "2o")  # irreps of the added input, in the order of its components
PARAMETER_SIZE = 18
_PARAMETER = " + ".join(PARAMETER)
_WITH_ONE = "0e + " + _PARAMETER
_FILTERS = "0e + 1o + 2e"  # spherical harmonics up to l = 2


def parameter_slices() -> dict[str, slice]:
    """Which components of the added input belong to which irrep."""
    found, start = {}, 0
    for name in PARAMETER:
        size = 2 * int(name[0]) + 1
        found[name] = slice(start, start + size)
        start += size
    return found


@contextmanager
def _in_double_precision(seed: int):
    """e3nn makes its tables and weights in torch's default dtype; both it and the random state are put back."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


class PointNetwork(nn.Module):
    """Moves the points of a set, equivariantly under O(3), translations and renumbering of the points.

    Every point hears from every other through filters of spherical harmonics and a radial basis; point features are
    multiplied with themselves once between two such rounds. A weight matrix of the last round makes the displacement.

    Args:
        reach: distance beyond which points do not see each other, in the points' blocks.
        copies: of each irrep of :data:`PARAMETER` in the features.
        radial: functions in the radial basis.
        seed: of the weights.
    """

    def __init__(self, reach: float, *, copies: int = 2, radial: int = 4, seed: int = 0):
        super().__init__()
        from flowsr.group.o3 import FullyConnectedTensorProduct, Irreps

        self.reach, self.radial = float(reach), radial
        hidden = _features(copies)
        with _in_double_precision(seed):
            options = {"shared_weights": False, "internal_weights": False}
            self.first = FullyConnectedTensorProduct(Irreps(_WITH_ONE), _FILTERS, hidden, **options)
            self.square = FullyConnectedTensorProduct(hidden, hidden, hidden)
            self.last = FullyConnectedTensorProduct(hidden, _FILTERS, Irreps("1o"), **options)
            self.first_weight = nn.Parameter(torch.randn(radial, self.first.weight_numel))
            self.last_weight = nn.Parameter(torch.randn(radial, self.last.weight_numel) / self.radial)

    def forward(self, points: Tensor, parameter: Tensor) -> Tensor:
        """The moved points, (batch, n, 3), of points like them, float64, and a parameter (batch, 18) for each set."""
        from flowsr.group.o3 import spherical_harmonics

        batch, n, _ = points.shape
        towards = points[:, None, :, :] - points[:, :, None, :]  # [b, i, j] from i to j
        harmonics = spherical_harmonics([0, 1, 2], towards, normalize=True, normalization="component")
        basis = self._radial_basis(towards.square().sum(-1))
        start = _prepend_one(parameter)[:, None, None, :].expand(batch, n, n, -1)
        features = self.first(start, harmonics, basis @ self.first_weight).mean(dim=2)
        features = features + self.square(features, features)
        sent = features[:, None, :, :].expand(batch, n, n, -1)
        return points + self.last(sent, harmonics, basis @ self.last_weight).mean(dim=2)

    def _radial_basis(self, squared: Tensor) -> Tensor:
        """(..., radial): powers of (r / reach)^2 under a bump that ends, with its slope, at the reach."""
        ratio = squared / self.reach**2
        bump = (1 - ratio).clamp(min=0) ** 2
        return torch.stack([bump * ratio**power for power in range(self.radial)], dim=-1)


class FieldNetwork(nn.Module):
    """Changes a field on a grid, equivariantly under O_h: e3nn's voxel convolutions (model 2104), periodic.

    The order parameter is a constant channel. A convolution could only add it; here it also multiplies the features, so
    that it can act on the field: rotation turns velocities, stratification damps one component of them. One tensor
    product of the features with the field itself makes room for advection.

    Args:
        irreps_in, irreps_out: e3nn irreps of what goes in and of what comes out. Where they are the same, the network
            predicts the change.
        spacing: cell sizes along x, y, z; filters reach the 26 neighbours of the largest cell.
        copies: of each irrep of :data:`PARAMETER` in the features.
        seed: of the weights.
    """

    def __init__(
        self,
        irreps_in: str = "1o",
        irreps_out: str = "1o",
        *,
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        copies: int = 2,
        seed: int = 0,
    ):
        super().__init__()
        from e3nn.nn.models.v2104.voxel_convolution import Convolution

        from flowsr.group.o3 import FullyConnectedTensorProduct, Irreps, Linear

        hidden = _features(copies)
        self.predicts_change = Irreps(irreps_in) == Irreps(irreps_out)
        filters = {"diameter": 3.8 * max(spacing), "num_radial_basis": 3, "steps": tuple(spacing)}
        with _in_double_precision(seed):
            self.first = Convolution(irreps_in, hidden, _FILTERS, **filters)
            self.couple = FullyConnectedTensorProduct(hidden, _WITH_ONE, hidden, compile_right=True)
            self.advect = FullyConnectedTensorProduct(hidden, irreps_in, hidden)
            self.last = Convolution(hidden, irreps_out, _FILTERS, **filters)
            self.add = Linear(_PARAMETER, irreps_out)

    def forward(self, field: Tensor, parameter: Tensor) -> Tensor:
        """The new field, (batch, component, x, y, z), of a field like it, float64, and a parameter (batch, 18)."""
        features = _periodic(self.first, field).movedim(1, -1)
        features = torch.einsum("bxyzi,bij->bxyzj", features, self.couple.right(_prepend_one(parameter)))
        features = (features + self.advect(features, field.movedim(1, -1))).movedim(-1, 1)
        found = _periodic(self.last, features)
        found = found + self.add(parameter)[:, :, None, None, None]
        return field + found if self.predicts_change else found


def _periodic(convolution: nn.Module, field: Tensor) -> Tensor:
    """The convolution of a periodic field: wrapped by as many cells as the filter reaches, cut back."""
    reach = [side // 2 for side in convolution.lattice.shape[:3]]
    wrapped = nn.functional.pad(field, [r for r in reversed(reach) for _ in range(2)], mode="circular")
    found = convolution(wrapped)
    for axis, (r, n) in enumerate(zip(reach, field.shape[2:]), start=2):
        found = found.narrow(axis, r, n)
    return found


def _prepend_one(parameter: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(parameter[:, :1]), parameter], dim=1)


def _features(copies: int) -> str:
    return " + ".join(f"{copies}x{name}" for name in PARAMETER)
