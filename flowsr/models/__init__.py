"""Everything that upscales, in one registry with one call: ``fine = model(coarse, grid)``.

>>> import torch
>>> from flowsr.grid import Grid
>>> from flowsr.models import Task, build_model
>>> coarse = torch.randn(1, 3, 8, 8, 8)
>>> build_model("tricubic", Task(factor=4))(coarse, Grid((8, 8, 8))).shape
torch.Size([1, 3, 32, 32, 32])
"""

from flowsr.models.base import MODELS, Task, Upscaler
from flowsr.models.build import build_model, options_of
from flowsr.models.checkpoint import ModelCard, load_model, publish_model, read_card, save_model, served_model
from flowsr.models.octahedral import relaxed_weights

__all__ = [
    "MODELS",
    "ModelCard",
    "Task",
    "Upscaler",
    "build_model",
    "load_model",
    "options_of",
    "publish_model",
    "read_card",
    "relaxed_weights",
    "save_model",
    "served_model",
]
