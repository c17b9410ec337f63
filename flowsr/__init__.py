"""flowsr: super-resolution of 3-D turbulence with a symmetry that is measured, not assumed.

What a user needs, by its name here, imported when it is first asked for:

- ``open_field``, ``inspect``, ``convert``: fields in files of any layout (:mod:`flowsr.data`);
- ``simulate``, ``train``, ``upscale``, ``evaluate``, ``compare``, ``discover_symmetry``: jobs (:mod:`flowsr.public`);
- ``load_model``, ``models``, ``metrics``, ``Grid``: the parts that they are made of.

>>> import flowsr
>>> grid = flowsr.Grid((8, 8, 8), boundary=("periodic", "wall", "periodic"))
>>> model = flowsr.models.build_model("tricubic", flowsr.models.Task(factor=2))

Importing it takes a moment, and needs neither Prefect, Dask, Zarr nor pydantic. Where things live, from the top:

- :mod:`flowsr.cli`, :mod:`flowsr.flows`: the command line, and schedules with Prefect;
- :mod:`flowsr.pipeline`, :mod:`flowsr.config`: settings from files made into steps, each done once;
- :mod:`flowsr.simulate`, :mod:`flowsr.train`, :mod:`flowsr.upscale`, :mod:`flowsr.evaluate`, :mod:`flowsr.compare`,
  :mod:`flowsr.symmetry`: the jobs, independent of each other; :mod:`flowsr.report` shows what they found;
- :mod:`flowsr.models`: interpolations and networks, all with one call;
- :mod:`flowsr.data`: reading, degrading, splitting and cutting fields;
- :mod:`flowsr.metrics`: what is right, and which symmetry is left;
- :mod:`flowsr.nn`, :mod:`flowsr.kernels`: layers, and the relaxed group convolution under them, several ways;
- :mod:`flowsr.group`: the octahedral group and how fields transform under it.

:mod:`flowsr.testing` asks of a model or metric of your own what flowsr asks of its own; docs/extending.md makes some.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowsr import metrics, models
    from flowsr.data import convert, inspect, open_field
    from flowsr.grid import Grid
    from flowsr.models import load_model
    from flowsr.public import compare, discover_symmetry, evaluate, simulate, train, upscale

__version__ = "0.1.0"

#: Where each public name is found. Five jobs are packages by that name as well: these can be called, see below.
_PUBLIC = {
    "Grid": "flowsr.grid",
    "compare": None,
    "convert": "flowsr.data",
    "discover_symmetry": "flowsr.public",
    "evaluate": None,
    "inspect": "flowsr.data",
    "load_model": "flowsr.models",
    "metrics": None,
    "models": None,
    "open_field": "flowsr.data",
    "simulate": None,
    "train": None,
    "upscale": None,
}

__all__ = [
    "Grid",
    "compare",
    "convert",
    "discover_symmetry",
    "evaluate",
    "inspect",
    "load_model",
    "metrics",
    "models",
    "open_field",
    "simulate",
    "train",
    "upscale",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _PUBLIC[name]
    value = import_module(f"{__name__}.{name}") if home is None else getattr(import_module(home), name)
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


class CallablePackage(ModuleType):
    """A package that can be called: ``flowsr.upscale(...)`` is the job, ``flowsr.upscale.tiles`` a module of it.

    Importing a package anywhere sets it as an attribute of flowsr. A function put there under the same name would be
    gone after the next ``import flowsr.upscale``, or would hide the package, whichever came last. A module may have a
    class of its own (Python's data model, "Customizing module attribute access"), and that of these packages has a
    call; so both are there in whatever order things are imported.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._job(*arguments, **options)

    @property
    def _job(self) -> Any:
        """The function of :mod:`flowsr.public` by the package's name."""
        return getattr(import_module("flowsr.public"), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._job)


def make_callable(package: str) -> None:
    """Let a package be called as its job; for the packages of :mod:`flowsr.public`'s jobs."""
    sys.modules[package].__class__ = CallablePackage
