"""What a study's tables and sentences say, from findings that were put in."""

import io

import pytest
from rich.console import Console

from flowsr.compare.study_table import (
    count,
    differences_csv,
    interval_text,
    ranked_models,
    short,
    study_csv,
    study_markdown,
    study_screen,
    study_verdict,
)


def score(model, value, n_seeds=3, **more):
    ends = {"low": value - 0.01, "high": value + 0.01, "blocks": 8, "n_seeds": n_seeds}
    seeds = {"deviation": 0.002 if n_seeds else None, "by_seed": [value] * (n_seeds or 1)}
    return {
        "model": model,
        "data": "flow",
        "size": None,
        "tested_on": "flow",
        "metric": "nrmse",
        "estimate": value,
        **ends,
        **seeds,
        **more,
    }


def against(model, reference, value, low, high, verdict, whole=0.4):
    numbers = {"estimate": value, "low": low, "high": high, "share": value / whole, "blocks": 8, "n_seeds": 3}
    return {
        "model": model,
        "data": "flow",
        "size": None,
        "tested_on": "flow",
        "metric": "nrmse",
        "reference": reference,
        "against": "plain" if reference == "best_interpolation" else reference,
        **numbers,
        "verdict": verdict,
    }


def results(blocks=8, seeds=(0, 1, 2), slope=(-0.2, -0.25, -0.15)):
    curve = {"estimate": slope[0], "low": slope[1], "high": slope[2], "blocks": blocks, "n_seeds": 3}
    return {
        "study": "trial",
        "home": "flow",
        "rank_by": "nrmse",
        "confidence": 0.95,
        "seeds": list(seeds),
        "metrics": {"nrmse": {"label": "NRMSE", "unit": "1", "better": "lower", "source": "", "short": None}},
        "data": {
            "flow": {
                "label": "A flow",
                "coarse_shape": [8, 8, 8],
                "fine_shape": [32, 32, 32],
                "snapshots": 24,
                "blocks": blocks,
                "runs": ["a", "b"],
                "train_snapshots": 60,
            }
        },
        "truth": {"flow": {"means": {"nrmse": 0.0}}},
        "models": {
            "plain": {"label": "Plain", "trained": False, "parameters": 0, "multiply_adds": 0},
            "strict": {"label": "Strict", "trained": True, "parameters": 58740, "multiply_adds": 724_000_000},
            "loose": {"label": "Loose", "trained": True, "parameters": 61000, "multiply_adds": 31_400_000},
        },
        "scores": [score("plain", 0.4, None), score("strict", 0.3), score("loose", 0.29), score("loose", 0.38, size=6)],
        "differences": [
            against("strict", "best_interpolation", -0.1, -0.12, -0.08, "ahead"),
            against("loose", "best_interpolation", -0.11, -0.13, -0.09, "ahead"),
            against("loose", "strict", -0.01, -0.03, 0.01, "no difference shown", 0.3),
            against("plain", "strict", 0.1, 0.08, 0.12, "behind", 0.3),
        ],
        "learning": [
            {
                "model": "loose",
                "data": "flow",
                "metric": "nrmse",
                "sizes": [6, 60],
                "scores": [score("loose", 0.38), score("loose", 0.29)],
                "slope": curve,
            }
        ],
    }


def test_the_verdict_says_who_is_ahead_of_whom_and_on_how_much_evidence():
    evidence, best, interpolation, strict, data = study_verdict(results())
    assert (
        evidence == "2 networks with 3 seeds each and 1 model without training, on 24 held-out snapshots of 2 runs: "
        "8 independent blocks."
    )
    assert best == "The best by NRMSE is Loose, 0.290 (0.002)."
    assert interpolation == "Against Plain: ahead Loose, Strict."
    assert strict == "Against Strict: no difference shown for Loose; behind Plain."
    assert data == "With more training data NRMSE falls like n^-0.20 [-0.25, -0.15] for Loose."


def test_little_evidence_is_said():
    assert "only large differences can show" in study_verdict(results(blocks=4))[0]
    assert "no difference can be called real" in study_verdict(results(blocks=1))[0]
    assert "One seed says nothing" in study_verdict(results(seeds=(0,)))[0]
    assert (
        study_verdict(results(slope=(-0.1, -0.3, 0.1)))[-1]
        == "No network's NRMSE is shown to fall with more training data."
    )


def test_the_screen_fits_eighty_columns_and_holds_both_costs():
    console = Console(file=io.StringIO(), width=80)
    console.print(study_screen(results()))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "59k" in rows["Strict"] and "724M" in rows["Strict"] and "-25 [-30, -20]" in rows["Strict"]
    assert "-3.3 [-10.0, +3.3]" in rows["Loose"] or "-3 [-10, +3]" in rows["Loose"]


def test_tables_rank_the_best_first_and_keep_every_number():
    assert ranked_models(results()) == ["loose", "strict", "plain"]
    markdown = study_markdown(results())
    assert markdown.index("| Loose |") < markdown.index("| Strict |") < markdown.index("| Plain |")
    assert "| Loose | 0.380 (0.002) | 0.290 (0.002) | -0.20 [-0.25, -0.15] |" in markdown
    assert study_csv(results()).count("\n") == 5 and differences_csv(results()).count("\n") == 5
    assert "loose,Loose,flow,6,flow,nrmse,0.38" in study_csv(results())


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
    found = {"estimate": -0.1, "low": -0.2, "high": 0.05}
    assert interval_text(found, 100) == "-10.0 [-20.0, +5.0]"
    assert interval_text(found, -100) == "+10.0 [-5.0, +20.0]"
    assert interval_text({**found, "low": None}, 1, 2) == "-0.10"
