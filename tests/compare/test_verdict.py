"""The sentences of a single experiment: every network against the best interpolation of each metric."""

import math

import pytest

from flowsr.compare.findings import BEYOND_CUTOFF, NRMSE, leads, verdict
from flowsr.compare.result import Metric
from tests.compare.results import result, row


def model(name, trained, nrmse, beyond=None):
    values = {NRMSE: nrmse} | ({} if beyond is None else {BEYOND_CUTOFF: beyond})
    return row(name, values, 0 if trained else None, snapshots=snapshots(len(nrmse)))


def snapshots(count):
    return tuple(("a", float(time)) for time in range(count))


def comparison(*models):
    count = max((len(one.tests["flow"].snapshots) for one in models), default=2)
    metrics = {NRMSE: Metric("NRMSE", better="lower"), BEYOND_CUTOFF: Metric("beyond", better="lower")}
    truth = {NRMSE: [0.0] * count}
    return result(*models, truth=truth, truth_snapshots=snapshots(count), metrics=metrics)


FOURIER = model("fourier", False, (0.4, 0.4), (1.0, 1.0))
CUBIC = model("tricubic", False, (0.5, 0.5), (0.8, 0.8))


def test_each_metric_has_its_own_best_interpolation():
    compared = comparison(FOURIER, CUBIC, model("net", True, (0.3, 0.3), (0.4, 0.4)))
    (by_error,), (by_spectrum,) = leads(compared, NRMSE), leads(compared, BEYOND_CUTOFF)
    assert (by_error.rival, by_spectrum.rival) == ("fourier", "tricubic")
    assert by_error.fraction == pytest.approx(0.25) and by_spectrum.fraction == pytest.approx(0.5)
    text = " ".join(verdict(compared))
    assert "by NRMSE is Fourier (0.400)" in text and "Tricubic (0.800)" in text
    assert "Net is 25 % ahead on NRMSE (0.300) and 50 % ahead on spectral error beyond the cut-off (0.400)." in text
    assert "Net is ahead on every one of the 2 held-out snapshots, on both." in text


def test_a_network_that_is_behind_is_said_to_be_behind():
    text = " ".join(verdict(comparison(FOURIER, model("net", True, (0.3, 0.6), (1.5, 1.5)))))
    assert "Net is 12 % behind on NRMSE" in text and "50 % behind on spectral error" in text
    assert "Net on 1 of 2" in text and "every one" not in text


def test_ahead_everywhere_on_one_metric_only_is_said_so():
    text = " ".join(verdict(comparison(FOURIER, model("net", True, (0.3, 0.3), (1.5, 0.5)))))
    assert "Net is ahead on every one of the 2 held-out snapshots, on NRMSE." in text


def test_without_spectral_metrics_the_error_alone_is_said():
    assert verdict(comparison(model("fourier", False, (0.4, 0.4)), model("net", True, (0.3, 0.3)))) == [
        "The best interpolation is Fourier (NRMSE 0.400).",
        "Net is 25 % ahead on NRMSE (0.300).",
        "Net is ahead on every one of the 2 held-out snapshots, on NRMSE.",
    ]


def test_equal_is_level():
    text = " ".join(verdict(comparison(FOURIER, model("net", True, (0.4, 0.4), (0.5, 0.5)))))
    assert "Net is level on NRMSE (0.400)" in text


def test_networks_come_best_first():
    poor, good = model("poor", True, (0.35,) * 2, (0.9,) * 2), model("good", True, (0.2,) * 2, (0.5,) * 2)
    text = " ".join(verdict(comparison(FOURIER, poor, good)))
    assert text.index("Good is") < text.index("Poor is")


@pytest.mark.parametrize("models", [[], [FOURIER]])
def test_without_networks_nothing_is_claimed(models):
    assert verdict(comparison(*models)) == [
        "No network was trained: this report compares interpolations with each other."
    ]


def test_values_that_are_not_numbers_are_no_rivals():
    broken, net = model("broken", False, (math.nan,), (1.0,)), model("net", True, (0.1,), (0.1,))
    missing = row("missing", {"other": [1.0]}, snapshots=snapshots(1))
    assert leads(comparison(broken, missing, net), NRMSE) == []
    (lead,) = leads(comparison(broken, model("fourier", False, (0.4,), (1.0,)), net), NRMSE)
    assert lead.rival == "fourier"
