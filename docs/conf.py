"""Settings of Sphinx: `sphinx-build -W -b html docs docs/_build`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mnv1cli import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "mnv1"
author = "The mnv1 authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "mnv1"
# Docstrings mark names with single backticks.
default_role = "literal"
# Two hyphens begin an option.
smartquotes = False
autodoc_typehints = "both"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
myst_heading_anchors = 3
# Links to files outside docs, but not pictures.
_OUTSIDE = re.compile(r"(?<!!)\[([^]]+)\]\(\.\./(?:\.\./)*([^)#]+)[^)]*\)")
_CONTENTS = """
```{{toctree}}
:hidden:
:caption: {caption}

{pages}
```
"""
_LINK = re.compile(r"^- \[[^]]+\]\(([^)]+)\.md\)", re.M)


def add_contents(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Give the pages that list others the contents that Sphinx wants.

    So the list of links, which reads well on GitHub, is the only one to keep.
    """
    if not docname.endswith("index"):
        return
    for section in source[0].split("\n## ")[1:] or [source[0]]:
        title, _, body = section.partition("\n")
        pages = "\n".join(_LINK.findall(body))
        if pages:
            source[0] += _CONTENTS.format(caption=title.lstrip("# "), pages=pages)


def name_outside_files(_app: Sphinx, _docname: str, source: list[str]) -> None:
    """Name the files outside docs that pages link to, which a built site does not have."""

    def named(link: re.Match[str]) -> str:
        label, path = link.groups()
        return f"`{path}`" if label.startswith("`") else f"{label} (`{path}`)"

    source[0] = _OUTSIDE.sub(named, source[0])


def setup(app: Sphinx) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("source-read", name_outside_files)
