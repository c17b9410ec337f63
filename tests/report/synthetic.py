"""A small comparison made from random-phase velocity fields: solenoidal, with a turbulence-like spectrum."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

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


def curves(field: np.ndarray) -> dict:
    found = {
        "energy_spectrum": energy_spectrum(field),
        "pdf_longitudinal": density(field, 0, 0),
        "pdf_transverse": density(field, 0, 1),
    }
    return {key: {"x": x.tolist(), "y": y.tolist()} for key, (x, y) in found.items()}


def scalar(values) -> dict:
    return {"mean": float(np.mean(values)), "std": float(np.std(values)), "values": [float(v) for v in values]}


@lru_cache(maxsize=4)
def fields(cells: int, snapshots: int) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    truths = [random_velocity(cells, seed) for seed in range(snapshots)]
    return truths, {name: [blurred(truth, name, i) for i, truth in enumerate(truths)] for name in MODELS}


def comparison(cells: int = 32, snapshots: int = 3) -> dict:
    """A comparison as ``flowsr compare`` writes it."""
    truths, made = fields(cells, snapshots)
    k, true_spectrum = energy_spectrum(truths[0])
    beyond = k > cells / FACTOR / 2
    models = {}
    for index, (name, (label, trained)) in enumerate(MODELS.items()):
        spectra = [energy_spectrum(field)[1] for field in made[name]]
        relative = [np.abs(s / energy_spectrum(t)[1] - 1) for s, t in zip(spectra, truths)]
        models[name] = {
            "label": label,
            "trained": trained,
            "parameters": 41_880 + index if trained else 0,
            "seconds": 0.004 * 3**index,
            "scalars": {
                "nrmse": scalar([np.sqrt(np.mean((f - t) ** 2) / np.mean(t**2)) for f, t in zip(made[name], truths)]),
                "spectral_error": scalar([r.mean() for r in relative]),
                "spectral_error_beyond_cutoff": scalar([r[beyond].mean() for r in relative]),
                "divergence": scalar([0.0] if name == "spectral" else [3e-2 / (index + 1)] * snapshots),
                "dissipation_captured": scalar([np.sum(k**2 * s) / np.sum(k**2 * true_spectrum) for s in spectra]),
                "derivative_skewness": scalar([-0.1 * index] * snapshots),
                "derivative_flatness": scalar([3 + 0.2 * index] * snapshots),
                "equivariance_error": scalar([3.1e-7 if name != "cnn" else 0.11] * snapshots),
            },
            "curves": curves(made[name][0])
            | {"spectral_error_per_wavenumber": {"x": k.tolist(), "y": relative[0].tolist()}},
        }
    wavenumber = {"x_label": "k", "x_scale": "log", "y_scale": "log"}
    gradient = {"x_scale": "linear", "y_scale": "log", "y_label": "probability density"}
    return {
        "experiment": "synthetic",
        "factor": FACTOR,
        "operator": "block_mean",
        "coarse_shape": [cells // FACTOR] * 3,
        "fine_shape": [cells] * 3,
        "snapshots": snapshots,
        "runs": ["seed_000", "seed_001", "seed_002"],
        "cutoff_wavenumber": cells / FACTOR / 2,
        "flow": {"viscosity": 0.0075, "reynolds_lambda": 47.3},
        "metrics": {
            "nrmse": metric("NRMSE", "lower", "r.m.s. error over r.m.s. of the truth"),
            "spectral_error": metric("Spectral error", "lower", "mean of |E/E_true - 1|"),
            "spectral_error_beyond_cutoff": metric("Spectral error, k > k_c", "lower", "Balla et al."),
            "divergence": metric("Divergence", "lower", "over the velocity gradient"),
            "dissipation_captured": metric("Dissipation captured", "truth", "Pope (2000), eq. 5.128"),
            "derivative_skewness": metric("Derivative skewness", "truth", "Pope (2000), sec. 6.5"),
            "derivative_flatness": metric("Derivative flatness", "truth", "Pope (2000), sec. 6.5"),
            "equivariance_error": metric("Equivariance error", "lower", "||M(gx) - gM(x)|| / ||M(x)||"),
        },
        "models": models,
        "truth": {
            "label": "Truth",
            "scalars": {
                "dissipation_captured": scalar([1.0] * snapshots),
                "derivative_skewness": scalar([-0.48] * snapshots),
                "derivative_flatness": scalar([4.3] * snapshots),
            },
            "curves": curves(truths[0]),
        },
        "curves": {
            "energy_spectrum": wavenumber | {"label": "Energy spectrum", "y_label": "E(k)"},
            "spectral_error_per_wavenumber": wavenumber
            | {"label": "Spectral error", "y_label": "relative error of E(k)"},
            "pdf_longitudinal": gradient | {"label": "Longitudinal", "x_label": "longitudinal gradient / r.m.s."},
            "pdf_transverse": gradient | {"label": "Transverse", "x_label": "transverse gradient / r.m.s."},
        },
    }


def metric(label: str, better: str, source: str) -> dict:
    return {"label": label, "unit": "1", "better": better, "source": source}


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
