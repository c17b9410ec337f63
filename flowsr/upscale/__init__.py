"""Trained models over whole fields, far larger than memory if need be.

:mod:`~flowsr.upscale.plan` decides how, :mod:`~flowsr.upscale.blocks` does it, :mod:`~flowsr.upscale.tiles` says how
exactly tiles agree with the whole.
"""

from flowsr import make_callable
from flowsr.upscale.dataset import upscale_dataset
from flowsr.upscale.plan import UpscaleOptions, UpscalePlan, plan_upscale
from flowsr.upscale.store import do_upscale, upscale_store
from flowsr.upscale.tiles import upscale_array

__all__ = [
    "UpscaleOptions",
    "UpscalePlan",
    "do_upscale",
    "plan_upscale",
    "upscale_array",
    "upscale_dataset",
    "upscale_store",
]

make_callable(__name__)  # flowsr.upscale(...) is flowsr.public.upscale
