"""The stages of the convolution on slabs of a field: sizes, strides and grids for the programs.

The field is worked off in boxes of whole lines of z whose workspace is of fixed size, so that nothing of the size of
the field is held besides the field and the result.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flowsr.grid import triple
from flowsr.kernels.triton_kernel.signs import SignTables

# Bytes of the workspace between the stages: this part of the field's and the result's, and at least about what the
# second level cache of a large GPU holds. Every box reads its halo anew, so that boxes of few layers cost time.
WORKSPACE_SHARE = 0.18
WORKSPACE_BYTES = 48 * 2**20
LAYERS = 4  # of x that a tile of the products takes: boxes of several have a multiple of it, and waste nothing
LARGEST_WORKSPACE = 2**30  # offsets within it are 32-bit numbers
# Programs that the gradient of the filters is split into, at least: some for every multiprocessor, which holds one.
CORRELATE_PROGRAMS = 300
CORRELATE_WARPS = 8  # three sums at once fill the registers of that many
DIRECT_EDGES = ("periodic", "zero")  # continuations whose adjoint is a continuation too


@dataclass(frozen=True)
class Box:
    """Part of the result: samples, and cells x0 <= x < x1, y0 <= y < y1, all z of ``depth``."""

    sample: int
    samples: int
    x0: int
    x1: int
    y0: int
    y1: int
    depth: int

    @property
    def sides(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        return self.x1 - self.x0, self.y1 - self.y0, self.depth

    @property
    def voxels(self) -> int:
        """Cells of all samples."""
        return self.samples * math.prod(self.sides)

    def of(self, field: Tensor) -> Tensor:
        """The part of (batch, ..., x, y, z) in the box."""
        return field[self.sample : self.sample + self.samples, ..., self.x0 : self.x1, self.y0 : self.y1, :]


@dataclass(frozen=True)
class Source:
    """A field that is read.

    Args:
        values: (batch, channels, n, x, y, z), any strides.
        edges: how each axis is continued.
        cosets: of the group's sign changes.
        beyond: cells that the result reaches beyond this field, on either side of x, y, z.
        weights: (banks, n) float32, for every bank what the field is multiplied with; or None, for one bank.
        saved: laid out like ``values``: for the slope of ``activation``, that the field is multiplied with.
        activation: ``relu``, ``gelu``, ``silu`` or ``none``.
    """

    values: Tensor
    edges: tuple[str, str, str]
    cosets: int
    beyond: tuple[int, int, int] = (0, 0, 0)
    weights: Tensor | None = None
    saved: Tensor | None = None
    activation: str = "none"

    @property
    def columns(self) -> int:
        """Values per voxel and character."""
        return self.cosets * self.values.shape[1] * (1 if self.weights is None else len(self.weights))


@dataclass(frozen=True)
class Blocks:
    """How the matrix products are cut.

    Args:
        voxels: of a tile.
        turn: voxels that the gradient of the filters is summed over at a time.
        inner: the summed dimension, per step.
        widest: most columns of the result per program.
        warps: per program.
        registers: per thread at most; None for as many as there are.
    """

    voxels: int
    turn: int
    inner: int
    widest: int
    warps: int
    registers: int | None

    @classmethod
    def of(cls, dtype: torch.dtype, device: torch.device) -> Blocks:
        """16-bit numbers go through the matrix units, float32 mostly does not; the interpreter likes few large steps.

        Where the matrix units read shared memory (Hopper and later) 128 registers are enough, and two programs fit at a
        time.
        """
        if interpreted():
            return cls(64, 64, 16, 64, 4, None)
        if dtype.itemsize == 2:
            return cls(128, 32, 32, 128, 8, 128 if capability(device) >= 90 else None)
        return cls(64, 32, 16, 64, 4, None)

    def width(self, columns: int) -> int:
        """Columns of a slab: whole inner steps."""
        return round_up(columns, self.inner if columns > 16 else 16)

    def step(self, width: int) -> int:
        """Inner dimension per step for slabs of this width."""
        return self.inner if width % self.inner == 0 else 16

    def outer(self, columns: int) -> int:
        """Rows of the filters' gradient per program, a power of two."""
        choices = [size for size in (16, 32, 64, 128) if size <= self.widest]
        return min(choices, key=lambda size: -(-columns // size) * (size + 32))

    def parts(self, columns: int) -> tuple[int, int]:
        """Columns of the result per program, as two powers of two, or one and nothing: few programs, little padding.

        Every program reads its neighbourhood anew, worth 32 columns.
        """
        known = ((16, 0), (32, 0), (32, 16), (64, 0), (64, 32))
        choices = [parts for parts in known if sum(parts) <= self.widest]
        return min(choices, key=lambda parts: -(-columns // sum(parts)) * (sum(parts) + 32))


def interpreted() -> bool:
    """Whether Triton runs its programs on the CPU, operation by operation."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def capability(device: torch.device) -> int:
    """10 times the compute capability of a GPU."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def round_up(number: int, multiple: int) -> int:
    """The next multiple."""
    return -(-number // multiple) * multiple


def tile_sides(sides: Sequence[int], voxels: int) -> tuple[int, int, int]:
    """Powers of two with that product, as near to a cube as the box lets them be: the smaller its surface, the less is
    read.

    Along z a tile may be longer than the box, where there is nothing else.
    """
    tile = [1, 1, 1]
    while math.prod(tile) < voxels:
        open_axes = [axis for axis in (2, 1, 0) if tile[axis] < sides[axis]]
        axis = min(open_axes, key=lambda axis: tile[axis]) if open_axes else 2
        tile[axis] *= 2
    return triple(tile)


def workspace_bytes(*fields: Tensor) -> int:
    """What the workspace may take next to these fields."""
    share = int(WORKSPACE_SHARE * sum(field.numel() * field.element_size() for field in fields))
    return min(max(WORKSPACE_BYTES, share), LARGEST_WORKSPACE)


def boxes(batch: int, sides: Sequence[int], halo: int, room: int) -> list[Box]:
    """Cover the result by boxes that have at most ``room`` voxels with a halo around; but at least a line of z each."""
    line = sides[2] + 2 * halo
    whole = (sides[0] + 2 * halo) * (sides[1] + 2 * halo) * line
    samples = min(batch, max(1, room // whole))
    lines = room // line
    width_y = min(sides[1], _fitting(lines, 1 + 2 * halo, halo))
    width_x = min(sides[0], _fitting(lines, width_y + 2 * halo, halo))
    width_x -= width_x % LAYERS if LAYERS < width_x < sides[0] else 0
    return [
        Box(
            sample, min(samples, batch - sample), x, min(x + width_x, sides[0]), y, min(y + width_y, sides[1]), sides[2]
        )
        for sample in range(0, batch, samples)
        for x in range(0, sides[0], width_x)
        for y in range(0, sides[1], width_y)
    ]


def _fitting(lines: int, lines_across: int, halo: int) -> int:
    return max(1, lines // lines_across - 2 * halo)


def start(program: Any, grid: tuple[int, ...], *operands: Any, **constants: Any) -> None:
    """Run a program on the device of its first operand."""
    device = operands[0].device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        program[grid](*operands, **constants)


def programs() -> ModuleType:
    """The programs; Triton is imported with them."""
    return importlib.import_module("flowsr.kernels.triton_kernel.programs")


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


class Stages:
    """The five programs with their sizes, for one group, kernel size and precision.

    Args:
        tables: of the group and kernel size, on the device.
        dtype: of slabs and matrix products; sums are float32.
        precision: ``ieee`` or ``tf32``, of float32 products.
    """

    def __init__(self, tables: SignTables, dtype: torch.dtype, precision: str = "ieee"):
        self.tables, self.dtype, self.precision = tables, dtype, precision
        self.blocks = Blocks.of(dtype, tables.elements.device)

    def bytes_per_voxel(self, columns: Sequence[int]) -> int:
        """Of slabs with these columns per character."""
        return self.tables.order * sum(self.blocks.width(count) for count in columns) * self.dtype.itemsize

    def analyze(self, source: Source, box: Box, halo: int) -> Tensor:
        """The characters of a field in a box and ``halo`` cells around it.

        Returns:
            (samples, x, y, z, |K|, width).
        """
        tables, width = self.tables, self.blocks.width(source.columns)
        sides = [side + 2 * halo for side in box.sides]
        slab = source.values.new_empty((box.samples, *sides, tables.order, width), dtype=self.dtype)
        first = [start - halo - beyond for start, beyond in zip((box.x0, box.y0, 0), source.beyond)]
        saved = source.values if source.saved is None else source.saved
        positions = slab.numel() // (tables.order * width)
        rows, columns = 32, min(32, width)
        start(
            programs().analyze,
            (_cdiv(positions, rows), _cdiv(width, columns)),
            source.values,
            saved,
            source.values if source.weights is None else source.weights,
            tables.elements,
            slab,
            box.sample,
            *first,
            positions,
            *sides,
            *source.values.shape[-3:],
            source.values.shape[1],
            source.columns,
            *source.values.stride(),
            *saved.stride(),
            CHARACTERS=tables.characters,
            K=tables.order,
            COSETS=tables.cosets,
            WIDTH=width,
            EDGE_X=source.edges[0],
            EDGE_Y=source.edges[1],
            EDGE_Z=source.edges[2],
            WEIGHTED=source.weights is not None,
            ACTIVATION=source.activation,
            ROWS=rows,
            COLUMNS=columns,
            num_warps=4,
        )
        return slab

    def matrices(self, spectra: Tensor, banks_in: int, banks_out: int) -> Tensor:
        """:meth:`SignTables.spectra` with columns (bank, coset, channel), padded to whole blocks: (|K|, k^3, rows,
        columns)."""
        order, taps, _, channels_in, _, channels_out = spectra.shape
        apart = spectra.unflatten(5, (banks_out, -1)).unflatten(3, (banks_in, -1))
        rows, columns = self.tables.cosets * channels_in, self.tables.cosets * channels_out
        ordered = apart.permute(0, 1, 3, 2, 4, 6, 5, 7).reshape(order, taps, rows, columns)
        missing = (round_up(columns, sum(self._parts(columns))) - columns, self.blocks.width(rows) - rows)
        return F.pad(ordered, (0, missing[0], 0, missing[1])).to(self.dtype).contiguous()

    def _parts(self, columns: int) -> tuple[int, int]:
        """Columns per program of :meth:`multiply`; k = 5 has 125 products to compile, and takes them in one part."""
        return self.blocks.parts(columns) if self.tables.half < 2 else (self.blocks.outer(columns), 0)

    def multiply(self, slab: Tensor, matrices: Tensor, box: Box, columns: int) -> Tensor:
        """The matrix products of every character and combination of shifts, from a slab with a halo.

        Returns:
            (voxels, |K|, width).
        """
        tables, blocks = self.tables, self.blocks
        product = slab.new_empty((box.voxels, tables.order, blocks.width(columns)))
        (head, tail), tile = self._parts(columns), tile_sides(box.sides, blocks.voxels)
        tiles = box.samples * math.prod(_cdiv(side, t) for side, t in zip(box.sides, tile))
        start(
            programs().multiply,
            (tables.order, tiles, _cdiv(columns, head + tail)),
            slab,
            matrices,
            tables.sources,
            product,
            box.sides[0],
            columns,
            *box.sides[1:],
            STEPS=tables.steps,
            FIRST=tables.first,
            K=tables.order,
            HALF=tables.half,
            TAPS=tables.taps,
            WIDTH_IN=slab.shape[-1],
            WIDTH_OUT=matrices.shape[-1],
            PRODUCT_WIDTH=product.shape[-1],
            PRECISION=self.precision,
            TX=tile[0],
            TY=tile[1],
            TZ=tile[2],
            INNER=blocks.step(slab.shape[-1]),
            HEAD=head,
            TAIL=tail,
            WIDE=interpreted(),
            num_warps=blocks.warps,
            num_stages=1,
            maxnreg=blocks.registers,
        )
        return product

    def synthesize(
        self,
        product: Tensor,
        box: Box,
        result: Tensor,
        weights: Tensor | None = None,
        bias: Tensor | None = None,
        activation: str = "none",
        before: Tensor | None = None,
        at: tuple[int, int, int] | None = None,
    ) -> None:
        """Write the box of ``result``, (batch, channels, n, x, y, z), and of ``before``, what goes into the activation.

        Args:
            weights: (banks, n) float32; None for one bank as it is.
            bias: (channels,) float32.
            at: sample, x and y in ``result`` of the box's first voxel, where they are not the box's own.
        """
        tables, banks = self.tables, 1 if weights is None else len(weights)
        sample, x, y = (box.sample, box.x0, box.y0) if at is None else at
        target = result[..., y:, :]
        rows, columns = 32, 32
        start(
            programs().synthesize,
            (_cdiv(box.voxels, rows), _cdiv(tables.cosets * result.shape[1], columns)),
            product,
            product if weights is None else weights,
            product if bias is None else bias,
            tables.elements,
            target,
            target if before is None else before[..., y:, :],
            sample,
            x,
            box.voxels,
            *box.sides,
            result.shape[1],
            *result.stride(),
            CHARACTERS=tables.characters,
            K=tables.order,
            COSETS=tables.cosets,
            BANKS=banks,
            WIDTH=product.shape[-1],
            WEIGHTED=weights is not None,
            BIASED=bias is not None,
            ACTIVATION=activation,
            KEEP=before is not None,
            ROWS=rows,
            COLUMNS=columns,
            num_warps=4,
        )

    def correlation_totals(self, columns_shifted: int, columns_plain: int, device: torch.device) -> Tensor:
        """Zeros for :meth:`correlate` to add to: (splits, |K|, k^3, width, width) float32."""
        tables, widths = self.tables, [self.blocks.width(count) for count in (columns_shifted, columns_plain)]
        programs_per_split = tables.order * tables.lines.shape[1] * self._correlate_blocks(*widths)
        splits = 1 if interpreted() else _cdiv(CORRELATE_PROGRAMS, programs_per_split)
        return torch.zeros(splits, tables.order, tables.taps, *widths, dtype=torch.float32, device=device)

    def _correlate_blocks(self, shifted: int, plain: int) -> int:
        """Blocks of columns of both slabs that :meth:`correlate` works on apart."""
        return _cdiv(shifted, self.blocks.outer(shifted)) * _cdiv(plain, sum(self.blocks.parts(plain)))

    def correlate(self, shifted: Tensor, plain: Tensor, box: Box, totals: Tensor) -> None:
        """Add the products of a slab with a halo and one without, summed over the box, to ``totals``."""
        tables, blocks = self.tables, self.blocks
        tile = tile_sides(box.sides, blocks.turn)
        tiles = box.samples * math.prod(_cdiv(side, t) for side, t in zip(box.sides, tile))
        widths = totals.shape[-2:]
        head, tail = blocks.parts(widths[1])
        for lines, reach in zip(tables.lines, range(min(1, tables.half), tables.half + 1)):
            start(
                programs().correlate,
                (tables.order * len(lines), self._correlate_blocks(*widths), len(totals)),
                shifted,
                plain,
                tables.sources,
                lines,
                totals,
                tiles,
                *box.sides,
                K=tables.order,
                HALF=tables.half,
                TAPS=tables.taps,
                LINES=len(lines),
                REACH=reach,
                WIDTH_SHIFTED=widths[0],
                WIDTH_PLAIN=widths[1],
                PRECISION=self.precision,
                SPLITS=len(totals),
                TURNS=_cdiv(tiles, len(totals)),
                TX=tile[0],
                TY=tile[1],
                TZ=tile[2],
                BLOCK_SHIFTED=blocks.outer(widths[0]),
                HEAD=head,
                TAIL=tail,
                WIDE=interpreted(),
                num_warps=CORRELATE_WARPS,
                num_stages=1,
            )

    def collect(self, gradient: Tensor, saved: Tensor, factor: Tensor, activation: str) -> tuple[Tensor, Tensor]:
        """Sums over the voxels of the gradient before the activation, and of its product with ``factor``.

        Args:
            gradient, saved, factor: (batch, channels, n, x, y, z), any strides.

        Returns:
            Both (batch, channels, n) float32.
        """
        batch, channels, order, *sides = gradient.shape
        sums = torch.empty(2, batch, channels, order, dtype=torch.float32, device=gradient.device)
        start(
            programs().collect,
            (batch * channels * order,),
            gradient,
            saved,
            factor,
            sums,
            channels,
            order,
            *sides[1:],
            *gradient.stride(),
            *saved.stride(),
            *factor.stride(),
            ACTIVATION=activation,
            POSITIONS=math.prod(sides),
            BLOCK=1024,
            num_warps=4,
        )
        return sums[0], sums[1]
