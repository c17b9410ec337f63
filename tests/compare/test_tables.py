"""An experiment's tables: every metric, the truth first, the best of each column marked."""

import pytest
from rich.console import Console

from flowsr.compare import markdown_table, screen_table, verdict
from flowsr.compare.findings import ahead_of_all_trained, best_in_column, number, ranked
from flowsr.compare.result import Metric
from flowsr.metrics import METRICS
from tests.compare.results import result, row

TWO = (("seed_000", 0.0), ("seed_000", 1.0))
LABELS = {
    "nrmse": Metric("NRMSE", better="lower", short="short head"),
    "spectral_error_beyond_cutoff": Metric("Spectral error, k > k_c", better="lower", short="short head"),
    "derivative_skewness": Metric("Skewness", better="truth", short="short head"),
    "equivariance_error": Metric("Equivariance error", better="lower", short="short head"),
    "energy": Metric("Energy", better="higher", unit="(m/s)^2"),
}
VALUES = {
    "trilinear": (0.4, 0.9, -0.2, 1e-16, 1.0),
    "spectral": (0.3, 1.0, -0.9, 4e-16, 2.0),
    "relaxed": (0.2, 0.45, -0.45, 0.03, float("nan")),
}


def comparison(metrics=LABELS, **changes):
    """Two held-out snapshots; ``changes`` are values of the NRMSE, or pairs of them."""
    rows = []
    for name, values in VALUES.items():
        values = {key: [value, value] for key, value in zip(LABELS, values, strict=True)}
        if name in changes:
            values["nrmse"] = changes[name] if isinstance(changes[name], list) else [changes[name]] * 2
        trained = name == "relaxed"
        rows.append(row(name, values, 0 if trained else None, snapshots=TWO, parameters=41880 if trained else 0))
    truth = {"nrmse": [0.0, 0.0], "derivative_skewness": [-0.5, -0.5]}
    return result(*rows, truth=truth, truth_snapshots=TWO, metrics=metrics, name="demo")


def test_rows_are_ranked_by_nrmse_and_missing_values_come_last():
    assert ranked(comparison()) == ["relaxed", "spectral", "trilinear"]
    assert ranked(comparison(relaxed=float("nan"))) == ["spectral", "trilinear", "relaxed"]


def test_best_follows_what_better_means():
    made = comparison()
    assert best_in_column(made, "nrmse") == {"relaxed"}
    assert best_in_column(made, "derivative_skewness") == {"relaxed"}
    assert best_in_column(made, "equivariance_error") == {"relaxed"}  # of what was trained
    assert best_in_column(made, "energy") == {"spectral"}  # the network has none
    assert ahead_of_all_trained(made, "equivariance_error") == {"trilinear", "spectral"}
    assert ahead_of_all_trained(made, "nrmse") == ahead_of_all_trained(made, "energy") == set()
    assert best_in_column(comparison({**LABELS, "nrmse": Metric("NRMSE")}), "nrmse") == set()


def test_values_that_print_alike_share_the_first_place():
    untrained = comparison(spectral=0.40001, relaxed=float("nan"))
    assert best_in_column(untrained, "nrmse") == {"trilinear", "spectral"}
    assert best_in_column(comparison(spectral=0.20001), "nrmse") == {"relaxed"}


def render(table, width):
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("width", [80, 120])
def test_screen_table_keeps_every_number_whole(width):
    text = render(screen_table(comparison()), width)
    lines = [line.split() for line in text.splitlines()]
    assert ["Truth", "0.00", "-", "-0.500", "-", "-", "-"] in lines
    assert ["Relaxed", "0.200", "0.450", "-0.450", "0.0300", "41,880", "0.0100"] in lines
    assert "k_c = 8," in text and "Energy" not in text and "demo: 8x8x8 to 32x32x32" in text
    order = [line[0] for line in lines if line and line[0] in ("Truth", "Relaxed", "Spectral", "Trilinear")]
    assert order == ["Truth", "Relaxed", "Spectral", "Trilinear"]


def test_the_full_table_fits_a_narrow_terminal():
    metrics = {key: quantity for _, cls in METRICS.items() for key, quantity in cls.scalars.items()}
    means = {key: [-0.123456] * 2 for key in metrics} | {"equivariance_error": [1.234e-16] * 2, "nrmse": [0.1] * 2}
    described = {key: Metric(q.label, better=q.better, short=q.short) for key, q in metrics.items()}
    made = result(
        row("relaxed octahedral", means, 0, snapshots=TWO, parameters=41880),
        truth=means,
        truth_snapshots=TWO,
        metrics=described,
    )
    text = render(screen_table(made), 80)
    assert "\u2026" not in text and "octahedral" in text
    shown = [key for key, quantity in metrics.items() if quantity.short]
    assert set(shown) >= {"nrmse", "divergence", "dissipation_captured", "derivative_flatness", "equivariance_error"}
    assert text.count("-0.123") == 2 * (len(shown) - 2) and text.count("1e-16") == 2 and "41,880" in text


def test_markdown_has_all_metrics_with_deviation_units_and_the_best_in_bold():
    lines = markdown_table(comparison(relaxed=[0.19, 0.21])).splitlines()
    assert "Energy [(m/s)^2]" in lines[2]
    assert all(line.count("|") == lines[2].count("|") for line in lines[2:])
    relaxed = next(line for line in lines if line.startswith("| Relaxed"))
    assert "**0.200 (0.0141)**" in relaxed and "| - |" in relaxed


def test_verdict_is_plain_about_both_ends():
    ahead = " ".join(verdict(comparison()))
    assert "Relaxed" in ahead and "33 % ahead" in ahead and "50 % ahead" in ahead and "Trilinear" in ahead
    assert "10 % behind" in " ".join(verdict(comparison(relaxed=0.33)))


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
