"""What training asks of the layers: variance at the start, stable state, autocast, compile, second derivatives, DDP."""

import copy
import os
import pickle
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from flowsr.nn import GroupConv, LiftingConv, OrbitDropout, Projection, RegularNorm
from tests.nn.fields import MIXED, act, group_of, random_features, random_field, relative, residual

PERIODIC = ("periodic",) * 3


class Small(nn.Module):
    """Lifting, a residual block, projection."""

    def __init__(self, group, relaxed=True, kernel=None):
        super().__init__()
        self.lifting = LiftingConv(group, "1o", 1, 1, relaxed=relaxed)
        self.block = residual(group, 1, relaxed=relaxed, kernel=kernel)
        self.projection = Projection(group, 1, "1o", upsample=2, relaxed=relaxed)

    def forward(self, field, boundary=PERIODIC):
        return self.projection(torch.relu(self.block(self.lifting(field, boundary), boundary)), boundary)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name, channels", [("O", 1), ("O", 4), ("Oh", 2)])
def test_variance_stays_within_a_factor_two_through_twenty_layers(name, channels, seed):
    group = group_of(name)
    torch.manual_seed(seed)
    with torch.no_grad():
        features = LiftingConv(group, "1o", 1, channels)(torch.randn(2, 3, 4, 5, 6))
        start = float(features.var())
        assert 0.5 < start < 2
        for _ in range(20):
            features = GroupConv(group, channels, channels)(torch.relu(features))
            assert 0.5 < float(features.var()) / start < 2


def test_projection_starts_with_the_variance_of_its_input():
    """Averaged over starts: a field of few components has few filters to average over."""
    group = group_of("O")
    torch.manual_seed(0)
    ratios = []
    with torch.no_grad():
        for _ in range(20):
            features = torch.randn(1, 4, 24, 5, 5, 5)
            ratios.append(float(Projection(group, 4, "1o", upsample=2, gain=1.0)(features).var() / features.var()))
    assert sum(ratios) / len(ratios) == pytest.approx(1, rel=0.2)


def test_strict_layers_freeze_the_relaxed_weights_and_nothing_else():
    frozen = {name for name, p in Small(group_of("O"), relaxed=False).named_parameters() if not p.requires_grad}
    trained = {name for name, p in Small(group_of("O"), relaxed=True).named_parameters() if not p.requires_grad}
    assert trained == set() and len(frozen) == 4
    assert all(name.endswith("relaxed_weights") for name in frozen)


def test_state_dict_does_not_depend_on_the_mode_or_the_cache():
    network = Small(group_of("O"))
    field = torch.randn(1, 3, 3, 4, 5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()
    with torch.no_grad():
        network(field)
    after = network.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)
    assert set(before) == {name for name, _ in network.named_parameters()}
    other = Small(group_of("O"))
    other.load_state_dict(before)
    with torch.no_grad():
        assert torch.equal(other(field), network(field))


def test_cached_filters_follow_every_change_of_the_weights():
    group = group_of("O")
    layer, features = GroupConv(group, 1, 1).eval(), torch.randn(1, 1, 24, 3, 3, 3)
    fresh = lambda: copy.deepcopy(layer)(features)  # a copy starts without a cache  # noqa: E731
    with torch.no_grad():
        first = layer(features)
        assert torch.equal(layer(features), first)
        assert layer.cache.filters is not None
        cached = layer.cache.filters
        layer(features)
        assert layer.cache.filters is cached
        layer.relaxed_weights.mul_(2)
        assert torch.equal(layer(features), fresh()) and not torch.equal(layer(features), first)
        layer.load_state_dict({name: torch.randn_like(value) for name, value in layer.state_dict().items()})
        assert torch.equal(layer(features), fresh())
        layer.filters.data = torch.randn_like(layer.filters)
        assert torch.equal(layer(features), fresh())
        layer.filters.data.mul_(3)  # invisible to torch's version counter
        assert torch.equal(layer.train().eval()(features), fresh())
        layer.double()
        assert layer(features.double()).dtype == torch.float64
    layer(features.double()).sum().backward()
    assert layer.filters.grad is not None and layer.filters.grad.norm() > 0


def test_filters_cached_in_inference_mode_do_not_leak_out():
    layer, features = GroupConv(group_of("O"), 1, 1).requires_grad_(False).eval(), torch.randn(1, 1, 24, 3, 3, 3)
    with torch.inference_mode():
        expected = layer(features)
    result = layer(features.requires_grad_())
    result.sum().backward()
    assert torch.equal(result, expected) and features.grad is not None


def test_tables_keep_their_precision_and_pickle_small():
    group = group_of("Oh")
    layer = LiftingConv(group, "2e", 1, 1)
    exact = layer.tables.representation.clone()
    layer.float().bfloat16().double()
    assert torch.equal(layer.tables.representation, exact)
    with torch.no_grad():
        layer(random_field(5))
        again = pickle.loads(pickle.dumps(layer))
        assert torch.equal(again(random_field(5)), layer(random_field(5)))
    assert again.group is group


@pytest.mark.parametrize("kernel", ["dense", "fourier"])
def test_autocast(kernel):
    group = group_of("O")
    torch.manual_seed(0)
    network = Small(group, kernel=kernel)
    field = torch.randn(2, 3, 3, 4, 5)
    exact = network(field)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = network(field)
        loss = rounded.float().square().mean()
    loss.backward()
    assert rounded.dtype == torch.bfloat16
    assert relative(rounded.float() - exact, exact) < 0.03
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in network.parameters())
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(field), rounded)
        assert network.lifting.cache.filters.dtype == torch.bfloat16


def assert_same_gradients(network, expected, found):
    parameters = list(network.parameters())
    gradients = [torch.autograd.grad(result.square().sum(), parameters) for result in (expected, found)]
    assert all(relative(a - b, a) < 1e-4 for a, b in zip(*gradients))


@pytest.mark.parametrize("kernel", [None, "fourier"])
def test_compile_traces_forward_and_backward_whole(kernel):
    """No graph break anywhere; the graphs run eagerly here, so this is quick."""
    group = group_of("O")
    torch.manual_seed(0)
    network = Small(group, kernel=kernel)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    field = torch.randn(1, 3, 3, 4, 5)
    expected, found = network(field, MIXED), compiled(field, MIXED)
    assert relative(found - expected, expected) < 1e-5
    assert_same_gradients(network, expected, found)
    assert not any(irrep.matrices.flags.writeable for irrep in group.irreps), "torch.compile frees arrays that it meets"


@pytest.mark.slow
def test_compile_with_any_shape():
    """Sides left symbolic, so that one graph serves every box."""
    layer = GroupConv(group_of("O"), 1, 1)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for cells in ((3, 4, 5), (5, 3, 4), (4, 4, 6)):
        features = torch.randn(1, 1, 24, *cells)
        expected = layer(features, MIXED)
        assert relative(compiled(features, MIXED) - expected, expected) < 1e-5


def test_compiled_evaluation():
    layer, features = GroupConv(group_of("O"), 1, 1).eval(), torch.randn(1, 1, 24, 3, 3, 3)
    with torch.no_grad():
        expected = layer(features)  # the cache is filled, and must not get in the way
        assert relative(torch.compile(layer, fullgraph=True, backend="aot_eager")(features) - expected, expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["dense", "fourier"])
def test_compile_with_inductor(kernel):
    torch.manual_seed(0)
    network = Small(group_of("O"), kernel=kernel)
    field = torch.randn(1, 3, 4, 4, 4)
    expected, found = network(field), torch.compile(network, fullgraph=True)(field)
    assert relative(found - expected, expected) < 1e-5
    assert_same_gradients(network, expected, found)


@pytest.mark.parametrize("kernel", ["dense", "fourier"])
@pytest.mark.parametrize("boundary", [PERIODIC, ("periodic", "wall", "wall")])
def test_second_derivatives(kernel, boundary):
    group = group_of("O")
    torch.manual_seed(0)
    layer = GroupConv(group, 1, 1, filter_banks=2, kernel=kernel).double()
    nn.init.normal_(layer.relaxed_weights)
    features = random_features(group, 1, cells=(2, 3, 2), batch=1).requires_grad_()
    names = ("filters", "relaxed_weights", "bias")

    def convolution(values, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters)), (values, boundary))

    operands = (features, *(getattr(layer, name) for name in names))
    assert torch.autograd.gradcheck(convolution, operands, fast_mode=True)
    assert torch.autograd.gradgradcheck(convolution, operands, fast_mode=True)


@pytest.mark.parametrize("kind", ["lifting", "projection"])
def test_second_derivatives_of_lifting_and_projection(kind):
    group = group_of("Oh")
    layer = LiftingConv(group, "1o", 1, 1) if kind == "lifting" else Projection(group, 1, "0e+1o", upsample=2)
    layer.double()
    values = random_field(3, (2, 2, 3), batch=1) if kind == "lifting" else random_features(group, 1, (2, 2, 3), batch=1)
    names = [name for name, _ in layer.named_parameters()]

    def convolution(values, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters)), (values, ("wall", "wall", "periodic")))

    operands = (values.requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(convolution, operands, fast_mode=True)
    assert torch.autograd.gradgradcheck(convolution, operands, fast_mode=True)


def test_gradients_commute_with_the_group():
    """The gradient of an invariant loss moves with the field; those of the parameters stay."""
    group = group_of("Oh")
    network = Small(group).double()
    field = random_field(3, batch=1).requires_grad_()
    parameters = [p for name, p in network.named_parameters() if not name.endswith("relaxed_weights")]
    plain = torch.autograd.grad(network(field).square().sum(), (field, *parameters))
    for g in (5, 17, 30, 47):
        moved = act(field.detach(), g, group, "1o").requires_grad_()
        transformed = torch.autograd.grad(network(moved).square().sum(), (moved, *parameters))
        assert relative(transformed[0] - act(plain[0], g, group, "1o"), plain[0]) < 1e-10
        assert all(relative(a - b, a) < 1e-10 for a, b in zip(plain[1:], transformed[1:]) if a.norm() > 0)


def test_norm_of_a_voxel_is_its_own():
    norm = RegularNorm(2)
    features = torch.randn(1, 2, 24, 4, 4, 4) * 100
    assert torch.equal(norm(features)[..., 1:3, :, :], norm(features[..., 1:3, :, :]))
    assert torch.allclose(norm(features).square().mean((1, 2)), torch.ones(1, 4, 4, 4), rtol=1e-5)


def test_dropout_is_off_for_zero_probability():
    features = torch.randn(1, 2, 24, 2, 2, 2)
    assert OrbitDropout(0.0).train()(features) is features


def _train_one_step(rank, world, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    try:
        torch.manual_seed(0)
        network = nn.parallel.DistributedDataParallel(Small(group_of("O"), relaxed=False))
        fields = torch.randn(world, 3, 4, 4, 4)
        network(fields[rank : rank + 1]).square().mean().backward()
        gradients = {name: p.grad for name, p in network.module.named_parameters() if p.grad is not None}
        torch.save(gradients, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """DDP over two processes gives the gradients of the whole batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_train_one_step, args=(2, port, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.manual_seed(0)
    network = Small(group_of("O"), relaxed=False)
    network(torch.randn(2, 3, 4, 4, 4)).square().mean().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(ranks[0][name], ranks[1][name])
            assert relative(ranks[0][name] - parameter.grad, parameter.grad) < 1e-4 or parameter.grad.norm() < 1e-6
