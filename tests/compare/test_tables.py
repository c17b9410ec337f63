import copy

import pytest
from rich.console import Console

from flowsr.compare import markdown_table, screen_table, verdict
from flowsr.compare.ranking import best_in_column, number, ranked
from flowsr.metrics import METRICS


def row(label, trained=False, **means):
    scalars = {key: {"mean": mean, "std": 0.01, "values": [mean, mean]} for key, mean in means.items()}
    cost = {"parameters": 41880 if trained else 0, "seconds": 0.0123}
    return {"label": label, "trained": trained, "scalars": scalars, **cost}


def metric(label, better, short="short head", unit="1"):
    return {"label": label, "unit": unit, "better": better, "source": "", "short": short}


@pytest.fixture
def comparison():
    return {
        "experiment": "demo",
        "operator": "block_mean",
        "coarse_shape": [16, 16, 16],
        "fine_shape": [64, 64, 64],
        "snapshots": 2,
        "runs": ["seed_000"],
        "cutoff_wavenumber": 8.0,
        "metrics": {
            "nrmse": metric("NRMSE", "lower"),
            "spectral_error_beyond_cutoff": metric("Spectral error, k > k_c", "lower"),
            "derivative_skewness": metric("Skewness", "truth"),
            "equivariance_error": metric("Equivariance error", "lower"),
            "energy": metric("Energy", "higher", short=None, unit="(m/s)^2"),
        },
        "models": {
            "trilinear": row(
                "Trilinear",
                nrmse=0.4,
                spectral_error_beyond_cutoff=0.9,
                derivative_skewness=-0.2,
                equivariance_error=1e-16,
                energy=1.0,
            ),
            "spectral": row(
                "Fourier",
                nrmse=0.3,
                spectral_error_beyond_cutoff=1.0,
                derivative_skewness=-0.9,
                equivariance_error=4e-16,
                energy=2.0,
            ),
            "relaxed": row(
                "Relaxed",
                True,
                nrmse=0.2,
                spectral_error_beyond_cutoff=0.45,
                derivative_skewness=-0.45,
                equivariance_error=0.03,
                energy=None,
            ),
        },
        "truth": row("Truth", nrmse=0.0, derivative_skewness=-0.5),
    }


def test_rows_are_ranked_by_nrmse_and_missing_values_come_last(comparison):
    assert ranked(comparison) == ["relaxed", "spectral", "trilinear"]
    comparison["models"]["relaxed"]["scalars"]["nrmse"]["mean"] = None
    assert ranked(comparison) == ["spectral", "trilinear", "relaxed"]


def test_best_follows_what_better_means(comparison):
    assert best_in_column(comparison, "nrmse") == {"relaxed"}
    assert best_in_column(comparison, "derivative_skewness") == {"relaxed"}
    assert best_in_column(comparison, "energy") == {"spectral"}
    assert best_in_column(comparison, "equivariance_error") == {"trilinear", "spectral"}  # both are exact
    comparison["metrics"]["nrmse"]["better"] = None
    assert best_in_column(comparison, "nrmse") == set()


def test_values_that_print_alike_share_the_first_place(comparison):
    comparison["models"]["spectral"]["scalars"]["nrmse"]["mean"] = 0.20001
    assert best_in_column(comparison, "nrmse") == {"relaxed", "spectral"}


def render(table, width):
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("width", [80, 120])
def test_screen_table_keeps_every_number_whole(comparison, width):
    text = render(screen_table(comparison), width)
    lines = [line.split() for line in text.splitlines()]
    assert ["Truth", "0.00", "-", "-0.500", "-", "-", "-"] in lines
    assert ["Relaxed", "0.200", "0.450", "-0.450", "0.0300", "41,880", "0.0123"] in lines
    assert "k_c = 8," in text and "Energy" not in text and "demo: 16x16x16 to 64x64x64" in text
    order = [line[0] for line in lines if line and line[0] in ("Truth", "Relaxed", "Fourier", "Trilinear")]
    assert order == ["Truth", "Relaxed", "Fourier", "Trilinear"]


def test_the_full_table_fits_a_narrow_terminal():
    metrics = {key: quantity for _, cls in METRICS.items() for key, quantity in cls.scalars.items()}
    means = {key: -0.123456 for key in metrics} | {"equivariance_error": 1.234e-16, "nrmse": 0.1}
    comparison = {
        "experiment": "demo",
        "operator": "block_mean",
        "coarse_shape": [16] * 3,
        "fine_shape": [64] * 3,
        "snapshots": 9,
        "runs": ["a", "b"],
        "cutoff_wavenumber": 8.0,
        "metrics": {key: metric(q.label, q.better, q.short) for key, q in metrics.items()},
        "models": {"relaxed": row("Relaxed octahedral", True, **means)},
        "truth": row("Truth", **means),
    }
    text = render(screen_table(comparison), 80)
    assert "\u2026" not in text and "octahedral" in text
    shown = [key for key, quantity in metrics.items() if quantity.short]
    assert set(shown) >= {"nrmse", "divergence", "dissipation_captured", "derivative_flatness", "equivariance_error"}
    assert text.count("-0.123") == 2 * (len(shown) - 2) and text.count("1e-16") == 2 and "41,880" in text


def test_markdown_has_all_metrics_with_deviation_units_and_the_best_in_bold(comparison):
    lines = markdown_table(comparison).splitlines()
    assert "Energy [(m/s)^2]" in lines[2]
    assert all(line.count("|") == lines[2].count("|") for line in lines[2:])
    relaxed = next(line for line in lines if line.startswith("| Relaxed"))
    assert "**0.200 (0.0100)**" in relaxed and "| - |" in relaxed


def test_verdict_is_plain_about_both_ends(comparison):
    ahead = " ".join(verdict(comparison))
    assert "Relaxed" in ahead and "33 % ahead" in ahead and "50 % ahead" in ahead and "Trilinear" in ahead
    behind = copy.deepcopy(comparison)
    behind["models"]["relaxed"]["scalars"]["nrmse"] = {"mean": 0.33, "std": 0, "values": [0.33, 0.33]}
    assert "10 % behind" in " ".join(verdict(behind))


def test_numbers_have_three_digits():
    assert [number(v) for v in (0.12345, 0, 1234.5, 3e-16, -0.5, None, float("nan"))] == [
        "0.123",
        "0.00",
        "1.23e+03",
        "3e-16",
        "-0.500",
        "-",
        "-",
    ]
