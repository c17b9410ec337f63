import numpy as np
import pytest
from PIL import Image

from flowsr.report import SliceSet, hero_figure
from flowsr.report.figures.slices import draw_hero
from tests.report import synthetic


def test_the_picture_is_1600_wide_and_light(tmp_path):
    path = hero_figure(tmp_path / "hero.png", synthetic.comparison(), synthetic.slices()[0], "relaxed")
    with Image.open(path) as picture:
        assert picture.width == 1600 and 300 < picture.height < 500
    assert path.stat().st_size < 600_000


def test_noise_on_a_fine_grid_stays_below_the_limit(tmp_path):
    noise = np.random.default_rng(0).standard_normal((3, 512, 512))
    plane = SliceSet(
        "Noise",
        "$n$",
        "1",
        True,
        ("x", "y"),
        "1",
        (0, 1, 0, 1),
        "z = 0",
        noise[0, ::4, ::4],
        {"spectral": noise[1], "cnn": noise[2]},
        noise[0],
    )
    assert hero_figure(tmp_path / "hero.png", synthetic.comparison(), plane).stat().st_size < 600_000


def test_it_shows_the_best_interpolation_and_the_best_network():
    plane = synthetic.slices()[0]
    figure = draw_hero(synthetic.comparison(), plane, ["spectral", "relaxed"])
    titles = [text.get_text() for axes in figure.axes for text in axes.texts]
    for title in ("Coarse input", "Fourier", "Relaxed octahedral", "Truth", "8³ cells", "32³ cells"):
        assert title in titles
    images = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_array().ndim == 2]
    assert len({image.get_clim() for image in images[:4]}) == 1


def test_without_a_network_there_is_no_picture(tmp_path):
    plane = synthetic.slices()[0]
    with pytest.raises(ValueError, match="an interpolation and a network"):
        hero_figure(tmp_path / "hero.png", synthetic.comparison(), plane, "absent")
    assert not (tmp_path / "hero.png").exists()
