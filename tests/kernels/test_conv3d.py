"""Versions whose conv3d is wrong or slow are known, and what stands in computes the same."""

import pytest
import torch
import torch.nn.functional as F

from flowsr.kernels import conv3d, dispatch, explain
from flowsr.kernels.conv3d import conv3d_by_planes, conv3d_fault, numbers_fault, version_fault
from tests.kernels.test_dispatch import case_of


@pytest.mark.parametrize(
    "dtype, torch_version, cudnn, says",
    [
        (torch.bfloat16, "2.8.0+cu128", 91002, "cuDNN 9.10.2 gives wrong numbers"),
        (torch.float16, "2.9.0+cu130", 91300, "torch 2.9.0 runs it without cuDNN"),
        (torch.bfloat16, "2.9.0", 92100, "without cuDNN"),
        (torch.bfloat16, "2.9.1", 91300, "without cuDNN"),
        (torch.bfloat16, "2.9.1", 92100, None),
        (torch.bfloat16, "2.11.0+cu130", 91900, None),
        (torch.float32, "2.8.0", 91002, None),
        (torch.bfloat16, "2.8.0", None, None),
    ],
)
def test_bad_versions_are_known(dtype, torch_version, cudnn, says):
    found = version_fault(dtype, torch_version, cudnn)
    assert found is None if says is None else says in found


@pytest.mark.parametrize("padding", [0, 1])
def test_planes_give_what_conv3d_gives_and_its_gradients(padding):
    features = torch.randn(2, 3, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    results = [run(features, weight, padding=padding) for run in (F.conv3d, conv3d_by_planes)]
    upstream = torch.randn_like(results[0])
    found = [(result, *torch.autograd.grad(result, (features, weight), upstream)) for result in results]
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) and a.shape == b.shape for a, b in zip(*found))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_numbers_are_checked(dtype, monkeypatch):
    assert numbers_fault("cpu", dtype) is None
    right = F.conv3d
    monkeypatch.setattr(conv3d.F, "conv3d", lambda x, w: right(x, w) * (1 if x.dtype == torch.float64 else 1.1))
    if dtype != torch.float64:
        assert "off" in numbers_fault("cpu", dtype)


def test_a_cpu_is_not_asked_and_explain_says_what_was_found(monkeypatch):
    assert conv3d_fault("cpu", torch.bfloat16) is None and explain(case_of()).fault is None
    monkeypatch.setattr(dispatch, "conv3d_fault", lambda device, dtype: "a test convolution is 3.0e-01 off")
    case = case_of(device="cuda", dtype=torch.bfloat16)
    assert "dense goes without conv3d: a test convolution is 3.0e-01 off" in str(explain(case, "dense"))
    assert explain(case_of(device="cuda", taps=1)).fault is None


def test_filters_of_unequal_sides_and_a_bias():
    """What image networks and steerable ones ask for where conv3d cannot be trusted."""
    features = torch.randn(2, 3, 7, 6, 8, dtype=torch.float64)
    weight, bias = torch.randn(4, 3, 3, 1, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    by_planes = conv3d_by_planes(features, weight) + bias[:, None, None, None]
    torch.testing.assert_close(by_planes, conv3d.conv3d(features, weight, bias=bias), rtol=1e-12, atol=1e-12)
