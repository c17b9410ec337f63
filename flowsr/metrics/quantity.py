"""What a measured number means: its name, its unit, which way is better, and who defined it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

Better = Literal["lower", "higher", "truth"]


@dataclass(frozen=True)
class Quantity:
    """A scalar result.

    Args:
        label: short name for a table's head.
        unit: product of powers of ``velocity`` and ``length`` (``velocity^2 length``), ``1`` without dimension.
        better: ``lower``, ``higher``, ``truth`` (the nearer the true field's value the better), or None: no ranking.
        source: paper and equation.
        short: head of its column, in lines of seven letters at most, where there is room for few and narrow ones; None:
            no column there.
    """

    label: str
    unit: str
    better: Better | None
    source: str
    short: str | None = None


@dataclass(frozen=True)
class CurveQuantity:
    """A result that is a function of one variable, with what a plot of it needs.

    Args:
        label: title.
        x_label, y_label: axis names, without units.
        x_unit, y_unit: units as in :class:`Quantity`.
        x_scale, y_scale: ``linear`` or ``log``.
        source: paper and equation.
    """

    label: str
    x_label: str
    y_label: str
    source: str
    x_unit: str = "1"
    y_unit: str = "1"
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"


class Curve(NamedTuple):
    """A measured curve: abscissae (n,) and values (..., n)."""

    x: Tensor
    y: Tensor


def physical_unit(unit: str, velocity: str, length: str) -> str:
    """A quantity's unit in the units of the data.

    Args:
        unit: as in :class:`Quantity`.
        velocity, length: units of the data; ``1`` where they are dimensionless.

    Returns:
        ``velocity^2 length`` with ``m/s`` and ``m`` gives ``(m/s)^2 m``; factors of dimension one are left out.
    """
    factors = []
    for factor in unit.split():
        base, caret, power = factor.partition("^")
        name = {"velocity": velocity, "length": length}.get(base, base)
        if name == "1":
            continue
        compound = caret and any(sign in name for sign in " /*^")
        factors.append((f"({name})" if compound else name) + caret + power)
    return " ".join(factors) or "1"
