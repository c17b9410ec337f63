"""A result lines rows up by run and time; findings are those that were put in."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from flowsr.compare import ComparisonResult, csv_table, markdown_table, screen_table, verdict
from flowsr.compare.findings import (
    AHEAD,
    BEHIND,
    BEST_INTERPOLATION,
    LEVEL,
    ONE_SEED,
    best_interpolation,
    compared,
    interval_text,
    learning_curve,
    ranked,
    score,
    symmetry_errors,
)
from flowsr.compare.result import Measured, MeasuredRow, Row
from flowsr.compare.tables import count, differences_csv, short, study_json, symmetry_csv
from flowsr.config.study import load_study
from flowsr.errors import FlowsrError
from flowsr.group import octahedral_group, point_group
from flowsr.pipeline.plan import Plan
from flowsr.report import write_report
from tests.compare.results import HARD, SNAPSHOTS, WHOLE, measured, result, row
from tests.studies import TINY_STUDY, write_tiny_study


def network(name, level, size=WHOLE, spread=0.01, seeds=3, parameters=58740):
    generator = np.random.default_rng(len(name))
    noise = [1 + spread * generator.normal(size=len(HARD)) for _ in range(seeds)]
    return [row(name, level * HARD * one, seed, size, parameters=parameters) for seed, one in enumerate(noise)]


def at_home(made, name, size=None):
    return made.row(name, "flow", size=size)


def test_rows_are_lined_up_by_run_and_time_whatever_their_order():
    backwards = list(reversed(SNAPSHOTS))
    made = result(
        row("x", HARD), row("y", HARD[::-1], snapshots=backwards), row("z", HARD[1:-1], snapshots=SNAPSHOTS[1:-1])
    )
    lines = made.values[(made.values.model == "x")]
    assert list(zip(lines.run, lines.time, strict=True)) == list(SNAPSHOTS[1:-1])
    for name in "xyz":
        assert made.by_snapshot(Row(name), "flow", "nrmse")[0] == pytest.approx(HARD[1:-1])
    assert made.data["flow"].blocks == made.data["flow"].snapshots == 8


def test_splits_of_one_run_are_one_run_in_time():
    snapshots = [*SNAPSHOTS[3:6], *SNAPSHOTS[:3]]
    made = result(row("x", range(6), snapshots=snapshots), truth_snapshots=snapshots, blocks=4.0)
    lines = made.values[made.values.model == "x"]
    assert lines.time.tolist() == [0, 2, 4, 6, 8, 10] and lines.block.tolist() == [0, 0, 1, 1, 2, 2]
    assert made.by_snapshot(Row("x"), "flow", "nrmse")[0].tolist() == [3, 4, 5, 0, 1, 2]


def test_what_was_measured_on_a_few_snapshots_stands_where_it_was_measured():
    few = Measured(
        SNAPSHOTS, pd.DataFrame({"snapshot": [0, 5], "metric": "nrmse", "value": [1.0, np.nan]}), measured([]).curves
    )
    made = result(MeasuredRow(Row("x"), {"flow": Measured(**{**vars(few), "seconds": 1.0})}))
    assert made.by_snapshot(Row("x"), "flow", "nrmse")[0] == pytest.approx([1, *[np.nan] * 9], nan_ok=True)
    assert len(made.values[made.values.model == "x"]) == 2  # one was measured, and is not finite


def test_scores_are_means_over_seeds_and_snapshots():
    made = result(*network("net", 0.3))
    found = score(made, at_home(made, "net"), "flow", "nrmse")
    means = [one.tests["flow"].values.value.mean() for one in network("net", 0.3)]
    assert found.by_seed == pytest.approx(means)
    assert found.interval.estimate == pytest.approx(np.mean(means))
    assert found.deviation == pytest.approx(np.std(means, ddof=1))
    assert found.interval.low < 0.3 * HARD.mean() < found.interval.high


def test_real_differences_are_told_from_none():
    made = result(
        *network("good", 0.2), *network("same", 0.3), *network("ours", 0.3, spread=0.02), row("plain", 0.5 * HARD)
    )

    def against(name, other):
        return compared(made, at_home(made, name), other, "flow", "nrmse")

    assert against("good", "same").verdict == AHEAD
    assert against("good", "same").share == pytest.approx(-1 / 3, abs=0.02)
    assert against("plain", "good").verdict == BEHIND
    assert against("ours", "same").verdict == LEVEL
    assert best_interpolation(made, "flow", "nrmse") == Row("plain")
    assert against("good", BEST_INTERPOLATION).against == Row("plain")
    assert against("plain", BEST_INTERPOLATION) is None and against("good", "absent") is None


def test_one_seed_is_not_known():
    made = result(*network("net", 0.3, seeds=1), row("plain", 0.5 * HARD))
    assert made.single and compared(made, at_home(made, "net"), "plain", "flow", "nrmse").verdict == ONE_SEED


def test_near_the_truth_is_better_than_beyond_it():
    near, beyond = row("near", np.full(len(SNAPSHOTS), 0.9)), row("beyond", np.full(len(SNAPSHOTS), 1.3))
    made = result(near, beyond, better="truth")
    found = compared(made, Row("near"), "beyond", "flow", "nrmse")
    assert found.interval.estimate == pytest.approx(0.1 - 0.3) and found.verdict == AHEAD
    assert best_interpolation(made, "flow", "nrmse") == Row("near") and ranked(made) == ["near", "beyond"]


def test_a_power_law_has_its_exponent():
    rows = [one for size in (4, 16, WHOLE) for one in network("net", 2.0 * size**-0.25, size)]
    curve = learning_curve(result(*rows), "net", "flow", "nrmse")
    assert curve.sizes == (4, 16, WHOLE)
    assert curve.slope.estimate == pytest.approx(-0.25, abs=0.005)
    assert curve.slope.low < -0.25 < curve.slope.high < 0
    assert learning_curve(result(*network("net", 1.0)), "net", "flow", "nrmse") is None


def test_saved_and_loaded_it_is_the_same_and_tidy_has_a_line_for_every_value(tmp_path):
    made = result(*network("net", 0.3), row("plain", np.where(HARD > 1, HARD, np.nan)))
    made.save(tmp_path)
    again = ComparisonResult.load(tmp_path)
    pd.testing.assert_frame_equal(again.values, made.values)
    assert pd.read_parquet(tmp_path / "tidy.parquet").columns.tolist() == made.values.columns.tolist()
    assert study_json(again) == study_json(made) and again.models["net"].fits[1].seconds == 60
    assert (tmp_path / "tidy.csv").read_text().count("\n") == 1 + 10 + 30 + 10
    of_net = again.values[(again.values.model == "net") & (again.values.seed == 2)]
    assert list(zip(of_net.run, of_net.time, strict=True)) == list(SNAPSHOTS)
    assert set(of_net["size"]) == {WHOLE} and set(of_net.data) == {"flow"}


def study(blocks=2.0, **more):
    rows = [row("plain", 0.4 * HARD), *network("strict", 0.3, parameters=58740), *network("loose", 0.29, spread=0.2)]
    return result(*rows, *network("loose", 0.38, 6), blocks=blocks, references=(BEST_INTERPOLATION, "strict"), **more)


def test_the_verdict_says_who_is_ahead_of_whom_and_on_how_much_evidence():
    evidence, best, interpolation, strict, data = verdict(study())
    assert (
        evidence == "2 networks with 3 seeds each and 1 model without training, on 10 held-out snapshots of 2 runs: "
        "10 independent blocks."
    )
    assert best.startswith("The best by NRMSE is Loose, 0.2")
    assert interpolation == "Against Plain: ahead Loose, Strict."
    assert strict == "Against Strict: no difference shown for Loose; behind Plain."
    assert data.startswith("With more training data NRMSE falls like n^-0.1") and data.endswith("for Loose.")


def test_a_sentence_names_the_first_of_many_and_counts_the_others():
    many = [each for i in range(9) for each in network(f"net{i}", 0.30 + 0.001 * i)]
    (sentence,) = (
        each
        for each in verdict(result(row("plain", HARD), *many, references=(BEST_INTERPOLATION,)))
        if each.startswith("Against")
    )
    assert sentence == "Against Plain: ahead Net0, Net1, Net2, Net3, Net4, Net5, Net6 and 2 others."


def test_little_evidence_is_said():
    assert "only large differences can show" in verdict(study(blocks=4.0))[0]
    alone = verdict(result(*network("net", 0.3), truth_snapshots=SNAPSHOTS[:1], blocks=4.0))
    assert "no difference can be called real" in alone[0]
    few = result(*network("net", 0.3, seeds=1), *network("net", 0.4, 6, seeds=1), row("plain", HARD))
    assert "One seed says nothing" in verdict(few)[0]
    level = result(*network("net", 0.3, spread=0.3), *network("net", 0.3, 6, spread=0.3), blocks=4.0)
    assert verdict(level)[-1] == "No network's NRMSE is shown to fall with more training data."


def test_the_screen_fits_eighty_columns_and_holds_both_costs():
    console = Console(file=io.StringIO(), width=80)
    console.print(screen_table(study()))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "59k" in rows["Strict"] and "587k" in rows["Strict"] and "-25 [-2" in rows["Strict"]


def test_tables_rank_the_best_first_and_keep_every_number():
    made = study()
    assert ranked(made) == ["loose", "strict", "plain"]
    markdown = markdown_table(made)
    assert markdown.index("| Loose |") < markdown.index("| Strict |") < markdown.index("| Plain |")
    assert "| A flow | n = 6 | n = 64 | slope |" in markdown
    assert csv_table(made).count("\n") == 5 and "loose,Loose,flow,6,flow,nrmse,0.3" in csv_table(made)
    assert differences_csv(made).count("\n") == 1 + 3 + 3


@pytest.mark.parametrize(
    ("value", "brief", "whole"),
    [
        (0, "-", "-"),
        (730, "730", "730"),
        (58740, "59k", "58,740"),
        (999_600, "1M", "999,600"),
        (31_400_000, "31M", "31.4M"),
        (2_170_000_000, "2.2G", "2.17G"),
    ],
)
def test_costs_are_short_on_the_screen(value, brief, whole):
    assert short(value) == brief and count(value) == whole


def test_an_interval_is_written_from_low_to_high_whatever_the_scale():
    from flowsr.compare.bootstrap import Interval

    found = Interval(-0.1, -0.2, 0.05, 3, 3)
    assert interval_text(found, 100) == "-10.0 [-20.0, +5.0]"
    assert interval_text(found, -100) == "+10.0 [-5.0, +20.0]"
    assert interval_text(Interval(-0.1, None, None, 1, 3), 1, 2) == "-0.10"


def test_equivariance_errors_are_put_together_under_what_the_flow_keeps_and_what_it_breaks(tmp_path):
    made, group = result(*network("free", 1.0), *network("walls", 2.0)), point_group("C2v(100;100)[100]")
    elements, whole = np.arange(48), octahedral_group("Oh")
    kept = np.isin(elements, [whole.index(matrix) for matrix in group.matrices])
    free = np.where(kept, 0.3, 0.04) * (elements > 0)
    only_first = np.where(elements < 24, free, np.nan)  # of a model that does not take the others
    of = {"data": "flow", "size": WHOLE, "seed": 0, "tested_on": "flow", "curve": "equivariance_error_per_element"}
    curves = [
        pd.DataFrame({"x": elements, "y": y}).assign(model=name, **of)
        for name, y in (("free", free), ("walls", only_first))
    ]
    curves = pd.concat(curves)[[*made.curves]].astype(made.curves.dtypes)
    assert "symmetry" not in markdown_table(replace(made, curves=curves))  # no one says what the flow keeps
    made = replace(made, curves=curves, data={"flow": replace(made.data["flow"], group=group.name)})
    found = symmetry_errors(made, at_home(made, "free"), "flow")
    assert (found.kept, found.broken, found.elements) == (pytest.approx(0.3), pytest.approx(0.04), (3, 44))
    some = int((kept & (elements < 24)).sum()) - 1
    assert symmetry_errors(made, at_home(made, "walls"), "flow").elements == (some, 24 - some - 1)
    made.save(tmp_path)
    text = markdown_table(ComparisonResult.load(tmp_path))
    assert "| Free | 0.300 | 0.0400 |" in text and f"| Walls | 0.300 ({some}) | 0.0400 ({23 - some}) |" in text
    assert f"free,Free,flow,{WHOLE},flow,{group.name},0.3,3,0.04,44" in symmetry_csv(made).replace('"', "")
    assert "A flow: symmetry kept and broken" in write_report(tmp_path / "page.html", made).read_text()


def test_a_study_says_what_a_flow_keeps_and_a_group_that_is_none_is_refused(tmp_path):
    data = {"isotropic": {**TINY_STUDY["data"]["isotropic"], "group": "C4v [001]"}}
    plan = Plan(load_study(write_tiny_study(tmp_path, data=data)))
    source = plan.sources["isotropic"]
    assert plan.group(source) == source.group == "C4v [001]"
    alone = result(row("x", HARD, seed=0))  # a study of one data set, network and seed is one all the same
    assert alone.single and not replace(alone, rules=plan.rules).single
    with pytest.raises(FlowsrError, match=r"'data.isotropic.group'.*C7"):
        load_study(write_tiny_study(tmp_path, data=data), ["data.isotropic.group=C7"])
