"""Statistics of the data under the 48 elements: exact action, known groups, false alarms at the stated rate."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from flowsr.grid import Grid
from flowsr.group import octahedral_group, transform_field
from flowsr.simulate import PeriodicBox, abc
from flowsr.symmetry.invariance import data_symmetry, element_defects, pair_products, subgroup_p
from flowsr.symmetry.moments import Statistic, lattice_directions, velocity_statistics
from flowsr.symmetry.randomization import Significance
from flowsr.symmetry.result import plain

OH = octahedral_group("Oh")
CELLS = 8
GRID = Grid((CELLS,) * 3, (2 * math.pi / CELLS,) * 3)
QUICK = Significance(draws=199)
HEIGHT = torch.arange(CELLS, dtype=torch.float64) / CELLS * 2 * math.pi


def noise(samples=12, seed=0):
    values = np.random.default_rng(seed).standard_normal((samples, 3, CELLS, CELLS, CELLS))
    return torch.from_numpy(gaussian_filter(values, (0, 0, 0.8, 0.8, 0.8), mode="wrap"))


def turned(fields, g):
    return torch.stack([transform_field(f, g, "1o", OH) for f in fields])


def with_profile(fields, profile):
    """A mean flow along x that depends on y added."""
    found = fields.clone()
    found[:, 0] += profile[None, None, :, None]
    return found


@pytest.mark.parametrize("local", [False, True])
def test_turning_the_statistics_is_turning_the_fields(local):
    fields = noise(1)
    before = velocity_statistics(fields, GRID, local=local)
    for g in range(48):
        after = velocity_statistics(turned(fields, g), GRID, local=local)
        for name, statistic in before.items():
            size = np.abs(statistic.values).max()
            assert np.abs(after[name].values - statistic.transformed(g)).max() < 1e-12 * size, name


def test_moments_of_a_field_known_in_closed_form():
    """u = (sin y, 0, 0): <u u> = 1/2, <(du/dy)^2> = 1/2, and over r along y <du du> = 1 - cos r."""
    field = torch.zeros(1, 3, CELLS, CELLS, CELLS, dtype=torch.float64)
    field[0, 0] = torch.sin(HEIGHT)[None, :, None]
    found = velocity_statistics(field, GRID)
    stress = np.zeros((3, 3))
    stress[0, 0] = 0.5
    assert np.allclose(found["Reynolds stresses"].values[0, 0, 0], stress)
    assert found["velocity gradients, second order"].values[0, 0, 0][0, 1, 0, 1] == pytest.approx(0.5)
    along_y = int(np.flatnonzero((lattice_directions() == (0, 1, 0)).all(axis=1))[0])
    structure = found["structure functions, second order"].values[0, :, along_y, 0, 0]
    assert structure == pytest.approx([1 - math.cos(2 * math.pi / 8), 1 - math.cos(2 * math.pi / 4)])


def test_helicity_shows_in_the_imaginary_part_of_the_spectra():
    """The ABC field is its own curl: all its modes have one handedness, and reflections change its sign."""
    box = PeriodicBox(GRID, dtype=torch.float64)
    field = box.backward(abc(box))[None]
    spectra = velocity_statistics(field, GRID)["directional spectra"]
    energy, helicity = spectra.values[0, 0], spectra.values[0, 1]
    assert np.abs(energy).max() > 0.01 and np.abs(helicity).max() > 0.01
    inversion = OH.index(-np.eye(3))
    assert np.allclose(spectra.transformed(inversion)[0, 0], energy) and np.allclose(
        spectra.transformed(inversion)[0, 1], -helicity
    )


class TestGroups:
    def test_kolmogorov_flow_wherever_its_phase(self):
        fields = noise()
        phases = np.random.default_rng(1).uniform(0, 2 * math.pi, len(fields))
        fields = torch.cat([with_profile(f[None], 0.8 * torch.sin(HEIGHT + p)) for f, p in zip(fields, phases)])
        found = data_symmetry(fields, GRID, significance=QUICK)
        assert found.surviving.label == "D2h(100)"
        assert len(found.kept) == 8 and len(found.broken) == 40
        assert found.p_values[list(found.broken)].max() < 0.1

    def test_vertical_damping(self):
        fields = noise() * torch.tensor([1, 1, 0.6], dtype=torch.float64)[:, None, None, None]
        assert data_symmetry(fields, GRID, significance=QUICK).surviving.label == "D4h [001]"

    def test_mean_wind(self):
        fields = noise() + torch.tensor([0.3, 0, 0], dtype=torch.float64)[:, None, None, None]
        assert data_symmetry(fields, GRID, significance=QUICK).surviving.label == "C4v [100]"

    def test_what_differs_from_place_to_place_shows_in_octants(self):
        fields = with_profile(noise(), torch.sign(HEIGHT - math.pi + 0.1))  # no mean: shear across the middle
        assert data_symmetry(fields, GRID, significance=QUICK, local=True).surviving.label == "C2h [001]"

    def test_helical_noise_keeps_the_rotations_alone(self):
        box = PeriodicBox(GRID, dtype=torch.float64)
        modes = torch.stack([box.forward(f) for f in noise()])
        whole, half = (f(CELLS, 1 / CELLS, dtype=torch.float64) for f in (torch.fft.fftfreq, torch.fft.rfftfreq))
        k = torch.stack(torch.meshgrid(whole, whole, half, indexing="ij"))
        curl = 1j * torch.linalg.cross(k.to(modes.dtype)[None].expand_as(modes), modes, dim=1)
        helical = torch.stack([box.backward(m) for m in modes + curl / k.norm(dim=0).clamp(min=1)])
        found = data_symmetry(helical, GRID, significance=QUICK)
        assert found.surviving.name == "O" and all(OH.operations[g].determinant == 1 for g in found.kept)


def test_false_alarms_come_at_the_stated_rate():
    """Noise without any direction, 40 times: the whole group is rejected about twice, 7 or more with probability
    0.003."""
    alarms = 0
    for seed in range(40):
        values = np.random.default_rng(seed).standard_normal((8, 1, 1, 3, 3))
        products = {"one": pair_products(Statistic(values + values.swapaxes(3, 4), np.zeros((1, 3), dtype=np.int64)))}
        group = OH.subgroup(range(48))
        alarms += subgroup_p(products, group, QUICK) <= 0.05
    assert alarms <= 6


def test_defects_have_no_bias_from_noise():
    """A signal that turns over under some elements: 2 for those, about 0 for the others, error bars around."""
    random = np.random.default_rng(0)
    values = np.array([0, 0, 1.0]) + 0.5 * random.standard_normal((40, 1, 1, 3))
    found = element_defects(pair_products(Statistic(values, np.zeros((1, 3), dtype=np.int64))), QUICK)
    flips = OH.matrices[:, 2, 2] == -1
    keeps = OH.matrices[:, 2, 2] == 1
    assert np.all(found.defect[flips] > 1.9) and np.all(found.defect[keeps] < 0.25)
    assert np.all(found.low <= found.defect + 1e-12) and np.all(found.defect <= found.high + 1e-12)
    assert np.all(found.null_high[1:] > 0)


def test_numbers_can_be_written_as_json():
    found = data_symmetry(noise(4), GRID, significance=QUICK, blocks=np.array([0, 0, 1, 2]))
    written = json.loads(json.dumps(plain(found), allow_nan=False))
    assert written["blocks"] == 3 and len(written["p_values"]) == 48
    assert written["surviving"]["elements"] == list(found.kept)
    assert sorted([*found.kept, *found.broken]) == list(range(48))


@pytest.mark.parametrize(
    "fields, grid, message",
    [
        (torch.zeros(4, 3, 8, 8, 4), Grid((8, 8, 4)), "as many cells"),
        (torch.zeros(1, 3, 8, 8, 8), GRID, "independent block"),
        (torch.zeros(4, 1, 8, 8, 8), GRID, "velocities"),
        (torch.zeros(4, 3, 2, 2, 2), Grid((2, 2, 2)), "four|4 cells"),
    ],
)
def test_what_cannot_be_tested_is_refused(fields, grid, message):
    with pytest.raises(ValueError, match=message):
        data_symmetry(fields.double(), grid, significance=QUICK)
