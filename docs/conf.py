"""Sphinx configuration: MyST pages, parts generated from the code, formulas without JavaScript.

A line of a page that ends in ``<!-- generated: NAME -->`` is replaced by what the function NAME of
``generated.py`` returns.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import generated  # noqa: E402

from manyhot._version import __version__  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "manyhot"
author = "The manyhot developers"
copyright = "The manyhot developers"
version = release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = f"manyhot {__version__}"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["manyhot.css"]
html_copy_source = False
html_show_sphinx = False
html_use_index = False
html_theme_options = {"top_of_page_buttons": []}


def insert_generated(_: Sphinx, __: str, source: list[str]) -> None:
    """Replace the markers of a page."""
    source[0] = generated.MARKER.sub(lambda found: getattr(generated, found[1])(), source[0])


def pages_to_reread(_: Sphinx, env: BuildEnvironment, *__: Any) -> list[str]:
    """Return the pages with markers: the code that they show may have changed without the page."""
    return [
        name
        for name in env.found_docs
        if generated.MARKER.search(Path(env.doc2path(name)).read_text("utf-8"))
    ]


def visit_inline(self: Any, node: nodes.math) -> None:
    """Write a formula within a line as MathML, which browsers draw by themselves."""
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """Write a formula of its own as MathML."""
    self.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the hooks."""
    app.connect("source-read", insert_generated)
    app.connect("env-get-outdated", pages_to_reread)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
