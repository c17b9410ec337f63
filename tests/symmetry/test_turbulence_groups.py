"""Known groups of our own turbulence: from the solver's right-hand side, and found again in the data by the network."""

import math

import numpy as np
import pytest
import torch

from flowsr.data import open_field
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.simulate import Channel, Simulation, exact_group, simulate
from flowsr.symmetry import Method, Samples, Training, data_symmetry, discover_samples, homogeneity, superres_samples
from tests.symmetry.turbulence import COARSE, FLOWS, Pairs, cube, pairs_of

OH = octahedral_group("Oh")
METHOD = Method(training=Training(epochs=8))


@pytest.fixture(scope="module")
def made():
    """name -> pairs, each made once."""
    cache: dict[str, Pairs] = {}

    def get(name: str) -> Pairs:
        if name not in cache:
            cache[name] = pairs_of(FLOWS[name])
        return cache[name]

    return get


@pytest.mark.parametrize("name", FLOWS)
def test_the_group_follows_from_the_right_hand_side(name):
    assert exact_group(FLOWS[name].settings).label == FLOWS[name].label


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_dynamics_finds_the_group(name, made):
    data = made(name)
    samples = Samples(
        data.now,
        data.later - data.now,
        "1o",
        "1o",
        blocks=data.runs.numpy(),
        grid=cube(COARSE),
        task="dynamics",
        variable="velocity",
    )
    found = discover_samples(samples, seeds=1, method=METHOD)
    print(f"{name}: dynamics {found.surviving.name}, {[(c.name, round(c.p, 3)) for c in found.candidates if c.kept]}")
    assert found.surviving.subgroup == exact_group(FLOWS[name].settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_superres_and_the_data_themselves_find_a_supergroup(name, made):
    data = made(name)
    coarse = torch.nn.functional.avg_pool3d(data.fine, 2)
    notes = {"degrade_operator": "block_mean", "degrade_factor": 2}
    samples = superres_samples(coarse, data.fine, blocks=data.runs.numpy(), grid=cube(COARSE), notes=notes)
    found = discover_samples(samples, seeds=1, method=METHOD)
    alone = data_symmetry(data.now, cube(COARSE), blocks=data.runs.numpy())
    print(f"{name}: superres {found.surviving.name}, statistics {alone.surviving.label}")
    truth = exact_group(FLOWS[name].settings)
    assert truth <= found.surviving.subgroup
    assert truth <= alone.surviving


@pytest.mark.slow
def test_strided_data_show_the_operator_not_the_flow(made):
    data = made("isotropic")
    notes = {"degrade_operator": "strided", "degrade_factor": 2}
    samples = superres_samples(
        data.fine[..., ::2, ::2, ::2], data.fine, blocks=data.runs.numpy(), grid=cube(COARSE), notes=notes
    )
    found = discover_samples(samples, seeds=1, method=METHOD)
    assert found.surviving.name == "C3v [111]"
    assert any("the degrade operator did it" in sentence for sentence in found.sentences)


@pytest.mark.slow
def test_kolmogorov_flow_is_not_homogeneous_along_y_alone(made):
    data = made("Kolmogorov")
    found = homogeneity(data.now, data.later - data.now, cube(COARSE), blocks=data.runs.numpy())
    assert {axis: each.homogeneous for axis, each in found.items()} == {"x": True, "y": False, "z": True}


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    """(time, 3, 16, 32, 16): a small channel at Re_tau 110, 20 h / u_tau long."""
    small = Channel(
        re_tau=110.0,
        cells=(16, 32, 16),
        lengths=(math.pi, 2.0, 1.6),
        spin_up_time=4.0,
        duration=20.0,
        snapshot_interval=0.05,
        cfl=0.6,
    )
    output = tmp_path_factory.mktemp("channel") / "channel.zarr"
    [store] = simulate(output, Simulation("channel", channel=small), device="cpu")
    return open_field(store)["velocity"].values


@pytest.mark.slow
@pytest.mark.parametrize("part, label", [("whole", "C2v(100;100) [100]"), ("near one wall", "Cs [001]")])
def test_channel_keeps_its_two_mirrors_and_a_crop_near_a_wall_one(channel, part, label):
    times = np.arange(0, 400, 10)
    now, later = (torch.from_numpy(channel[t]) for t in (times, times + 1))
    if part == "whole":
        now, later = (torch.nn.functional.avg_pool3d(each, (1, 2, 1)) for each in (now, later))
    else:
        now, later = now[..., :16, :], later[..., :16, :]
    grid = Grid((16, 16, 16), boundary=("periodic", "wall" if part == "whole" else "open", "periodic"))
    samples = Samples(now, later - now, "1o", "1o", grid=grid, task="dynamics", variable="velocity")
    assert discover_samples(samples, seeds=1, method=METHOD).surviving.name == label
