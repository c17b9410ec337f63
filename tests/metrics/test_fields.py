import pytest
import torch

from flowsr.metrics import nrmse
from tests.metrics.fields import CUBE, UNEQUAL, abc, noise


def test_nrmse_of_a_scaled_field_is_the_scale_error():
    target = abc(CUBE)
    torch.testing.assert_close(nrmse(1.25 * target, target, CUBE), torch.tensor([0.25], dtype=torch.float64))
    assert nrmse(target, target, CUBE).item() == 0
    torch.testing.assert_close(nrmse(0 * target, target, CUBE), torch.ones(1, dtype=torch.float64))


def test_nrmse_is_of_the_whole_vector_and_per_snapshot():
    target = torch.ones((2, 3, *UNEQUAL.shape), dtype=torch.float64)
    prediction = target.clone()
    prediction[1, 0] += 3
    expected = torch.tensor([0, 3**0.5], dtype=torch.float64)  # mean square error 9/3 over mean square 1
    torch.testing.assert_close(nrmse(prediction, target, UNEQUAL), expected)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ"):
        nrmse(noise(UNEQUAL, components=1), noise(UNEQUAL), UNEQUAL)
    with pytest.raises(ValueError, match="expected"):
        nrmse(noise(CUBE), noise(CUBE), UNEQUAL)
