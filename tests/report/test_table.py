import math

import pytest

from flowsr.report.comparison_page import Cell, experiment_block
from flowsr.report.html import number
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


def table(result):
    block = experiment_block(result, model_looks(result.models))
    return block.heads, {row.label: dict(zip((head.label for head in block.heads), row.cells)) for row in block.rows}


def test_the_best_of_a_column_is_marked():
    result = synthetic.with_values(synthetic.comparison(), "cnn", "derivative_skewness", -0.47)
    _, cells = table(result)
    for metric, best in (("NRMSE", {"Relaxed octahedral"}), ("Derivative skewness", {"Plain CNN"})):
        marked = {label for label, row in cells.items() if row[metric].strong}
        assert marked == best and all(cells[label][metric].kind == "best" for label in marked)


def test_what_has_no_value_is_never_the_best():
    _, cells = table(synthetic.with_values(synthetic.comparison(), "relaxed", "nrmse", math.nan))
    assert cells["Relaxed octahedral"]["NRMSE"] == Cell("–") and cells["Strict octahedral"]["NRMSE"].strong


def test_every_model_every_metric_and_the_truth_are_in_the_table():
    result = synthetic.comparison()
    heads, cells = table(result)
    assert [head.label for head in heads][:-2] == [metric.label for metric in result.metrics.values()]
    assert list(cells) == [*(model.label for model in result.models.values()), "Truth"]
    assert cells["Truth"]["Derivative skewness"].text == "−0.480" and cells["Truth"]["NRMSE"].text == "–"
    assert cells["Relaxed octahedral"]["Parameters"].text == "41\u2009886"
    assert cells["Relaxed octahedral"]["NRMSE"].under.startswith("± ")
