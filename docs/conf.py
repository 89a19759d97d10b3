"""Sphinx configuration: MyST pages, furo theme, API pages from the docstrings."""

from typing import Any

import cgbench

project = "cgbench"
author = "The cgbench developers"
copyright = "2026, The cgbench developers"  # noqa: A001
release = cgbench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
# Pages link to headings of others by the names that they have on every site of repositories.
myst_heading_anchors = 3
exclude_patterns = ["_build", "schemas"]
html_theme = "furo"
html_title = "cgbench"
autodoc_typehints = "description"
# Attributes as a list in the docstring of their class: once, also where they are properties.
napoleon_use_ivar = True


def escape_bars(
    app: Any, what: str, name: str, found: object, options: object, lines: list[str]
) -> None:
    """Escape bars: docstrings write absolute values with them, never substitutions."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def skip_tuple_fields(
    app: Any, what: str, name: str, found: object, skip: bool, options: object
) -> bool | None:
    """Skip the fields of named tuples: their docstrings list them already."""
    return True if type(found).__name__ == "_tuplegetter" else None


def setup(app: Any) -> None:
    """Register the two hooks above."""
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-skip-member", skip_tuple_fields)
