"""How far a model is from commuting with the 48 rotations and reflections of the cube, and where the error lies.

The equivariance error taken apart. A model M and an input x define a function on the group, m(g) = g^-1.M(g.x): what
the model makes of the turned input, turned back. It is the same field for every g exactly if the model is equivariant
there. With d(g) = m(g) - m(e), whose norms are the equivariance errors, the three decompositions are

- by class: the root mean square of ||d(g)|| over the elements of a conjugacy class;
- by irrep: with the group's Fourier transform d^_rho,ij = sum_g sqrt(n_rho / 48) rho_ij(g) d(g), for the irrep rho of
  dimension n_rho, the power sum_ij ||d^_rho,ij||^2 / 48. By Schur's orthogonality the ten powers add up to the mean
  of ||d(g)||^2 over the group. A1g is the distance from M(x) to the symmetrized output, the mean of m over the group;
  the nine others are how m varies about that mean, and they vanish together exactly if the model is equivariant at x;
- by shell: ||d(g)||^2 in each shell of wavenumbers of the output's grid.

All are roots of powers over ||M(x)||^2, or over the power of M(x) in that shell. Why irreps: a model that depends on a
constant tensor t besides x, M(x; t), and commutes with turning both, has m(g) = M(x; g^-1 t), which to first order in t
holds the irreps of t and no others. Source: J.-P. Serre, Linear Representations of Finite Groups, section 2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.group import PointGroup, octahedral_group, point_group, split_by_irrep
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics.base import (
    Curve,
    CurveQuantity,
    ModelMetric,
    Quantity,
    check_on_grid,
    check_same_grid,
    on_device,
    sum_over_space,
    volume_sum,
)
from flowsr.metrics.spectra import over_truth, shell_axes, shell_energy, shells_of, shown_shells, spectrum_quantity

Model = Callable[[Tensor, Grid], Tensor]

VOXELS_AT_ONCE = 1 << 18  # of the errors that are Fourier transformed over the group together

IRREPS = tuple(irrep.name for irrep in octahedral_group("Oh").irreps)
BREAKING_IRREPS = IRREPS[1:]

_SOURCE = "||M(g.x) - g.M(x)|| / ||M(x)||; Wang, Walters & Smidt, arXiv 2310.02299"
_BREAKING_SOURCE = "||g^-1.M(g.x) - M(x)|| / ||M(x)||"
_IRREP_SOURCE = (
    f"Fourier power over O_h of {_BREAKING_SOURCE}; Serre, Linear Representations of Finite Groups, sec. 2.4"
)


@dataclass(frozen=True, eq=False)
class SymmetryBreaking:
    """Equivariance errors of one model on a batch of inputs; see the module's text for their definitions.

    Attributes:
        per_element: (batch, 48), in the order of ``octahedral_group("Oh")``.
        per_class: (batch, 10), in the order of its ``class_names``.
        per_irrep: (batch, 10), in the order of its ``irreps``: A1g A2g Eg T1g T2g A1u A2u Eu T1u T2u.
        per_shell: wavenumber (n,) and error (batch, 48, n); None where the output's box is not periodic.
    """

    per_element: Tensor
    per_class: Tensor
    per_irrep: Tensor
    per_shell: Curve | None


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
    powers, _ = _powers(model, field, grid, irreps, irreps_out)
    return torch.sqrt(powers["errors"] / powers["power"][:, None])


def symmetry_breaking(
    model: Model, field: Tensor, grid: Grid, irreps: str, irreps_out: str | None = None
) -> SymmetryBreaking:
    """Every decomposition of the equivariance error, from one pass of 49 calls of the model.

    Holds the 48 errors at once: 48 times the memory of the output.

    Arguments and errors as in :func:`equivariance_error`. The model's output refines the grid of ``field`` by a whole
    factor per axis, or keeps it.
    """
    powers, fine = _powers(model, field, grid, irreps, irreps_out, by_irrep=True, by_shell=grid.periodic)
    per_element = torch.sqrt(powers["errors"] / powers["power"][:, None])
    per_irrep = torch.sqrt(powers["irrep_errors"] / powers["power"][:, None])
    per_shell = _shell_curve(powers, fine) if grid.periodic else None
    return SymmetryBreaking(per_element, error_per_class(per_element), per_irrep, per_shell)


def equivariance_error_per_shell(
    model: Model, field: Tensor, grid: Grid, irreps: str, irreps_out: str | None = None
) -> Curve:
    """||d(g)|| / ||M(x)|| within each wavenumber shell of the output, for every g of O_h.

    Tells a model that turns the large scales well and the small ones badly. Holds no more than two outputs at a time.

    Arguments as in :func:`symmetry_breaking`.

    Returns:
        wavenumber (n,), 1/length, shells 1 to the last complete one of the output's grid; error (batch, 48, n), no
        unit; nan in shells where the output holds no more than rounding (``NOISE`` of its energy).

    Raises:
        ValueError: as :func:`symmetry_breaking`, and a box that is not periodic.
    """
    shells_of(grid)
    return _shell_curve(*_powers(model, field, grid, irreps, irreps_out, by_shell=True))


def equivariance_error_per_irrep(
    model: Model, field: Tensor, grid: Grid, irreps: str, irreps_out: str | None = None
) -> Tensor:
    """The equivariance error that each irrep of O_h carries; arguments and memory as in :func:`symmetry_breaking`.

    Returns:
        (batch, 10), no unit, in the order of ``octahedral_group("Oh").irreps``. Their squares add up to the mean square
        of the error over the 48 elements.
    """
    return symmetry_breaking(model, field, grid, irreps, irreps_out).per_irrep


def error_per_class(per_element: Tensor) -> Tensor:
    """Root mean square over each conjugacy class of O_h, (..., 48) -> (..., 10).

    In the order of its ``class_names``: E 8C3 6C2 6C4 3C2 i 6S4 8S6 3sigma_h 6sigma_d.
    """
    classes = octahedral_group("Oh").classes
    return torch.stack([per_element[..., list(c)].square().mean(-1).sqrt() for c in classes], dim=-1)


class EquivarianceError(ModelMetric):
    """:func:`equivariance_error`, pooled over snapshots, and its mean and largest over elements.

    Means run over all elements, the identity included, but those that turn the box into one that the model refuses, as
    one with planes of its own between two walls does; rotations are the 24 elements of O.

    Args:
        irreps: e3nn irreps of the model's input.
        irreps_out: those of its output; default: as the input.
    """

    standard = True
    scalars: ClassVar = {
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
    curves: ClassVar = {
        "equivariance_error_per_element": CurveQuantity(
            "Equivariance error per element", "element of O_h", "||M(g.x) - g.M(x)|| / ||M(x)||", _SOURCE
        )
    }

    def __init__(self, irreps: str = "1o", irreps_out: str | None = None, **options):
        super().__init__(**options)
        self.irreps, self.irreps_out = irreps, irreps_out

    def update(self, model: Model, field: Tensor, grid: Grid) -> None:
        """Take in a batch of inputs; arguments as in :func:`equivariance_error`."""
        by_shell = "shell_errors" in self.states and grid.periodic
        by_irrep = "irrep_errors" in self.states
        powers, fine = _powers(model, field, grid, self.irreps, self.irreps_out, by_irrep, by_shell)
        self.pool(powers, on_device(shell_axes(fine) if by_shell else {}, field.device))

    def finish(self, errors, power):
        error = torch.sqrt(errors / power)
        rotations = torch.as_tensor(rotation_elements(), device=error.device)
        elements = torch.arange(len(error), dtype=torch.float64, device=error.device)
        return {
            "equivariance_error": error.nanmean(),
            "equivariance_error_max": error.nan_to_num().max(),
            "equivariance_error_rotations": error[rotations].nanmean(),
            "equivariance_error_per_element": Curve(elements, error),
        }


class SymmetryBreakingError(EquivarianceError):
    """All that :class:`~flowsr.metrics.EquivarianceError` gives, and where the error lies: :func:`symmetry_breaking`.

    Powers are pooled over snapshots before ratios are taken. Shells are empty where the box is not periodic.
    """

    standard = False
    scalars: ClassVar = {
        **EquivarianceError.scalars,
        **{
            f"breaking_{name}": Quantity(f"Symmetry breaking in {name}", "1", "lower", _IRREP_SOURCE)
            for name in BREAKING_IRREPS
        },
    }
    curves: ClassVar = {
        **EquivarianceError.curves,
        "equivariance_error_per_class": CurveQuantity(
            "Equivariance error per class",
            " ".join(octahedral_group("Oh").class_names),
            "root mean square over a class",
            _BREAKING_SOURCE,
        ),
        "equivariance_error_per_shell_rotations": spectrum_quantity(
            "Equivariance error per wavenumber, 24 rotations", "root mean square over O", _BREAKING_SOURCE
        ),
        "equivariance_error_per_shell": spectrum_quantity(
            "Equivariance error per wavenumber, all 48", "root mean square over O_h", _BREAKING_SOURCE
        ),
    }
    axes = ("wavenumber", "complete")

    def finish(self, errors, power, irrep_errors, shell_errors, shell_power, wavenumber, complete):
        result = super().finish(errors, power)
        per_irrep = torch.sqrt(irrep_errors / power)
        result |= {f"breaking_{name}": error for name, error in zip(BREAKING_IRREPS, per_irrep[1:])}
        classes = torch.arange(len(octahedral_group("Oh").classes), dtype=torch.float64, device=errors.device)
        per_class = error_per_class(torch.sqrt(errors / power))
        shown = shown_shells(wavenumber, complete)
        rotations = torch.as_tensor(rotation_elements(), device=errors.device)
        for key, elements in (("_rotations", rotations), ("", slice(None))):
            mean = shell_errors[elements].mean(0) if shell_errors.ndim else shell_errors
            curve = Curve(wavenumber[shown], torch.sqrt(over_truth(mean, shell_power))[shown])
            result[f"equivariance_error_per_shell{key}"] = curve
        return {**result, "equivariance_error_per_class": Curve(classes, per_class)}


class SymmetryShare(ModelMetric):
    """Share of a model's squared error that is due to imperfect symmetry: what averaging over the group takes off.

    With m(g) = g^-1.M(g.x), <m> its mean over the group and y the truth, the mean over the group of ||m(g) - y||^2 is
    ||<m> - y||^2 and the mean of ||m(g) - <m>||^2: the share is that last part over the whole. Sums run over
    the volume, and over snapshots before the ratio is taken. The group is the one that a model is averaged over when it
    is used (``average``), and of the others the one that the flow keeps; without either there is none.

    Args:
        irreps: e3nn irreps of the model's input.
        irreps_out: those of its output; default: as the input.
    """

    needs_truth = True
    scalars: ClassVar = {
        "symmetry_share": Quantity(
            "Share of the squared error due to imperfect symmetry",
            "1",
            "lower",
            "1 - ||<m> - y||^2 / <||m(g) - y||^2>, m(g) = g^-1.M(g.x); Elesedy & Zaidi 2021, arXiv 2102.10333",
        )
    }

    def __init__(self, irreps: str = "1o", irreps_out: str | None = None, **options):
        super().__init__(**options)
        self.irreps, self.irreps_out = irreps, irreps_out

    def update(self, model: Model, field: Tensor, grid: Grid, target: Tensor, group: str) -> None:
        """Take in a batch of inputs.

        Args:
            target: (batch, component, x, y, z), the true field on the output's grid.
            group: name of a point group; one call of the model per element.
            others: as in :func:`equivariance_error`.
        """
        within = point_group(group)
        passes = orbit_errors(model, field, grid, self.irreps, self.irreps_out or self.irreps, within)
        output = next(passes)
        fine = grid.refined(tuple(out // into for out, into in zip(output.shape[2:], field.shape[2:])))
        check_same_grid(output, target, fine)
        sum_, squares = torch.zeros_like(output), 0.0
        for moved in passes:
            sum_, squares = sum_ + moved, squares + volume_sum(moved**2, fine)
        mean = sum_ / within.order
        spread = (squares / within.order - volume_sum(mean**2, fine)).clamp_min(0)  # of rounding, below
        self.pool({"spread": spread, "averaged": volume_sum((output + mean - target) ** 2, fine)})

    def finish(self, spread, averaged):
        return {"symmetry_share": spread / (spread + averaged)}


def rotation_elements() -> list[int]:
    """Numbers of the 24 proper rotations among the 48 elements of ``octahedral_group("Oh")``."""
    operations = octahedral_group("Oh").operations
    return [element for element, operation in enumerate(operations) if operation.determinant == 1]


@torch.no_grad()
def orbit_errors(
    model: Model, field: Tensor, grid: Grid, irreps: str, irreps_out: str, group: PointGroup | None = None
) -> Iterator[Tensor]:
    """The output M(x), and then for every g of a group, O_h by default, how far it moves: d(g) = g^-1.M(g.x) - M(x).

    NaN where M refuses the turned box, of other sides or boundaries. The error is M(g.x) - g.M(x), turned back: of the
    same norm, and on the grid of M(x) for every element. One call of the model each, made when the next error is asked
    for. Arguments and errors as in :func:`equivariance_error`.

    Yields:
        (batch, component, x, y, z), once more than the group has elements.
    """
    check_on_grid(field, grid)
    group = group or octahedral_group("Oh")
    output = model(field, grid)
    yield output
    for element in range(group.order):
        transformed = transform_field(field, element, irreps, group).contiguous()
        turned = transform_grid(grid, element, group)
        try:
            moved = model(transformed, turned)
        except ValueError:
            if turned.shape == grid.shape and turned.boundary == grid.boundary:
                raise
            yield torch.full_like(output, torch.nan)  # a model for walls across one axis is not for others
            continue
        yield transform_field(moved, int(group.inverse[element]), irreps_out, group) - output


def _powers(
    model: Model,
    field: Tensor,
    grid: Grid,
    irreps: str,
    irreps_out: str | None,
    by_irrep: bool = False,
    by_shell: bool = False,
) -> tuple[dict[str, Tensor], Grid]:
    """Squared norms from one pass of the model, and the grid of its output.

    ``power`` (batch,) and ``errors`` (batch, 48); ``irrep_errors`` (batch, 10), ``shell_power`` (batch, n) and
    ``shell_errors`` (batch, 48, n) where wanted.
    """
    passes = orbit_errors(model, field, grid, irreps, irreps_out or irreps)
    output = next(passes)
    fine = grid.refined(tuple(out // into for out, into in zip(output.shape[2:], field.shape[2:])))
    errors, shell_errors, kept = [], [], []
    for error in passes:
        errors.append(sum_over_space(error**2))
        if by_shell:
            shell_errors.append(shell_energy(error, fine))
        if by_irrep:
            kept.append(error)
    powers = {"power": sum_over_space(output**2), "errors": torch.stack(errors, dim=1)}
    if by_shell:
        powers |= {"shell_power": shell_energy(output, fine), "shell_errors": torch.stack(shell_errors, dim=1)}
    if by_irrep:
        powers["irrep_errors"] = _irrep_powers(kept)
    return powers, fine


def _irrep_powers(errors: list[Tensor]) -> Tensor:
    """Mean over the group of the squared norm that each irrep carries, (batch, 10), from 48 of (batch, c, x, y, z)."""
    group = octahedral_group("Oh")
    fourier = torch.as_tensor(np.array(group.fourier), device=errors[0].device)
    flat = [error.flatten(1) for error in errors]
    power = torch.zeros((flat[0].shape[0], group.order), dtype=torch.float64, device=flat[0].device)
    for start in range(0, flat[0].shape[1], VOXELS_AT_ONCE):
        part = torch.stack([one[:, start : start + VOXELS_AT_ONCE] for one in flat], dim=1).to(torch.float64)
        power += (fourier @ part).square().sum(-1)
    return torch.stack([block.sum((-2, -1)) for block in split_by_irrep(power, group).values()], dim=-1) / group.order


def _shell_curve(powers: dict[str, Tensor], grid: Grid) -> Curve:
    axes = on_device(shell_axes(grid), powers["power"].device)
    shown = shown_shells(**axes)
    error = torch.sqrt(over_truth(powers["shell_errors"], powers["shell_power"][:, None]))
    return Curve(axes["wavenumber"][shown], error[..., shown])
