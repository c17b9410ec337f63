"""From fields to the symmetry group they allow: train, relax, test, say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from flowsr.devices import resolve_device
from flowsr.errors import require
from flowsr.group import Subgroup, octahedral_group
from flowsr.metrics import symmetry_breaking
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions
from flowsr.symmetry import randomization, weights
from flowsr.symmetry.network import NetworkShape, ProbeNetwork, Training, explained, trained_strict
from flowsr.symmetry.randomization import Evidence, Significance
from flowsr.symmetry.result import (
    GROUP,
    Candidate,
    Discovery,
    ElementErrors,
    EquivarianceFinding,
    GroupName,
    IrrepFinding,
    LayerFinding,
    ShellErrors,
    Trained,
    plain,
)
from flowsr.symmetry.tasks import (
    TASKS,
    Samples,
    SampleSettings,
    dynamics_samples,
    pair_samples,
    read_samples,
    superres_samples,
)
from flowsr.symmetry.weights import Penalty, departures, to_irreps
from flowsr.symmetry.words import sentences

SEEDS = 4
EVALUATED = 2  # snapshots on which the equivariance error is measured


@dataclass(frozen=True)
class Method:
    """How a discovery is made.

    Raises:
        ValueError: a negative strength.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    network: NetworkShape = field(default_factory=NetworkShape)
    """The small network."""
    training: Training = field(default_factory=Training)
    """How its filters are fitted."""
    significance: Significance = field(default_factory=Significance)
    """Rate of false alarms and number of draws."""
    exact: bool = False
    """Data without noise: no null, anything above rounding counts; float64 throughout."""
    penalty: Penalty = "none"
    """On the reported weights, see :func:`flowsr.symmetry.weights.penalized`; the tests do not use it."""
    strength: float = 0.1
    """Of the penalty, in units of the mean curvature of the loss."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run; auto: CUDA where there is a device."""

    def __post_init__(self):
        if not self.strength >= 0:
            raise ValueError(f"strength is not negative, got {self.strength}")


@dataclass(frozen=True)
class Discovering(Method):
    """The symmetry of an experiment's training pairs, for networks with the option ``group: discovered``.

    Raises:
        ValueError: as for :class:`Method`, no seeds, or a factor below 1.
    """

    seeds: tuple[int, ...] = tuple(range(SEEDS))
    """Of the small networks."""
    factor: int = 2
    """Parts of a coarse cell along each axis that the small network makes: block means, where the pairs have more."""
    decorrelation_turnovers: float = 2.0
    """Eddy turnover times after which snapshots of one run count as independent; 0: every snapshot does."""

    def __post_init__(self):
        super().__post_init__()
        if not self.seeds or self.factor < 1 or not self.decorrelation_turnovers >= 0:
            raise ValueError("seeds are one or more, factor at least 1, decorrelation_turnovers not negative")

    def spare(self, factor: int, operator: str | None = None) -> int:
        """Of pairs with this factor, the fine cells along an axis that become one part.

        Raises:
            FlowsrError: the parts do not divide the coarse cells, or have nothing beyond them (of block means).
        """
        about = {"variable": "discover.factor", "expected": factor, "found": self.factor}
        spare, rest = divmod(factor, self.factor) if self.factor < factor else (1, 0)
        require(not rest, "not a part of the pairs' factor", **about)
        message, hint = "block means have no smaller scales in one part of a coarse cell", "2 or more"
        require(operator != "block_mean" or spare < factor, message, **about | {"expected": hint})
        return spare


def discover_in_pairs(
    stores: Sequence[Path],
    variable: str,
    settings: Discovering,
    turnover_time: float | None = None,
    progress: Progress = SILENT,
) -> Discovery:
    """:func:`discover` for stores of coarse / fine pairs, one a run.

    Args:
        stores: each with a coarse and a fine field.
        variable: velocity, as a rule.
        settings: what is trained and how often.
        turnover_time: of the large eddies, in the data's unit; default: measured, in periodic boxes.
        progress: told of every network.

    Raises:
        FlowsrError: stores that cannot be read, a factor that does not divide theirs, or too few independent snapshots.
    """
    apart = settings.decorrelation_turnovers
    asked = SampleSettings("superres", variable, decorrelation_turnovers=apart, turnover_time=turnover_time)
    samples = read_samples(stores, asked, progress.share(0, 0.05))
    spare = settings.spare(samples.factor, samples.notes.get("degrade_operator"))
    if spare > 1:
        samples = replace(samples, targets=torch.nn.functional.avg_pool3d(samples.targets, spare))
    return discover_samples(samples, seeds=settings.seeds, method=settings, progress=progress.share(0.05, 1))


def discover(
    task: str,
    *fields: Any,
    irreps: str = "1o",
    seeds: int | Sequence[int] = SEEDS,
    method: Method = Method(),
    progress: Progress = SILENT,
    **options: Any,
) -> Discovery:
    """Which symmetries do these fields break?

        >>> from flowsr.symmetry import discover                                          # doctest: +SKIP
        >>> found = discover("superres", coarse, fine)                                    # doctest: +SKIP
        >>> found.surviving.name, [name for name, i in found.irreps.items() if i.broken]  # doctest: +SKIP
        ('C3v [111]', ['Eg', 'T2g', 'T1u'])
        >>> print(*found.sentences, sep="\\n")                                             # doctest: +SKIP

    Args:
        task: ``dynamics``, ``superres`` or ``pair``.
        fields: for ``dynamics`` a list of runs, each (time, component, x, y, z); for ``superres`` coarse and fine, for
            ``pair`` inputs and targets, each (n, component, x, y, z).
        irreps: field type (e3nn) of the inputs.
        seeds: of the networks, or how many.
        options: those of :func:`~flowsr.symmetry.tasks.dynamics_samples`, ``superres_samples`` or ``pair_samples``.

    Raises:
        FlowsrError: an unknown task, fields that do not fit, or too few independent snapshots for the rate asked for.
    """
    makers = {"dynamics": dynamics_samples, "superres": superres_samples, "pair": pair_samples}
    require(task in makers, "unknown task", variable="task", expected=" or ".join(TASKS), found=repr(task))
    return discover_samples(makers[task](*fields, irreps, **options), seeds=seeds, method=method, progress=progress)


def discover_samples(
    samples: Samples, *, seeds: int | Sequence[int] = SEEDS, method: Method = Method(), progress: Progress = SILENT
) -> Discovery:
    """:func:`discover` for samples that are there already."""
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    check_enough(samples, method)
    trained = [train_one(samples, seed, method, progress.part(f"network {seed}")) for seed in seeds]
    return conclude(samples, trained, method, progress.part("significance"))


def check_enough(samples: Samples, method: Method) -> None:
    """Refuse (FlowsrError) a target of rounding, and too few independent snapshots to reject anything at this rate."""
    seen, wanted = (
        float(torch.linalg.vector_norm(each)) / each.numel() ** 0.5 for each in (samples.inputs, samples.targets)
    )
    least = 0.0 if samples.task == "pair" else 10 * torch.finfo(samples.targets.dtype).eps * seen
    about = {"variable": samples.task, "expected": f"more than {least:.2g} (r.m.s.)", "found": f"{wanted:.2g}"}
    require(wanted > least, "the target is nothing but rounding: input and target are alike", **about)
    rate, found = method.significance.false_alarm_rate, len(samples.block_numbers)
    needed = randomization.least_blocks(rate)
    require(
        found >= needed or method.exact,
        "too few independent snapshots to reject any symmetry",
        variable="snapshots",
        expected=f"{needed} or more at a false alarm rate of {rate:g}",
        found=found,
        hint="data without noise can be taken as exact",
    )


def train_one(samples: Samples, seed: int, method: Method = Method(), progress: Progress = SILENT) -> Trained:
    """Fit one strict network, relax it, measure its equivariance error; depends on nothing but the arguments."""
    samples = samples.normalized(torch.float64 if method.exact else torch.float32)
    first, second = progress.share(0, 1 / 3), progress.share(1 / 3, 2 / 3)
    options = {"seed": seed, "device": resolve_device(method.device)}
    network = trained_strict(samples, method.network, method.training, progress=first, **options)
    scores = weights.measure_scores(network, samples, seed=seed, per_block=not method.exact, progress=second)
    departure, null_errors = departures(scores), None
    relaxed, fit = _relaxation(network, samples, departure.mean(axis=0))
    errors, shells = _equivariance(network, samples, relaxed)
    if not method.exact:
        generator = np.random.default_rng([method.significance.seed, seed])
        evidence, whole = Evidence.of(departure, samples.block_runs), randomization.whole_group()
        drawn = randomization.null_parts(to_irreps(departure), evidence, whole, 1, generator)
        null_errors, _ = _equivariance(network, samples, 1 + fit["step"] * weights.from_irreps(drawn)[0])
    progress(1.0, "done")
    return Trained(seed, scores, errors, null_errors, shells, fit)


def conclude(
    samples: Samples, trained: Sequence[Trained], method: Method = Method(), progress: Progress = SILENT
) -> Discovery:
    """All networks together: irreps, layers, surviving group, errors, words."""
    layers = trained[0].scores.layers
    blocks = np.concatenate([departures(one.scores) for one in trained], axis=1)
    # As reported, with the penalty asked for: (rows, 48).
    shown = blocks.mean(axis=0)
    if method.penalty != "none":
        shown = np.concatenate([weights.penalized(one.scores, method.penalty, method.strength) for one in trained])
    of_row = np.array(list(layers) * len(trained))
    seed_of_row = np.repeat([one.seed for one in trained], len(layers))
    evidence = Evidence(blocks, np.arange(len(blocks))) if method.exact else Evidence.of(blocks, samples.block_runs)
    found, tried = _surviving(evidence, method, progress)
    findings = {}
    for name in dict.fromkeys(layers):
        rows = of_row == name
        own, _ = _surviving(evidence.rows(rows), method)
        aligned = weights.aligned(1 + shown[rows])
        findings[name] = LayerFinding(
            _irrep_findings(evidence.rows(rows), shown[rows], seed_of_row[rows], own.subgroup, method),
            GroupName.of(own.subgroup),
            tuple(aligned.mean(axis=0).tolist()),
            tuple(aligned.std(axis=0).tolist()),
        )
    discovery = Discovery(
        task=samples.task,
        variable=samples.variable,
        snapshots=len(samples.block_numbers),
        runs=len(np.unique(samples.block_runs)),
        seeds=tuple(one.seed for one in trained),
        surviving=GroupName.of(found.subgroup),
        irreps=_irrep_findings(evidence, shown, seed_of_row, found.subgroup, method),
        layers=findings,
        candidates=tuple(Candidate(t.subgroup.label, t.subgroup.order, t.p, t.deviation, t.kept) for t in tried),
        equivariance=_equivariance_finding(trained),
        fit={key: float(np.mean([one.fit[key] for one in trained])) for key in ("strict", "relaxed")},
        false_alarm_rate=0.0 if method.exact else method.significance.false_alarm_rate,
        exact=method.exact,
        provenance=_provenance(samples, method),
    )
    return replace(discovery, sentences=sentences(discovery, samples.notes))


def _surviving(evidence: Evidence, method: Method, progress: Progress = SILENT):
    if method.exact:
        return randomization.exact_subgroup(evidence.blocks.mean(axis=0))
    return randomization.surviving_subgroup(evidence, method.significance, progress)


def _irrep_findings(
    evidence: Evidence, shown: np.ndarray, seed_of_row: np.ndarray, surviving: Subgroup, method: Method
) -> dict[str, IrrepFinding]:
    """Irrep by irrep: power of the shown weights, null, p, stabilizer."""
    power = weights.powers(shown)
    by_seed = {name: [p[seed_of_row == s].mean() for s in dict.fromkeys(seed_of_row)] for name, p in power.items()}
    spreads = None if method.exact else randomization.power_spreads(evidence, method.significance)
    p_values, parts = {}, to_irreps(evidence.blocks.mean(axis=0))
    if not method.exact:
        _, p_values = randomization.against_subgroup(evidence, randomization.whole_group(), method.significance)
    size = np.sqrt(sum(np.sum(x**2) for name, x in parts.items() if name != "A1g"))
    findings = {}
    for irrep in octahedral_group(GROUP).irreps:
        name, spread = irrep.name, spreads and spreads[irrep.name]
        if name == "A1g":
            broken = False
        elif method.exact:
            broken = bool(np.linalg.norm(parts[name]) > weights.ROUNDING * size + weights.NOTHING)
        else:
            broken = p_values[name] <= method.significance.false_alarm_rate
        findings[name] = IrrepFinding(
            dimension=irrep.dimension,
            power=float(power[name].mean()),
            std=float(np.std(by_seed[name])),
            low=spread and spread.low,
            high=spread and spread.high,
            null_mean=spread and spread.null_mean,
            null_high=spread and spread.null_high,
            p=p_values.get(name),
            broken=broken,
            persistent=name in evidence.persistent,
            stabilizer=_component_stabilizer(parts[name], name, surviving) if broken else None,
        )
    return findings


def _component_stabilizer(block: np.ndarray, name: str, surviving: Subgroup) -> GroupName | None:
    """What one irrep's part of the weights leaves, less noise that the surviving group forbids; None: nothing left."""
    kept = weights.projector(surviving, name) @ block
    if np.linalg.norm(kept) <= 1e-9 * np.linalg.norm(block):
        return None
    return GroupName.of(weights.exact_stabilizer({name: kept}))


def _relaxation(network: ProbeNetwork, samples: Samples, departure: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """(layers, banks, 48) relaxed weights, the step halved until the network fits no worse than the strict one."""
    strict = explained(network, samples)
    shape, step = network.weights().shape, 1.0
    for _ in range(6):
        values = (1 + step * departure).reshape(shape)
        with network.relaxed(values):
            relaxed = explained(network, samples)
        if relaxed >= strict:
            return values, {"strict": strict, "relaxed": relaxed, "step": step}
        step /= 2
    return np.ones(shape), {"strict": strict, "relaxed": strict, "step": 0.0}


@torch.no_grad()
def _equivariance(network: ProbeNetwork, samples: Samples, relaxed: np.ndarray):
    """(48,) error over a few samples, and the same by shell (None without shells)."""
    device = network.projection.filters.device
    chosen = np.linspace(0, len(samples) - 1, min(EVALUATED, len(samples))).astype(int)
    field = samples.inputs[chosen].to(device)
    with network.relaxed(relaxed.reshape(network.weights().shape)):
        found = symmetry_breaking(
            lambda x, grid: network(x, grid.boundary), field, samples.grid, samples.irreps_in, samples.irreps_out
        )
    errors = found.per_element.double().square().mean(0).sqrt().cpu().numpy()
    if found.per_shell is None:
        return errors, None
    k, by_shell = (values.double().cpu().numpy() for values in found.per_shell)
    return errors, (k, np.sqrt(np.square(by_shell).mean(axis=0)))


def _equivariance_finding(trained: Sequence[Trained]) -> EquivarianceFinding:
    group = octahedral_group(GROUP)
    errors = np.stack([one.errors for one in trained])
    null = None if trained[0].null_errors is None else np.stack([one.null_errors for one in trained])

    def over(members) -> ElementErrors:
        each = np.sqrt(np.mean(errors[:, list(members)] ** 2, axis=1))
        by_chance = None if null is None else float(np.sqrt(np.mean(null[:, list(members)] ** 2, axis=1)).mean())
        alike = [g for c in group.classes if set(members) & set(c) for g in c]
        high = None if null is None else float(np.quantile(null[:, alike], 0.95))
        return ElementErrors(float(each.mean()), float(each.std()), by_chance, high)

    per_shell = None
    if trained[0].shells is not None:
        k = trained[0].shells[0]
        by_shell = np.mean([one.shells[1] for one in trained], axis=0)
        rms = {n: np.sqrt(np.mean(by_shell[list(c)] ** 2, axis=0)) for n, c in zip(group.class_names, group.classes)}
        per_shell = ShellErrors(
            tuple(k.tolist()), {n: tuple(float(e) if np.isfinite(e) else None for e in r) for n, r in rms.items()}
        )
    return EquivarianceFinding(
        tuple(over([g]) for g in range(group.order)),
        {name: over(members) for name, members in zip(group.class_names, group.classes)},
        per_shell,
    )


def _provenance(samples: Samples, method: Method) -> dict[str, Any]:
    grid = {"shape": list(samples.grid.shape), "boundary": list(samples.grid.boundary)}
    data = {name: getattr(samples, name) for name in ("factor", "irreps_in", "irreps_out")}
    used = {each.name: getattr(method, each.name) for each in fields(Method)}
    data = {"samples": len(samples), **data, **samples.notes}
    return {"method": plain(used), "grid": grid, **data, "versions": versions()}
