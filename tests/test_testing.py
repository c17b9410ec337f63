"""The testers that ship: they pass what is right, and say what is wrong with what is not."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from flowsr.group import octahedral_group
from flowsr.metrics import METRICS, NormalizedError, Quantity
from flowsr.metrics.base import sum_over_space
from flowsr.models import Task
from flowsr.models.interpolation import Trilinear
from flowsr.nn import GroupConv, LiftingConv
from flowsr.testing import assert_equivariant, check_metric, check_model

#: Metrics that count voxels: rounding moves one of them across the edge of a bin.
COUNTED = {"gradient_pdf", "gradient_invariants", "alignment", "strain_eigenvalues"}


def test_a_group_convolution_is_equivariant_until_its_relaxed_weights_differ():
    group = octahedral_group("O")
    layer = LiftingConv(group, "1o", 1, 2)
    assert assert_equivariant(layer, "O", "1o", None) <= 1e-10
    assert next(layer.parameters()).dtype == torch.float32, "it is left as it is"
    layer = GroupConv(group, 2, 1)
    assert_equivariant(layer, group, None, None, channels=2)
    with torch.no_grad():
        layer.relaxed_weights[:, 3] += 0.1
    with pytest.raises(AssertionError, match="element 1 of O"):
        assert_equivariant(layer, group, None, None, channels=2)


def test_an_ordinary_convolution_is_not_equivariant():
    plain = nn.Conv3d(3, 3, 3, padding=1).double()
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(lambda field, boundary: plain(field))


@pytest.mark.parametrize("name", ["nrmse", "divergence", "spectrum", "walls", "gradient_pdf"])
def test_right_metrics_pass(name):
    check_metric(METRICS[name](factor=2, viscosity=0.01), tolerance=2e-2 if name in COUNTED else 1e-10)


class WrongUnit(NormalizedError):
    """Its result has the data's unit and is said to have none."""

    scalars: ClassVar = {"size": Quantity("size", "1", "lower", "none")}

    def measure(self, prediction, target, grid):
        return {"squares": sum_over_space(target.square()), "cells": sum_over_space(torch.ones_like(target))}

    def finish(self, squares, cells):
        return {"size": (squares / cells).sqrt()}


class OneAxis(WrongUnit):
    """The first component alone, and said to be invariant."""

    scalars: ClassVar = {"size": Quantity("size", "velocity", "lower", "none")}

    def measure(self, prediction, target, grid):
        return super().measure(prediction, target[:, :1], grid)


class NotASum(OneAxis):
    """The largest value, added up over snapshots."""

    halo = None

    def measure(self, prediction, target, grid):
        return {"squares": target.square().amax((1, 2, 3, 4)) ** len(target), "cells": torch.ones(len(target))}


class Undeclared(OneAxis):
    """A result that no table knows of."""

    def finish(self, squares, cells):
        return {"rms": squares}


class NoHalo(OneAxis):
    """Tiles without a halo, and a derivative."""

    halo = 0
    invariant = False

    def measure(self, prediction, target, grid):
        return super().measure(prediction, target - target.roll(1, -1), grid)


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (WrongUnit, "velocities times 2"),
        (OneAxis, "transformed by element"),
        (NotASum, "one snapshot after the other"),
        (Undeclared, r"declared \['size'\], computed \['rms'\]"),
        (NoHalo, "tiles with a halo of 0 cells"),
    ],
)
def test_wrong_metrics_are_told_what_is_wrong(metric, told):
    with pytest.raises(AssertionError, match=told):
        check_metric(metric())


class Smoothed(Trilinear):
    """Interpolation of a field that was smoothed first."""

    halo = 2

    def forward(self, coarse, grid):
        mean = sum(super(Smoothed, self).forward(coarse.roll(step, 2), grid) for step in (-1, 0, 1)) / 3
        return mean


class Noisy(Trilinear):
    """Interpolation and chance."""

    def forward(self, coarse, grid):
        fine = super().forward(coarse, grid)
        return fine + torch.randn_like(fine)


class Metric(Trilinear):
    """Interpolation that minds the unit of length."""

    def forward(self, coarse, grid):
        return super().forward(coarse, grid) * grid.spacing[0]


class Nameless(Trilinear):
    __doc__ = None


class Deaf(Trilinear):
    """A parameter that nothing depends on."""

    trainable = True

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.gain, self.unused = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))

    def forward(self, coarse, grid):
        return super().forward(coarse, grid) * self.gain


def built(kind):
    return kind(Task(2))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Smoothed, "seen . cells away|tiles with a halo of 2 cells"),
        (Noisy, "two results"),
        (Metric, "another unit of length"),
        (Nameless, "docstring"),
        (Deaf, "no gradient reaches unused"),
    ],
)
def test_wrong_models_are_told_what_is_wrong(kind, told):
    with pytest.raises(AssertionError, match=told):
        check_model(built(kind))


def test_a_right_model_passes_and_is_left_as_it_is():
    model = built(Trilinear)
    check_model(model)
    assert_equivariant(model)
