from pathlib import Path

from flowsr.metrics import METRICS
from flowsr.metrics.catalogue import catalogue, with_catalogue

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_ends_with_the_catalogue_of_this_code():
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_catalogue(page), "stale: python -m flowsr.metrics.catalogue docs/metrics.md"


def test_every_metric_and_result_is_in_the_catalogue():
    text = catalogue()
    for name, metric in METRICS.items():
        assert f"### `{name}`" in text
        assert all(f"| `{key}` |" in text for key in (*metric.scalars, *metric.curves))


def test_table_has_five_cells_a_row_and_says_what_is_needed():
    rows = [line.replace(r"\|", "") for line in catalogue().splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {6}
    assert len(rows) == sum(2 + len(metric.scalars) + len(metric.curves) for _, metric in METRICS.items())
    assert "*standard; tile by tile.*" in catalogue() and "channels of known viscosity" in catalogue()


def test_the_page_s_example_runs():
    code = PAGE.read_text(encoding="utf-8").split("```python")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {})
