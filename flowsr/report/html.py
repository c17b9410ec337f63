"""What every page shares: one template environment, figures as text of the page, numbers as text, whole files."""

from __future__ import annotations

import base64
import io
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from flowsr.compare import findings
from flowsr.files import write_bytes_atomic, write_text_atomic
from flowsr.report.style import DARK, RC, darken, on_any_page, with_subscripts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HowMade:
    """What it takes to make the report again. Whatever is empty is left out of the page.

    Args:
        command: the command line.
        config: the resolved configuration, JSON-able.
        versions: package -> version.
        seeds: what -> seed.
        checksums: input -> checksum.
        notes: further lines, label -> text (device, date, seconds).
    """

    command: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, Any] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def config_text(self) -> str:
        """The configuration as YAML."""
        return yaml.safe_dump(dict(self.config), sort_keys=False, allow_unicode=True) if self.config else ""


@dataclass(frozen=True)
class Picture:
    """A figure ready for the page: drawing (SVG element) or photo (``data:`` address), alternative text, caption.

    A drawing follows the page from light to dark; a photo has another for the dark one.
    """

    alt: str
    caption: Markup | str
    drawing: Markup | None = None
    photo: str | None = None
    dark_photo: str | None = None
    wide: bool = True


def drawn(figure: Figure, name: str, alt: str, caption: str | Markup, wide: bool = True) -> Picture:
    """A figure as a drawing of the page; ``name`` is unique in it."""
    return Picture(alt=alt, caption=caption, drawing=svg_markup(figure, name), wide=wide)


def photographed(figure: Figure, dots_per_inch: int, limit: int, alt: str, caption: str | Markup) -> Picture:
    """A figure as a photo, for light pages and for dark ones, of ``limit`` bytes each if 256 colours do for it."""
    light = data_address(png_bytes(figure, dots_per_inch, limit))
    darken(figure)
    dark = data_address(png_bytes(figure, dots_per_inch, limit, facecolor=DARK["#ffffff"]))
    return Picture(alt=alt, caption=caption, photo=light, dark_photo=dark)


def rendered(template: str, **values: Any) -> str:
    """A page from a file in ``flowsr/report/templates`` and the names that it uses; a missing one is an error."""
    dark = "; ".join(f"--f{colour[1:]}: {instead}" for colour, instead in DARK.items())
    return _environment().get_template(template).render(dark_figures=dark, **values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    options = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=PackageLoader("flowsr.report"), **options)
    environment.filters |= {"subscripts": with_subscripts, "number": number, "on_any_page": on_any_page}
    return environment


def write_page(path: str | Path, page: str) -> Path:
    """Write a page, whole or not at all."""
    path = write_text_atomic(path, page)
    log.info("wrote %s (%d kB)", path, len(page.encode()) // 1000)
    return path


def svg_markup(figure: Figure, name: str) -> Markup:
    """The figure as an SVG element for a page.

    Identifiers are prefixed with ``name``, so that several drawings can share a page; comments, metadata, the document
    type and name spaces (HTML knows them) are dropped, so that nothing in it looks like an address. Its background is
    the page's, and the colours of :data:`flowsr.report.style.DARK` follow the page. The same figure gives the same
    text. ``name``, of letters, digits and dashes, is unique in the page.
    """
    unsaid = {"Date": None, "Creator": None, "Format": None, "Type": None}
    text = _saved(figure, format="svg", metadata=unsaid, facecolor="none").decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"(<!--.*?-->|<style[^>]*>.*?</style>|<metadata>.*?</metadata>)\s*", "", text, flags=re.S)
    text = re.sub(r"\sxmlns(:\w+)?=\"[^\"]*\"", "", text)
    used = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", text))
    text = re.sub(r"\sid=\"([^\"]*)\"", lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r"(href=\"|url\()#", rf"\1#{name}-", text)
    text = re.sub(r"((?:fill|stroke): )(#[0-9a-f]{6})\b", lambda m: m[1] + on_any_page(m[2]), text)
    head = r'<svg \1 aria-hidden="true" focusable="false">'
    text = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", head, text, count=1)
    return Markup(re.sub(r"\n\s*", "\n", text).strip())


def png_bytes(figure: Figure, dots_per_inch: int = 180, limit: int | None = None, facecolor: str = "white") -> bytes:
    """The figure as PNG, in 256 colours of its own where full colour would exceed ``limit`` bytes."""
    png = _saved(figure, format="png", dpi=dots_per_inch, metadata={"Software": None}, facecolor=facecolor)
    if limit is None or len(png) <= limit:
        return png
    reduced = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(reduced, "PNG", optimize=True)
    return reduced.getvalue()


def write_figure(path: str | Path, figure: Figure) -> Path:
    """Write a picture, ``.png`` or ``.svg``, whole or not at all."""
    path = Path(path)
    return write_bytes_atomic(path, png_bytes(figure) if path.suffix == ".png" else _saved(figure, format="svg"))


def _saved(figure: Figure, **options) -> bytes:
    """What ``savefig`` writes under the common settings; letters that the fonts lack become boxes, silently."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, **options)
    return buffer.getvalue()


def data_address(png: bytes) -> str:
    """PNG bytes as a ``data:`` address."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def size_text(shape: Sequence[int]) -> str:
    """``64³`` for a cube, ``32 × 65 × 32`` otherwise."""
    return f"{shape[0]}³" if len(set(shape)) == 1 and len(shape) == 3 else " × ".join(str(n) for n in shape)


def number(value: float | None, digits: int = 3) -> str:
    """:func:`flowsr.compare.findings.number` as pages and figures show it."""
    return findings.number(value, digits, page=True)


def count(value: int | None) -> str:
    """A whole number, thousands apart: ``125 000``, ``12.3M``; a dash for none."""
    if not value:
        return "–"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size * 10 or (value >= size and letter != "M"):
            return f"{value / size:.3g}{letter}"
    return f"{int(value):,}".replace(",", "\u2009")
