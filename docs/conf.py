"""Settings of the documentation site, which ``make docs`` builds with Sphinx."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "src")]

from docs.reference_pages import write_api, write_configuration  # noqa: E402

import bigr  # noqa: E402

project = "BiGR-Lightning"
author = "BiGR-Lightning contributors"
copyright = f"2025, {author}"
release = version = bigr.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
autosummary_generate = True
viewcode_follow_imported_members = False  # objects of builtins have no page of source code

exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "BiGR-Lightning"
html_static_path = ["_static"]
html_js_files = ["accessible.js"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d4ed8", "color-brand-content": "#1d4ed8"},
    "dark_css_variables": {"color-brand-primary": "#93c5fd", "color-brand-content": "#93c5fd"},
}


def setup(_: Any) -> None:
    """Write the generated pages before Sphinx reads the others."""
    reference = REPOSITORY / "docs" / "reference"
    write_configuration(REPOSITORY / "conf", reference / "configuration.md")
    write_api(REPOSITORY / "src" / "bigr", bigr.__all__, reference / "api")
