"""The three kinds of metric and what they share: totals that add up over voxels and snapshots, divided at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from flowsr.grid import Grid
from flowsr.metrics.quantity import Curve, CurveQuantity, Quantity
from flowsr.metrics.tiles import Tile
from flowsr.registry import Registry

Degrade = Callable[[Tensor, Grid], Tensor]


class PooledMetric(Metric):
    """A torchmetrics metric over sums.

    ``compute()`` pools: it sums over everything seen since the last reset (snapshots, batches, processes) and takes
    ratios last, so that the order and the grouping of the updates do not matter. The value of one snapshot alone is
    what calling the metric (torchmetrics' ``forward``) returns.

    Args:
        factor: refinement between the coarse and the fine grid, for metrics that ask what lies beyond the coarse
            cut-off; None where there is no coarse grid.
        viscosity: kinematic viscosity, for metrics in Kolmogorov or wall units; None where it is not known.

    Attributes:
        scalars, curves: what ``compute()`` returns, by key.
        totals: names of the states that are summed.
        peaks: names of the states of which the largest is kept.
        axes: names of the states that are the same for every snapshot (wavenumbers, bins).
        standard: taken where no metrics are named; the others are taken by name (see
            :func:`flowsr.metrics.chosen_metrics`).
        halo: cells around a tile that its totals depend on, so that the totals of tiles add up to those of the whole
            field; None: only the whole field will do.
        invariant: does not change when both fields are turned; False where the results go by component or by axis.
        needs_periodic: defined on boxes with three periodic axes only.
        needs_vector: defined for one vector field (irreps ``1o`` or ``1e``) only.
        needs_channel: defined between walls along one axis, with two periodic ones, and where the viscosity is known.
        ensemble: its curves are worth drawing for all snapshots together, not as means of the snapshots' own.
    """

    scalars: ClassVar[dict[str, Quantity]] = {}
    curves: ClassVar[dict[str, CurveQuantity]] = {}
    totals: ClassVar[tuple[str, ...]] = ()
    peaks: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[tuple[str, ...]] = ()
    standard: ClassVar[bool] = False
    halo: int | None = None
    invariant: ClassVar[bool] = True
    needs_periodic: ClassVar[bool] = False
    needs_vector: ClassVar[bool] = False
    needs_channel: ClassVar[bool] = False
    ensemble: ClassVar[bool] = False
    is_differentiable = False
    full_state_update = False

    def __init__(self, factor: int | None = None, viscosity: float | None = None, **options: Any):
        super().__init__(**options)
        self.factor, self.viscosity = factor, viscosity
        for name in self.totals:
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in (*self.peaks, *self.axes):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="max")

    def _add(self, measured: dict[str, Tensor], axes: dict[str, Tensor] | None = None) -> None:
        for name, values in (axes or {}).items():
            held = getattr(self, name)
            if held.any() and not torch.equal(held, values):
                raise ValueError(f"{type(self).__name__}: snapshots pooled in one metric need the same {name}")
            setattr(self, name, values)
        for name, values in measured.items():
            held, values = getattr(self, name), values.to(torch.float64)
            setattr(self, name, torch.maximum(held, values.amax(0)) if name in self.peaks else held + values.sum(0))

    def compute(self) -> dict[str, Tensor | Curve]:
        """Scalars () and curves, by the keys of ``scalars`` and ``curves``."""
        return self._finish(**{name: getattr(self, name) for name in (*self.totals, *self.peaks, *self.axes)})

    def _finish(self, **states: Tensor) -> dict[str, Tensor | Curve]:
        raise NotImplementedError


class FieldMetric(PooledMetric):
    """Compares a predicted field with the true one on the same grid."""

    def update(self, prediction: Tensor, target: Tensor, grid: Grid) -> None:
        """Take in a batch of snapshots.

        Args:
            prediction, target: (batch, component, x, y, z), same unit.
            grid: the grid of both.

        Raises:
            ValueError: shapes that differ from each other or from the grid's.
        """
        check_same_grid(prediction, target, grid)
        self._add(self._measure(prediction, target, grid), self._axes(grid, target.device))

    def update_tile(self, tile: Tile) -> None:
        """Take in a tile of a batch of snapshots; all tiles together count as the snapshots do.

        Args:
            tile: with a halo of at least ``self.halo`` cells; see :func:`flowsr.metrics.measure_in_tiles`.

        Raises:
            ValueError: a metric that needs the whole field.
        """
        if self.halo is None:
            raise ValueError(f"{type(self).__name__} needs the whole field")
        self._computed = None  # as torchmetrics does around update()
        self._update_count += 1
        self._add(self._measure_tile(tile), self._axes(tile.whole, tile.target.device))

    def _measure(self, prediction: Tensor, target: Tensor, grid: Grid) -> dict[str, Tensor]:
        """Totals per snapshot, (batch, ...)."""
        raise NotImplementedError

    def _measure_tile(self, tile: Tile) -> dict[str, Tensor]:
        """The tile's part of the totals; the gradients of its fields are known there."""
        return self._measure(tile.prediction, tile.target, tile.grid)

    def _axes(self, grid: Grid, device: torch.device) -> dict[str, Tensor]:
        return {}


class InputMetric(PooledMetric):
    """Compares a prediction, made coarse again, with the coarse field that it was made of."""

    def update(self, prediction: Tensor, coarse: Tensor, grid: Grid, degrade: Degrade) -> None:
        """Take in a batch of snapshots.

        Args:
            prediction: (batch, component, x, y, z).
            coarse: (batch, component, X, Y, Z), same unit.
            grid: the grid of ``prediction``.
            degrade: the operator that made the coarse field of the fine one, ``degrade(field, grid)``.

        Raises:
            ValueError: a prediction that is not on the grid, or a degraded one of another shape than ``coarse``.
        """
        check_on_grid(prediction, grid)
        degraded = degrade(prediction, grid)
        if degraded.shape != coarse.shape:
            raise ValueError(f"degraded prediction {tuple(degraded.shape)}, coarse field {tuple(coarse.shape)}")
        factors = tuple(n // m for n, m in zip(grid.shape, coarse.shape[2:]))
        self._add(self._measure(degraded, coarse, grid.coarsened(factors)))

    def _measure(self, degraded: Tensor, coarse: Tensor, grid: Grid) -> dict[str, Tensor]:
        """Totals per snapshot, (batch, ...), of two fields on the coarse grid."""
        raise NotImplementedError


class ModelMetric(PooledMetric):
    """Measures a model, not its output on one field alone: ``update(model, field, grid)``."""


METRICS: Registry[type[PooledMetric]] = Registry("metric")


def check_same_grid(prediction: Tensor, target: Tensor, grid: Grid) -> None:
    """Raise ValueError unless both are (batch, component, x, y, z) on ``grid``."""
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    check_on_grid(target, grid)


def check_on_grid(field: Tensor, grid: Grid) -> None:
    """Raise ValueError unless ``field`` is (batch, component, x, y, z) on ``grid``."""
    if field.ndim != 5 or tuple(field.shape[2:]) != grid.shape:
        raise ValueError(f"expected (batch, component, {grid.shape}), got {tuple(field.shape)}")


def sum_over_space(values: Tensor, keep: int = 1) -> Tensor:
    """Sum over all but the first ``keep`` dimensions, accumulated in float64."""
    return values.sum(dim=tuple(range(keep, values.ndim)), dtype=torch.float64)
