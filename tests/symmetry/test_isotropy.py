"""Fields whose large scales prefer an axis, down to a known wavenumber, and fields that prefer none or all the way."""

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.symmetry.isotropy import return_to_isotropy

GRID = Grid((32, 32, 32), (2 * np.pi / 32,) * 3)


def fields(ends, runs=8):
    """White noise whose w is twice as large in all modes below wavenumber ``ends``."""
    torch.manual_seed(0)
    noise = torch.randn(runs, 3, *GRID.shape, dtype=torch.float64)
    k = torch.fft.fftfreq(32, 1 / 32, dtype=torch.float64)
    size = torch.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    modes = torch.fft.fftn(noise, dim=(2, 3, 4))
    modes[:, 2] *= torch.where(size < ends, 2.0, 1.0)
    return torch.fft.ifftn(modes, dim=(2, 3, 4)).real


def test_isotropy_returns_where_it_was_put():
    """Octaves begin at 1, 2, 4, 8: anisotropic up to 8, the share falls to nothing between the middles of two."""
    found = return_to_isotropy(fields(8.0), GRID)
    assert np.allclose(found.wavenumbers, np.sqrt(2) * 2.0 ** np.arange(len(found.wavenumbers)))
    wanted = 1 - (6 / 3) ** 2 * 3 / (1 + 1 + 16)  # of diag(1, 1, 4): one less the share of its trace
    assert found.share[2] == pytest.approx(wanted, abs=0.1) and found.p_values[2] <= 0.05
    assert found.share[3] < 0.05 and found.p_values[3] > 0.05
    assert found.wavenumbers[2] <= found.scale_low <= found.scale <= found.scale_high <= found.wavenumbers[3]
    assert "isotropy returns at wavenumber" in found.sentence


def test_what_chance_does_is_no_return_and_few_blocks_have_no_interval():
    """Noise without directions, whose resamples go beyond the first octave; three blocks of what has them."""
    torch.manual_seed(2)
    noise, grid = torch.randn(8, 3, 16, 16, 16, dtype=torch.float64), Grid((16,) * 3, (2 * np.pi / 16,) * 3)
    found = return_to_isotropy(noise, grid)
    assert found.scale_high > found.wavenumbers[0]
    assert "no octave shows more beyond chance, from 8 blocks" in found.sentence
    three = return_to_isotropy(fields(8.0, runs=3), GRID)
    assert three.shown and three.scale_high is None
    assert "(3 blocks are too few for an interval)" in three.sentence


def test_none_and_without_end():
    everywhere, nowhere = return_to_isotropy(fields(np.inf), GRID), return_to_isotropy(fields(0.0), GRID)
    assert everywhere.scale is None and everywhere.scale_high is None and "does not end" in everywhere.sentence
    assert nowhere.scale is not None and nowhere.scale < 8 and min(nowhere.p_values[1:]) > 0.05
    assert not nowhere.shown and "no octave shows more beyond chance" in nowhere.sentence
    with pytest.raises(ValueError, match="cube"):
        return_to_isotropy(fields(0.0, 2)[..., :16], Grid((32, 32, 16), GRID.spacing))
