"""What a metric is: what its numbers mean, totals that add up over voxels and snapshots, and the volume they run over.

A metric's class says what it gives (``scalars``, ``curves``), what it needs, and two functions: ``measure`` takes
integrals of one batch, ``finish`` makes results of their sums. The arguments of ``finish`` are what the metric holds.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric

from flowsr.grid import Grid
from flowsr.metrics.tiles import Tile
from flowsr.registry import Registry

ALL = "all"

Better = Literal["lower", "higher", "truth"]
Scale = Literal["linear", "log"]
Degrade = Callable[[Tensor, Grid], Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Quantity:
    """A scalar result.

    Args:
        label: short name for a table's head.
        unit: product of powers of ``velocity`` and ``length`` (``velocity^2 length``), ``1`` without dimension.
        better: ``lower``, ``higher``, ``truth`` (the nearer the true field's value the better), or None: no ranking.
        source: paper and equation.
        short: head of its column, in lines of seven letters at most, where there is room for few and narrow ones; None:
            no column there.
    """

    label: str
    unit: str
    better: Better | None
    source: str
    short: str | None = None


@dataclass(frozen=True)
class CurveQuantity:
    """A result that is a function of one variable, with what a plot of it needs.

    Args:
        label: title.
        x_label, y_label: axis names, without units.
        x_unit, y_unit: units as in :class:`Quantity`.
        x_scale, y_scale: ``linear`` or ``log``.
        source: paper and equation.
    """

    label: str
    x_label: str
    y_label: str
    source: str
    x_unit: str = "1"
    y_unit: str = "1"
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"


class Curve(NamedTuple):
    """A measured curve: abscissae (n,) and values (..., n)."""

    x: Tensor
    y: Tensor


def physical_unit(unit: str, velocity: str, length: str) -> str:
    """A quantity's unit in those of the data: ``velocity^2 length`` with ``m/s`` and ``m`` gives ``(m/s)^2 m``.

    Factors of dimension one, ``1``, are left out.
    """
    factors = []
    for factor in unit.split():
        base, caret, power = factor.partition("^")
        name = {"velocity": velocity, "length": length}.get(base, base)
        if name == "1":
            continue
        compound = caret and any(sign in name for sign in " /*^")
        factors.append((f"({name})" if compound else name) + caret + power)
    return " ".join(factors) or "1"


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
        states: names of what is held: the arguments of :meth:`finish`. Each is a sum, unless it is one of
        peaks: of which the largest is kept, or of
        axes: which are the same for every snapshot (wavenumbers, bins).
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

    scalars: ClassVar[Mapping[str, Quantity]] = {}
    curves: ClassVar[Mapping[str, CurveQuantity]] = {}
    states: ClassVar[tuple[str, ...]] = ()
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

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "finish" in vars(cls) and "states" not in vars(cls):
            cls.states = tuple(inspect.signature(cls.finish).parameters)[1:]

    def __init__(self, factor: int | None = None, viscosity: float | None = None, **options: Any):
        super().__init__(**options)
        self.factor, self.viscosity = factor, viscosity
        for name in self.states:
            reduction = "max" if name in (*self.peaks, *self.axes) else "sum"
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx=reduction)

    def pool(self, measured: Mapping[str, Tensor], axes: Mapping[str, Tensor] | None = None) -> None:
        """Take in what one batch gives.

        Args:
            measured: totals and peaks, (batch, ...).
            axes: values (...) that are the same for every snapshot.

        Raises:
            ValueError: axes that differ from those of earlier snapshots.
        """
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
        return self.finish(**{name: getattr(self, name) for name in self.states})

    def finish(self, **states: Tensor) -> dict[str, Tensor | Curve]:
        """Results from the sums over all snapshots, by the keys of ``scalars`` and ``curves``."""
        raise NotImplementedError


class FieldMetric(PooledMetric):
    """Compares a predicted field with the true one on the same grid.

    Two states need no measuring: ``snapshots``, how many there were, and ``volume``, that of their boxes together.
    """

    def update(
        self, prediction: Tensor, target: Tensor, grid: Grid, tile: Tile | None = None, valid: Tensor | None = None
    ) -> None:
        """Take in a batch of snapshots.

        Args:
            prediction, target: (batch, component, x, y, z), same unit.
            grid: the grid of both.
            tile: what lies around them, where they are part of larger fields; see :meth:`update_tile`.
            valid: (batch, x, y, z) bool, the cells that count; what is in the others, NaN say, is of no account. None:
                all of them.

        Raises:
            ValueError: shapes that differ from each other or from the grid's, or cells left out of a metric that needs
                those beside a cell (``halo`` other than 0): spectra, derivatives.
        """
        self.pool(*self.measure_batch(prediction, target, grid, tile, valid))

    def update_tile(self, tile: Tile) -> None:
        """Take in a tile of a batch of snapshots; all tiles together count as the snapshots do.

        Args:
            tile: with a halo of at least ``self.halo`` cells; see :func:`flowsr.metrics.measure_in_tiles`.

        Raises:
            ValueError: a metric that needs the whole field.
        """
        if self.halo is None:
            raise ValueError(f"{type(self).__name__} needs the whole field")
        self.update(tile.prediction, tile.target, tile.grid, tile)

    def each(self, prediction: Tensor, target: Tensor, grid: Grid, valid: Tensor | None = None) -> dict[str, Any]:
        """What ``compute()`` gives for every snapshot alone, (batch, ...), leaving what is held as it is.

        Abscissae that differ between snapshots (wall distances in wall units) are (batch, n) too.

        Arguments and errors as in :meth:`update`.
        """
        measured, axes = self.measure_batch(prediction, target, grid, valid=valid)
        rows = [
            self.finish(**{name: values[i].to(torch.float64) for name, values in measured.items()}, **axes)
            for i in range(len(target))
        ]
        return {key: _stacked([row[key] for row in rows]) for key in rows[0]}

    def measure(self, prediction: Tensor, target: Tensor, grid: Grid) -> dict[str, Tensor]:
        """Totals and peaks per snapshot, (batch, ...)."""
        raise NotImplementedError

    def measure_tile(self, tile: Tile) -> dict[str, Tensor]:
        """The tile's part of the totals; the gradients of its fields are known there."""
        return self.measure(tile.prediction, tile.target, tile.grid)

    def axis_values(self, grid: Grid) -> Mapping[str, Any]:
        """The axes of a grid (of the whole field, for tiles): tensors, arrays or numbers, by name."""
        return {}

    def measure_batch(
        self, prediction: Tensor, target: Tensor, grid: Grid, tile: Tile | None = None, valid: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Everything that a batch gives to :meth:`pool`; arguments and errors as in :meth:`update`."""
        check_same_grid(prediction, target, grid)
        if valid is not None:
            if self.halo != 0 or tile is not None:
                raise ValueError(f"{type(self).__name__} needs every cell of the field, and some have no value")
            prediction, target = (field.where(valid[:, None], 0.0) for field in (prediction, target))
        measured = self.measure(prediction, target, grid) if tile is None else self.measure_tile(tile)
        if "snapshots" in self.states:
            measured["snapshots"] = torch.ones(len(target), device=target.device)
        if "volume" in self.states:
            measured["volume"] = volume_of(target, grid) if valid is None else volume_sum(valid.to(torch.float64), grid)
        axes = self.axis_values(grid if tile is None else tile.whole).items() if self.axes else ()
        wanted = {name: values for name, values in axes if name in self.states}
        return measured, on_device(wanted, target.device)


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
        x, y, z = (n // m for n, m in zip(grid.shape, coarse.shape[2:]))
        self.pool(self.measure(degraded, coarse, grid.coarsened((x, y, z))))

    def measure(self, degraded: Tensor, coarse: Tensor, grid: Grid) -> dict[str, Tensor]:
        """Totals per snapshot, (batch, ...), of two fields on the coarse grid."""
        raise NotImplementedError


class ModelMetric(PooledMetric):
    """Measures a model, not its output on one field alone: ``update(model, field, grid)``.

    Attributes:
        needs_truth: ``update`` takes two more, the true field on the output's grid and the group that it is about; a
            model that is averaged over a group when it is used is measured without that.
    """

    needs_truth: ClassVar[bool] = False


METRICS: Registry[type[PooledMetric]] = Registry("metric", group="flowsr.metrics")


def chosen_metrics(names: Sequence[str] | None) -> list[str]:
    """Registered names of the metrics asked for, each once.

    Args:
        names: registered names, or ``all`` for every one; None: the standard ones, a table's worth that costs little.

    Raises:
        FlowsrError: an unknown name.
    """
    if names is None:
        return [name for name in METRICS if METRICS[name].standard]
    wanted = [one for name in names for one in (METRICS if name == ALL else [name])]
    for name in wanted:
        METRICS[name]
    return list(dict.fromkeys(wanted))


def check_same_grid(prediction: Tensor, target: Tensor, grid: Grid) -> None:
    """Raise ValueError unless both are (batch, component, x, y, z) on ``grid``."""
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    check_on_grid(target, grid)


def check_on_grid(field: Tensor, grid: Grid) -> None:
    """Raise ValueError unless ``field`` is (batch, component, x, y, z) on ``grid``."""
    if field.ndim != 5 or tuple(field.shape[2:]) != grid.shape:
        raise ValueError(f"expected (batch, component, {grid.shape}), got {tuple(field.shape)}")


def check_velocity(velocity: Tensor) -> None:
    """Raise ValueError unless ``velocity`` is (batch, 3, x, y, z)."""
    if velocity.ndim != 5 or velocity.shape[1] != 3:
        raise ValueError(f"expected a velocity (batch, 3, x, y, z), got {tuple(velocity.shape)}")


def on_device(values: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """Arrays and numbers as float64 tensors."""
    return {name: torch.as_tensor(value, dtype=torch.float64, device=device) for name, value in values.items()}


def of_both(prediction: Tensor, target: Tensor, measure: Callable[[Tensor], Mapping[str, T]]) -> dict[str, T]:
    """``prediction_name`` and ``target_name`` for every ``name`` that ``measure`` gives of a field."""
    fields = {"prediction": prediction, "target": target}
    return {f"{side}_{name}": value for side, field in fields.items() for name, value in measure(field).items()}


def sum_over_space(values: Tensor, keep: int = 1) -> Tensor:
    """Sum over all but the first ``keep`` dimensions, accumulated in float64."""
    return values.sum(dim=tuple(range(keep, values.ndim)), dtype=torch.float64)


def volume_sum(values: Tensor, grid: Grid, keep: int = 1) -> Tensor:
    """Integral over the box of what is given in every cell, summed over whatever else there is.

    Args:
        values: (..., x, y, z).
        grid: its grid; a cell of a stretched axis counts by its size.
        keep: leading dimensions that stay.

    Returns:
        the first ``keep`` dimensions, float64, in units of the values times length^3.
    """
    if not any(grid.stretched):
        return sum_over_space(values, keep) * math.prod(grid.spacing)
    for widths in reversed(grid.widths()):
        values = values.to(torch.float64) @ torch.as_tensor(widths, device=values.device)
    return values.sum(dim=tuple(range(keep, values.ndim))) if values.ndim > keep else values


def volume_of(values: Tensor, grid: Grid) -> Tensor:
    """The box's volume, once for each of a batch: (batch,), float64, length^3."""
    return torch.full((len(values),), math.prod(grid.lengths), dtype=torch.float64, device=values.device)


def cell_volumes(grid: Grid, device: torch.device) -> Tensor:
    """(x, y, z) float64, length^3."""
    if not any(grid.stretched):
        volume = torch.tensor(math.prod(grid.spacing), dtype=torch.float64, device=device)
        return volume.expand(grid.shape)
    x, y, z = (torch.as_tensor(widths, device=device) for widths in grid.widths())
    return x[:, None, None] * y[:, None] * z


FieldFunction = Callable[[Tensor, Grid], T]
_remembered: ContextVar[dict[Any, Any] | None] = ContextVar("flowsr.metrics.remembered", default=None)


@contextmanager
def shared_work() -> Iterator[None]:
    """Inside, a shareable function is computed once per field and remembered until the end of the block.

    Fields must not be changed in place inside the block. Outside, nothing is kept.
    """
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


def shareable(function: FieldFunction[T]) -> FieldFunction[T]:
    """Decorator for a function of (field, grid) that :func:`shared_work` may remember."""

    @wraps(function)
    def once(field: Tensor, grid: Grid) -> T:
        memory = _remembered.get()
        if memory is None:
            return function(field, grid)
        key = (once, id(field), grid)
        if key not in memory:
            remember(once, field, grid, function(field, grid))
        value: T = memory[key][1]
        return value

    return once


def remember(function: FieldFunction[T], field: Tensor, grid: Grid, value: T) -> None:
    """Tell the :func:`shared_work` around this call what a shareable function gives for a field.

    Raises:
        RuntimeError: outside of :func:`shared_work`.
    """
    memory = _remembered.get()
    if memory is None:
        raise RuntimeError("nothing is remembered outside of shared_work()")
    memory[function, id(field), grid] = (field, value)  # the field is held so that its id stays its own


def _stacked(values: list[Tensor | Curve]) -> Tensor | Curve:
    curves = [value for value in values if isinstance(value, Curve)]
    if not curves:
        return torch.stack([value for value in values if isinstance(value, Tensor)])
    x, same = curves[0].x, all(torch.equal(curve.x, curves[0].x) for curve in curves)
    return Curve(x if same else torch.stack([curve.x for curve in curves]), torch.stack([curve.y for curve in curves]))
