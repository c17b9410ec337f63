"""
Symmetry, forced and measured
=============================

A convolution sees directions: turn its input by an element of O_h, the 48 symmetries of the cube, and its output is not
the turned output. A group convolution has no such preference, to the last bit of floating point. A *relaxed* one starts
like that, and has one weight per group element that training may move: how far, measures how broken the symmetry is.
Here the weights are moved by hand, so that the layer treats the x axis apart.
"""

# %%
# The error ||M(g u) - g M(u)|| / ||M(u)|| of every element g, for three maps of a velocity (``1o``) to a velocity.

import matplotlib.pyplot as plt
import torch

from flowsr.group import octahedral_group, transform_field
from flowsr.nn import LiftingConv, Projection

torch.manual_seed(0)
group = octahedral_group("Oh")
velocity = torch.randn(1, 3, 8, 8, 8, dtype=torch.float64)


def errors(network):
    """One number per element of the group."""
    with torch.no_grad():
        plain = network(velocity)
        each = (
            network(transform_field(velocity, g, "1o", group)) - transform_field(plain, g, "1o", group)
            for g in range(group.order)
        )
        return [float(error.norm() / plain.norm()) for error in each]


convolution = torch.nn.Conv3d(3, 3, 3, padding=1, padding_mode="circular", bias=False).double()
strict = torch.nn.Sequential(LiftingConv(group, "1o", 1, 4), Projection(group, 4, "1o")).double()
relaxed = torch.nn.Sequential(LiftingConv(group, "1o", 1, 4), Projection(group, 4, "1o")).double()
along_x = torch.tensor([abs(operation.matrix[0][0]) for operation in group.operations], dtype=torch.float64)
with torch.no_grad():
    relaxed[0].relaxed_weights.mul_(1 + 0.1 * along_x)

# %%
# Zeros are drawn at 1e-17. The relaxed layer keeps exactly the 16 elements that map the x axis to itself.

figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
networks = {"ordinary convolution": convolution, "relaxed, x preferred": relaxed, "strict": strict}
for (label, network), marker in zip(networks.items(), "s^o", strict=True):
    axes.semilogy([max(error, 1e-17) for error in errors(network)], marker, label=label, markersize=4)
axes.set_xticks(range(group.order), [operation.label for operation in group.operations], rotation=90, fontsize=6)
axes.set_ylabel("equivariance error")
axes.legend(loc="center right")
plt.show()
