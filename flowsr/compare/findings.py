"""What a comparison says, in numbers and in words: means, real differences, ranks, slopes of learning curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flowsr.compare.bootstrap import Interval, Sample, bootstrap, difference
from flowsr.compare.result import ComparisonResult, Row
from flowsr.group import octahedral_group, point_group

BEST_INTERPOLATION = "best_interpolation"
AHEAD, BEHIND, LEVEL = "ahead", "behind", "no difference shown"
ONE_BLOCK, ONE_SEED = "one block, not known", "one seed, not known"
NRMSE, BEYOND_CUTOFF = "nrmse", "spectral_error_beyond_cutoff"
PER_ELEMENT = "equivariance_error_per_element"
_WORDS = {NRMSE: "NRMSE", BEYOND_CUTOFF: "spectral error beyond the cut-off"}
#: Fewer independent blocks than this are too few to show any but large differences.
FEW_BLOCKS = 6
ROUNDING = 1e-6  # differences below this are single precision's, not the models'


@dataclass(frozen=True)
class Score:
    """A row's mean on one data set.

    Args:
        row, tested_on, metric: of what.
        interval: mean over seeds and snapshots, and how sure it is.
        by_seed: mean over the snapshots for each seed.
    """

    row: Row
    tested_on: str
    metric: str
    interval: Interval
    by_seed: tuple[float, ...]

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the sample of seeds; None for fewer than two."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None


@dataclass(frozen=True)
class Difference:
    """A row less a reference on one data set, pair by pair.

    Args:
        row, tested_on, metric: of what.
        reference: as the study names it.
        against: the row that is meant.
        interval: of the difference of the means; of the distances from the truth for metrics that are best near it.
        share: the difference over the reference's mean.
        verdict: ``ahead``, ``behind``, ``no difference shown``, or why nothing is known.
    """

    row: Row
    tested_on: str
    metric: str
    reference: str
    against: Row
    interval: Interval
    share: float
    verdict: str

    @property
    def percent(self) -> float | None:
        """Factor that turns the difference into per cent of the reference; None where the reference is nought."""
        if not self.interval.estimate or not self.share:
            return None
        return 100 * self.share / self.interval.estimate


@dataclass(frozen=True)
class LearningCurve:
    """Error against the number of training snapshots n, and the exponent of error ~ n^slope.

    Args:
        model, data, metric: of what.
        sizes: numbers of training snapshots, increasing; two at least.
        scores: at each.
        slope: of log error over log n, least squares, and how sure it is.
    """

    model: str
    data: str
    metric: str
    sizes: tuple[int, ...]
    scores: tuple[Score, ...]
    slope: Interval


@dataclass(frozen=True)
class SymmetryErrors:
    """Equivariance errors of a row, root mean squares over elements of O_h that its model takes.

    Args:
        kept: over what the flow keeps, without the identity; NaN where there is nothing else.
        broken: over all others.
        elements: how many each is over.
    """

    kept: float
    broken: float
    elements: tuple[int, int]


def symmetry_errors(result: ComparisonResult, row: Row | None, tested_on: str) -> SymmetryErrors | None:
    """What a row makes of the group of its data set; None where either is not known."""
    group = result.data[tested_on].group
    curve = None if row is None or group is None else result.curve(row, tested_on, PER_ELEMENT)
    if curve is None:
        return None
    whole = octahedral_group("Oh")
    kept = np.isin(np.arange(whole.order), [whole.index(matrix) for matrix in point_group(group).matrices])
    found = []
    for chosen in (kept & (np.arange(whole.order) > 0), ~kept):
        taken = curve[1][chosen & np.isfinite(curve[1])]
        found.append((float(np.sqrt(np.mean(taken**2))) if len(taken) else math.nan, len(taken)))
    (of_kept, some), (of_broken, others) = found
    return SymmetryErrors(of_kept, of_broken, (some, others))


def symmetry_tables(result: ComparisonResult) -> Iterator[tuple[str, str, list[tuple[str, str, str]]]]:
    """Title, note and lines (model, errors under what the flow keeps and under all else), best model first.

    One per data set of a known group and data set trained on, of whole training sets.
    """
    for on, data in result.data.items():
        for by in sources_of(result, on):
            found = {name: symmetry_errors(result, result.row(name, on, by), on) for name in ranked(result, on, by)}
            lines = [(name, *_symmetry_texts(one, data.group)) for name, one in found.items() if one is not None]
            origin = "" if by == on else f", networks trained on {result.data[by].label}"
            note = (
                f"Equivariance errors, root mean square over elements of O_h: those of {data.group}, which the flow "
                "keeps, but the identity; and all others, which it breaks. Of a model that does not take every turned "
                "box the number of elements that it takes stands behind."
            )
            if lines:
                yield f"{data.label}: symmetry kept and broken{origin}", note, lines


def _symmetry_texts(found: SymmetryErrors, group: str) -> tuple[str, str]:
    order = point_group(group).order
    errors = zip((found.kept, found.broken), found.elements, (order - 1, 48 - order))
    kept, broken = (number(value) + (f" ({some})" if 0 < some < all_ else "") for value, some, all_ in errors)
    return kept, broken


def score(result: ComparisonResult, row: Row | None, tested_on: str, metric: str) -> Score | None:
    """Mean over seeds and snapshots with its interval; None where it was not measured."""
    if row is None or metric not in result.metrics_of(row, tested_on):
        return None

    def make() -> Score:
        interval = _interval(result, [result.sample(row, tested_on, metric)], lambda means: means[0])
        return Score(row, tested_on, metric, interval, _by_seed(result.by_snapshot(row, tested_on, metric)))

    return result.remember(("score", row, tested_on, metric), make)


def compared(
    result: ComparisonResult, row: Row | None, reference: str, tested_on: str, metric: str
) -> Difference | None:
    """A row less a reference on the same snapshots; None where either is missing, or both are the same row.

    Args:
        reference: name of a model, or ``best_interpolation``.
    """
    if row is None or result.metrics[metric].better is None or metric not in result.metrics_of(row, tested_on):
        return None
    against = reference_row(result, row, reference, tested_on, metric)
    if against is None or against == row:
        return None
    return result.remember(
        ("difference", row, reference, tested_on, metric),
        lambda: _difference(result, row, reference, against, tested_on, metric),
    )


def reference_row(result: ComparisonResult, row: Row, name: str, tested_on: str, metric: str) -> Row | None:
    """The row that a reference means for a row, of its data and size where it is trained; None if there is none."""
    if name == BEST_INTERPOLATION:
        return best_interpolation(result, tested_on, metric)
    rows = [one for one in result.rows(tested_on) if one.model == name and metric in result.metrics_of(one, tested_on)]
    same = [one for one in rows if (one.data, one.size) == (row.data, row.size)]
    whole = [one for one in rows if not one.trained or one.size == result.data[one.data].training_snapshots]
    return next(iter(same or whole), None)


def best_interpolation(result: ComparisonResult, tested_on: str, metric: str) -> Row | None:
    """The row without training that is best by a metric; None where there is none."""

    def make() -> Row | None:
        better, losses = result.metrics[metric].better, {}
        for row in result.rows(tested_on):
            if not row.trained and metric in result.metrics_of(row, tested_on):
                mean = _mean(result.sample(row, tested_on, metric, aim=better == "truth"))
                losses[row] = -mean if better == "higher" else mean
        losses = {row: loss for row, loss in losses.items() if math.isfinite(loss)}
        return min(losses, key=losses.get) if losses else None

    return result.remember(("best interpolation", tested_on, metric), make)


def learning_curve(result: ComparisonResult, model: str, data: str, metric: str) -> LearningCurve | None:
    """One network, trained and tested on a data set, at all its training sizes; None for fewer than two.

    The slope's interval resamples blocks (together for all sizes) and seeds; it takes the straight line for granted,
    and the training snapshots as they are.
    """
    rows = {row.size: row for row in result.rows(data) if row.model == model and row.data == data}
    sizes = sorted(size for size, row in rows.items() if metric in result.metrics_of(row, data))
    if len(sizes) < 2:
        return None
    logs = np.log(np.array(sizes, dtype=np.float64))
    weights = (logs - logs.mean()) / ((logs - logs.mean()) ** 2).sum()

    def fitted(means: Sequence[np.ndarray]) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return sum(weight * np.log(mean) for weight, mean in zip(weights, means, strict=True))

    def make() -> LearningCurve:
        scores = tuple(score(result, rows[size], data, metric) for size in sizes)
        slope = _interval(result, [result.sample(rows[size], data, metric) for size in sizes], fitted)
        return LearningCurve(model, data, metric, tuple(sizes), scores, slope)

    return result.remember(("learning curve", model, data, metric), make)


def ranked(result: ComparisonResult, tested_on: str | None = None, trained_on: str | None = None) -> list[str]:
    """Models on a data set (default: the first), the best by the comparison's metric first, those without it last."""
    losses = _losses(result, result.rules.rank_by, tested_on or result.home, trained_on)
    return sorted(losses, key=lambda name: losses[name] if math.isfinite(losses[name]) else math.inf)


def best_in_column(result: ComparisonResult, metric: str) -> set[str]:
    """Names of the trained models that are best by a metric on the first data set, with those that tie with the best.

    Where nothing is trained, of all models.
    """
    home = result.home
    losses = {name: loss for name, loss in _losses(result, metric, home).items() if math.isfinite(loss)}
    losses = {name: loss for name, loss in losses.items() if result.models[name].trained} or losses
    if not losses:
        return set()
    least = min(losses.values())
    texts = {name: number(result.mean(result.row(name, home), home, metric)) for name in losses}
    winner = texts[min(losses, key=losses.get)]
    return {name for name, loss in losses.items() if loss - least <= ROUNDING or texts[name] == winner}


def ahead_of_all_trained(result: ComparisonResult, metric: str) -> set[str]:
    """Names of the untrained models that no trained one matches by a metric on the first data set."""
    losses = {name: loss for name, loss in _losses(result, metric, result.home).items() if math.isfinite(loss)}
    trained = [loss for name, loss in losses.items() if result.models[name].trained]
    return {name for name, loss in losses.items() if trained and loss < min(trained) - ROUNDING}


def shown_references(result: ComparisonResult) -> list[str]:
    """References that any model on the first data set can be compared with."""
    home, metric = result.home, result.rules.rank_by
    if metric is None:
        return []
    names = [name for name in result.rules.references if name == BEST_INTERPOLATION or name in result.models]
    rows = [row for row in result.rows(home) if not row.trained or row.data == home]
    return [
        name
        for name in names
        if any(
            against is not None and against != row
            for row in rows
            for against in [reference_row(result, row, name, home, metric)]
        )
    ]


def reference_label(result: ComparisonResult, reference: str) -> str:
    """What people read for a reference: a model's label, or the best interpolation."""
    return "best interpolation" if reference == BEST_INTERPOLATION else result.models[reference].label


def sources_of(result: ComparisonResult, tested_on: str) -> list[str]:
    """Data sets that networks tested on ``tested_on`` were trained on, itself first."""
    found = dict.fromkeys(row.data for row in result.rows(tested_on) if row.trained)
    return sorted(found, key=lambda name: name != tested_on) or [tested_on]


def verdict_of(interval: Interval, higher_is_better: bool = False) -> str:
    """What an interval of a difference allows to say."""
    if interval.low is None:
        return ONE_BLOCK
    if not interval.known:
        return ONE_SEED
    if interval.low <= 0 <= interval.high:
        return LEVEL
    return AHEAD if (interval.low > 0) == higher_is_better else BEHIND


def _difference(
    result: ComparisonResult, row: Row, reference: str, against: Row, tested_on: str, metric: str
) -> Difference:
    better = result.metrics[metric].better
    samples = [result.sample(one, tested_on, metric, aim=better == "truth") for one in (row, against)]
    interval = _interval(result, samples, difference)
    measured = samples[0].measured & samples[1].measured
    whole = _mean(samples[1].on(measured)) if measured.any() else math.nan
    share = interval.estimate / abs(whole) if whole else math.nan
    verdict = verdict_of(interval, higher_is_better=better == "higher")
    return Difference(row, tested_on, metric, reference, against, interval, share, verdict)


def _interval(result: ComparisonResult, samples: Sequence[Sample], statistic: Callable) -> Interval:
    rules = result.rules
    return bootstrap(samples, statistic, confidence=rules.confidence, resamples=rules.resamples)


def _losses(
    result: ComparisonResult, metric: str | None, tested_on: str, trained_on: str | None = None
) -> dict[str, float]:
    """How bad each model on a data set is; NaN where nothing says what is better."""
    rows = {name: result.row(name, tested_on, trained_on) for name in result.models}
    present = {name: row for name, row in rows.items() if row is not None}
    if metric is None:
        return dict.fromkeys(present, math.nan)
    of, truth = result.metrics[metric], result.truth(tested_on, metric)
    return {name: of.loss(result.mean(row, tested_on, metric), truth) for name, row in present.items()}


def _mean(sample: Sample) -> float:
    return float(sample.mean(np.ones((1, sample.blocks)), np.ones((1, sample.seeds)))[0])


def _by_seed(values: np.ndarray) -> tuple[float, ...]:
    finite = np.isfinite(values)
    count = finite.sum(1)
    means = np.where(count > 0, np.where(finite, values, 0).sum(1) / np.maximum(count, 1), np.nan)
    return tuple(float(mean) for mean in means)


# -- in words ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lead:
    """How one network stands against the best interpolation (its ``rival``) on one metric where less is better.

    Args:
        network, rival: their names.
        value, rival_value: their means.
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
        return 1 - self.value / self.rival_value if self.rival_value > 0 else math.nan

    @property
    def everywhere(self) -> bool:
        """Whether the network is ahead on every snapshot."""
        return self.snapshots_ahead == self.snapshots

    def __str__(self) -> str:
        """`34 % ahead`."""
        percent = round(100 * abs(self.fraction)) if math.isfinite(self.fraction) else 0
        return "level" if percent == 0 else f"{percent} % {'ahead' if self.fraction > 0 else 'behind'}"


def best_of(result: ComparisonResult, metric: str, trained: bool, among: Sequence[str] | None = None) -> str | None:
    """Name of the trained (or untrained) model with the lowest mean on the first data set; None where there is none."""
    rows = {name: result.row(name, result.home) for name in (result.models if among is None else among)}
    means = {
        name: result.mean(row, result.home, metric)
        for name, row in rows.items()
        if row is not None and result.models[name].trained is trained
    }
    means = {name: mean for name, mean in means.items() if math.isfinite(mean)}
    return min(means, key=means.get) if means else None


def leads(result: ComparisonResult, metric: str) -> list[Lead]:
    """Every network against the best interpolation, in the comparison's order; empty where there is none to compare."""
    rival, home, found = best_of(result, metric, trained=False), result.home, []
    if rival is None:
        return []
    theirs, mark = result.by_snapshot(Row(rival), home, metric)[0], result.mean(Row(rival), home, metric)
    for name, model in result.models.items():
        row = result.row(name, home)
        if not model.trained or row is None or not math.isfinite(mean := result.mean(row, home, metric)):
            continue
        own = result.by_snapshot(row, home, metric).mean(0)
        both = np.isfinite(own) & np.isfinite(theirs)
        found.append(Lead(name, rival, mean, mark, int((own < theirs)[both].sum()), int(both.sum())))
    return found


def verdict(result: ComparisonResult) -> list[str]:
    """Sentences: how much evidence there is, who is best, and which differences are real.

    Of a single experiment: the mark to beat, every network against it, the best first, and whether that holds on every
    snapshot.
    """
    if result.single:
        return _of_one_experiment(result)
    home, metric = result.home, result.rules.rank_by
    names, label = ranked(result), result.metrics[metric].label
    sentences = [_evidence(result)]
    if names:
        best = score(result, result.row(names[0], home), home, metric)
        sentences.append(f"The best by {label} is {result.models[names[0]].label}, {with_deviation(best)}.")
    sentences += [found for one in shown_references(result) if (found := _against(result, names, one))]
    return sentences + _data_hunger(result)


def _of_one_experiment(result: ComparisonResult) -> list[str]:
    if not any(model.trained for model in result.models.values()):
        return ["No network was trained: this report compares interpolations with each other."]
    found = {word: {lead.network: lead for lead in leads(result, key)} for key, word in _WORDS.items()}
    by_error, by_spectrum = found.values()
    if not by_error:
        return [
            "There is nothing to measure the networks by: no interpolation, or no finite NRMSE, is in the comparison."
        ]
    labels = {name: model.label for name, model in result.models.items()}
    # the interpolations that the networks are measured by; they may differ from one metric to the other
    marks = {word: next(iter(of.values())) for word, of in found.items() if of}
    if len({mark.rival for mark in marks.values()}) == 1:
        values = ", ".join(f"{word} {mark.rival_value:.3f}" for word, mark in marks.items())
        sentences = [f"The best interpolation is {labels[marks['NRMSE'].rival]} ({values})."]
    else:
        first, second = (f"{labels[mark.rival]} ({mark.rival_value:.3f})" for mark in marks.values())
        sentences = [f"The best interpolation by NRMSE is {first}, by {[*marks][1]} {second}."]
    best_first = sorted(by_error.values(), key=lambda lead: lead.value)
    for network in (lead.network for lead in best_first):
        stands = [f"{of[network]} on {word} ({of[network].value:.3f})" for word, of in found.items() if network in of]
        sentences.append(f"{labels[network]} is {' and '.join(stands)}.")
    counted = [lead for lead in best_first if lead.snapshots > 1]
    if counted and all(lead.everywhere for lead in counted):
        who = "Every network" if len(best_first) > 1 else labels[best_first[0].network]
        both = "both" if by_spectrum and all(lead.everywhere for lead in by_spectrum.values()) else "NRMSE"
        every = f"every one of the {counted[0].snapshots} held-out snapshots"
        sentences.append(f"{who} is ahead on {every}, on {both}.")
    elif counted:
        shares = [f"{labels[lead.network]} on {lead.snapshots_ahead} of {lead.snapshots}" for lead in counted]
        sentences.append(f"Snapshots on which they are ahead on NRMSE: {', '.join(shares)}.")
    return sentences


def _evidence(result: ComparisonResult) -> str:
    data, seeds = result.data[result.home], len(result.seeds)
    networks = sum(model.trained for model in result.models.values())
    text = (
        f"{many(networks, 'network')} with {many(seeds, 'seed')} each and "
        f"{many(len(result.models) - networks, 'model')} without training, on "
        f"{many(data.snapshots, 'held-out snapshot')} of {many(len(data.runs), 'run')}: "
        f"{many(data.blocks, 'independent block')}."
    )
    if data.blocks < 2:
        return text + " One block says nothing of how results vary: no difference can be called real."
    if data.blocks < FEW_BLOCKS:
        text += " That is few: only large differences can show."
    if seeds == 1 and networks:
        text += " One seed says nothing of how training varies: no network's difference can be called real."
    return text


def _against(result: ComparisonResult, names: Sequence[str], reference: str) -> str | None:
    """Who is ahead of a reference, and who behind; the best interpolation is no mark for other interpolations."""
    home, groups, against = result.home, {}, None
    for name in names:
        found = compared(result, result.row(name, home), reference, home, result.rules.rank_by)
        if found is not None and (reference != BEST_INTERPOLATION or result.models[name].trained):
            groups.setdefault(found.verdict, []).append(result.models[name].label)
            against = against or result.models[found.against.model].label
    words = {AHEAD: "ahead", BEHIND: "behind", LEVEL: "no difference shown for"}
    parts = [f"{words.get(verdict, verdict + ':')} {_some(labels)}" for verdict, labels in groups.items()]
    return f"Against {against}: {'; '.join(parts)}." if parts else None


def _data_hunger(result: ComparisonResult) -> list[str]:
    """What the learning curves show on the first data set: for which networks more data helped, and for which most."""
    home, metric = result.home, result.rules.rank_by
    curves = [curve for model in result.models if (curve := learning_curve(result, model, home, metric)) is not None]
    falling = [curve for curve in curves if curve.slope.high is not None and curve.slope.high < 0]
    label = result.metrics[metric].label
    if curves and not falling:
        return [f"No network's {label} is shown to fall with more training data."]
    falling.sort(key=lambda curve: curve.slope.estimate)
    slopes = _some([f"n^{slope_text(one.slope)} for {result.models[one.model].label}" for one in falling])
    return [f"With more training data {label} falls like {slopes}."] if falling else []


def _some(labels: Sequence[str], most: int = 8) -> str:
    """So many at the most, the first of them, and how many others."""
    rest = len(labels) - most + 1
    return ", ".join(labels) if rest <= 1 else f"{', '.join(labels[: most - 1])} and {rest} others"


def number(value: float | None, digits: int = 3, *, page: bool = False) -> str:
    """A number to ``digits`` significant digits; a dash for what is missing.

    In a terminal and in Markdown what is below 1e-3 has one digit, ``4e-05``. On a ``page`` powers of ten stand for
    what is below 1e-4 or above 1e6, ``3.1·10⁻⁷``, and minus signs are true ones.
    """
    if value is None or not math.isfinite(value):
        return "–" if page else "-"
    if not page:
        return f"{value:.0e}" if value and abs(value) < 1e-3 else f"{value:#.{digits}g}".rstrip(".")
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])  # after rounding
    if -4 <= exponent <= 5:
        text = f"{value:.{max(digits - 1 - exponent, 0)}f}" if value else "0"
    else:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa}·10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return text.replace("-", "−")


def with_deviation(found: Score | None, digits: int = 3) -> str:
    """``0.312 (0.004)``: the mean and the deviation over seeds, to so many digits, where there are several."""
    if found is None or not math.isfinite(found.interval.estimate):
        return "-"
    deviation = found.deviation
    text = "" if deviation is None else f" ({float(f'{deviation:.{digits - 1}e}'):g})"
    return number(found.interval.estimate) + text


def interval_text(interval: Interval, scale: float = 1.0, digits: int = 1) -> str:
    """``-12.3 [-15.0, -9.6]``, times ``scale``; without an interval where none is known."""
    if not math.isfinite(interval.estimate):
        return "-"
    text = f"{scale * interval.estimate:+.{digits}f}"
    if interval.low is None or interval.high is None:
        return text
    ends = sorted((scale * interval.low, scale * interval.high))
    return f"{text} [{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]"


def slope_text(slope: Interval) -> str:
    """``-0.21 [-0.25, -0.17]``."""
    return interval_text(slope, 1.0, 2)


def many(number: int, noun: str) -> str:
    """``1 run``, ``3 runs``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
