"""Sphinx configuration: MyST pages, furo theme, API pages from the docstrings."""

import cgbench

project = "cgbench"
author = "The cgbench developers"
copyright = "2026, The cgbench developers"
release = cgbench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
exclude_patterns = ["_build", "schemas"]
html_theme = "furo"
html_title = "cgbench"
autodoc_typehints = "description"
