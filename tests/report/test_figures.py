from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from flowsr.compare.result import TRUTH, Model, Row
from flowsr.report import html
from flowsr.report.figures.curves import curve_figure, curve_of, learning_figure, pdfs_figure, spectra_figure
from flowsr.report.figures.ranking import scores_figure
from flowsr.report.figures.slices import slices_figure
from flowsr.report.style import label_text, model_looks, plain, typeset
from tests.report import synthetic


@pytest.fixture(scope="module")
def comparison():
    return synthetic.comparison()


@pytest.fixture(scope="module")
def looks(comparison):
    return model_looks(comparison.models)


def lines_of(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def test_a_model_has_one_colour_everywhere(comparison, looks):
    figures = [
        spectra_figure(comparison, "flow", looks),
        pdfs_figure(comparison, "flow", looks),
        curve_figure(comparison, "energy_spectrum", looks),
    ]
    for figure in figures:
        for axes in figure.axes:
            lines = lines_of(axes)
            for look in looks.values():
                assert to_hex(lines[look.label].get_color()) == look.colour.lower()
    labels = [tick for tick in scores_figure(comparison, looks, ["nrmse"]).axes[0].get_yticklabels()]
    assert [to_hex(tick.get_color()) for tick in labels][-1] == looks["relaxed"].colour.lower()


def test_models_differ_in_colour_or_dashes():
    models = {f"net{i}": Model(f"n{i}", trained=True) for i in range(6)} | {f"old{i}": Model(f"o{i}") for i in range(2)}
    looks = model_looks(synthetic.comparison().models | models)
    assert len({(look.colour, str(look.line)) for look in looks.values()}) == len(looks)
    assert model_looks({"relaxed": Model("", trained=True)})["relaxed"].colour == looks["relaxed"].colour


def test_truth_is_black_and_spectra_show_the_cutoff(comparison, looks):
    figure = spectra_figure(comparison, "flow", looks)
    energy = figure.axes[0]
    truth = lines_of(energy)["Truth"]
    assert to_hex(truth.get_color()) == "#000000"
    np.testing.assert_allclose(truth.get_ydata(), comparison.curve(Row(TRUTH), "flow", "energy_spectrum")[1])
    assert energy.get_xscale() == energy.get_yscale() == "log"
    for axes in figure.axes:
        assert any(
            np.allclose(line.get_xdata(), comparison.data["flow"].cutoff_wavenumber) for line in axes.get_lines()
        )
    guide = [
        line for line in energy.get_lines() if len(line.get_xdata()) == 2 and line.get_xdata()[0] != line.get_xdata()[1]
    ]
    (slope,) = {round(float(np.diff(np.log(g.get_ydata()))[0] / np.diff(np.log(g.get_xdata()))[0]), 6) for g in guide}
    assert slope == pytest.approx(-5 / 3, abs=1e-5)


def test_compensated_spectrum_is_k_to_the_five_thirds_times_the_spectrum(comparison, looks):
    energy, compensated, _ = spectra_figure(comparison, "flow", looks).axes
    k, values = lines_of(energy)["Truth"].get_data()
    np.testing.assert_allclose(lines_of(compensated)["Truth"].get_ydata(), k ** (5 / 3) * values)


def test_the_gaussian_has_the_variance_of_the_truth(comparison, looks):
    axes = pdfs_figure(comparison, "flow", looks).axes[0]
    (area,) = axes.collections
    outline = area.get_paths()[0].vertices
    truth = curve_of(comparison, Row(TRUTH), "flow", "pdf_longitudinal")
    variance = np.trapezoid(truth.x**2 * truth.y, truth.x) / np.trapezoid(truth.y, truth.x)
    assert outline[:, 1].max() == pytest.approx(1 / np.sqrt(2 * np.pi * variance), rel=0.02)


def test_points_a_logarithm_cannot_show_are_left_out(comparison, looks):
    frame = comparison.curves[comparison.curves.model != "strict"].reset_index(drop=True)
    spectrum = frame.curve == "energy_spectrum"
    points = frame.index[spectrum & (frame.model == "cnn")]
    frame.loc[points[:3], "y"] = [0.0, np.nan, np.inf]
    frame.loc[spectrum & (frame.model == "nearest"), "y"] = np.nan
    lines = lines_of(spectra_figure(replace(comparison, curves=frame), "flow", looks).axes[0])
    assert len(lines["Plain CNN"].get_xdata()) == len(points) - 3
    assert "Strict octahedral" not in lines and "Nearest" not in lines


def test_slices_share_one_scale_per_row(looks):
    plane = synthetic.slices()[1]
    figure = slices_figure(plane, looks, ["spectral", "relaxed"])
    images = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_array().ndim == 2]
    fields, errors = images[:4], images[4:]
    assert len({image.get_clim() for image in fields}) == len({image.get_clim() for image in errors}) == 1
    assert len(errors) == 2
    for image in (fields[0], errors[0]):
        low, high = image.get_clim()
        assert low == -high
    np.testing.assert_array_equal(fields[-1].get_array(), plane.truth.T)
    np.testing.assert_array_equal(errors[1].get_array(), (plane.panels["relaxed"] - plane.truth).T)
    np.testing.assert_allclose(fields[0].get_extent(), plane.extent)


def test_slices_of_a_flat_box_keep_its_proportions(looks):
    from flowsr.grid import Grid
    from flowsr.report import collect_slices

    field = np.random.default_rng(0).standard_normal((3, 16, 8, 8))
    plane = collect_slices(field, field[:, ::4, ::4, ::4], {"relaxed": field}, Grid((16, 8, 8), (0.5,) * 3))[0]
    figure = slices_figure(plane, looks, ["relaxed"])
    figure.canvas.draw()
    frame = figure.axes[0].get_window_extent()
    assert frame.width / frame.height == pytest.approx(2.0, rel=1e-3)


def test_the_best_epoch_is_marked_in_both_panels(looks):
    histories = {"relaxed": synthetic.histories()["relaxed"], "cnn": []}
    figure = learning_figure(histories, looks)
    losses = [line["validation_loss"] for line in histories["relaxed"]]
    best = int(np.argmin(losses))
    expected = (best + 1, histories["relaxed"][best]["seconds"])
    for axes, x in zip(figure.axes, expected):
        (dot,) = [line for line in axes.get_lines() if line.get_marker() == "o"]
        assert dot.get_xdata()[0] == x and dot.get_ydata()[0] == losses[best]


def test_figures_leave_matplotlib_as_it_was(comparison, looks):
    before = dict(matplotlib.rcParams)
    html.svg_markup(spectra_figure(comparison, "flow", looks), "a")
    assert dict(matplotlib.rcParams) == before


def test_drawings_are_deterministic_and_have_names_of_their_own(comparison, looks):
    first, again, other = (html.svg_markup(spectra_figure(comparison, "flow", looks), name) for name in ("a", "a", "b"))
    assert first == again
    ids = [set(part.split('"')[0] for part in svg.split(' id="')[1:]) for svg in (first, other)]
    assert ids[0] and all(name.startswith("a-") for name in ids[0]) and not ids[0] & ids[1]
    assert "http" not in first and "<style" not in first and "<!--" not in first


def test_pictures_over_the_limit_lose_colours_and_not_size(looks):
    from io import BytesIO

    from PIL import Image

    figure = slices_figure(synthetic.slices()[0], looks, ["spectral", "relaxed"])
    full, reduced = html.png_bytes(figure, 60), html.png_bytes(figure, 60, 1000)
    assert len(reduced) < len(full)
    assert Image.open(BytesIO(reduced)).size == Image.open(BytesIO(full)).size


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("E(k)", "$E(k)$"),
        ("wavenumber k", "wavenumber $k$"),
        ("|E_p - E_t| / E_t", "|$E_p$ - $E_t$| / $E_t$"),
        ("E_{p-t} / E_t", "$E_{p-t}$ / $E_t$"),
        ("du_i/dx_j / true rms", r"$\partial u_i/\partial x_j$ / true rms"),
        ("Spectral error, k > k_c", "Spectral error, $k$ > $k_c$"),
        ("my_metric", "my_metric"),
    ],
)
def test_symbols_in_labels_are_set_as_mathematics(label, shown):
    assert typeset(label) == shown


def test_an_outlier_does_not_dwarf_the_rest(comparison, looks):
    far = synthetic.with_values(comparison, "nearest", "nrmse", 25.5)
    axes = scores_figure(far, looks, ["nrmse"]).axes[0]
    assert axes.get_xlim()[1] < 3
    assert "25.5 →" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("text", [r"$\frac{1}$", "$x$ $", "cost: 5 $", r"a\b$c$d_$", "$<script>$", "乱流", r"\$"])
def test_labels_that_are_not_mathematics_are_drawn_as_they_stand(text):
    from matplotlib.figure import Figure

    for shown in (label_text(text), plain(text)):
        figure = Figure()
        figure.text(0.5, 0.5, shown)
        assert "<svg" in html.svg_markup(figure, "t")
    assert label_text("$E(k)$") == "$E(k)$"
