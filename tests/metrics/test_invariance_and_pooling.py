"""What holds for every registered metric: symmetry, pooling, units."""

import pytest
import torch

from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics import METRICS, Curve, FieldMetric, physical_unit
from flowsr.testing import check_metric
from tests.metrics.fields import CHANNEL, STRETCHED, UNEQUAL, noise

FIELD_METRICS = [name for name, metric in METRICS.items() if issubclass(metric, FieldMetric)]
INVARIANTS = [name for name in FIELD_METRICS if METRICS[name].invariant]


# Metrics that count voxels: rounding moves one of them across the edge of a bin.
COUNTED = {"gradient_pdf": 2e-3, "gradient_invariants": 1e-2, "alignment": 2e-2, "strain_eigenvalues": 3e-2}


def build(name):
    return METRICS[name](factor=2, viscosity=0.01)


def a_grid_for(name):
    return STRETCHED if METRICS[name].needs_channel else UNEQUAL


def refusal(name, grid):
    """What is said of a grid that the metric is not defined on; None where it is."""
    if METRICS[name].needs_periodic and not grid.periodic:
        return "periodic"
    return "walls" if METRICS[name].needs_channel and grid is not STRETCHED else None


def snapshots(grid, count):
    target = noise(grid, seed=1, batch=count)
    return target + 0.5 * noise(grid, seed=2, batch=count) + 0.1 * target**2, target


def assert_same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        for one, other in zip(found[key], value) if isinstance(value, Curve) else [(found[key], value)]:
            torch.testing.assert_close(one, other, equal_nan=True, **tolerance)


def of_snapshot(value, number):
    if isinstance(value, Curve):
        return Curve(value.x if value.x.ndim == 1 else value.x[number], value.y[number])
    return value[number]


def test_all_promised_metrics_are_registered():
    scalars = {key for _, metric in METRICS.items() for key in metric.scalars}
    curves = {key for _, metric in METRICS.items() for key in metric.curves}
    assert scalars >= {
        "nrmse",
        "spectral_error",
        "spectral_error_beyond_cutoff",
        "divergence",
        "dissipation_captured",
        "derivative_skewness",
        "derivative_flatness",
        "equivariance_error",
    }
    assert curves >= {"energy_spectrum", "spectral_error_per_wavenumber", "pdf_longitudinal", "pdf_transverse"}


@pytest.mark.parametrize("grid", [UNEQUAL, CHANNEL, STRETCHED], ids=["periodic", "channel", "stretched"])
@pytest.mark.parametrize("name", INVARIANTS)
def test_metric_does_not_change_when_both_fields_are_turned(name, grid):
    if refusal(name, grid):
        with pytest.raises(ValueError, match=refusal(name, grid)):
            build(name)(*snapshots(grid, 1), grid)
        return
    group = octahedral_group("Oh")
    prediction, target = snapshots(grid, 1)
    expected = build(name)(prediction, target, grid)
    tolerance = {"atol": COUNTED[name], "rtol": 0} if name in COUNTED else {"atol": 1e-10, "rtol": 1e-10}
    for element in range(group.order):
        turned = (transform_field(field, element, "1o", group) for field in (prediction, target))
        assert_same(build(name)(*turned, transform_grid(grid, element, group)), expected, **tolerance)


@pytest.mark.parametrize("name", FIELD_METRICS)
def test_every_metric_pays_what_it_owes(name):
    """Pooling, tiles, units, symmetry, and results that are what the class announces."""
    check_metric(build(name), tolerance=COUNTED.get(name, 1e-10))


@pytest.mark.parametrize("name", FIELD_METRICS)
def test_each_snapshot_s_own_results_are_those_of_the_metric_called_on_it(name):
    grid = a_grid_for(name)
    prediction, target = snapshots(grid, 2)
    metric = build(name)
    together = metric.each(prediction, target, grid)
    assert not any(getattr(metric, state).any() for state in metric.states)
    for number in range(2):
        one = slice(number, number + 1)
        alone = build(name)(prediction[one], target[one], grid)
        found = {key: of_snapshot(value, number) for key, value in together.items()}
        assert_same(found, alone, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", FIELD_METRICS)
def test_single_precision_fields_give_the_same_numbers(name):
    grid = a_grid_for(name)
    prediction, target = snapshots(grid, 1)
    expected = build(name)(prediction, target, grid)
    assert_same(build(name)(prediction.float(), target.float(), grid), expected, atol=1e-3, rtol=1e-4)


def test_spectra_of_different_boxes_are_not_pooled():
    metric = build("spectrum")
    metric.update(*snapshots(UNEQUAL, 1), UNEQUAL)
    other = type(UNEQUAL)(UNEQUAL.shape, (1, 1, 1))
    with pytest.raises(ValueError, match="same"):
        metric.update(*snapshots(other, 1), other)


def test_units_follow_the_data():
    assert physical_unit("velocity^2 length", "m s-1", "m") == "(m s-1)^2 m"
    assert physical_unit("velocity^2 length", "U", "L") == "U^2 L"
    assert physical_unit("velocity^2 length", "1", "m") == "m"
    assert physical_unit("length^-1", "m/s", "1") == "1"
    assert physical_unit("1", "m/s", "m") == "1"


def test_every_metric_names_unit_and_source():
    for _, metric in METRICS.items():
        for quantity in (*metric.scalars.values(), *metric.curves.values()):
            assert quantity.label and quantity.source
        for scalar in metric.scalars.values():
            assert scalar.unit and scalar.better in ("lower", "higher", "truth")
            assert all(len(line) <= 7 for line in (scalar.short or "").splitlines())
