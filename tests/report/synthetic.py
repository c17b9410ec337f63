"""A small comparison made from random-phase velocity fields: solenoidal, with a turbulence-like spectrum."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from flowsr.compare.result import ComparisonResult, CurveKind, DataSet, Fit, Measured, MeasuredRow, Metric, Row, Rules
from flowsr.grid import Grid
from flowsr.report import HowMade, RelaxedWeights, collect_slices

FACTOR = 4
MODELS = {
    "nearest": ("Nearest", False),
    "trilinear": ("Trilinear", False),
    "tricubic": ("Tricubic", False),
    "spectral": ("Fourier", False),
    "cnn": ("Plain CNN", True),
    "strict": ("Strict octahedral", True),
    "relaxed": ("Relaxed octahedral", True),
}
BLUR_AND_NOISE = {  # cells of a Gaussian blur, share of energy replaced by other phases
    "nearest": (2.6, 0.0),
    "trilinear": (2.4, 0.0),
    "tricubic": (2.0, 0.0),
    "spectral": (1.8, 0.0),
    "cnn": (1.0, 0.03),
    "strict": (0.75, 0.02),
    "relaxed": (0.7, 0.015),
}


def wavenumbers(cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Wave vectors (3, n, n, n) and their lengths on a box of side 2 pi."""
    k = np.fft.fftfreq(cells, 1 / cells)
    vectors = np.stack(np.meshgrid(k, k, k, indexing="ij"))
    return vectors, np.sqrt(np.sum(vectors**2, axis=0))


def random_velocity(cells: int, seed: int) -> np.ndarray:
    """Divergence-free field (3, n, n, n) of unit energy with E(k) ~ k^(-5/3) and a viscous end."""
    vectors, length = wavenumbers(cells)
    white = np.fft.fftn(np.random.default_rng(seed).standard_normal((3, cells, cells, cells)), axes=(1, 2, 3))
    safe = np.where(length > 0, length, 1.0)
    amplitude = np.where(
        (length > 0) & (length < cells / 2), safe ** (-11 / 6) * np.exp(-((safe / (0.3 * cells)) ** 2)), 0.0
    )
    shaped = white * amplitude
    shaped -= vectors * np.sum(vectors * shaped, axis=0) / safe**2
    field = np.fft.ifftn(shaped, axes=(1, 2, 3)).real
    return field / np.sqrt(np.mean(np.sum(field**2, axis=0)) / 2)


def block_mean(field: np.ndarray, factor: int) -> np.ndarray:
    """(3, n, n, n) -> (3, n/s, n/s, n/s)."""
    n = field.shape[1] // factor
    return field.reshape(3, n, factor, n, factor, n, factor).mean(axis=(2, 4, 6))


def energy_spectrum(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shell-summed E(k) for k = 1 ... n/2 - 1."""
    cells = field.shape[1]
    _, length = wavenumbers(cells)
    energy = 0.5 * np.sum(np.abs(np.fft.fftn(field, axes=(1, 2, 3)) / cells**3) ** 2, axis=0)
    shells = np.bincount(np.rint(length).astype(int).ravel(), energy.ravel())
    k = np.arange(1, cells // 2)
    return k.astype(float), shells[k]


def density(field: np.ndarray, component: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Density of a velocity gradient over its r.m.s."""
    gradient = np.gradient(field[component], axis=axis)
    height, edges = np.histogram(gradient / gradient.std(), bins=np.linspace(-6, 6, 61), density=True)
    return (edges[1:] + edges[:-1]) / 2, height


def blurred(truth: np.ndarray, name: str, seed: int) -> np.ndarray:
    """What a model might make of the truth: small scales damped, some of them with other phases."""
    width, noise = BLUR_AND_NOISE[name]
    _, length = wavenumbers(truth.shape[1])
    keep = np.exp(-0.5 * (width * length * 2 * np.pi / truth.shape[1]) ** 2)
    return np.fft.ifftn(np.fft.fftn(truth, axes=(1, 2, 3)) * keep, axes=(1, 2, 3)).real + np.sqrt(
        noise
    ) * random_velocity(truth.shape[1], 1000 + seed)


def curves(field: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        "energy_spectrum": energy_spectrum(field),
        "pdf_longitudinal": density(field, 0, 0),
        "pdf_transverse": density(field, 0, 1),
    }


def measured(scalars: dict, curves: dict, snapshots: int, **more) -> Measured:
    """Values of each scalar, one a snapshot, and points of each curve, as they are measured."""
    values = [(i, name, value) for name, values in scalars.items() for i, value in enumerate(values)]
    points = [(name, *point) for name, (x, y) in curves.items() for point in zip(x, y)]
    return Measured(
        tuple((f"seed_{i:03d}", 1.0) for i in range(snapshots)),
        pd.DataFrame(values, columns=["snapshot", "metric", "value"]),
        pd.DataFrame(points, columns=["curve", "x", "y"]),
        **more,
    )


@lru_cache(maxsize=4)
def fields(cells: int, snapshots: int) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    truths = [random_velocity(cells, seed) for seed in range(snapshots)]
    return truths, {name: [blurred(truth, name, i) for i, truth in enumerate(truths)] for name in MODELS}


METRICS = {
    "nrmse": Metric("NRMSE", better="lower", source="r.m.s. error over r.m.s. of the truth"),
    "spectral_error": Metric("Spectral error", better="lower", source="mean of |E/E_true - 1|"),
    "spectral_error_beyond_cutoff": Metric("Spectral error, k > k_c", better="lower", source="Balla et al."),
    "divergence": Metric("Divergence", better="lower", source="over the velocity gradient"),
    "dissipation_captured": Metric("Dissipation captured", better="truth", source="Pope (2000), eq. 5.128"),
    "derivative_skewness": Metric("Derivative skewness", better="truth", source="Pope (2000), sec. 6.5"),
    "derivative_flatness": Metric("Derivative flatness", better="truth", source="Pope (2000), sec. 6.5"),
    "equivariance_error": Metric("Equivariance error", better="lower", source="||M(gx) - gM(x)|| / ||M(x)||"),
}
CURVES = {
    "energy_spectrum": CurveKind("Energy spectrum", "k", "E(k)", "log", "log"),
    "spectral_error_per_wavenumber": CurveKind("Spectral error", "k", "relative error of E(k)", "log", "log"),
    "pdf_longitudinal": CurveKind(
        "Longitudinal", "longitudinal gradient / r.m.s.", "probability density", "linear", "log"
    ),
    "pdf_transverse": CurveKind("Transverse", "transverse gradient / r.m.s.", "probability density", "linear", "log"),
}


def comparison(cells: int = 32, snapshots: int = 3, seeds: int = 1) -> ComparisonResult:
    """A comparison as it is put together from measured rows: an experiment's or, with several seeds, a study's."""
    truths, made = fields(cells, snapshots)
    k, true_spectrum = energy_spectrum(truths[0])
    beyond = k > cells / FACTOR / 2
    rows = []
    for index, (name, (_, trained)) in enumerate(MODELS.items()):
        spectra = [energy_spectrum(field)[1] for field in made[name]]
        relative = [np.abs(s / energy_spectrum(t)[1] - 1) for s, t in zip(spectra, truths)]
        scalars = {
            "nrmse": [np.sqrt(np.mean((f - t) ** 2) / np.mean(t**2)) for f, t in zip(made[name], truths)],
            "spectral_error": [r.mean() for r in relative],
            "spectral_error_beyond_cutoff": [r[beyond].mean() for r in relative],
            "divergence": [0.0] if name == "spectral" else [3e-2 / (index + 1)] * snapshots,
            "dissipation_captured": [np.sum(k**2 * s) / np.sum(k**2 * true_spectrum) for s in spectra],
            "derivative_skewness": [-0.1 * index] * snapshots,
            "derivative_flatness": [3 + 0.2 * index] * snapshots,
            "equivariance_error": [3.1e-7 if name != "cnn" else 0.11] * snapshots,
        }
        drawn = curves(made[name][0]) | {"spectral_error_per_wavenumber": (k, relative[0])}
        for seed in range(seeds if trained else 1):
            shaken = {key: [value * (1 + 0.02 * seed) for value in values] for key, values in scalars.items()}
            test = measured(shaken, drawn, snapshots, seconds=0.004 * 3**index)
            of = Row(name, "flow", 12, seed) if trained else Row(name)
            fit = Fit("flow", 12, seed, 3, 2, 0.1, 60.0, [(0, 1.0, 1.0)]) if trained else None
            rows.append(MeasuredRow(of, {"flow": test}, name, {}, 41_880 + index if trained else 0, 10**8, fit))
    own = {"dissipation_captured": [1.0], "derivative_skewness": [-0.48], "derivative_flatness": [4.3]}
    truth = measured(
        {key: value * snapshots for key, value in own.items()},
        curves(truths[0]),
        snapshots,
        flow={"viscosity": 0.0075, "reynolds_lambda": 47.3},
    )
    sides = {"coarse_shape": (cells // FACTOR,) * 3, "fine_shape": (cells,) * 3}
    data = DataSet(
        "A flow", "train_and_test", "velocity", FACTOR, "block_mean", **sides, runs=(), training_snapshots=12
    )
    return ComparisonResult.assemble(
        "synthetic",
        rows,
        {"flow": truth},
        {"flow": {f"seed_{i:03d}": 1.0 for i in range(snapshots)}},
        {"flow": replace(data, cutoff_wavenumber=cells / FACTOR / 2)},
        {name: label for name, (label, _) in MODELS.items()},
        metrics=METRICS,
        curve_kinds=CURVES,
        rules=Rules(resamples=200),
        seeds=tuple(range(seeds)),
    )


def with_values(result: ComparisonResult, model: str, metric: str, value: float) -> ComparisonResult:
    """The comparison with another value of a metric, the same on every snapshot, for one model."""
    frame = result.values.copy()
    frame.loc[(frame.model == model) & (frame.metric == metric), "value"] = value
    return replace(result, values=frame)


def renamed(result: ComparisonResult, names: dict[str, str]) -> ComparisonResult:
    """The comparison with other names, and labels, of some models."""
    frames = {name: getattr(result, name).replace({"model": names}) for name in ("values", "curves")}
    models = {names.get(k, k): replace(one, label=names.get(k, one.label)) for k, one in result.models.items()}
    return replace(result, models=models, **frames)


def slices(cells: int = 32, snapshots: int = 3):
    """Planes of the first snapshot."""
    truths, made = fields(cells, snapshots)
    grid = Grid((cells,) * 3, (2 * np.pi / cells,) * 3)
    return collect_slices(truths[0], block_mean(truths[0], FACTOR), {name: f[0] for name, f in made.items()}, grid)


def histories(epochs: int = 20) -> dict[str, list[dict]]:
    """Losses that fall, with noise, and in the end rise again on the validation set."""
    rng = np.random.default_rng(3)
    found = {}
    for index, name in enumerate(("cnn", "strict", "relaxed")):
        decay = 0.12 + 0.3 * np.exp(-np.arange(epochs) / (4 - index)) - 0.015 * index
        found[name] = [
            {
                "epoch": epoch,
                "train_loss": float(loss * (1 + 0.05 * rng.standard_normal())),
                "validation_loss": float(loss * 1.08 + 2e-5 * max(0, epoch - 13) ** 2),
                "learning_rate": 2e-3,
                "seconds": (epoch + 1) * (1.5 + index),
            }
            for epoch, loss in enumerate(decay)
        ]
    return found


def relaxed_weights(group: str = "O", spread: float = 0.03) -> RelaxedWeights:
    """Weights near one."""
    order = {"O": 24, "Oh": 48}[group]
    rng = np.random.default_rng(5)
    names = ("lifting", "blocks.0.0", "blocks.0.1", "projection")
    return RelaxedWeights("relaxed", group, {name: 1 + spread * rng.standard_normal((1, order)) for name in names})


def how_made() -> HowMade:
    return HowMade(
        command="flowsr run configs/demo.yaml",
        config={"name": "synthetic", "train": {"max_epochs": 20, "models": {"relaxed": {"model": "relaxed"}}}},
        versions={"python": "3.11.7", "torch": "2.13.0"},
        seeds={"initialization": 0},
        checksums={"simulate/seed_000.zarr": "9f" * 32},
        notes={"device": "CPU, 2 threads"},
    )
