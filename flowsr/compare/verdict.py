"""The comparison in a few plain sentences, said just as plainly when a network is not ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flowsr.compare.ranking import mean_of

NRMSE = "nrmse"
BEYOND_CUTOFF = "spectral_error_beyond_cutoff"
_WORDS = {NRMSE: "NRMSE", BEYOND_CUTOFF: "spectral error beyond the cut-off"}


@dataclass(frozen=True)
class Lead:
    """How one network stands against the best interpolation on one metric where less is better.

    Args:
        network: its name.
        rival: name of the best interpolation on this metric.
        value: the network's mean.
        rival_value: the interpolation's mean.
        snapshots_ahead: snapshots on which the network is the better of the two.
        snapshots: snapshots on which both have a value.
    """

    network: str
    rival: str
    value: float
    rival_value: float
    snapshots_ahead: int
    snapshots: int

    @property
    def fraction(self) -> float:
        """Error spared, over the interpolation's error; negative where the network is behind."""
        return 1 - self.value / self.rival_value if self.rival_value > 0 else float("nan")


def best_of(models: Mapping[str, Mapping], key: str, trained: bool) -> str | None:
    """Name of the trained (or untrained) model with the lowest mean; None where none has a finite one."""
    means = {name: mean_of(model, key) for name, model in models.items() if bool(model.get("trained")) is trained}
    means = {name: mean for name, mean in means.items() if math.isfinite(mean)}
    return min(means, key=means.get) if means else None


def leads(comparison: Mapping, key: str) -> list[Lead]:
    """Every network against the best interpolation, in the comparison's order; empty where there is none to compare."""
    models = comparison["models"]
    rival = best_of(models, key, trained=False)
    if rival is None:
        return []
    found = []
    for name, model in models.items():
        if not model.get("trained") or not math.isfinite(mean_of(model, key)):
            continue
        pairs = [
            (own, other)
            for own, other in zip(_values(model, key), _values(models[rival], key))
            if own is not None and other is not None and math.isfinite(own) and math.isfinite(other)
        ]
        ahead = sum(own < other for own, other in pairs)
        found.append(Lead(name, rival, mean_of(model, key), mean_of(models[rival], key), ahead, len(pairs)))
    return found


def _values(model: Mapping, key: str) -> list:
    return (model["scalars"].get(key) or {}).get("values") or []


def verdict(comparison: Mapping) -> list[str]:
    """Sentences: the mark to beat, then every network, the best first, then whether that holds on every snapshot."""
    models = comparison["models"]
    labels = {name: str(model.get("label") or name) for name, model in models.items()}
    by_error = sorted(leads(comparison, NRMSE), key=lambda lead: lead.value)
    by_spectrum = {lead.network: lead for lead in leads(comparison, BEYOND_CUTOFF)}
    if not any(model.get("trained") for model in models.values()):
        return ["No network was trained: this report compares interpolations with each other."]
    if not by_error:
        return [
            "There is nothing to measure the networks by: no interpolation, or no finite NRMSE, is in the comparison."
        ]
    sentences = [_mark(by_error[0], next(iter(by_spectrum.values()), None), labels)]
    for lead in by_error:
        parts = [_part(lead, NRMSE)]
        if lead.network in by_spectrum:
            parts.append(_part(by_spectrum[lead.network], BEYOND_CUTOFF))
        sentences.append(f"{labels[lead.network]} is {' and '.join(parts)}.")
    return sentences + _snapshot_by_snapshot(by_error, list(by_spectrum.values()), labels)


def _mark(error: Lead, spectrum: Lead | None, labels: Mapping[str, str]) -> str:
    """The interpolations that the networks are measured by; they may differ from one metric to the other."""
    if spectrum is None:
        return f"The best interpolation is {labels[error.rival]} (NRMSE {error.rival_value:.3f})."
    if spectrum.rival == error.rival:
        return (
            f"The best interpolation is {labels[error.rival]} (NRMSE {error.rival_value:.3f}, {_WORDS[BEYOND_CUTOFF]} "
            f"{spectrum.rival_value:.3f})."
        )
    return (
        f"The best interpolation by NRMSE is {labels[error.rival]} ({error.rival_value:.3f}), "
        f"by {_WORDS[BEYOND_CUTOFF]} {labels[spectrum.rival]} ({spectrum.rival_value:.3f})."
    )


def _part(lead: Lead, key: str) -> str:
    """`34 % ahead on NRMSE (0.177)`."""
    percent = round(100 * abs(lead.fraction)) if math.isfinite(lead.fraction) else 0
    stand = "level" if percent == 0 else f"{percent} % ahead" if lead.fraction > 0 else f"{percent} % behind"
    return f"{stand} on {_WORDS[key]} ({lead.value:.3f})"


def _snapshot_by_snapshot(by_error: list[Lead], by_spectrum: list[Lead], labels: Mapping[str, str]) -> list[str]:
    """Whether the networks are ahead on each snapshot, on both metrics or on NRMSE, and if not, on how many."""
    counted = [lead for lead in by_error if lead.snapshots > 1]
    if not counted:
        return []
    who = "Every network is" if len(by_error) > 1 else f"{labels[by_error[0].network]} is"
    every = f"{who} ahead on every one of the {counted[0].snapshots} held-out snapshots"
    if all(lead.snapshots_ahead == lead.snapshots for lead in counted):
        both = by_spectrum and all(lead.snapshots_ahead == lead.snapshots for lead in by_spectrum)
        return [every + (", on both." if both else ", on NRMSE.")]
    shares = [f"{labels[lead.network]} on {lead.snapshots_ahead} of {lead.snapshots}" for lead in counted]
    return [f"Snapshots on which they are ahead on NRMSE: {', '.join(shares)}."]
