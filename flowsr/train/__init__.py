"""Fitting networks to coarse / fine pairs: one model at a time, resumable, the best weights kept.

The settings are here at once; what needs Lightning is imported when it is first asked for.
"""

from importlib import import_module
from typing import Any

from flowsr import make_callable
from flowsr.train.settings import Network, Schedule, Training

_LATER = {
    "HISTORY": "checkpoints",
    "read_history": "checkpoints",
    "card_for": "job",
    "resolve_networks": "job",
    "train_model": "job",
}

__all__ = ["Network", "Schedule", "Training", *_LATER]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"flowsr.train.{_LATER[name]}"), name)


make_callable(__name__)  # flowsr.train(...) is flowsr.public.train
