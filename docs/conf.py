"""How Sphinx makes these pages: `nox -s docs`."""

project = "pt2e-ci"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "pt2e-ci"
exclude_patterns = ["conf.py"]
myst_heading_anchors = 3
