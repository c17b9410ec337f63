"""Watches an upscaling block by block, and leaves metrics of what was made in the store that is being written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowsr.data.open import ReadOptions
from flowsr.evaluate.evaluate import Evaluation, Field, Write, held_against, planes_of
from flowsr.evaluate.measure import Box, FieldMeasure
from flowsr.evaluate.result import chosen_measures, write_dataset
from flowsr.files import partial_path

if TYPE_CHECKING:
    from flowsr.data import FieldStore
    from flowsr.upscale.blocks import Piece
    from flowsr.upscale.plan import UpscalePlan


#: A result of no more bytes is kept while this process makes it, for its spectra; a larger one is read again for them.
KEPT = 1 << 28


@dataclass(frozen=True)
class MetricsBeside:
    """An :class:`flowsr.upscale.blocks.Observer` that measures the output, its input, and the truth where there is one.

    Args:
        metrics: names out of :data:`flowsr.evaluate.MEASURES`; None for all.
        truth: the true fine field; and ``truth_group`` inside it.
        write: writes the result into the store's folder.
    """

    metrics: tuple[str, ...] | None = None
    truth: Path | None = None
    truth_group: str | None = None
    write: Write = write_dataset
    _kept: dict[int, _Snapshot] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Another one for other measures or truth: what a killed run left of those is of no use to these."""
        asked = f"{sorted(chosen_measures(self.metrics))} {self.truth} {self.truth_group}"
        return f"metrics-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_kept": {}}

    def evaluation(self, plan: UpscalePlan) -> Evaluation:
        """What is measured.

        Raises:
            FlowsrError: an unknown name, or a truth that is not of the result's grid and times.
        """
        names, viscosity = chosen_measures(self.metrics), plan.attrs.get("viscosity")
        how = FieldMeasure(
            plan.fine_grid,
            plan.block,
            len(plan.components or (0,)),
            plan.dtype,
            names,
            None if viscosity is None else float(viscosity),
        )
        attrs = {"file": plan.target.name, "variable": plan.variable, "input": plan.source.name}
        attrs["model"] = plan.attrs["provenance"]["model"]
        attrs["home"] = plan.attrs["provenance"].get("home")
        truth = None if self.truth is None else Field(self.truth, ReadOptions(group=self.truth_group), plan.variable)
        coarse = Field(plan.source, plan.options, plan.variable, plan.targets)
        return held_against(Evaluation(how, plan.times, attrs=attrs), truth, coarse, plan.units)

    def check(self, plan: UpscalePlan) -> None:
        """Refuse a truth or an input that does not go with the result."""
        self.evaluation(plan)
        self._kept.clear()  # of a result that failed

    def observe(self, plan: UpscalePlan, piece: Piece) -> Mapping[str, np.ndarray]:
        """The block's state."""
        own = (slice(part.before, part.before + part.stop - part.start) for part in piece.cells)
        components = len(plan.components or (0,))
        first = plan.window.before * components
        coarse = piece.coarse[(slice(first, first + components), *own)]
        evaluation, time = self.evaluation(plan), piece.block.time
        if evaluation.output.fits and plan.bytes <= KEPT:
            shape = (components, *plan.fine_grid.shape)
            self._kept.setdefault(time, _Snapshot(np.empty(shape, plan.dtype))).put(piece.block.box, piece.fine)
        return evaluation.observe(time, piece.fine, piece.block.box, coarse)

    def finish(self, plan: UpscalePlan, states: Sequence[Mapping[str, np.ndarray]], store: FieldStore) -> None:
        """Write the metrics into the store, before it is published."""
        evaluation = self.evaluation(plan)
        count, snapshots = len(evaluation.output.boxes), []
        for time in range(len(plan.times)):
            own = _Part(states, time * count, count)
            kept = self._kept.pop(time, None)
            whole = kept is not None and len(kept.boxes) == count
            read = partial(store.read, plan.variable, time) if not whole else partial(np.asarray, kept.values)
            snapshots.append(evaluation.finish(time, own, read, partial_path(plan.target)))
        last = len(plan.times) - 1
        planes = planes_of(evaluation, lambda box: store.read(plan.variable, last, box), last)
        dataset = evaluation.dataset(snapshots, plan.units, plan.attrs.get("length_units", "1"))
        self.write(store.folder, dataset, planes)


@dataclass
class _Snapshot:
    """One of the result, of which some blocks are there."""

    values: np.ndarray
    boxes: set[tuple[int, ...]] = field(default_factory=set)

    def put(self, box: Box, values: np.ndarray) -> None:
        self.values[(slice(None), *box)] = values
        self.boxes.add(tuple(part.start for part in box))


class _Part(Sequence[Mapping[str, np.ndarray]]):
    """Some neighbours of a sequence, each taken when it is used."""

    def __init__(self, whole: Sequence[Mapping[str, np.ndarray]], first: int, count: int):
        self._whole, self._first, self._count = whole, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number):
        if not 0 <= number < self._count:
            raise IndexError(number)
        return self._whole[self._first + number]
