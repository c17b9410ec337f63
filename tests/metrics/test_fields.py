import math

import pytest
import torch

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import axis_action, transform_field, transform_grid
from flowsr.metrics import METRICS, correlation, largest_error, mean_absolute_error, nrmse, vrmse
from tests.metrics.fields import CUBE, STRETCHED, UNEQUAL, abc, mesh, noise, wave


def value(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_nrmse_of_a_scaled_field_is_the_scale_error():
    target = abc(CUBE)
    torch.testing.assert_close(nrmse(1.25 * target, target, CUBE), value(0.25))
    assert nrmse(target, target, CUBE).item() == 0
    torch.testing.assert_close(nrmse(0 * target, target, CUBE), value(1))


def test_nrmse_is_of_the_whole_vector_and_per_snapshot():
    target = torch.ones((2, 3, *UNEQUAL.shape), dtype=torch.float64)
    prediction = target.clone()
    prediction[1, 0] += 3
    torch.testing.assert_close(nrmse(prediction, target, UNEQUAL), value(0, 3**0.5))  # 9/3 over 1


@pytest.mark.parametrize("measure", [nrmse, vrmse, mean_absolute_error, largest_error, correlation])
def test_shapes_must_agree(measure):
    with pytest.raises(ValueError, match="differ"):
        measure(noise(UNEQUAL, components=1), noise(UNEQUAL), UNEQUAL)
    with pytest.raises(ValueError, match="expected"):
        measure(noise(CUBE), noise(CUBE), UNEQUAL)


def test_vrmse_is_one_for_the_mean_and_takes_the_mean_vector_off():
    mean = value(5, -2, 0.5)[:, None, None, None]
    target = wave(UNEQUAL, (1, 2, -3), [1.0, 2.0, 2.0])[0] + mean
    torch.testing.assert_close(vrmse(mean.expand_as(target), target, UNEQUAL), value(1))
    torch.testing.assert_close(vrmse(mean + 1.3 * (target - mean), target, UNEQUAL), value(0.3))
    # <|t'|^2> = (1 + 4 + 4) / 2; an error of length 1.5 everywhere
    moved = target + value(1.5, 0, 0)[:, None, None, None]
    torch.testing.assert_close(vrmse(moved, target, UNEQUAL), value(1 / 2**0.5))


def test_vrmse_of_a_large_mean_keeps_its_digits():
    target = (wave(UNEQUAL, (1, 1, 1), [1.0, 1.0, 1.0])[0] + 300).float()
    assert vrmse(target + 0.5, target, UNEQUAL).item() == pytest.approx(0.5 / 0.5**0.5, rel=1e-6)


def test_absolute_errors_of_a_known_difference():
    target = abc(UNEQUAL)
    difference = torch.zeros_like(target)
    difference[0, 0], difference[0, 2, 3, 4, 5] = -1.0, 7.0
    cells = math.prod(UNEQUAL.shape)
    mean = (1 + 7 / cells) / 3
    torch.testing.assert_close(mean_absolute_error(target + difference, target, UNEQUAL), value(mean))
    torch.testing.assert_close(largest_error(target + difference, target, UNEQUAL), value(50**0.5))
    result = METRICS["absolute_error"]()(target + difference, target, UNEQUAL)
    rms = target.square().sum(1).mean().sqrt()
    torch.testing.assert_close(result["largest_error_over_rms"], 50**0.5 / rms)
    torch.testing.assert_close(result["mae"], value(mean)[0])


def test_correlation_ignores_amplitude_and_mean_and_sees_phase():
    target, k = wave(UNEQUAL, (2, 1, 3), [1.0, -1.0, 0.5])
    torch.testing.assert_close(correlation(3 * target + 4, target, UNEQUAL), value(1))
    torch.testing.assert_close(correlation(-target, target, UNEQUAL), value(-1))
    x, y, z = mesh(UNEQUAL)
    shift = 0.7
    moved = value(1, -1, 0.5)[:, None, None, None] * torch.cos(k[0] * x + k[1] * y + k[2] * z + shift)
    torch.testing.assert_close(correlation(moved[None], target, UNEQUAL), value(math.cos(shift)))


@pytest.mark.parametrize("name", ["nrmse", "vrmse", "absolute_error", "correlation"])
def test_norms_do_not_depend_on_any_rotation(name):
    prediction, target = noise(UNEQUAL, 1), noise(UNEQUAL, 2)
    turn, _ = torch.linalg.qr(noise(UNEQUAL, 3)[0, :, :3, 0, 0])
    found = METRICS[name]()(*(torch.einsum("ij,bjxyz->bixyz", turn, v) for v in (prediction, target)), UNEQUAL)
    expected = METRICS[name]()(prediction, target, UNEQUAL)
    for key in expected.keys() - {"mae"}:  # a sum of absolute values knows its axes
        torch.testing.assert_close(found[key], expected[key])


def test_cells_of_a_stretched_axis_count_by_their_size():
    _, y, _ = mesh(STRETCHED)
    target = torch.ones((1, 1, *STRETCHED.shape), dtype=torch.float64)
    widths = torch.as_tensor(STRETCHED.widths()[1])
    lower = (y < -0.4).double()
    share = (widths[torch.as_tensor(STRETCHED.coordinates()[1]) < -0.4].sum() / widths.sum()).item()
    assert abs(share - lower.mean().item()) > 0.05
    torch.testing.assert_close(nrmse(target + lower, target, STRETCHED), value(share**0.5))
    torch.testing.assert_close(mean_absolute_error(target + lower, target, STRETCHED), value(share))
    torch.testing.assert_close(vrmse(target + 2 * lower, target + lower, STRETCHED), value((1 / (1 - share)) ** 0.5))


def test_components_are_scalar_fields_of_their_own():
    prediction, target = noise(UNEQUAL, 1, batch=2), noise(UNEQUAL, 2, batch=2)
    found = METRICS["components"]()(prediction, target, UNEQUAL)
    for name in ("nrmse", "vrmse", "absolute_error", "correlation"):
        for index, component in enumerate("uvw"):
            alone = METRICS[name]()(prediction[:, index, None], target[:, index, None], UNEQUAL)
            for key, expected in alone.items():
                torch.testing.assert_close(found[f"{key}_{component}"], expected)


@pytest.mark.parametrize("name", ["components", "component_ssim"])
def test_components_turn_with_the_axes(name):
    prediction, target = noise(UNEQUAL, 1), noise(UNEQUAL, 2) ** 3
    expected = METRICS[name]()(prediction, target, UNEQUAL)
    group = octahedral_group("Oh")
    for element in range(0, group.order, 5):
        turned = (transform_field(field, element, "1o", group) for field in (prediction, target))
        found = METRICS[name]()(*turned, transform_grid(UNEQUAL, element, group))
        source, _ = axis_action(element, group)
        for key, was in expected.items():
            stem, component = key.rsplit("_", 1)
            now = "uvw"[source.index("uvw".index(component))]
            torch.testing.assert_close(found[f"{stem}_{now}"], was)


def test_a_single_cell_axis_is_allowed():
    flat = Grid((6, 1, 5))
    assert nrmse(noise(flat), noise(flat, 1), flat).item() > 0
