"""Trained models over whole fields, far larger than memory if need be; :mod:`flowsr.upscale.tiles` says how exactly."""

from flowsr import make_callable
from flowsr.upscale.store import upscale_store
from flowsr.upscale.tiles import upscale_array

__all__ = ["upscale_array", "upscale_store"]

make_callable(__name__)  # flowsr.upscale(...) is flowsr.public.upscale
