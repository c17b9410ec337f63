"""How far a model is from commuting with the 48 rotations and reflections of the cube."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics.base import METRICS, ModelMetric, check_on_grid, sum_over_space
from flowsr.metrics.quantity import Curve, CurveQuantity, Quantity

Model = Callable[[Tensor, Grid], Tensor]

_SOURCE = "||M(g.x) - g.M(x)|| / ||M(x)||; Wang, Walters & Smidt, arXiv 2310.02299"


def equivariance_error(model: Model, field: Tensor, grid: Grid, irreps: str, irreps_out: str | None = None) -> Tensor:
    """||M(g.x) - g.M(x)|| / ||M(x)|| for every g of O_h, whatever group the model was built for.

    The model sees g.x on the turned grid: sides, spacings and boundaries go with the axes. Each element is one more
    call of the model. Float64 fields and weights tell an exact symmetry (1e-15) from a nearly exact one.

    Args:
        model: ``model(field, grid)``, such as an :class:`~flowsr.models.base.Upscaler`.
        field: (batch, component, x, y, z), the model's input.
        grid: the grid of ``field``.
        irreps: e3nn irreps of the input's components.
        irreps_out: those of the output; default: as the input.

    Returns:
        (batch, 48), no unit, in the order of ``octahedral_group("Oh")``.

    Raises:
        ValueError: a field that is not on the grid, or irreps that do not fit it.
    """
    errors, power = _error_powers(model, field, grid, irreps, irreps_out or irreps)
    return torch.sqrt(errors / power[:, None])


@METRICS.register("equivariance")
class EquivarianceError(ModelMetric):
    """:func:`equivariance_error`, pooled over snapshots, and its mean and largest over elements.

    Means run over all elements, the identity included; rotations are the 24 elements of O.

    Args:
        irreps: e3nn irreps of the model's input.
        irreps_out: those of its output; default: as the input.
    """

    standard = True
    scalars = {
        "equivariance_error_rotations": Quantity(
            "Equivariance error, 24 rotations", "1", "lower", f"mean over O of {_SOURCE}", "Equiv.\nerror\nO"
        ),
        "equivariance_error": Quantity(
            "Equivariance error, all 48", "1", "lower", f"mean over O_h of {_SOURCE}", "Equiv.\nerror\nO_h"
        ),
        "equivariance_error_max": Quantity(
            "Equivariance error, largest", "1", "lower", f"largest over O_h of {_SOURCE}"
        ),
    }
    curves = {
        "equivariance_error_per_element": CurveQuantity(
            "Equivariance error per element", "element of O_h", "||M(g.x) - g.M(x)|| / ||M(x)||", _SOURCE
        )
    }
    totals = ("errors", "power")

    def __init__(self, irreps: str = "1o", irreps_out: str | None = None, **options):
        super().__init__(**options)
        self.irreps, self.irreps_out = irreps, irreps_out or irreps

    def update(self, model: Model, field: Tensor, grid: Grid) -> None:
        """Take in a batch of inputs; arguments as in :func:`equivariance_error`."""
        errors, power = _error_powers(model, field, grid, self.irreps, self.irreps_out)
        self._add({"errors": errors, "power": power})

    def _finish(self, errors, power):
        error = torch.sqrt(errors / power)
        rotations = torch.as_tensor(rotation_elements(), device=error.device)
        elements = torch.arange(len(error), dtype=torch.float64, device=error.device)
        return {
            "equivariance_error": error.mean(),
            "equivariance_error_max": error.max(),
            "equivariance_error_rotations": error[rotations].mean(),
            "equivariance_error_per_element": Curve(elements, error),
        }


def rotation_elements() -> list[int]:
    """Numbers of the 24 proper rotations among the 48 elements of ``octahedral_group("Oh")``."""
    operations = octahedral_group("Oh").operations
    return [element for element, operation in enumerate(operations) if operation.determinant == 1]


@torch.no_grad()
def orbit_errors(model: Model, field: Tensor, grid: Grid, irreps: str, irreps_out: str) -> Iterator[Tensor]:
    """The output M(x), and then for every g of O_h how far it moves: d(g) = g^-1.M(g.x) - M(x).

    The error M(g.x) - g.M(x), turned back: of the same norm, and on the grid of M(x) for every element. One call of the
    model each, made when the next error is asked for. Arguments and errors as in :func:`equivariance_error`.

    Yields:
        (batch, component, x, y, z), 49 times.
    """
    check_on_grid(field, grid)
    group = octahedral_group("Oh")
    output = model(field, grid)
    yield output
    for element in range(group.order):
        turned_field = transform_field(field, element, irreps, group).contiguous()
        turned = model(turned_field, transform_grid(grid, element, group))
        yield transform_field(turned, int(group.inverse[element]), irreps_out, group) - output


def _error_powers(model: Model, field: Tensor, grid: Grid, irreps: str, irreps_out: str) -> tuple[Tensor, Tensor]:
    """Squared norms of the 48 errors, (batch, 48), and of the output, (batch,)."""
    output, *errors = (sum_over_space(one**2) for one in orbit_errors(model, field, grid, irreps, irreps_out))
    return torch.stack(errors, dim=1), output
