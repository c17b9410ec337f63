"""What layers, models and metrics owe their callers, asked of one's own: for tests of a package that extends flowsr.

    from flowsr.testing import assert_equivariant, check_metric, check_model, check_reader

Each raises ``AssertionError`` on the first debt that is not paid, and says by how much. They need no test runner,
compute in double precision, and leave what they are given as it is. What they cannot know, whether the mathematics is
right, is left to tests on fields whose answer is known.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from flowsr.data import open_field
from flowsr.data.scales import FieldScales, free_components
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import PointGroup, octahedral_group, point_group
from flowsr.group.fields import transform_field, transform_grid, transform_regular
from flowsr.group.o3 import Irreps
from flowsr.metrics import Curve, FieldMetric, finite_differences, measure_in_tiles
from flowsr.metrics.tiles import cut_axes
from flowsr.models import Upscaler
from flowsr.upscale.tiles import upscale_array

__all__ = ["assert_equivariant", "check_invariances", "check_metric", "check_model", "check_reader"]

#: Unequal sides, odd and even, and every kind of boundary: what is exact here is exact on any box.
MIXED = Grid((3, 4, 5), boundary=("periodic", "wall", "open"))
#: A periodic box of unequal sides and spacings.
PERIODIC = Grid((16, 12, 20), (0.4, 0.5, 0.3))
#: Between walls along y, its cells finer towards them.
CHANNEL = Grid(
    (8, 12, 10),
    (0.3, 2.0 / 12, 0.25),
    ("periodic", "wall", "periodic"),
    (0.0, -1.0, 0.0),
    (None, tuple(np.sin(np.linspace(-1.4, 1.4, 12)).tolist()), None),
)
#: Cells along a tile's side; no side of the boxes above is a multiple of it.
SIDE = 7


def assert_equivariant(
    layer: Callable[[Tensor, Any], Tensor],
    group: str | PointGroup = "Oh",
    irreps_in: str | None = "1o",
    irreps_out: str | None = "1o",
    *,
    channels: int = 1,
    grid: Grid = MIXED,
    values: Tensor | None = None,
    tolerance: float = 1e-10,
) -> float:
    """Ask ||M(g.x) - g.M(x)|| <= tolerance ||M(x)|| of every element g of a group, in float64.

    Args:
        layer: called as ``layer(values, grid)`` where it is an :class:`~flowsr.models.Upscaler`, as
            ``layer(values, boundary)`` otherwise. Of a module a copy is measured, in double precision and ``eval()``.
        group: the name of a point group, ``O``, ``Oh`` or ``C4v [001]``, or the group itself.
        irreps_in, irreps_out: e3nn irreps of input and output; None for regular features (batch, channels, n, x, y, z).
        channels: of a regular input.
        grid: of the input; its boundaries travel with the axes.
        values: the input; by default noise.

    Returns:
        The largest relative error over the group.

    Raises:
        AssertionError: an element beyond the tolerance.
    """
    group = point_group(group) if isinstance(group, str) else group
    if isinstance(layer, nn.Module):
        layer = copy.deepcopy(layer).double().eval()
    if values is None:
        values = _noise(channels * group.order if irreps_in is None else Irreps(irreps_in).dim, grid)
        values = values.unflatten(1, (channels, group.order)) if irreps_in is None else values

    def call(field: Tensor, grid: Grid) -> Tensor:
        return layer(field, grid if isinstance(layer, Upscaler) else grid.boundary)

    def act(field: Tensor, element: int, irreps: str | None) -> Tensor:
        regular = irreps is None
        return transform_regular(field, element, group) if regular else transform_field(field, element, irreps, group)

    worst = 0.0
    with torch.no_grad():
        result = call(values, grid)
        for element in range(group.order):
            found = call(act(values, element, irreps_in), transform_grid(grid, element, group))
            error = float((found - act(result, element, irreps_out)).norm() / result.norm())
            assert error <= tolerance, (
                f"not equivariant: element {element} of {group.name}, {group.matrices[element].astype(int).tolist()}, "
                f"error {error:.3g}, tolerance {tolerance:.3g}"
            )
            worst = max(worst, error)
    return worst


def check_model(model: Upscaler, *, stir: bool = True, tolerance: float = 1e-12, seed: int = 0) -> None:
    """Ask of a model what tiles, comparisons and fits rely on.

    That its class says in one line what it is; that fields of either precision come out ``factor`` times finer, the
    same every time; that walls and open edges are upscaled, or refused in one line; that units and frames are of no
    account (:func:`check_invariances`); that tiles with the stated halo give the whole field, and nothing beyond the
    halo is looked at; and that every trainable parameter is reached by the gradient.

    Args:
        model: of any precision and device; a copy of it is asked, on the CPU.
        stir: give every trainable parameter a random value first, so that no part of a fresh network is silent.
        tolerance: relative to the field, for round-off; more where a model's halo leaves something out on purpose.
        seed: of the random values.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    model = copy.deepcopy(model).cpu().double().eval()
    if stir and model.trainable:
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.2)
    lines = (type(model).__doc__ or "").strip().splitlines()
    assert lines and lines[0].endswith("."), "the class says in the first line of its docstring, a sentence, what it is"
    grid = Grid((4, 5, 6))
    coarse = _noise(Irreps(model.irreps_in).dim, grid, batch=2)
    components = Irreps(model.irreps).dim
    fine = _upscaled(model, coarse, grid)
    shape = (2, components, *(model.factor * n for n in grid.shape))
    assert fine.shape == shape, f"a result of shape {tuple(fine.shape)} where {shape} was expected"
    assert torch.equal(_upscaled(model, coarse, grid), fine), "the same field twice gives two results"
    single = copy.deepcopy(model).float()
    assert _upscaled(single, coarse.float(), grid).dtype == torch.float32, "single precision comes out in another one"
    elsewhere = Grid(grid.shape, spacing=(0.01,) * 3, origin=(3.0, 2.0, 1.0))
    _assert_close(_upscaled(model, coarse, elsewhere), fine, tolerance, "another unit of length")
    scaled = any(name.rpartition(".")[2] == "scale" for name, _ in model.named_buffers())
    if scaled:
        doubled = copy.deepcopy(model)
        for name, scale in doubled.named_buffers():  # a network told of the units, as a data set tells it
            if name.rpartition(".")[2] == "scale":
                scale.mul_(2)
        _assert_close(
            _upscaled(doubled, 2 * coarse, grid), 2 * fine, tolerance, "a field, and its scale, twice as large"
        )
    _check_boundaries(model)
    if model.halo is not None:
        _check_halo(model, tolerance)
    if model.trainable:
        model(coarse, grid).square().mean().backward()
        named = [(name, p.grad) for name, p in model.named_parameters() if p.requires_grad]
        silent = [name for name, gradient in named if gradient is None or not bool(gradient.abs().max() > 0)]
        assert not silent, f"no gradient reaches {', '.join(silent)}"
    if not scaled:
        check_invariances(model, tolerance=tolerance)


def check_invariances(model: Upscaler, *, tolerance: float = 1e-12) -> None:
    """Ask M(a u) = a M(u) for a of 1e-6 and 1e6, M(0) = 0, and M(u + c) = M(u) + c, whole and in tiles.

    c is a constant in every component to which the equations allow one to be added
    (:func:`flowsr.data.scales.free_components`): the velocity along axes without walls, a scalar.

    Args:
        model: any; a copy of it is asked, on the CPU in double precision.
        tolerance: relative to the field, for round-off.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    model = copy.deepcopy(model).cpu().double().eval()
    for boundary in (("periodic",) * 3, ("periodic", "wall", "open")):
        if model.needs_periodic and "wall" in boundary:
            continue
        grid = Grid((4, 5, 3), boundary=boundary)
        coarse = _noise(Irreps(model.irreps_in).dim, grid)

        free = torch.tensor(free_components(model.irreps, boundary), dtype=torch.float64)
        constant = free * torch.linspace(1.0, 2.0, len(free), dtype=torch.float64)
        wind = constant[:, None, None, None]
        fine = _upscaled(model, coarse, grid)
        for size in (1e-6, 1e6):
            found = _upscaled(model, size * coarse, grid)
            _assert_close(found, size * fine, tolerance, f"a field {size:g} times as large, boundaries {boundary}")
        silent = _upscaled(model, torch.zeros_like(coarse), grid)
        assert not bool(silent.any()), f"a field of zeros does not give zeros, boundaries {boundary}"
        moved, told = coarse + wind.repeat(model.frames, 1, 1, 1), "a constant added where the equations allow it"
        _assert_close(_upscaled(model, moved, grid), fine + wind, 10 * tolerance, f"{told}, boundaries {boundary}")
        if model.halo is not None:
            tiled = torch.from_numpy(upscale_array(model, 1e-3 * moved[0].numpy(), grid, tile=3))
            _assert_close(1e3 * tiled, fine[0] + wind, 10 * tolerance, f"{told}, in tiles, boundaries {boundary}")


def _check_boundaries(model: Upscaler) -> None:
    for boundary in (("wall", "periodic", "open"), ("open",) * 3):
        grid = Grid((4, 5, 6), boundary=boundary)
        try:
            fine = _upscaled(model, _noise(Irreps(model.irreps_in).dim, grid), grid)
        except (ValueError, FlowsrError) as error:
            assert model.needs_periodic and "\n" not in str(error), f"boundaries {boundary} end in {error!r}"
            continue
        assert not model.needs_periodic, f"needs_periodic, and boundaries {boundary} are not refused"
        assert bool(torch.isfinite(fine).all()), f"boundaries {boundary} give NaN or infinite values"


def _check_halo(model: Upscaler, tolerance: float) -> None:
    halo = model.halo or 0
    for boundary in ("periodic", "wall", "open"):
        if model.needs_periodic and boundary != "periodic":
            continue
        grid = Grid((7, 3, 4), boundary=(boundary, "periodic", "periodic"))
        coarse = _noise(Irreps(model.irreps_in).dim, grid)[0].numpy()
        whole, tiled = (torch.from_numpy(upscale_array(model, coarse, grid, tile=side)) for side in (7, 3))
        _assert_close(tiled, whole, max(tolerance, 1e-13), f"tiles with a halo of {halo} cells, {boundary}")
    edge = "periodic" if model.needs_periodic else "wall"
    grid = Grid((2 * halo + 5, 3, 3), boundary=(edge, "periodic", "periodic"))
    reach = _reach(model, grid, halo + 2, tolerance)
    assert reach <= halo, f"a halo of {halo} cells, and the result depends on {reach}"
    if not model.needs_periodic:  # what a wall bounds does not come round again
        reach = _reach(model, grid, grid.shape[0] - 1, tolerance)
        assert reach <= halo, f"what lies at a wall is seen {reach} cells away, beyond the halo of {halo}"


def _reach(model: Upscaler, grid: Grid, layer: int, tolerance: float) -> int:
    """Cells along x, from a coarse layer that is changed, to the farthest where the result changes."""
    values = _noise(Irreps(model.irreps_in).dim, grid)
    poked = values.clone()
    poked[:, :, layer] += 1.0
    known = {"scales": FieldScales.unit(Irreps(model.irreps).dim)} if model.needs_scales else {}
    with torch.no_grad():
        change = (model(poked, grid, **known) - model(values, grid, **known)).abs().amax((0, 1, 3, 4))
    reached = change.reshape(-1, model.factor).amax(1) > tolerance * values.abs().max()
    return int((torch.nonzero(reached).flatten() - layer).abs().max())


def check_metric(
    metric: FieldMetric, *, irreps: str = "1o", tolerance: float = 1e-10, units: tuple[float, float] = (2.0, 4.0)
) -> None:
    """Ask of a metric what tables, streams and tiles rely on.

    That every result has a label, a unit and a source, and is there; that batches, single snapshots and merged states
    give one result and a reset metric holds nothing; that tiles, where the class states a halo, add up to the whole;
    that nothing changes when prediction and truth are transformed by any of the 48 elements, where the class says so;
    and that results follow their units where those of the data change.

    Args:
        metric: any instance; copies of it are asked. Its ``viscosity`` is changed with the units; an option with a unit
            of its own must be left out.
        irreps: field type to measure.
        tolerance: relative and absolute; more for a metric that counts voxels, which rounding may move between bins.
        units: what velocities and lengths are multiplied by; powers of two, so that it is exact.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    grid = CHANNEL if metric.needs_channel else PERIODIC
    kind = type(metric)

    def fresh(**changed: Any) -> FieldMetric:
        made = metric.clone()
        made.reset()
        vars(made).update(changed)
        return made

    noise, target = (_noise(Irreps(irreps).dim, grid, batch=3, seed=seed) for seed in (2, 1))
    prediction = target + 0.5 * noise + 0.1 * target**2
    result = fresh()(prediction, target, grid)
    declared = {**kind.scalars, **kind.curves}
    assert declared, "neither scalars nor curves are declared"
    assert result.keys() == declared.keys(), f"declared {sorted(declared)}, computed {sorted(result)}"
    for key, quantity in declared.items():
        assert quantity.label and quantity.source, f"{key} has no label or no source"
        assert isinstance(result[key], Curve) == (key in kind.curves), f"{key} is declared as another kind of result"
        assert key in kind.curves or result[key].shape == (), f"{key} is no scalar"

    whole, single, first, second = (fresh() for _ in range(4))
    whole.update(prediction, target, grid)
    for one, other in zip(prediction, target):
        single.update(one[None], other[None], grid)
    first.update(prediction[:1], target[:1], grid)
    second.update(prediction[1:], target[1:], grid)
    first.merge_state(second)
    _assert_same(single.compute(), whole.compute(), 1e-12, "one snapshot after the other")
    _assert_same(first.compute(), whole.compute(), 1e-12, "two metrics merged")
    whole.reset()
    assert not any(bool(getattr(whole, state).any()) for state in whole.states), "a reset metric still holds something"

    if metric.halo is not None:
        tiled, whole = fresh(), fresh()
        with finite_differences(cut_axes(grid, SIDE)):
            whole.update(prediction[:1], target[:1], grid)
        measure_in_tiles([tiled], _reader(prediction), _reader(target), grid, side=SIDE)
        _assert_same(tiled.compute(), whole.compute(), 1e-11, f"tiles with a halo of {metric.halo} cells")

    if metric.invariant:
        group = octahedral_group("Oh")
        expected = fresh()(prediction[:1], target[:1], grid)
        for element in range(group.order):
            moved = (transform_field(field[:1], element, irreps, group) for field in (prediction, target))
            found = fresh()(*moved, transform_grid(grid, element, group))
            _assert_same(found, expected, tolerance, f"both fields transformed by element {element} of Oh")

    velocity, length = units
    viscosity = None if metric.viscosity is None else metric.viscosity * velocity * length
    centers = tuple(None if c is None else tuple(length * x for x in c) for c in grid.centers)
    spacing, origin = (tuple(length * x for x in values) for values in (grid.spacing, grid.origin))
    enlarged = Grid(grid.shape, spacing, grid.boundary, origin, centers)
    scaled = fresh(viscosity=viscosity)(velocity * prediction, velocity * target, enlarged)
    expected = {key: _in_units(kind, key, value, velocity, length) for key, value in result.items()}
    _assert_same(scaled, expected, tolerance, f"velocities times {velocity:g}, lengths times {length:g}")


#: What a layout may be able to say of its numbers, for :func:`check_reader`.
SAYINGS = ("fill", "scale", "labels", "flips", "units", "times", "files", "f8", "big endian")


def check_reader(
    write: Callable[[xr.Dataset, Path], Path],
    folder: Path,
    *,
    says: Collection[str] = SAYINGS,
    reader: str | None = None,
    lazy: bool = True,
    field: xr.Dataset | None = None,
    layout: Callable[[xr.Dataset], Mapping[str, Any]] | None = None,
) -> None:
    """Ask of a reader that what a file says of its numbers reaches the numbers, and nothing is read before its time.

    Small fields are written in the reader's layout and opened: as they are, and with each thing that the layout says.

    Args:
        write: writes a dataset (``velocity``; dims time, component, x, y, z and their coordinates) in the layout, into
            an empty folder, and returns what is to be opened. Values go into the file in the type and byte order that
            they have, attributes (``units``, ``_FillValue``, ``scale_factor``, ``add_offset``) beside them.
        folder: for the files; something empty.
        says: what the layout has a place for, of :data:`SAYINGS`: missing and packed numbers, labels of the components,
            axes that decrease, units, several times in one file, several files of one run, doubles, and bytes in the
            other order.
        reader: name of the reader; None: it is to be recognized.
        lazy: whether a part is read without the rest.
        field: what is written, float32, where the layout cannot hold any box (cubes only, grids of its own); default: a
            periodic box of unequal sides at two times. Values all differ, each side is four cells or more.
        layout: entries of a manifest (``variables``, ``coordinates``, ``times`` ...) that say of the file of a dataset
            what the file does not say itself; every file is then opened through such a manifest.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    unknown = set(says) - set(SAYINGS)
    assert not unknown, f"says is of {', '.join(SAYINGS)}, not {', '.join(sorted(unknown))}"
    folder, count = Path(folder), 0
    series = _written_field() if field is None else field
    boundary = tuple(series.attrs["boundary"])

    def opened(dataset: xr.Dataset) -> xr.Dataset:
        nonlocal count
        count += 1
        inside = folder / str(count)
        inside.mkdir(parents=True)
        path = write(dataset, inside)
        path = path if layout is None else _manifest(inside, [path], {"boundary": boundary, **layout(dataset)})
        return open_field(path, reader=reader, boundary=boundary)

    def ask(dataset: xr.Dataset, values: np.ndarray, why: str, tolerance: float = 0.0) -> xr.Dataset:
        found = opened(dataset)
        array = found["velocity"]
        assert array.dims == ("time", "component", "x", "y", "z"), f"{why}: dims {array.dims}"
        assert not lazy or not array.variable._in_memory, f"{why}: the field is read when it is opened"
        same = np.allclose(array.values, values, rtol=tolerance, atol=tolerance, equal_nan=True)
        assert array.shape == values.shape and same, f"{why}: other values"
        part = (0, slice(1, None), slice(1, 4), 2, slice(None, None, 2))
        same = np.allclose(array[part].values, values[part], rtol=tolerance, atol=tolerance, equal_nan=True)
        assert same, f"{why}: a part has other values than in the whole"
        for name in ("x", "y", "z"):
            assert np.allclose(found[name].values, np.sort(dataset[name].values)), f"{why}: another coordinate {name}"
        return found

    plain = series if "times" in says else series.isel(time=[0])
    values = plain["velocity"].values
    found = ask(plain, values, "a field as it is")
    assert found["velocity"].dtype == np.float32, f"float32 comes back as {found['velocity'].dtype}"
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again["velocity"].values, values), "a pickled field, as workers get it: other values"
    if "units" in says:
        assert found["velocity"].attrs.get("units") == "m/s", "the units of the file are lost"
    if "times" in says:
        assert np.allclose(found["time"].values, plain["time"].values), "other times"
    if "files" in says:
        _check_joined(write, folder / "joined", series, layout)
    if "f8" in says:
        doubles = plain.assign(velocity=plain["velocity"].astype("f8") + 1e-12)
        found = ask(doubles, doubles["velocity"].values, "doubles")
        assert found["velocity"].dtype == np.float64, f"float64 comes back as {found['velocity'].dtype}"
    if "big endian" in says:
        swapped = plain.copy()
        swapped["velocity"] = (plain["velocity"].dims, values.astype(">f4"), plain["velocity"].attrs)
        ask(swapped, values, "bytes in the other order")
    if "fill" in says:
        filled = plain.copy(deep=True)
        filled["velocity"][:, :, 1, 2:] = -9999.0
        filled["velocity"].attrs["_FillValue"] = np.float32(-9999.0)
        expected = filled["velocity"].where(filled["velocity"] != -9999.0).values
        found = ask(filled, expected, "missing numbers are NaN")
        assert "_FillValue" not in found["velocity"].attrs, "the fill value stays, and would be applied twice"
    if "scale" in says:
        numbers = np.rint(values * 100).astype("i2")
        attrs = {**plain["velocity"].attrs, "scale_factor": 0.01, "add_offset": 0.5}
        packed = plain.assign(velocity=(plain["velocity"].dims, numbers, attrs))
        ask(packed, numbers * 0.01 + 0.5, "packed numbers are unpacked", 1e-6)
    if "labels" in says:
        ask(plain.isel(component=[2, 0, 1]), values, "components in the order of their labels")
    if "flips" in says:
        ask(plain.isel(y=slice(None, None, -1)), values, "an axis that decreases is flipped")


def _written_field() -> xr.Dataset:
    """A velocity of unequal sides, every value different."""
    sides = {"x": 5, "y": 4, "z": 6}
    values = np.random.default_rng(0).normal(size=(2, 3, *sides.values())).astype("f4")
    coords = {name: (np.arange(n) + 0.5) * 0.25 for name, n in sides.items()}
    coords |= {"time": [1.0, 2.0], "component": ["u", "v", "w"]}
    attrs = {"irreps": "1o", "units": "m/s"}
    dims = ("time", "component", *sides)
    return xr.Dataset({"velocity": (dims, values, attrs)}, coords, {"boundary": ["periodic"] * 3})


def _manifest(folder: Path, paths: list[Path], said: Mapping[str, Any]) -> Path:
    """The manifest of one run in some files."""
    path = folder / "contract.yaml"
    content = {"name": "contract", "description": "a field", "source": "flowsr.testing", "licence": "none"}
    content |= {"files": {"run": [str(each.relative_to(folder)) for each in paths]}}
    content |= {"variables": {"velocity": {"irreps": "1o"}}, **said}
    path.write_text(json.dumps(content), encoding="utf-8")  # YAML holds JSON
    return path


def _check_joined(write, folder: Path, field: xr.Dataset, layout) -> None:
    """One file a snapshot, made one run by a manifest."""
    paths = []
    for number in range(field.sizes["time"]):
        inside = folder / str(number)
        inside.mkdir(parents=True)
        paths.append(write(field.isel(time=[number]), inside))
    said = {"boundary": field.attrs["boundary"], **({} if layout is None else layout(field))}
    found = open_field(_manifest(folder, paths, said))
    assert np.array_equal(found["velocity"].values, field["velocity"].values), "several files of one run: other values"
    assert np.allclose(found["time"].values, field["time"].values), "several files of one run: other times"


def _in_units(kind: type[FieldMetric], key: str, value: Any, *units: float) -> Any:
    if key in kind.scalars:
        return value * _factor(kind.scalars[key].unit, *units)
    curve = kind.curves[key]
    return Curve(value.x * _factor(curve.x_unit, *units), value.y * _factor(curve.y_unit, *units))


def _factor(unit: str, velocity: float, length: float) -> float:
    """What a quantity is multiplied by: ``velocity^2 length`` by velocity^2 length."""
    factor = 1.0
    for part in unit.split():
        base, _, power = part.partition("^")
        if base != "1":
            assert base in ("velocity", "length"), f"a unit is made of velocity and length, not {base}"
            factor *= {"velocity": velocity, "length": length}[base] ** float(Fraction(power or 1))
    return factor


def _noise(components: int, grid: Grid, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, components, *grid.shape, dtype=torch.float64, generator=generator)


def _reader(field: Tensor) -> Callable[[Any], np.ndarray]:
    return lambda cells: field[0].numpy()[(slice(None), *np.ix_(*cells))]


def _upscaled(model: Upscaler, coarse: Tensor, grid: Grid) -> Tensor:
    with torch.no_grad():
        return model(coarse, grid)


def _assert_close(found: Tensor, expected: Tensor, tolerance: float, why: str) -> None:
    error = float((found - expected).abs().max() / expected.abs().max())
    assert error <= tolerance, f"{why}: another result, by {error:.3g} of the largest value, tolerance {tolerance:.3g}"


def _assert_same(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float, why: str) -> None:
    assert found.keys() == expected.keys(), f"{why}: {sorted(found)} where {sorted(expected)} were expected"
    for key, value in expected.items():
        pairs = zip(found[key], value) if isinstance(value, Curve) else [(found[key], value)]
        for one, other in pairs:
            close = torch.isclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)
            assert bool(close.all()), f"{why}: {key} is {_shown(one)} where {_shown(other)} was expected"


def _shown(values: Tensor) -> str:
    return f"{float(values):.12g}" if values.numel() == 1 else f"an array of norm {float(values.norm()):.12g}"
