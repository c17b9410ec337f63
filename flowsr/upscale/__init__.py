"""Trained models over whole fields, far larger than memory if need be; :mod:`flowsr.upscale.tiles` says how exactly."""

from flowsr.upscale.store import upscale_store
from flowsr.upscale.tiles import upscale_array

__all__ = ["upscale_array", "upscale_store"]
