"""Sphinx: the essays beside this file, the API from the docstrings, and a gallery whose pictures its own code draws."""

import os
import re
from importlib import metadata

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

project = "flowsr"
author = "the flowsr developers"
release = metadata.version("flowsr")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["build", "gallery/README.rst", "gallery_built/**/*.ipynb", "gallery_built/sg_execution_times.rst"]
# ref.python: words of shapes, (batch, x, y, z), are no references.
suppress_warnings = ["config.cache", "myst.xref_missing", "ref.python"]
html_theme = "furo"
html_title = "flowsr"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "dollarmath"]

templates_path = ["templates"]
autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# A package lists its modules; what it offers from them is documented where it is defined.
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "ignore-module-all": True,
    "exclude-members": "CallablePackage",
}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "gallery_built",
    "filename_pattern": r".*\.py",
    "image_scrapers": ("matplotlib",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 0,
}


def _plain_bars(app, what, name, obj, options, lines):
    """|u| is a modulus in our docstrings, not a substitution."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        lines[number] = "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)


def setup(app):
    app.connect("autodoc-process-docstring", _plain_bars)
