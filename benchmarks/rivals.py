"""What the layers are measured against: the published way of turning filters, and escnn in its own environment."""

from __future__ import annotations

import json
import subprocess

import torch
import torch.nn.functional as F
from torch import Tensor

from flowsr.errors import FlowsrError
from flowsr.group.octahedral import PointGroup


def resampled_filters(filters: Tensor, weights: Tensor, group: PointGroup, at_once: bool = False) -> Tensor:
    """Filters turned by interpolation at every step, the published way of group convolution in three dimensions.

    The copy for each group element is resampled at its rotated taps by ``affine_grid`` and ``grid_sample``, its group
    index is permuted, and the banks are mixed.

    Args:
        filters: (filter_banks, channels_out, channels_in, n, k^3).
        weights: (filter_banks, n), relaxed.
        at_once: resample all copies in one call instead of one call for each group element.

    Returns:
        (channels_out n, channels_in n, k, k, k): what the index gather gives, up to the rounding of the interpolation.
    """
    banks, channels_out, channels_in, order, taps = filters.shape
    k = round(taps ** (1 / 3))
    reverse = [2, 1, 0]  # grid_sample names the last dimension first
    matrices = group.matrices[group.inverse][:, reverse][:, :, reverse]
    turned_back = torch.tensor(matrices, dtype=filters.dtype, device=filters.device)
    rows = banks * channels_out * channels_in * order
    volumes = filters.reshape(1, rows, k, k, k)

    def resampled(matrices: Tensor) -> Tensor:
        grid = F.affine_grid(F.pad(matrices, (0, 1)), [len(matrices), rows, k, k, k], align_corners=True)
        return F.grid_sample(volumes.expand(len(matrices), -1, -1, -1, -1), grid, align_corners=True)

    copies = resampled(turned_back) if at_once else torch.cat([resampled(matrix[None]) for matrix in turned_back])
    copies = copies.view(order, banks, channels_out, channels_in, order, taps)
    quotients = torch.tensor(group.left_quotient, device=filters.device)
    permuted = torch.stack([copies[g].index_select(3, quotients[g]) for g in range(order)], 2)
    mixed = (permuted * weights[:, None, :, None, None, None]).sum(0)
    return mixed.reshape(channels_out * order, channels_in * order, k, k, k)


# Run by the other interpreter. Its escnn puts x last; for a time that makes no difference.
ESCNN_PROGRAM = """
import json, statistics, sys, time
import torch
from escnn import gspaces, nn
settings = json.loads(sys.argv[1])
torch.set_num_threads(settings["threads"])
clock = {"wall": time.perf_counter, "cpu": time.process_time}[settings["clock"]]
device = settings["device"]
space = gspaces.octaOnR3() if settings["group"] == "O" else gspaces.fullOctaOnR3()
field = nn.FieldType(space, settings["channels"] * [space.regular_repr])
layer = nn.R3Conv(field, field, kernel_size=3, padding=1).to(device).train()
plain = torch.nn.Conv3d(field.size, field.size, 3, padding=1).to(device)
side = settings["cells"]
values = torch.randn(1, field.size, side, side, side, device=device, requires_grad=True)
gradient = torch.randn_like(values)
def ours(): return layer(nn.GeometricTensor(values, field)).tensor
def once(run, backward):
    start = clock()
    result = run()
    if backward: result.backward(gradient)
    if device == "cuda": torch.cuda.synchronize()
    return clock() - start
rows = {}
for backward in (False, True):
    with torch.set_grad_enabled(backward):
        once(ours, backward), once(lambda: plain(values), backward)
        pairs = [(once(ours, backward), once(lambda: plain(values), backward)) for _ in range(settings["repeats"])]
    rows["forward+backward" if backward else "forward"] = {
        "seconds": statistics.median(a for a, _ in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
        "quartiles": statistics.quantiles([a / b for a, b in pairs], n=4)[::2],
    }
print(json.dumps(rows))
"""


def run_escnn(python: str, settings: dict, timeout: float = 1800) -> dict[str, dict]:
    """Time escnn's regular-to-regular layer against plain conv3d in another interpreter.

    Args:
        python: interpreter of an environment that has escnn and torch (escnn needs numpy < 2, hence apart).
        settings: group, channels, cells, repeats, threads, clock and device.

    Returns:
        For ``forward`` and ``forward+backward`` a dict of seconds, ratio (to plain conv3d there) and quartiles.

    Raises:
        FlowsrError: an interpreter that cannot be run, or has no escnn.
    """
    command, what = [python, "-c", ESCNN_PROGRAM, json.dumps(settings)], "a Python interpreter"
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FlowsrError("cannot run escnn", variable="--escnn-python", expected=what, found=error) from None
    if outcome.returncode != 0:
        reason = (outcome.stderr.strip().splitlines() or ["no output"])[-1]
        raise FlowsrError("escnn failed", file=python, expected="an environment with escnn and torch", found=reason)
    return json.loads(outcome.stdout.strip().splitlines()[-1])
