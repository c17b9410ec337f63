"""A trained-looking model and coarse files for the tests of the watched folder."""

import torch

from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, save_model
from tests.data.fields import random_field

CARD = ModelCard("cnn", Task(2), {"width": 2, "blocks": 1})


def save_small_model(folder):
    torch.manual_seed(0)
    save_model(folder, CARD.build(), CARD)
    return folder


def coarse_field(seed=0, snapshots=2, side=4):
    return random_field(Grid((side,) * 3), range(snapshots), seed=seed)
