"""Step sizes of Adam, layer by layer: what one step changes in a layer's output grows with what the layer sums."""

from __future__ import annotations

import math

from torch import nn

from flowsr.models.octahedral import OctahedralNetwork
from flowsr.nn.layer import RelaxedLayer

#: The sum that the learning rate is stated for: 16 channels of 3 x 3 x 3 cells.
REFERENCE_FAN_IN = 16 * 27


def fan_in(layer: nn.Module) -> int | None:
    """Products that a convolution, ordinary or of a group, sums for one output; None for other layers.

    None for those that work cell by cell too, whose sums are short. A projection averages over the group: its order is
    not counted.
    """
    if isinstance(layer, RelaxedLayer):
        return layer.fan_in
    if isinstance(layer, nn.ConvTranspose3d):
        return math.prod(layer.weight.shape) // layer.weight.shape[1] // math.prod(layer.stride)
    if isinstance(layer, nn.Conv3d) and math.prod(layer.kernel_size) > 1:
        return layer.weight[0].numel()
    return None


def groups_by_fan_in(model: nn.Module, learning_rate: float, matched: bool = False) -> list[dict]:
    """Parameter groups for Adam, the step size of every filter in inverse proportion to its layer's fan-in.

    Adam moves all weights of a layer by one step size. Its first steps have the signs of one common direction, so that
    they add up over the fan-in: thousands in a convolution of all 48 elements, where the step that suits a plain
    convolution throws the features far out of range, and the residual branches do not recover. With step sizes over the
    fan-in every layer's output changes as much (Yang et al. 2022, arXiv 2203.03466, for the same network at any width).
    Biases, relaxed weights and the weights of other layers keep the learning rate.

    That leaves relaxed weights behind: they are 1, filters of a sum of N are about 1/sqrt(N), and with their step a
    filter changes by a share that is sqrt(N) times REFERENCE_FAN_IN / N that of a relaxed weight. ``matched`` gives a
    relaxed weight the step that changes it by the same share as a filter of its layer: the filters' step over their
    standard deviation at the start. A weight of a wall function multiplies features as the relaxed weight does of the
    layer that made them, and has its step.

    Args:
        model: whose trainable parameters are grouped.
        learning_rate: step size of a layer with a fan-in of ``REFERENCE_FAN_IN``.
        matched: whether relaxed weights move by the same share as filters.

    Returns:
        ``params`` and ``lr`` of every group, those with the learning rate itself first.
    """
    rates, groups = {}, {learning_rate: []}
    for layer in model.modules():
        products = fan_in(layer)
        if products is not None:
            filters = layer.filters if hasattr(layer, "filters") else layer.weight
            rates[id(filters)] = learning_rate * REFERENCE_FAN_IN / products
            if matched and isinstance(layer, RelaxedLayer):
                rates[id(layer.relaxed_weights)] = rates[id(filters)] / layer.deviation
    for network in model.modules() if matched else ():
        for walls, maker in network.wall_layers if isinstance(network, OctahedralNetwork) else ():
            rates[id(walls.weights)] = rates[id(maker.relaxed_weights)]
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault(rates.get(id(parameter), learning_rate), []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in groups.items() if parameters]
