"""Everything that upscales, in one registry with one call: ``fine = model(coarse, grid)``.

>>> import torch
>>> from flowsr.grid import Grid
>>> from flowsr.models import build_model
>>> coarse = torch.randn(1, 3, 8, 8, 8)
>>> build_model("tricubic", factor=4)(coarse, Grid((8, 8, 8))).shape
torch.Size([1, 3, 32, 32, 32])
"""

from flowsr.models import (  # noqa: F401  (files the models under their names)
    cnn,
    deconvolution,
    edsr,
    fourier_operator,
    interpolation,
    octahedral,
    rcan,
    rrdb,
    steerable,
    wang2023,
)
from flowsr.models.base import MODELS, Upscaler, build_model
from flowsr.models.checkpoint import ModelCard, load_model, read_card, save_model
from flowsr.models.octahedral import relaxed_weights

__all__ = ["MODELS", "ModelCard", "Upscaler", "build_model", "load_model", "read_card", "relaxed_weights", "save_model"]
