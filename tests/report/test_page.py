import copy
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from jinja2 import UndefinedError

from flowsr.compare.result import TRUTH, CurveKind
from flowsr.report import HowMade, RelaxedWeights, render_report, write_report
from flowsr.report.comparison_page import study_how_made
from flowsr.report.style import ON_LIGHT
from tests.report import synthetic

VOID = {"meta", "img", "br", "link", "input", "hr", "source"}


class Page(HTMLParser):
    """Checks that tags nest, and gathers text, tags and attributes."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def every(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    weights = [synthetic.relaxed_weights("O"), synthetic.relaxed_weights("Oh")]
    return write_report(
        path, synthetic.comparison(), synthetic.slices(), synthetic.histories(), weights, synthetic.how_made()
    )


@pytest.fixture(scope="module")
def text(written):
    return written.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def assert_self_contained(text):
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}:
                beside = tag == "a" and re.fullmatch(r"[\w./-]+\.(csv|md|json)", value)  # a file that lies there
                assert beside or value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:80])
            if name in {"style", "clip-path", "fill", "stroke", "filter", "mask"}:
                assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", value or ""))
    style = "".join(re.findall(r"<style>(.*?)</style>", text, flags=re.S))
    assert style and "url(" not in style and "@import" not in style


def test_the_page_loads_nothing(text, page):
    assert_self_contained(text)
    assert "://" not in text
    (policy,) = [m["content"] for m in page.every("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy


def test_the_page_is_small_and_begins_as_a_page_should(written, text):
    assert written.stat().st_size < 4_000_000
    assert text.startswith("<!DOCTYPE html>")


def test_every_model_metric_and_section_is_there(page):
    compared = synthetic.comparison()
    for model in compared.models.values():
        assert model.label in page.text
    for metric in compared.metrics.values():
        assert metric.label.replace("k_c", "k c") in page.text and metric.source in page.text
    for heading in ("The numbers", "Scale by scale", "Velocity gradients", "Learning", "What the relaxed weights say"):
        assert heading in page.text
    assert "% ahead on NRMSE" in page.text.replace("</b>", "")
    for fact in ("8³ coarse, 32³ fine", "block mean", "47.3", "seed_000, seed_001, seed_002"):
        assert fact in page.text
    for made in ("flowsr run configs/demo.yaml", "2.13.0", "9f" * 32, "max_epochs: 20", "CPU, 2 threads"):
        assert made in page.text


def test_the_page_begins_with_one_number_and_one_sentence(page, text):
    body = text[text.index("<body>") :]
    assert body.index('class="headline"') < body.index("<h1>")
    compared = synthetic.comparison()
    error = compared.mean(compared.row("relaxed", compared.home), compared.home, "nrmse")
    assert f"<b>{error:.3f}</b>" in body and "is the error (NRMSE) of Relaxed octahedral, the best network" in page.text


def test_tables_lie_beside_the_page(page):
    assert {"compare/table.csv", "compare/table.md", "compare/tidy.csv"} <= {a.get("href") for a in page.every("a")}


def test_a_dark_page_has_dark_figures(text, page):
    """Every colour of a drawing that would drown on a dark page is one that follows; a photo has a second rendering."""
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.S))
    fixed = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn))
    dark = re.search(r"@media screen and \(prefers-color-scheme: dark\) \{ :root \{(.*?)\}", text)[1]
    followed = re.findall(r"var\(--f([0-9a-f]{6}), #([0-9a-f]{6})\)", drawn)
    assert followed and all(name == light and f"--f{name}: #" in dark for name, light in followed)

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(
            w * (p / 12.92 if p <= 0.04 else ((p + 0.055) / 1.055) ** 2.4)
            for w, p in zip((0.2126, 0.7152, 0.0722), parts)
        )

    card = luminance("#202226")
    assert all((luminance(colour) + 0.05) / (card + 0.05) > 3 for colour in fixed - {ON_LIGHT})  # on cells of a map
    assert len(page.every("source")) == len(page.every("img"))
    assert all("dark" in source["media"] for source in page.every("source"))


def test_figures_are_numbered_and_described(page):
    figures = page.every("figure")
    numbers = re.findall(r"Figure (\d+)\.", page.text)
    assert numbers == [str(i + 1) for i in range(len(figures))] and len(figures) == 8
    pictures = page.every("img")
    drawings = [a for a in page.every("div") if a.get("role") == "img"]
    assert len(pictures) == 2 and len(drawings) == len(page.every("svg")) == 6
    assert all(len(p["alt"]) > 40 for p in pictures) and all(len(d["aria-label"]) > 20 for d in drawings)


def test_identifiers_are_unique_and_references_resolve(page):
    ids = Counter(a["id"] for _, a in page.tags if "id" in a)
    assert max(ids.values()) == 1
    wanted = {a[n][1:] for _, a in page.tags for n in ("href", "xlink:href") if a.get(n, "").startswith("#")}
    wanted |= {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    wanted |= {m for _, a in page.tags for v in a.values() if v for m in re.findall(r"url\(#([^)]*)\)", v)}
    assert wanted and wanted <= set(ids)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    first, again = (
        write_report(
            tmp_path / name / "report.html",
            synthetic.comparison(),
            synthetic.slices()[:1],
            relaxed_weights=[synthetic.relaxed_weights()],
        ).read_bytes()
        for name in ("first", "again")
    )
    assert first == again


HOSTILE = '<script>alert("1")</script> $x_{$ & \' "><img src=http://evil.example/x.png>'


def test_hostile_names_are_shown_and_not_obeyed():
    compared = synthetic.renamed(synthetic.comparison(), {"relaxed": HOSTILE})
    data = replace(compared.data["flow"], label=HOSTILE, operator=HOSTILE, runs=(HOSTILE,), flow={HOSTILE: HOSTILE})
    metrics = {key: replace(one, label=HOSTILE, unit=HOSTILE, source=HOSTILE) for key, one in compared.metrics.items()}
    kinds = {key: CurveKind(HOSTILE, HOSTILE, HOSTILE) for key in (*compared.curve_kinds, "extra " + HOSTILE)}
    points = compared.curves[(compared.curves.model == "cnn") & (compared.curves.curve == "energy_spectrum")]
    curves = pd.concat([compared.curves, points.assign(curve="extra " + HOSTILE)], ignore_index=True)
    compared = replace(compared, name=HOSTILE, data={"flow": data}, metrics=metrics, curve_kinds=kinds, curves=curves)
    relaxed = RelaxedWeights(HOSTILE, "O", {HOSTILE: np.ones((1, 24)), "b": 1 + np.arange(24)[None] / 100})
    how = HowMade(
        HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}
    )
    slices = [copy.deepcopy(s) for s in synthetic.slices()]
    for plane in slices:
        plane.panels[HOSTILE] = plane.panels.pop("relaxed")
        for name in ("label", "unit", "length_unit", "plane"):
            object.__setattr__(plane, name, HOSTILE)
    text = render_report(compared, slices, {HOSTILE: synthetic.histories()["relaxed"]}, [relaxed], how)
    assert "<script" not in text and "<img src=http" not in text
    assert_self_contained(text)
    assert HOSTILE in " ".join(Page(text).words)


def without_curves(compared):
    """A comparison of which there is little to draw."""
    return replace(compared, curves=compared.curves[:0], curve_kinds={})


@pytest.mark.usefixtures("blank_figures")
def test_a_bare_comparison_makes_a_page():
    compared = without_curves(synthetic.comparison())
    bare = [name for name, model in compared.models.items() if not model.trained]
    compared = replace(
        compared,
        models={name: compared.models[name] for name in bare},
        values=compared.values[compared.values.model.isin(bare)],
        data={"flow": replace(compared.data["flow"], flow={}, cutoff_wavenumber=None, runs=())},
    )
    text = render_report(compared, [], {}, [], HowMade())
    page = Page(text)
    assert "No network was trained" in page.text and len(page.every("figure")) == 1
    for heading in ("Scale by scale", "Velocity gradients", "Learning", "What the relaxed weights say"):
        assert heading not in page.text
    assert_self_contained(text)


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize(("resolution", "said"), [(0.83, True), (1.4, False)])
def test_a_flow_whose_smallest_scales_are_not_resolved_is_shown_as_one(resolution, said):
    compared = without_curves(synthetic.comparison())
    flow = {**compared.data["flow"].flow, "kmax_eta": resolution}
    compared = replace(compared, data={"flow": replace(compared.data["flow"], flow=flow)})
    text = Page(render_report(compared, [], {}, [], HowMade())).text
    assert (f"{resolution}, below 1: the smallest scales are not resolved" in text) is said


@pytest.mark.usefixtures("blank_figures")
def test_empty_histories_and_weights_are_left_out():
    histories = {"relaxed": [], "unknown": synthetic.histories()["cnn"]}
    compared = without_curves(synthetic.comparison())
    text = render_report(compared, [], histories, [RelaxedWeights("relaxed", "O", {})], HowMade())
    page = Page(text)
    assert "Learning curves" not in text and "Relaxed octahedral has no relaxed weights." in page.text


@pytest.mark.usefixtures("blank_figures")
def test_curves_of_further_metrics_are_drawn():
    compared = synthetic.comparison()
    points = compared.curves[(compared.curves.model == TRUTH) & (compared.curves.curve == "energy_spectrum")]
    kind = CurveKind("Third-order structure function", "r", "S3")
    compared = replace(
        compared,
        curve_kinds={**compared.curve_kinds, "structure": kind},
        curves=pd.concat([compared.curves, points.assign(curve="structure")], ignore_index=True),
    )
    page = Page(render_report(compared, [], {}, [], HowMade()))
    assert "Further statistics" in page.text and "Third-order structure function." in page.text


@pytest.mark.usefixtures("blank_figures")
def test_a_report_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(UndefinedError):
        write_report(path, synthetic.comparison(), how_made=object())
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_study_is_the_same_page_with_intervals():
    result = synthetic.comparison(seeds=3)
    text = render_report(result, [], {}, [], study_how_made(result, {"output": "runs/study"}))
    page = Page(text)
    assert_self_contained(text)
    for words in ("Which differences are real", "Against best interpolation", "How the intervals are made", "ahead"):
        assert words in page.text
    assert "flowsr compare runs/study/config.yaml" in page.text and len(page.every("figure")) == 2
    for model in result.models.values():
        assert model.label in page.text
