import math

import pytest
import torch

from flowsr.simulate import BoxSolver, abc, diagnose
from tests.simulate.boxes import cube, unequal


def test_statistics_of_the_abc_flow_are_the_closed_forms():
    nu = 0.02
    box = cube(12)
    row = diagnose(BoxSolver(box, abc(box), nu, time=1.5, step=7))
    expected = {
        "time": 1.5,
        "step": 7,
        "energy": 1.5,
        "dissipation": 3 * nu,
        "injected_power": 0.0,
        "u_rms": 1.0,
        "taylor_length": math.sqrt(5),
        "reynolds_lambda": math.sqrt(5) / nu,
        "kolmogorov_length": (nu**3 / (3 * nu)) ** 0.25,
        "kmax_eta": math.sqrt(2) / 3 * 12 * (nu**3 / (3 * nu)) ** 0.25,
        "integral_length": math.pi / 2 * 1.5,
        "turnover_time": math.pi / 2 * 1.5,
    }
    assert set(row) == {*expected, "cfl", "skewness"}
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-12), name
    assert math.isnan(row["cfl"])


def test_lengths_follow_the_box():
    box = unequal()
    y = box.coordinates()[1]
    k = 4 * math.pi / box.grid.lengths[1]
    zero = torch.zeros(box.grid.shape, dtype=torch.float64)
    shear = box.forward(torch.stack([3.0 * torch.sin(k * y) + zero, zero, zero]))
    row = diagnose(BoxSolver(box, shear, 0.1))
    assert row["energy"] == pytest.approx(2.25)
    assert row["dissipation"] == pytest.approx(0.1 * k**2 * 4.5)
    assert row["integral_length"] == pytest.approx(math.pi / (2 * 1.5) * 2.25 / k)


def test_skewness_of_a_steepening_wave():
    """g = cos x + b cos 2x has moments (1 + b^2) / 2 and 3 b / 4; two of three components are at rest."""
    b = 0.5
    box = cube(12)
    x = box.coordinates()[0] + torch.zeros(box.grid.shape, dtype=torch.float64)
    wave = torch.stack([torch.sin(x) + b / 2 * torch.sin(2 * x), torch.zeros_like(x), torch.zeros_like(x)])
    row = diagnose(BoxSolver(box, box.forward(wave), 0.1))
    assert row["skewness"] == pytest.approx((3 * b / 4 / 3) / ((1 + b**2) / 2 / 3) ** 1.5)


def test_what_has_no_value_is_not_a_number():
    box = cube(8)
    row = diagnose(BoxSolver(box, torch.zeros_like(box.empty()), 0.1))
    assert row["energy"] == 0.0
    undefined = ("taylor_length", "reynolds_lambda", "kmax_eta", "turnover_time", "skewness")
    assert all(math.isnan(row[name]) for name in undefined)
