"""Matplotlib figures as text of a page: scalable SVG without outside references, or PNG as a data address."""

from __future__ import annotations

import base64
import io
import re
import warnings

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from flowsr.report.style import RC


def svg_markup(figure: Figure, name: str) -> Markup:
    """The figure as an SVG element for a page.

    Identifiers are prefixed with ``name``, so that several drawings can share a page; comments, metadata, the document
    type and name spaces (HTML knows them) are dropped, so that nothing in it looks like an address. The same figure
    gives the same text.

    Args:
        figure: what to draw.
        name: unique in the page; letters, digits and dashes.
    """
    unsaid = {"Date": None, "Creator": None, "Format": None, "Type": None}
    text = _saved(figure, format="svg", metadata=unsaid).decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    text = re.sub(r"<style[^>]*>.*?</style>\s*", "", text, flags=re.S)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"\sxmlns(:\w+)?=\"[^\"]*\"", "", text)
    used = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", text))
    text = re.sub(r"\sid=\"([^\"]*)\"", lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r"(href=\"|url\()#", rf"\1#{name}-", text)
    text = re.sub(
        r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 aria-hidden="true" focusable="false">', text, count=1
    )
    return Markup(re.sub(r"\n\s*", "\n", text).strip())


def png_bytes(figure: Figure, dots_per_inch: int = 180, limit: int | None = None) -> bytes:
    """The figure as PNG, in 256 colours of its own where full colour would exceed ``limit`` bytes."""
    png = _saved(figure, format="png", dpi=dots_per_inch, metadata={"Software": None})
    if limit is None or len(png) <= limit:
        return png
    reduced = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(reduced, "PNG", optimize=True)
    return reduced.getvalue()


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
