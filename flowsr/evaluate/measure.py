"""What is measured of one field: block by block without halos, each block's state small enough to be kept on the disk.

A state holds the block's sums and, of a snapshot too large for memory, its values on some lines and its outermost
cells. From the states of all blocks, in their order, come the snapshot's moments and line spectra, so that it does not
matter who measured which block when. A snapshot that fits in memory is taken whole for what looks beyond a block: the
gradient at the blocks' edges, and the spectra of all its lines and shells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from itertools import pairwise

import numpy as np
import torch

from flowsr.grid import Grid
from flowsr.metrics.base import Curve
from flowsr.metrics.spectra import shells_of
from flowsr.metrics.statistics import (
    Cuts,
    Lattice,
    Totals,
    block_totals,
    edge_totals,
    faces_of,
    line_axes,
    moments_of,
    of_faces,
    of_whole,
)
from flowsr.metrics.tiles import Cut

Box = tuple[slice, slice, slice]
State = Mapping[str, np.ndarray]
#: A snapshot whose spectra take no more than this many bytes is taken whole.
WHOLE = 1 << 30
#: Bytes that one cell of a snapshot takes while its spectra are computed, beside its values.
CELL_BYTES = 40
#: Blocks whose faces are held at once.
OPENED = 8
#: Values kept on the lines along one axis of a snapshot that does not fit.
LINE_VALUES = 1 << 24
#: What needs the gradient.
OF_GRADIENT = frozenset({"dissipation", "enstrophy", "divergence", "skewness", "flatness", "pdfs"})


@dataclass(frozen=True)
class FieldValues:
    """What one snapshot of a field is found to have.

    Args:
        scalars: by the keys of :data:`flowsr.metrics.statistics.MOMENTS`.
        missing: cells without a value.
        totals: the sums, for densities over several snapshots.
        spectra: ``energy_spectrum`` (one, m) and ``line_spectrum_x`` (component, m) and so on, by key.
        lines: along each axis how many lines the spectrum is of, and of how many.
    """

    scalars: dict[str, float]
    missing: int
    totals: Totals
    spectra: dict[str, Curve] = field(default_factory=dict)
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class FieldMeasure:
    """How a field is measured.

    Args:
        grid: the field's.
        sides: cells along the sides of a block.
        components: how many the field has.
        dtype: its values'.
        names: measures, such as ``energy`` and ``spectra``.
        viscosity: kinematic, where it is known.
        whole: bytes that the spectra of one snapshot may take.
    """

    grid: Grid
    sides: tuple[int, int, int]
    components: int
    dtype: str
    names: frozenset[str]
    viscosity: float | None = None
    whole: int = WHOLE

    @property
    def gradient(self) -> bool:
        """Whether the gradient is needed, and has a meaning."""
        return self.components == 3 and bool(self.names & OF_GRADIENT)

    @property
    def fits(self) -> bool:
        """Whether a snapshot is small enough to be taken whole."""
        cell = CELL_BYTES + self.components * np.dtype(self.dtype).itemsize
        return math.prod(self.grid.shape) * cell <= self.whole

    @cached_property
    def divisions(self) -> tuple[list[int], ...]:
        """Along each axis where the blocks begin, and the number of cells."""
        return tuple([*range(0, n, side), n] for n, side in zip(self.grid.shape, self.sides, strict=True))

    @cached_property
    def boxes(self) -> list[Box]:
        """All blocks, ordered along x, then y, then z."""
        x, y, z = ([slice(*pair) for pair in pairwise(edges)] for edges in self.divisions)
        return [(a, b, c) for a in x for b in y for c in z]

    @cached_property
    def lattices(self) -> dict[int, Lattice]:
        """The lines that states hold of a snapshot that does not fit, by axis."""
        if "spectra" not in self.names or self.fits:
            return {}
        values = min(LINE_VALUES, self.whole // 16) // self.components
        return {axis: Lattice.of(self.grid, axis, values) for axis in line_axes(self.grid)}

    def observe(self, values: np.ndarray, box: Box) -> dict[str, np.ndarray]:
        """The state of a block, (component, x, y, z)."""
        cuts = cuts_of_box(box)
        totals = block_totals(values, self.grid, cuts, gradient=self.gradient, part="inside")
        state = {f"total.{name}": value for name, value in totals.values.items()}
        if self.gradient and not self.fits:
            state |= {f"face.{name}": face for name, face in faces_of(values, self.grid, cuts).items()}
        return state | {f"line.{axis}": each.piece(values, cuts) for axis, each in self.lattices.items()}

    def finish(self, states: Sequence[State], whole: Callable[[], np.ndarray], prefix: str = "") -> FieldValues:
        """What a snapshot has.

        Args:
            states: of its blocks, in their order; each is opened when it is used.
            whole: reads it, (component, x, y, z), where it is small enough.
            prefix: of its names in the states.
        """
        totals = Totals.of(totals_in(state, f"{prefix}total.") for state in states)
        if self.gradient and len(self.boxes) > 1:
            totals += Totals.of(self._edges(states, whole, prefix))
        missing = int(totals["missing"])
        scalars = moments_of(totals, self.viscosity) if totals["volume"] > 0 else {}
        spectra, lines = {}, {}
        if "spectra" in self.names:
            spectra, lines = self._whole_spectra(whole(), missing) if self.fits else self._line_spectra(states, prefix)
        return FieldValues(scalars, missing, totals, spectra, lines)

    def _edges(self, states: Sequence[State], whole: Callable[[], np.ndarray], prefix: str) -> Iterator[Totals]:
        """The sums over the cells that look beyond their block."""
        if self.fits:
            yield edge_totals(self.grid, self.divisions, partial(of_whole, whole(), self.grid))
            return
        counts = tuple(len(edges) - 1 for edges in self.divisions)

        @lru_cache(maxsize=OPENED)
        def faces(place: tuple[int, int, int]) -> _Faces:
            return _Faces(states[int(np.ravel_multi_index(place, counts))], f"{prefix}face.")

        for place in np.ndindex(*counts):
            read = partial(of_faces, self.grid, self.divisions, place, faces)
            yield edge_totals(self.grid, self.divisions, read, place)

    def _whole_spectra(self, values: np.ndarray, missing: int) -> tuple[dict[str, Curve], dict[str, tuple[int, int]]]:
        if self.grid.periodic and not missing:
            return box_spectra(values, self.grid), {
                "xyz"[axis]: (self._lines(axis),) * 2 for axis in line_axes(self.grid)
            }
        spectra, lines = {}, {}
        for axis in line_axes(self.grid):
            lattice = Lattice.of(self.grid, axis, LINE_VALUES // self.components)
            some = np.moveaxis(values, 1 + axis, -1)[:, lattice.picks[0]][:, :, lattice.picks[1]]
            spectra[f"line_spectrum_{'xyz'[axis]}"] = lattice.spectrum(some)
            lines["xyz"[axis]] = (lattice.lines, self._lines(axis))
        return spectra, lines

    def _lines(self, axis: int) -> int:
        return math.prod(self.grid.shape) // self.grid.shape[axis]

    def _line_spectra(
        self, states: Sequence[State], prefix: str
    ) -> tuple[dict[str, Curve], dict[str, tuple[int, int]]]:
        spectra, lines = {}, {}
        for axis, lattice in self.lattices.items():
            values = lattice.empty(self.components, np.dtype(self.dtype))
            for state, box in zip(states, self.boxes, strict=True):
                lattice.place(values, state[f"{prefix}line.{axis}"], cuts_of_box(box))
            spectra[f"line_spectrum_{'xyz'[axis]}"] = lattice.spectrum(values)
            lines["xyz"[axis]] = (lattice.lines, self._lines(axis))
        return spectra, lines


def box_spectra(values: np.ndarray, grid: Grid) -> dict[str, Curve]:
    """Shells and lines of a whole snapshot on a periodic box, from one transform a component.

    The squares of the modes add up over shells to :func:`flowsr.metrics.energy_spectrum`, and over the other two
    wavenumbers to the mean of :func:`flowsr.metrics.line_spectrum` over all lines (Parseval).

    Args:
        values: (component, x, y, z).
        grid: its grid.
    """
    shells, nx, ny = shells_of(grid), *grid.shape[:2]
    modes, lines = np.zeros(shells.corner.shape), []
    for component in values:
        coefficients = torch.fft.rfftn(torch.as_tensor(component), norm="forward").contiguous().numpy()
        parts = coefficients.view(coefficients.real.dtype)  # real and imaginary ones in turn
        sums = [np.zeros(n) for n in modes.shape]
        for x in range(nx // 2 + 1):  # plane by plane, in the processor's cache, both signs of x and y at once
            power = np.zeros(modes.shape[1:])
            for plane in {x, -x % nx}:
                squares = np.square(parts[plane])
                squares = squares[:, ::2] + squares[:, 1::2]
                power += squares[: ny // 2 + 1]
                power[1 : (ny + 1) // 2] += squares[: ny // 2 : -1]
            power *= shells.multiplicity
            modes[x] += power
            sums[0][x] = power.sum()
            sums[1] += power.sum(1)
            sums[2] += power.sum(0)
        lines.append(sums)
    energy = np.bincount(shells.corner.ravel(), modes.ravel(), len(shells.modes)) / 2
    spectra = {"energy_spectrum": shells.curve(torch.as_tensor(energy / shells.width)[None])}
    for axis in line_axes(grid):
        wavenumber = 2 * math.pi * torch.fft.rfftfreq(grid.shape[axis], grid.spacing[axis], dtype=torch.float64)
        power = torch.as_tensor(np.stack([sums[axis] for sums in lines]))
        spectra[f"line_spectrum_{'xyz'[axis]}"] = Curve(wavenumber, power / float(wavenumber[1]))
    return spectra


class _Faces(Mapping[str, np.ndarray]):
    """The faces in a block's state, read when they are asked for."""

    def __init__(self, state: State, prefix: str):
        self._state, self._prefix = state, prefix
        self._read: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._read:
            self._read[name] = self._state[self._prefix + name]
        return self._read[name]

    def __iter__(self):
        return (name.removeprefix(self._prefix) for name in self._state if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def cuts_of_box(box: Box) -> Cuts:
    """A block without halo."""
    x, y, z = (Cut(part.start, part.stop, np.arange(part.start, part.stop), 0) for part in box)
    return x, y, z


def single(values: np.ndarray) -> np.ndarray:
    """The values, in single precision where they have less: there is no transform of those."""
    return values.astype(np.float32) if values.dtype.itemsize < 4 else values


def totals_in(state: State, prefix: str = "total.") -> Totals:
    """The sums of a state whose names begin so."""
    return Totals({name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)})
