"""Fields, features and boundaries that the layer tests share."""

import torch

from flowsr.group.fields import axis_action, transform_field, transform_regular
from flowsr.group.octahedral import octahedral_group
from flowsr.nn import GroupConv, RegularNorm, ResidualBlock

GROUPS = ("O", "Oh")
CELLS = (3, 4, 5)  # unequal sides, odd and even
MIXED = ("periodic", "wall", "open")
EDGES = (  # boundary and wall padding
    (("periodic",) * 3, "replicate"),
    (("wall",) * 3, "replicate"),
    (MIXED, "replicate"),
    (MIXED, "reflect"),
    (MIXED, "zero"),
)


def random_field(components, cells=CELLS, seed=0, batch=1):
    return torch.randn(batch, components, *cells, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_features(group, channels, cells=CELLS, seed=0, batch=1):
    return random_field(channels * group.order, cells, seed, batch).unflatten(1, (channels, group.order))


def moved_boundary(boundary, element, group):
    """The boundaries travel with the axes."""
    source, _ = axis_action(element, group)
    return tuple(boundary[axis] for axis in source)


def relative(error, of):
    return float(error.detach().norm() / of.detach().norm())


def set_weights(layer, weights):
    with torch.no_grad():
        layer.relaxed_weights.copy_(weights)


def group_of(name):
    return octahedral_group(name)


def act(values, element, group, irreps=None):
    """g on a field of these irreps, or on a regular feature."""
    return (
        transform_regular(values, element, group) if irreps is None else transform_field(values, element, irreps, group)
    )


def residual(group, channels, dropout=0.0, **options):
    """The residual block of group convolutions, with norms."""
    return ResidualBlock(
        lambda: GroupConv(group, channels, channels, **options), norm=lambda: RegularNorm(channels), dropout=dropout
    )
