"""Tiles against the whole field, and processes against one."""

from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.multiprocessing as processes
import xarray as xr

from flowsr.data.readers.lazy import LazyArray
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.metrics import (
    METRICS,
    Curve,
    FieldMetric,
    chosen_metrics,
    finite_differences,
    gradient,
    gradient_scales,
    measure_datasets,
    measure_in_tiles,
    velocity_gradient,
)
from flowsr.metrics.tiles import cut_axes, cuts_of, piece_of
from tests.metrics.fields import noise, wave

SIDE = 7
TIMEOUT = timedelta(seconds=1500)
PERIODIC = Grid((16, 12, 20), (0.4, 0.5, 0.3))
MIXED = Grid(
    (18, 16, 6),
    (0.3, 2.0 / 16, 0.25),
    ("periodic", "wall", "periodic"),
    (0.2, -1.0, 0.0),
    (None, tuple(np.sin(np.linspace(-1.5, 1.5, 16) * 0.95)), None),
)
OPEN = Grid((17, 15, 16), (0.3, 0.2, 0.25), ("open", "periodic", "wall"))
GRIDS = {"periodic": PERIODIC, "stretched": MIXED, "open": OPEN}
OPTIONS = {
    "ssim": {"data_range": 5.0},
    "component_ssim": {"data_range": 5.0},
    "gradient_pdf": {"scales": (0.9, 2.0)},
    "gradient_invariants": {"scale": 3.0},
    "strain_eigenvalues": {"scale": 3.0},
    "structure_functions": {"largest": 5},
}


def build(name):
    return METRICS[name](factor=2, viscosity=0.01, **OPTIONS.get(name, {}))


TILED = [n for n, cls in METRICS.items() if issubclass(cls, FieldMetric) and build(n).halo is not None]


def snapshots(grid, count=1):
    target = noise(grid, 1, batch=count)
    return target + 0.4 * noise(grid, 2, batch=count), target


def reader(field):
    return lambda cells: field[0].numpy()[(slice(None), *np.ix_(*cells))]


def assert_same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        for one, other in zip(found[key], value) if isinstance(value, Curve) else [(found[key], value)]:
            torch.testing.assert_close(one, other, equal_nan=True, **tolerance)


def test_metrics_of_values_of_neighbourhoods_and_of_derivatives_can_be_had_from_tiles():
    assert {"nrmse", "vrmse", "absolute_error", "correlation", "ssim", "divergence", "derivative_moments"} <= set(TILED)
    assert "spectrum" not in TILED


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("name", TILED)
def test_tiles_of_a_field_add_up_to_the_whole(name, grid):
    prediction, target = snapshots(grid)
    whole, tiled = build(name), build(name)
    with finite_differences(cut_axes(grid, SIDE)):
        whole.update(prediction, target, grid)
    measure_in_tiles([tiled], reader(prediction), reader(target), grid, side=SIDE)
    assert_same(tiled.compute(), whole.compute(), atol=1e-12, rtol=1e-12)


def test_several_metrics_share_the_widest_halo_and_one_tile_is_the_whole():
    names = ("nrmse", "ssim", "dissipation", "gradient_pdf")
    prediction, target = snapshots(PERIODIC)
    metrics, whole = [build(name) for name in names], [build(name) for name in names]
    measure_in_tiles(metrics, reader(prediction), reader(target), PERIODIC, side=64)
    for metric, expected in zip(metrics, whole):
        expected.update(prediction, target, PERIODIC)
        assert_same(metric.compute(), expected.compute(), atol=1e-12, rtol=1e-12)


def test_what_needs_the_whole_field_is_refused():
    prediction, target = (reader(field) for field in snapshots(PERIODIC))
    for metric in (METRICS["spectrum"](), METRICS["ssim"](), METRICS["gradient_pdf"]()):
        with pytest.raises(ValueError, match=type(metric).__name__):
            measure_in_tiles([metric], prediction, target, PERIODIC, side=SIDE)


class CountedReads(LazyArray):
    """An array that remembers the largest piece it was asked for."""

    def __init__(self, values):
        super().__init__(values.shape, values.dtype, "counted", "velocity")
        self.values, self.largest = values, 0

    def load(self, index):
        piece = self.values[index]
        self.largest = max(self.largest, piece.size)
        return piece


@pytest.mark.parametrize("components", [1, 3])
def test_lazy_variables_are_read_a_tile_at_a_time(components):
    fields = snapshots(PERIODIC, 2)
    lazy = []
    for field in fields:
        values = field.numpy() if components == 3 else field[:, 0].numpy()
        dims = ("time", *(("component",) if components == 3 else ()), "x", "y", "z")
        array = CountedReads(values)
        lazy.append((xr.DataArray(array.as_variable(dims)), array))
    metric, whole, seen = build("nrmse"), build("nrmse"), []
    measure_datasets([metric], *(v for v, _ in lazy), PERIODIC, side=SIDE, progress=lambda f, _: seen.append(f))
    whole.update(*(field[:, :components] for field in fields), PERIODIC)
    assert_same(metric.compute(), whole.compute(), atol=1e-12, rtol=1e-12)
    assert seen == [0.5, 1.0]
    assert all(0 < array.largest <= components * SIDE**3 for _, array in lazy)


def test_lazy_reads_wrap_round_the_seam():
    prediction, target = snapshots(PERIODIC)
    names = ("divergence", "ssim")
    metrics, whole = [build(n) for n in names], [build(n) for n in names]
    variables = (xr.DataArray(v.numpy(), dims=("time", "component", "x", "y", "z")) for v in (prediction, target))
    measure_datasets(metrics, *variables, PERIODIC, side=SIDE)
    with finite_differences((0, 1, 2)):
        for metric, expected in zip(metrics, whole):
            expected.update(prediction, target, PERIODIC)
            assert_same(metric.compute(), expected.compute(), atol=1e-12, rtol=1e-12)
    with pytest.raises(ValueError, match="differ"):
        short = xr.DataArray(np.zeros((1, 3, 2, 2, 2)), dims=("time", "component", "x", "y", "z"))
        measure_datasets(metrics, short, short.isel(x=[0]), PERIODIC)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_tiles_cover_the_grid_once_and_their_cells_keep_place_and_size(grid):
    seen = np.zeros(grid.shape)
    for cuts in cuts_of(grid, SIDE, 3):
        seen[tuple(slice(cut.start, cut.stop) for cut in cuts)] += 1
        piece = piece_of(grid, tuple(c.start for c in cuts), tuple(c.stop - c.start for c in cuts))
        for axis, cut in enumerate(cuts):
            np.testing.assert_array_equal(cut.cells[cut.inside], np.arange(cut.start, cut.stop))
            np.testing.assert_allclose(piece.coordinates()[axis], grid.coordinates()[axis][cut.start : cut.stop])
            np.testing.assert_allclose(piece.widths()[axis], grid.widths()[axis][cut.start : cut.stop])
    assert (seen == 1).all()


def test_central_differences_are_of_eighth_order():
    def error(cells, number):
        grid = Grid((cells, 1, 1), (2 * np.pi / cells, 1, 1))
        field, _ = wave(grid, (number, 0, 0), [1.0, 0.0, 0.0])
        with finite_differences((0,)):
            inexact = velocity_gradient(field, grid)
        exact = velocity_gradient(field, grid)
        return ((inexact - exact).abs().max() / exact.abs().max()).item()

    assert 7.7 < np.log2(error(32, 4) / error(64, 4)) < 8.3
    assert error(64, 16) == pytest.approx(0.03, abs=0.003)  # half the Nyquist wavenumber


def test_differences_are_for_the_axes_named_only():
    field = noise(PERIODIC)
    exact = gradient(field, PERIODIC)
    with finite_differences((1,)):
        mixed = gradient(field, PERIODIC)
    assert torch.equal(mixed[:, :, 0], exact[:, :, 0]) and torch.equal(mixed[:, :, 2], exact[:, :, 2])
    assert not torch.allclose(mixed[:, :, 1], exact[:, :, 1])
    assert torch.equal(gradient(field, PERIODIC), exact)


def test_pooled_pdfs_of_one_scale_are_those_of_all_samples():
    prediction, target = snapshots(PERIODIC, 3)
    target[1] *= 4
    scales = tuple(float(scale.max()) for scale in gradient_scales(target, PERIODIC))
    whole, pooled = (METRICS["gradient_pdf"](scales=scales) for _ in range(2))
    whole.update(prediction, target, PERIODIC)
    for p, t in zip(prediction, target):
        pooled.update(p[None], t[None], PERIODIC)
    assert_same(pooled.compute(), whole.compute(), atol=1e-14, rtol=1e-14)
    own = METRICS["gradient_pdf"]()
    own.update(prediction, target, PERIODIC)
    assert not torch.allclose(own.compute()["pdf_transverse"].y, whole.compute()["pdf_transverse"].y)


SHARED = [name for name, cls in METRICS.items() if issubclass(cls, FieldMetric) and not cls.needs_channel]


def results_of_process(rank, meet):
    """Every metric's result in one of two processes, which hold one and two of three snapshots."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2, timeout=TIMEOUT)
    try:
        prediction, target = snapshots(PERIODIC, 3)
        mine = slice(0, 1) if rank == 0 else slice(1, 3)
        metrics = {name: build(name) for name in SHARED}
        for metric in metrics.values():
            metric.update(prediction[mine], target[mine], PERIODIC)
        results = {name: metric.compute() for name, metric in metrics.items()}
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
    return results


def test_two_processes_agree_on_the_result_of_one(tmp_path):
    meet = str(tmp_path / "meet")
    other = processes.get_context("spawn").Process(target=results_of_process, args=(1, meet))
    other.start()
    found = results_of_process(0, meet)
    other.join(1500)
    assert other.exitcode == 0
    prediction, target = snapshots(PERIODIC, 3)
    for name in SHARED:
        metric = build(name)
        metric.update(prediction, target, PERIODIC)
        assert_same(found[name], metric.compute(), atol=1e-12, rtol=1e-12)


def test_the_standard_set_is_registered_and_all_is_everything():
    assert chosen_metrics(None)[:2] == ["nrmse", "spectrum"] and "ssim" not in chosen_metrics(None)
    assert chosen_metrics(["ssim", "all"])[0] == "ssim" and set(chosen_metrics(["all"])) == set(METRICS)
    with pytest.raises(FlowsrError) as caught:
        chosen_metrics(["nmrse"])
    assert "nrmse" in caught.value.expected and "nrmse" in caught.value.hint
