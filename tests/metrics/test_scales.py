import math

import pytest
import torch

from flowsr.metrics import flow_statistics
from tests.metrics.fields import CUBE, STRETCHED, abc, mesh


def test_flow_statistics_of_a_beltrami_flow():
    field, viscosity = 2 * abc(CUBE, 1, 1, 1), 0.05
    statistics = flow_statistics(field, CUBE, viscosity)
    energy, epsilon = 6.0, 2 * viscosity * 6.0
    assert statistics["kinetic_energy"].item() == pytest.approx(energy)
    assert statistics["dissipation"].item() == pytest.approx(epsilon)
    taylor = math.sqrt(15 * viscosity * 4.0 / epsilon)
    assert statistics["reynolds_lambda"].item() == pytest.approx(2 * taylor / viscosity)
    assert statistics["kmax_eta"].item() == pytest.approx(12 * (viscosity**3 / epsilon) ** 0.25)
    assert set(flow_statistics(field, CUBE)) == {"kinetic_energy"}


def test_flow_statistics_count_stretched_cells_by_their_size():
    _, y, _ = mesh(STRETCHED)
    widths, centers = (values[1] for values in (STRETCHED.widths(), STRETCHED.coordinates()))
    energy = flow_statistics(torch.stack([y, 0 * y, 0 * y])[None], STRETCHED)["kinetic_energy"].item()
    assert energy == pytest.approx((widths * centers**2).sum() / (2 * widths.sum()))
