"""What a symmetry discovery found, network by network and in all, and how it is kept in files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from flowsr import files
from flowsr.errors import FlowsrError
from flowsr.group import Subgroup, octahedral_group
from flowsr.symmetry.invariance import DataSymmetry
from flowsr.symmetry.isotropy import ReturnToIsotropy
from flowsr.symmetry.reversal import TimeReversal
from flowsr.symmetry.translation import AxisHomogeneity
from flowsr.symmetry.weights import Scores

GROUP = "Oh"
#: Share of the target's power: networks that explain less explain nothing.
NOTHING = 0.01


@dataclass(frozen=True)
class Trained:
    """What one network, of one seed, found.

    Args:
        scores: what each block asks of the relaxed weights.
        errors: (48,) equivariance error of the relaxed network.
        null_errors: (48,) that of the network whose weights come from one random data set; None for exact data.
        shells: wavenumbers (n,) and errors (48, n), nan where a shell is empty; None where the box has none.
        fit: share of the target's power explained, ``strict`` and ``relaxed``.
    """

    seed: int
    scores: Scores
    errors: np.ndarray
    null_errors: np.ndarray | None
    shells: tuple[np.ndarray, np.ndarray] | None
    fit: Mapping[str, float]

    def save(self, path: Path) -> Path:
        """Write it as a NumPy archive, nothing pickled; the file appears whole or not at all."""
        arrays = {"blocks": self.scores.blocks, "errors": self.errors}
        arrays |= {f"gram_{name}": block for name, block in self.scores.gram.items()}
        if self.null_errors is not None:
            arrays["null_errors"] = self.null_errors
        if self.shells is not None:
            arrays["wavenumbers"], arrays["shell_errors"] = self.shells
        rest = {"seed": self.seed, "layers": self.scores.layers, "fit": dict(self.fit)}
        buffer = io.BytesIO()
        np.savez(buffer, rest=np.array(json.dumps(rest)), **arrays)
        return files.write_bytes_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Trained:
        """Read it back.

        Raises:
            FlowsrError: a file that is not what :meth:`save` writes.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
            rest = json.loads(str(arrays["rest"]))
            gram = {name.removeprefix("gram_"): block for name, block in arrays.items() if name.startswith("gram_")}
            shells = (arrays["wavenumbers"], arrays["shell_errors"]) if "wavenumbers" in arrays else None
            scores = Scores(arrays["blocks"], gram, tuple(rest["layers"]))
            return cls(rest["seed"], scores, arrays["errors"], arrays.get("null_errors"), shells, rest["fit"])
        except (OSError, ValueError, KeyError) as error:
            raise FlowsrError("not the findings of a network", file=path, found=" ".join(str(error).split())) from None


@dataclass(frozen=True)
class GroupName:
    """A subgroup of O_h, told from its conjugates.

    Args:
        name: Schoenflies symbol, with its axes where the symbol alone does not say: ``C4v [001]``.
        axis: its principal axis, or None.
        elements: their numbers in ``octahedral_group("Oh")``.
        operations: what each does, ``C4+[001]``.
    """

    name: str
    schoenflies: str
    order: int
    axis: tuple[int, int, int] | None
    elements: tuple[int, ...]
    operations: tuple[str, ...]

    @classmethod
    def of(cls, subgroup: Subgroup) -> GroupName:
        """The name of a subgroup of O_h."""
        operations = octahedral_group(GROUP).operations
        labels = tuple(operations[g].label for g in subgroup.elements)
        return cls(subgroup.label, subgroup.schoenflies, subgroup.order, subgroup.axis, subgroup.elements, labels)

    @property
    def subgroup(self) -> Subgroup:
        """The subgroup itself."""
        return octahedral_group(GROUP).subgroup(self.elements)


@dataclass(frozen=True)
class IrrepFinding:
    """How much of the relaxed weights lies in one irrep, held against what isotropic data would give.

    Power is the squared length of the weights' part in the irrep over that of their mean (A1g, which keeps every
    symmetry and has power 1), averaged over seeds and filter banks.

    Args:
        std: standard deviation over seeds.
        low, high: central 90 % of a bootstrap over independent snapshots; None where there are too few.
        null_mean, null_high: mean and 95th percentile of the power under the null; None where there is no null.
        p: probability of as much under the null, corrected for the number of irreps looked at; None without a null and
            for A1g.
        broken: whether the irrep is above the null at the stated false alarm rate (without a null: above rounding).
        stabilizer: the subgroup that the part in this irrep leaves; None where it is not broken.
        persistent: whether what a run prefers in this irrep lasts as long as the run, so that only runs were taken to
            be independent.
    """

    dimension: int
    power: float
    std: float
    low: float | None
    high: float | None
    null_mean: float | None
    null_high: float | None
    p: float | None
    broken: bool
    stabilizer: GroupName | None = None
    persistent: bool = False


@dataclass(frozen=True)
class LayerFinding:
    """The relaxed weights of one layer.

    Args:
        irreps: irrep name -> finding, from this layer alone.
        stabilizer: subgroup that its weights leave.
        weights_mean, weights_std: (48,) mean and standard deviation over seeds and filter banks, element by element in
            the order of ``octahedral_group("Oh")``. A filter transformed by a, with weights w(g a), is the same layer,
            so the rows are first aligned with the first by the turn that makes them most alike.
    """

    irreps: Mapping[str, IrrepFinding]
    stabilizer: GroupName
    weights_mean: tuple[float, ...]
    weights_std: tuple[float, ...]


@dataclass(frozen=True)
class Candidate:
    """One subgroup held against the data.

    Args:
        p: probability of weights as far from being invariant under it, if it were a symmetry; None without a null.
        deviation: share of the weights' varying part that is not invariant under it, 0 to 1.
        kept: whether the data allow it.
    """

    name: str
    order: int
    p: float | None
    deviation: float
    kept: bool


@dataclass(frozen=True)
class ElementErrors:
    """An equivariance error: mean and standard deviation over seeds, and what the null makes of it, if there is one.

    Args:
        null, null_high: its mean under the null, and the 95th percentile over networks and the class.
    """

    mean: float
    std: float
    null: float | None
    null_high: float | None = None


@dataclass(frozen=True)
class ShellErrors:
    """Relative equivariance error by class of elements over wavenumbers k; None where a shell holds nothing."""

    k: tuple[float, ...]
    error_by_class: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class EquivarianceFinding:
    """||M(g.x) - g.M(x)|| / ||M(x)|| of the relaxed networks.

    Args:
        per_element: 48 entries, in the order of ``octahedral_group("Oh")``.
        per_class: class name (``8C3``) -> mean over its elements.
        per_shell: the same over scale; None where the box has no wavenumbers (walls).
    """

    per_element: tuple[ElementErrors, ...]
    per_class: Mapping[str, ElementErrors]
    per_shell: ShellErrors | None = None


@dataclass(frozen=True)
class Discovery:
    """Everything one discovery found. :meth:`to_json` is what the report is drawn from.

    Args:
        task: ``dynamics``, ``superres`` or ``pair``.
        variable: name of the field.
        snapshots: independent ones (blocks of time, that the null and the bootstrap move as one).
        runs: runs they come from.
        seeds: of the networks.
        surviving: the largest subgroup that the data allow.
        irreps: irrep name -> finding, all layers together.
        layers: layer name -> finding.
        candidates: subgroups held against the data, largest first.
        equivariance: errors of the trained networks.
        fit: share of the target's power that the strict and that the relaxed network explain.
        false_alarm_rate: probability of calling isotropic data anisotropic; 0 where data are taken as exact.
        exact: whether the data were taken to be free of noise, so that anything above rounding counts.
        data: statistics of the data itself under the 48 elements, without a network.
        reversal: whether the flow may as well be run backwards, of pairs of snapshots (task ``dynamics``).
        isotropy: the share of anisotropy by scale; None off a periodic cube.
        translation: homogeneity along each axis.
        order: what an equivariant network lacks (Curie's principle); None where it was not asked.
        provenance: settings, checksums, versions.
        sentences: the same in words.
    """

    task: str
    variable: str
    snapshots: int
    runs: int
    seeds: tuple[int, ...]
    surviving: GroupName
    irreps: Mapping[str, IrrepFinding]
    layers: Mapping[str, LayerFinding]
    candidates: tuple[Candidate, ...]
    equivariance: EquivarianceFinding
    fit: Mapping[str, float]
    false_alarm_rate: float
    exact: bool
    data: DataSymmetry | None = None
    reversal: TimeReversal | None = None
    isotropy: ReturnToIsotropy | None = None
    translation: Mapping[str, AxisHomogeneity] | None = None
    order: OrderFinding | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()

    @property
    def p(self) -> float | None:
        """Probability of weights as far from the surviving group, if it is a symmetry; None without a null."""
        return next(c.p for c in self.candidates if c.name == self.surviving.name)

    @property
    def blind(self) -> bool:
        """Whether noisy data kept their group from networks that explain nothing, even relaxed: it means nothing."""
        return not self.exact and self.fit["relaxed"] < NOTHING

    @property
    def card(self) -> dict[str, Any]:
        """What cards of networks on the surviving group say of it; in words: `flowsr.models.checkpoint.group_words`."""
        group = {"group": self.surviving.name, "p": self.p, "rate": self.false_alarm_rate}
        return {**group, "snapshots": self.snapshots, "runs": self.runs}

    @property
    def config_line(self) -> str:
        """The line of an experiment's ``train.models`` that builds a network on the surviving group."""
        return f'own: {{model: strict, options: {{group: "{self.surviving.name}"}}}}'

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries and lists, no NaN; keys are the names of the attributes, and ``group``."""
        return {"group": GROUP, **plain(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Discovery:
        """The inverse of :meth:`to_json`."""
        return _typed(cls, {key: each for key, each in value.items() if key != "group"})


@dataclass(frozen=True)
class OrderFinding:
    """What a strictly equivariant network lacks, see :mod:`flowsr.symmetry.order_parameter`.

    Args:
        missing: irrep of O(3) -> the quantity in words, ``1e along z``.
        p_values: irrep -> probability of as much where nothing is missing.
        kept: the largest subgroup that leaves what is missing as it is.
        samples: independent snapshots.
    """

    missing: Mapping[str, str]
    p_values: Mapping[str, float]
    kept: GroupName
    samples: int

    @property
    def sentence(self) -> str:
        """The finding in words."""
        begin = f"Curie's principle, from {self.samples} snapshots: "
        if not self.missing:
            return begin + "an equivariant network lacks nothing that rises above chance."
        said = ", ".join(f"{words} (p = {self.p_values[irrep]:.2g})" for irrep, words in self.missing.items())
        return f"{begin}an equivariant network lacks {said}, which leaves {self.kept.name}."


def plain(value: Any) -> Any:
    """:func:`flowsr.files.plain`, subgroups by their :class:`GroupName`."""
    return files.plain(value, lambda each: GroupName.of(each) if isinstance(each, Subgroup) else each)


def _typed(kind: Any, value: Any) -> Any:
    """The inverse of :func:`plain` for a value of a known type."""
    arguments = get_args(kind)
    if value is None:
        return None
    if kind is Subgroup:
        return octahedral_group(GROUP).subgroup(value["elements"])
    if kind is np.ndarray:
        return np.array(value, dtype=np.float64)
    if is_dataclass(kind):
        kinds = get_type_hints(kind)
        return kind(**{name: _typed(kinds[name], each) for name, each in value.items()})
    if get_origin(kind) is UnionType:
        return _typed(arguments[0], value)
    if get_origin(kind) is tuple:
        return tuple(_typed(arguments[0], each) for each in value)
    if get_origin(kind) is Mapping:
        return {name: _typed(arguments[1], each) for name, each in value.items()}
    return value
