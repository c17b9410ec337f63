import math

import pytest

from flowsr.compare.verdict import BEYOND_CUTOFF, NRMSE, leads, verdict


def model(label, trained, nrmse, beyond):
    def scalar(values):
        return {"mean": sum(values) / len(values), "std": 0.0, "values": list(values)}

    return {"label": label, "trained": trained, "scalars": {NRMSE: scalar(nrmse), BEYOND_CUTOFF: scalar(beyond)}}


def comparison(**models):
    return {"models": models}


FOURIER = model("Fourier", False, (0.4, 0.4), (1.0, 1.0))
CUBIC = model("Tricubic", False, (0.5, 0.5), (0.8, 0.8))


def test_each_metric_has_its_own_best_interpolation():
    compared = comparison(spectral=FOURIER, tricubic=CUBIC, net=model("Net", True, (0.3, 0.3), (0.4, 0.4)))
    (by_error,), (by_spectrum,) = leads(compared, NRMSE), leads(compared, BEYOND_CUTOFF)
    assert (by_error.rival, by_spectrum.rival) == ("spectral", "tricubic")
    assert by_error.fraction == pytest.approx(0.25) and by_spectrum.fraction == pytest.approx(0.5)
    text = " ".join(verdict(compared))
    assert "by NRMSE is Fourier (0.400)" in text and "Tricubic (0.800)" in text
    assert "Net is 25 % ahead on NRMSE (0.300) and 50 % ahead on spectral error beyond the cut-off (0.400)." in text
    assert "Net is ahead on every one of the 2 held-out snapshots, on both." in text


def test_a_network_that_is_behind_is_said_to_be_behind():
    compared = comparison(spectral=FOURIER, net=model("Net", True, (0.3, 0.6), (1.5, 1.5)))
    text = " ".join(verdict(compared))
    assert "Net is 12 % behind on NRMSE" in text and "50 % behind on spectral error" in text
    assert "Net on 1 of 2" in text and "every one" not in text


def test_ahead_everywhere_on_one_metric_only_is_said_so():
    text = " ".join(verdict(comparison(spectral=FOURIER, net=model("Net", True, (0.3, 0.3), (1.5, 0.5)))))
    assert "Net is ahead on every one of the 2 held-out snapshots, on NRMSE." in text


def test_without_spectral_metrics_the_error_alone_is_said():
    def only_error(*arguments):
        found = model(*arguments, (1.0, 1.0))
        del found["scalars"][BEYOND_CUTOFF]
        return found

    compared = comparison(spectral=only_error("Fourier", False, (0.4, 0.4)), net=only_error("Net", True, (0.3, 0.3)))
    assert verdict(compared) == [
        "The best interpolation is Fourier (NRMSE 0.400).",
        "Net is 25 % ahead on NRMSE (0.300).",
        "Net is ahead on every one of the 2 held-out snapshots, on NRMSE.",
    ]


def test_equal_is_level():
    text = " ".join(verdict(comparison(spectral=FOURIER, net=model("Net", True, (0.4, 0.4), (0.5, 0.5)))))
    assert "Net is level on NRMSE (0.400)" in text


def test_networks_come_best_first():
    compared = comparison(
        spectral=FOURIER,
        poor=model("Poor", True, (0.35,) * 2, (0.9,) * 2),
        good=model("Good", True, (0.2,) * 2, (0.5,) * 2),
    )
    text = " ".join(verdict(compared))
    assert text.index("Good is") < text.index("Poor is")


@pytest.mark.parametrize("models", [{}, {"spectral": FOURIER}])
def test_without_networks_nothing_is_claimed(models):
    assert verdict(comparison(**models)) == [
        "No network was trained: this report compares interpolations with each other."
    ]


def test_values_that_are_not_numbers_are_no_rivals():
    broken = model("Broken", False, (math.nan,), (1.0,))
    missing = {"label": "Missing", "trained": False, "scalars": {}}
    assert leads(comparison(broken=broken, missing=missing, net=model("Net", True, (0.1,), (0.1,))), NRMSE) == []
    (lead,) = leads(comparison(broken=broken, spectral=FOURIER, net=model("Net", True, (0.1,), (0.1,))), NRMSE)
    assert lead.rival == "spectral"
