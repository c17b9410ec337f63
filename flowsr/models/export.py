"""A model as one file that other programs run: a graph compiled for C++, C and Fortran, with no Python in it.

Two graphs are to be had. ``field`` takes a whole coarse box and gives the whole fine one; how its sides go on, the mean
flow and the size of its fluctuation are dealt with inside, so the units and the frame are the caller's:

    coarse (frames component, x, y, z)  ->  fine (component, s x, s y, s z)

``tile`` is for a program that has the field in parts, such as a solver whose processes each own one. It takes a part
with ``halo`` cells more on every side, and the two numbers that all parts share (:mod:`flowsr.data.scales`), and gives
the fine cells of the part without its halo:

    coarse (frames component, x + 2 halo, ...), mean (component,), fluctuation ()  ->  fine (component, s x, ...)

A network that is local takes any size. One that sees the whole field at once, and any on a stretched axis, is exported
for one size. What is written was compared with the model itself, on sizes that it was not made from.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowsr import __version__
from flowsr.data.scales import FieldScales, scales_of
from flowsr.errors import FlowsrError, require
from flowsr.grid import BOUNDARIES, Grid, triple
from flowsr.kernels.conv3d import conv3d_fault
from flowsr.models.base import Upscaler
from flowsr.progress import SILENT, Progress

GRAPHS = ("field", "tile")
#: Relative errors (over the largest value) that a graph may have beside the model.
ALIKE = {torch.float32: 2e-5, torch.float64: 1e-12}
#: Fewest cells along a side of a graph that takes any size: more than any filter is wide.
FEWEST = 4
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: the file.
        graph: ``field`` or ``tile``.
        compiled: whether it is machine code, for :func:`torch._inductor.aoti_load_package` and C++; else a graph for
            :func:`torch.export.load`, which needs Python.
        size: cells that it takes along x, y, z; None: any.
        error: largest difference to the model over the largest value, among the sizes that were compared.
    """

    path: Path
    graph: str
    compiled: bool
    size: tuple[int, int, int] | None
    error: float


class _WholeField(nn.Module):
    """The ``field`` graph."""

    def __init__(self, model: Upscaler, grid: Grid):
        super().__init__()
        self.model, self.grid = model, grid

    def forward(self, coarse: Tensor) -> Tensor:
        whole, known = coarse[None], {}
        if self.model.needs_scales:
            known["scales"] = _Scales(*scales_of(whole, self.grid, self.model.irreps))
        return self.model(whole, self.grid, **known)[0]


class _Tile(nn.Module):
    """The ``tile`` graph."""

    def __init__(self, model: Upscaler, grid: Grid):
        super().__init__()
        self.model, self.grid = model, replace(grid, boundary=("open",) * 3)

    def forward(self, coarse: Tensor, mean: Tensor, fluctuation: Tensor) -> Tensor:
        known = {"scales": _Scales(mean[None], fluctuation[None])} if self.model.needs_scales else {}
        cut = self.model.halo * self.model.factor
        core = slice(cut, -cut) if cut else slice(None)
        return self.model(coarse[None], self.grid, **known)[0][:, core, core, core]


@dataclass(frozen=True)
class _Scales:
    """:class:`flowsr.data.scales.FieldScales` whose numbers are tensors of the graph."""

    mean: Tensor
    fluctuation: Tensor

    def transformed(self, matrix: np.ndarray) -> _Scales:
        return replace(self, mean=self.mean @ torch.tensor(matrix.T, dtype=self.mean.dtype, device=self.mean.device))

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean, self.fluctuation


def export_model(
    model: Upscaler,
    target: Path,
    *,
    graph: str = "field",
    grid: Grid | None = None,
    boundary: tuple[str, str, str] | None = None,
    size: tuple[int, int, int] | None = None,
    precision: str = "float32",
    compiled: bool = True,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Exported:
    """Write a model as one file that other programs run, having compared it with the model.

    Args:
        model: any; it stays as it is.
        target: ``.pt2`` file; appears whole or not at all.
        graph: ``field`` or ``tile``.
        grid: of the fields it will be given: sides, shapes of cells, stretched axes; default: cubes.
        boundary: ``periodic``, ``wall`` or ``open`` along x, y, z; default: the grid's, or what the model was trained
            on, or periodic.
        size: cells along x, y, z, where it is to be for this size only; default: any, or the grid's where it cannot be.
        precision: ``float32`` or ``float64``: of what goes in, is computed with and comes out.
        compiled: into machine code, which needs a C++ compiler; False: the graph alone, which needs Python to run.
        device: ``cpu`` or ``cuda``, which it will run on.
        progress: told the fraction done and a short message.

    Raises:
        FlowsrError: a model that has no such graph, that cannot be traced or compiled, or whose graph gives other
            numbers than it.
    """
    require(not model.takes_viscosity, "a network that takes the cell Reynolds number is not exported")
    fault = conv3d_fault(device, PRECISIONS.get(precision, torch.float32))
    require(fault is None, "convolutions cannot be trusted here", variable="device", found=fault)
    require(precision in PRECISIONS, "no such precision", variable="precision", expected=list(PRECISIONS))
    require(graph in GRAPHS, "no such graph", variable="graph", expected=" or ".join(GRAPHS), found=graph)
    wrong = "a file for torch's packages"
    require(target.suffix == ".pt2", wrong, file=target, expected=".pt2", found=target.suffix or "no suffix")
    home = None if model.card is None else model.card.home
    sides = boundary or (home.boundary if grid is None and home is not None else (grid or Grid((1, 1, 1))).boundary)
    known = "sides that flowsr knows"
    require(len(sides) == 3 and all(side in BOUNDARIES for side in sides), known, variable="boundary", found=sides)
    local = model.halo is not None and not any((grid or Grid((1, 1, 1))).stretched)
    if graph == "tile":
        message = "this model needs whole fields: a stretched axis, or a halo that is not finite"
        require(local, message, variable="graph", expected="field", found="tile")
    elif not local:
        size = size or (grid.shape if grid else None)
        message = "this model is exported for one size of the field"
        require(size, message, variable="size", expected="cells along x, y, z", hint="--size 32 32 32")
    whole = Grid(size or (grid.shape if grid else (8, 8, 8)), *_cells_of(grid))
    whole = replace(whole, boundary=triple(sides))
    if grid is not None and any(grid.stretched):
        require(whole.shape == grid.shape, "a stretched axis has one size", expected=grid.shape, found=size)
        whole = replace(grid, boundary=triple(sides))
    require(not model.needs_periodic or whole.periodic, "this model is for periodic boxes", found=sides)

    dtype = PRECISIONS[precision]
    require(model.in_double or dtype != torch.float64, "this model computes in single precision only")
    model = copy.deepcopy(model).to(device)
    model = (model.double() if dtype == torch.float64 else model.float()).eval().requires_grad_(False)
    margin = 2 * model.halo if graph == "tile" else 0
    sizes = [whole.shape] if size else [(9 + margin, 6 + margin, 7 + margin), (5 + margin, 8 + margin, 10 + margin)]
    if size and margin:
        sizes = [triple(n + margin for n in size)]
    module = (_Tile if graph == "tile" else _WholeField)(model, whole)
    given = [_example(model, shape, graph, dtype, device, seed) for seed, shape in enumerate(sizes)]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        progress(0.0, "tracing")
        try:  # fills tables that a trace must not
            expected = [_of_model(model, whole, graph, inputs) for inputs in given]
        except ValueError as error:
            message = "this model does not take such a field"
            raise FlowsrError(message, variable="size", found=_first_line(error)) from None
        try:
            program = torch.export.export(module, given[0], dynamic_shapes=_any_size(graph, margin, size), strict=False)
        except Exception as error:  # whatever a tracer, and what it is made of, can raise
            raise FlowsrError("this model cannot be traced", file=target, found=_first_line(error)) from error
        said = _described(model, graph, whole, size, precision)
        progress(0.2, "compiling" if compiled else "writing")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as place:
            path = Path(place) / target.name
            run = (_compiled if compiled else _saved)(program, path, said, target)
            progress(0.9, "comparing")
            errors = [_difference(run(*inputs), fine) for inputs, fine in zip(given, expected)]
            if not max(errors) <= ALIKE[dtype]:
                message, limit = "not exported: the graph gives other numbers than the model", f"{ALIKE[dtype]:.0e}"
                found = f"{max(errors):.2g} with torch {torch.__version__}"
                raise FlowsrError(message, file=target, expected=f"a relative error below {limit}", found=found)
            os.replace(path, target)
    progress(1.0, "exported")
    return Exported(target, graph, compiled, size, max(errors))


def _cells_of(grid: Grid | None) -> tuple[Any, ...]:
    return () if grid is None else (grid.spacing,)


def _example(model: Upscaler, shape: Any, graph: str, dtype: torch.dtype, device: str, seed: int) -> tuple[Tensor, ...]:
    """A field in units and a frame of its own."""
    noise = torch.Generator().manual_seed(seed)
    coarse = 7 * torch.randn(model.components * model.frames, *shape, generator=noise, dtype=torch.float64) + 3
    coarse = coarse.to(device, dtype)
    if graph == "field":
        return (coarse,)
    mean = torch.full((model.components,), 3.0, dtype=torch.float64, device=device)
    return coarse, mean, torch.tensor(7 * 3**0.5, dtype=torch.float64, device=device)


def _of_model(model: Upscaler, grid: Grid, graph: str, inputs: tuple[Tensor, ...]) -> Tensor:
    """What the model itself makes of a graph's inputs."""
    coarse, *scales = inputs
    if not any(grid.stretched):
        grid = replace(grid, shape=triple(coarse.shape[1:]))
    if graph == "field":
        return model(coarse[None], grid)[0]
    known = {"scales": FieldScales(tuple(scales[0].tolist()), float(scales[1]))} if model.needs_scales else {}
    fine, cut = model(coarse[None], replace(grid, boundary=("open",) * 3), **known)[0], model.halo * model.factor
    return fine[(slice(None), *(slice(cut, n - cut) for n in fine.shape[1:]))]


def _any_size(graph: str, margin: int, size: Any) -> tuple[Any, ...] | None:
    if size:
        return None
    sides = {axis + 1: torch.export.Dim("xyz"[axis], min=FEWEST + margin) for axis in range(3)}
    return (sides, None, None) if graph == "tile" else (sides,)


def _described(model: Upscaler, graph: str, grid: Grid, size: Any, precision: str) -> dict[str, str]:
    """What a program that runs the file can ask it for."""
    card = model.card
    return {
        "flowsr": __version__,
        "graph": graph,
        "factor": str(model.factor),
        "irreps": model.irreps,
        "frames": str(model.frames),
        "components": str(model.components),
        "halo": "whole" if model.halo is None else str(model.halo),
        "boundary": ",".join(grid.boundary) if graph == "field" else "open,open,open",
        "size": "any" if size is None else ",".join(map(str, size)),
        "precision": precision,
        "model": "unknown" if card is None else card.model,
        "weights_sha256": "unknown" if card is None else str(card.training.get("weights_sha256", "unknown")),
    }


def _compiled(program: Any, path: Path, said: dict[str, str], target: Path) -> Any:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)
    hint = "without a compiler: --program, a graph that Python runs"
    require(compiler, "no C++ compiler to make machine code with", file=target, hint=hint)
    before = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)  # what it cannot do best, and nobody here can mend
        with _unknown_ranges():
            aoti_compile_and_package(
                program, package_path=str(path), inductor_configs={"aot_inductor.metadata": {**said}}
            )
        return aoti_load_package(str(path))
    except Exception as error:  # a compiler, and all that it runs, can raise anything
        raise FlowsrError("this model cannot be compiled", file=target, found=_first_line(error), hint=hint) from error
    finally:
        logging.disable(before)


def _saved(program: Any, path: Path, said: dict[str, str], target: Path) -> Any:
    import json

    for name, table in program.constants.items():  # torch 2.13 cannot write tables of other strides than C order's
        if isinstance(table, torch.Tensor):
            program.constants[name] = table.contiguous().clone()
    torch.export.save(program, path, extra_files={"flowsr.json": json.dumps(said)})
    return torch.export.load(path).module()


@contextmanager
def _unknown_ranges() -> Iterator[None]:
    """Where torch's compiler asks whether one stride divides another, and has to bound 1 / (x + 2)(y + 2) for it.

    torch 2.13 raises then, of every padded convolution of any size. The answer wanted is "not known", upon which it
    copies what it may as well. What comes out is compared with the model anyway.
    """
    try:
        from torch.utils._sympy.value_ranges import SymPyValueRangeAnalysis, ValueRangeError, ValueRanges

        bounded = SymPyValueRangeAnalysis.pow_by_natural
    except (ImportError, AttributeError):
        yield
        return

    def or_unknown(base: Any, exponent: Any) -> Any:
        try:
            return bounded(base, exponent)
        except ValueRangeError:
            return ValueRanges.unknown()

    SymPyValueRangeAnalysis.pow_by_natural = staticmethod(or_unknown)
    try:
        yield
    finally:
        SymPyValueRangeAnalysis.pow_by_natural = staticmethod(bounded)


def _difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max())


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
