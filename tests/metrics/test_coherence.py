import math

import pytest
import torch

from flowsr.metrics import METRICS, field_error_per_wavenumber
from flowsr.metrics.coherence import coherence_per_wavenumber, good_up_to
from flowsr.metrics.spectra import shell_energy, shells_of
from tests.metrics.fields import CHANNEL, CUBE, UNEQUAL, field_of_spectrum, noise, wave


def filtered(field, grid, factors):
    """The field with every shell multiplied by its factor."""
    coefficients = torch.fft.rfftn(field, dim=(2, 3, 4))
    index = torch.as_tensor(shells_of(grid).index)
    return torch.fft.irfftn(coefficients * factors[index], s=grid.shape, dim=(2, 3, 4))


@pytest.mark.parametrize("grid", [CUBE, UNEQUAL], ids=["cube", "unequal"])
def test_coherence_ignores_amplitudes_shell_by_shell(grid):
    target = noise(grid)
    factors = torch.linspace(2, 0.1, len(shells_of(grid).modes), dtype=torch.float64)
    wavenumber, coherence = coherence_per_wavenumber(filtered(target, grid, factors), target, grid)
    assert wavenumber[0] > 0 and coherence.shape == (1, len(wavenumber))
    torch.testing.assert_close(coherence, torch.ones_like(coherence))


def test_coherence_of_a_moved_wave_is_the_cosine_of_the_phase():
    field, k = wave(UNEQUAL, (1, 1, 2), [1.0, 2.0, -1.0])
    cells = (1, 2, 0)
    moved = torch.roll(field, cells, dims=(2, 3, 4))
    phase = sum(number * n * d for number, n, d in zip(k.tolist(), cells, UNEQUAL.spacing))
    _, coherence = coherence_per_wavenumber(moved, field, UNEQUAL)
    held = ~coherence[0].isnan()
    assert held.sum() == 1 and coherence[0, held].item() == pytest.approx(math.cos(phase), rel=1e-12)


def test_co_spectrum_adds_up_to_the_scalar_product_and_closes_the_error():
    p, t = noise(UNEQUAL, 1, batch=2), noise(UNEQUAL, 2, batch=2)
    cross = shell_energy(p, UNEQUAL, t)
    torch.testing.assert_close(cross.sum(1), (p * t).sum(1).mean((1, 2, 3)) / 2)
    torch.testing.assert_close(
        shell_energy(p - t, UNEQUAL), shell_energy(p, UNEQUAL) - 2 * cross + shell_energy(t, UNEQUAL)
    )
    torch.testing.assert_close(shell_energy(t, UNEQUAL, t), shell_energy(t, UNEQUAL))


def test_unrelated_fields_are_not_coherent():
    one, other = (field_of_spectrum(CUBE, lambda k: k**-2.0, seed=s) for s in (1, 2))
    _, coherence = coherence_per_wavenumber(one, other, CUBE)
    assert coherence[0, 5:].abs().max() < 0.15


def test_good_up_to_the_first_failure():
    k = torch.tensor([1.0, 2.0, 3.0, 4.0])
    good = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]], dtype=torch.bool)
    assert good_up_to(k, good).tolist() == [2, 0, 4]


def test_a_model_is_good_up_to_the_scale_where_it_is_made_wrong():
    """Noise of share s of the truth's energy in a shell: coherence 1 / sqrt(1 + s), relative error s."""
    target = field_of_spectrum(CUBE, lambda k: k**-2.0, seed=1)
    shares = torch.tensor([0, 0.02, 0.02, 0.02, 0.02, 0.15, 0.15, 0.15] + [0.4] * 20, dtype=torch.float64)
    wrong = field_of_spectrum(CUBE, lambda k: k**-2.0, seed=2)
    for _ in range(2):  # made exactly orthogonal and exactly as strong, shell by shell
        ratio = shell_energy(wrong, CUBE, target)[0] / shell_energy(target, CUBE)[0]
        wrong = wrong - filtered(target, CUBE, ratio.nan_to_num(0))
    strength = torch.sqrt(shell_energy(target, CUBE) / shell_energy(wrong, CUBE))[0].nan_to_num(0)
    prediction = target + filtered(wrong, CUBE, strength * shares[: len(strength)].sqrt())
    result = METRICS["coherence"](factor=4)(prediction, target, CUBE)
    assert result["good_up_to_error"].item() == pytest.approx(7)
    assert result["good_up_to_coherence"].item() == pytest.approx(7)  # 1 / sqrt(1.15) = 0.93
    assert result["good_up_to_coherence_over_cutoff"].item() == pytest.approx(7 / 3)
    strict = METRICS["coherence"](least_coherence=0.95, largest_error=0.1)(prediction, target, CUBE)
    assert strict["good_up_to_coherence"].item() == strict["good_up_to_error"].item() == pytest.approx(4)
    assert strict["good_up_to_coherence_over_cutoff"].isnan()
    expected = 1 / torch.sqrt(1 + shares[1:12])
    torch.testing.assert_close(result["coherence"].y, expected)
    torch.testing.assert_close(field_error_per_wavenumber(prediction, target, CUBE).y[0], shares[1:12])


def test_a_perfect_model_is_good_to_the_last_shell_and_an_empty_one_nowhere():
    target = noise(UNEQUAL)
    result = METRICS["coherence"](factor=2)(target, target, UNEQUAL)
    last = shells_of(UNEQUAL).wavenumber[shells_of(UNEQUAL).complete].max()
    assert result["good_up_to_error"].item() == result["good_up_to_coherence"].item() == pytest.approx(last)
    assert result["coherence_beyond_cutoff"].item() == pytest.approx(1)
    nothing = METRICS["coherence"](factor=2)(0 * target, target, UNEQUAL)
    assert nothing["good_up_to_error"].item() == nothing["good_up_to_coherence"].item() == 0


def test_walls_have_no_coherence():
    with pytest.raises(ValueError, match="periodic"):
        coherence_per_wavenumber(noise(CHANNEL), noise(CHANNEL), CHANNEL)
