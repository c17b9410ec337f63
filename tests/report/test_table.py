import math

import pytest

from flowsr.report.pages.table import comparison_table, number
from flowsr.report.style import model_looks
from tests.report import synthetic


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.14512, "0.145"),
        (1.0, "1.00"),
        (47.31, "47.3"),
        (123.4, "123"),
        (41880.0, "41880"),
        (-0.48, "−0.480"),
        (0.0, "0"),
        (3.14e-7, "3.1·10⁻⁷"),
        (2.5e9, "2.5·10⁹"),
        (0.99996, "1.00"),
        (9.996e-7, "1.0·10⁻⁶"),
        (9.964e-5, "1.0·10⁻⁴"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_are_rounded_to_three_digits(value, text):
    assert number(value) == text


def table(compared):
    columns, rows = comparison_table(compared, model_looks(compared["models"]))
    return columns, {row.label: dict(zip((c.label for c in columns), row.cells)) for row in rows}


def scalars(**values):
    return {key: {"mean": value, "std": 0.0, "values": [value]} for key, value in values.items()}


def three(key, better, values, truth=None):
    return {
        "metrics": {key: {"label": key, "unit": "1", "better": better, "source": ""}},
        "models": {name: {"label": name, "scalars": scalars(**{key: value})} for name, value in zip("abc", values)},
        "truth": {"label": "Truth", "scalars": scalars(**{key: truth}) if truth is not None else {}},
    }


@pytest.mark.parametrize(
    ("better", "values", "truth", "best"),
    [
        ("lower", (0.3, 0.1, 0.2), None, "b"),
        ("higher", (0.3, 0.1, 0.2), None, "a"),
        ("truth", (-0.3, -0.9, -0.45), -0.5, "c"),
        ("truth", (-0.3, -0.9, -0.45), None, ""),
        (None, (0.3, 0.1, 0.2), None, ""),
        ("lower", (0.3, 0.10001, 0.1), None, "bc"),
        ("lower", (3e-7, 2e-8, 0.2), None, "ab"),
        ("truth", (3e-7, 2e-8, 0.2), 0.0, "ab"),
        ("lower", (0.3, math.nan, 0.2), None, "c"),
    ],
)
def test_the_best_of_a_column_is_marked(better, values, truth, best):
    _, cells = table(three("m", better, values, truth))
    assert "".join(name for name in "abc" if cells[name]["m"].best) == best


def test_every_model_every_metric_and_the_truth_are_in_the_table():
    compared = synthetic.comparison()
    columns, cells = table(compared)
    assert [c.label for c in columns][:-2] == [m["label"] for m in compared["metrics"].values()]
    assert list(cells) == [*(m["label"] for m in compared["models"].values()), "Truth"]
    assert cells["Truth"]["Derivative skewness"].text == "−0.480" and cells["Truth"]["NRMSE"].text == "–"
    assert cells["Relaxed octahedral"]["Parameters"].text == "41\u2009886"
    assert cells["Relaxed octahedral"]["NRMSE"].spread
