"""Figures for a page: inline SVG that needs no script, and the data that makes figures interactive."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

from markupsafe import Markup

from manyhot.errors import ManyhotError, MissingExtraError, OutputError
from manyhot.extras import check_addresses
from manyhot.files import cache_folder, write_text
from manyhot.report import figure as theme
from manyhot.report import svg as letters
from manyhot.report.figure import Figure, Spec
from manyhot.report.page import asset, script_json
from manyhot.report.svg import lean

DATA_ID = "figure-data"
"""Id of the element that holds the data."""

PAGE_ROW = 1200
"""Width of a page in which figures stand side by side as far as they fit."""

CAPTION_BESIDE = 900
"""Maximum width of a figure that has its caption at its side if it is alone in its row."""

NARROWEST = 380
"""Minimum width of a figure with its caption."""

BETWEEN, APART = 28, 40
"""Space between the panels of a figure, and between figures; as in ``figures.css``."""

PICTURE = 1600
"""Width of a PNG in pixels."""

_UNDRAWN = re.compile(r"\\\\|\\u00[01][0-9a-f]|\\u007f|\\u202[89]|\\uffff|\\ufffe|\\[bf]")
"""Escapes in JSON of characters that neither an SVG nor the renderer's script may contain, and of a
backslash."""

_drawn: WeakKeyDictionary[Figure, tuple[str, ...]] = WeakKeyDictionary()

_started: dict[int, tuple[Mapping[str, Any], Future[list[str]]]] = {}
"""Drawings that were started, by the identity of the specification, which is kept for that."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure in a page.

    Attributes
    ----------
    svg : Markup
        The panels as inline SVG.
    width : float
        Width in pixels.
    lone : bool
        Whether the figure is alone in its row, so that there is space for the caption beside it.
    """

    svg: Markup
    width: float
    lone: bool


@dataclass(frozen=True, eq=False)
class FigurePage:
    """The figures of a page.

    Attributes
    ----------
    drawn : Mapping of str to DrawnFigure
        The drawn figures by name, as the macro ``figure`` of figure.html uses them.
    data : Markup
        JSON for ``<script type="application/json" id="figure-data">``.
    script : str
        An inline script that does not evaluate strings as code. The page's Content-Security-Policy must
        contain its hash.
    """

    drawn: Mapping[str, DrawnFigure]
    data: Markup
    script: str
    style: str


def prepare(figures: Sequence[Figure]) -> FigurePage:
    """Draw all figures, and collect the data and the script that make them interactive.

    Raises
    ------
    MissingExtraError
        If vl-convert is not installed.
    """
    return FigurePage(draw_inline(figures), _data(figures), _script() if figures else "", style())


def draw_inline(figures: Sequence[Figure]) -> dict[str, DrawnFigure]:
    """Return each figure's panels as inline SVG, by name, for a page without scripts."""
    for figure in figures:
        start_drawing(figure)
    open_ones = (figure for figure in figures if not figure.folded)
    rows = [row for _, run in groupby(open_ones, lambda figure: figure.section) for row in _rows(run)]
    rows += [[(figure, _width(figure))] for figure in figures if figure.folded]
    return {
        figure.name: DrawnFigure(_inline(figure), width, len(row) == 1 and width <= CAPTION_BESIDE)
        for row in rows
        for figure, width in row
    }


def _rows(figures: Iterable[Figure]) -> list[list[tuple[Figure, float]]]:
    """Return the figures of a section with their widths, as rows that a page has room for."""
    rows: list[list[tuple[Figure, float]]] = []
    left = 0.0
    for figure in figures:
        width = _width(figure)
        if width > left:
            rows.append([])
            left = PAGE_ROW
        rows[-1].append((figure, width))
        left -= width + APART
    return rows


def _width(figure: Figure) -> float:
    columns, widths = figure.spec["columns"], [_size(panel)[0] for panel in draw_panels(figure)]
    rows = (widths[i : i + columns] for i in range(0, len(widths), columns))
    return max(NARROWEST, *(sum(row) + BETWEEN * (len(row) - 1) for row in rows))


def style() -> str:
    """Return the CSS of figures."""
    return theme.style() + asset("figures.css")


def start_drawing(figure: Figure) -> None:
    """Draw the panels in a thread, or in the process that draws, if there is one."""
    if figure in _drawn or id(figure.spec) in _started:
        return
    panels = [_drawable(panel) for panel in figure.panels]
    if running() is None:
        _converter()  # whose absence is an error here
    pool = ThreadPoolExecutor(1)
    _started[id(figure.spec)] = (figure.spec, pool.submit(_draw, panels))
    pool.shutdown(wait=False)


def _draw(panels: Sequence[str]) -> list[str]:
    process = running()
    if process is not None and (drawn := process.draw(panels)) is not None:
        return drawn
    convert = _converter().vegalite_to_svg
    return [convert(panel, allowed_base_urls=[]) for panel in panels]


def draw_panels(figure: Figure) -> tuple[str, ...]:
    """Return the minified SVG of each panel, with colours as CSS variables. Drawings are cached."""
    if figure not in _drawn:
        start_drawing(figure)
        _, drawing = _started.pop(id(figure.spec))
        _drawn[figure] = tuple(
            lean(_numbered(panel), f"{figure.name}-{i}") for i, panel in enumerate(drawing.result())
        )
    return _drawn[figure]


def _drawable(panel: Spec) -> str:
    """Return a panel as JSON, with control characters and line separators replaced by U+FFFD."""
    return _UNDRAWN.sub(lambda m: m[0] if m[0] == r"\\" else r"\ufffd", json.dumps(panel))


def _numbered(svg: str) -> str:
    """Return a drawing with its ids numbered from 0; the renderer's counter continues between drawings."""
    ids = {name: f"id{i}" for i, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg)))}
    return re.sub(r'(\bid="|url\(#)([^")]+)', lambda m: m[1] + ids.get(m[2], m[2]), svg)


def draw_whole(figure: Figure) -> str:
    """Return the minified SVG of a figure, with its panels in rows as specified."""
    panels = draw_panels(figure)
    columns = figure.spec["columns"]
    sizes = [_size(panel) for panel in panels]
    widths = [max(w for w, _ in sizes[i::columns]) for i in range(min(columns, len(panels)))]
    parts, y = [], 0.0
    for start in range(0, len(panels), columns):
        row = zip(panels[start : start + columns], widths, strict=False)
        x = 0.0
        for panel, width in row:
            parts.append(f'<g transform="translate({x:g},{y:g})">{_inside(panel)}</g>')
            x += width + BETWEEN
        y += max(h for _, h in sizes[start : start + columns]) + BETWEEN
    width, height = sum(widths) + BETWEEN * (len(widths) - 1), y - BETWEEN
    box = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} fill="none">{"".join(parts)}</svg>'


def _size(svg: str) -> tuple[float, float]:
    found = re.match(r'<svg [^>]*?width="([\d.]+)" height="([\d.]+)"', svg)
    return (float(found[1]), float(found[2])) if found else (0.0, 0.0)


def _inside(svg: str) -> str:
    return svg[svg.index(">") + 1 : svg.rindex("<")]


def to_png(svg: str) -> bytes:
    """Return a drawing with concrete colours as a PNG about `PICTURE` pixels wide."""
    return bytes(_converter().svg_to_png(svg, scale=min(round(PICTURE / max(_size(svg)[0], 1), 2), 3)))


RENDERER_ADDRESSES = 75_000_000_000
"""Bytes of addresses that drawing needs: V8 reserves 70 GB, and uses 0.1 GB."""


def start_renderer() -> None:
    """Start the process that draws, if figures can be drawn."""
    with contextlib.suppress(ManyhotError):
        check_addresses(RENDERER_ADDRESSES, "the renderer of figures")
        if find_spec("vl_convert") is not None:
            start()


def _converter() -> Any:
    check_addresses(RENDERER_ADDRESSES, "the renderer of figures")
    try:
        import vl_convert
    except ImportError as error:
        raise MissingExtraError("Figures need vl-convert.", do='pip install "manyhot[report]"') from error
    return vl_convert


def _inline(figure: Figure) -> Markup:
    label, panels = html.escape(figure.alt), draw_panels(figure)
    parts = []
    for i, drawn in enumerate(panels):
        svg = drawn.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
        # One text alternative a figure: further panels would only repeat it.
        told = f'role="img" aria-label="{label}"' if i == 0 else 'aria-hidden="true"'
        svg = svg.replace("<svg", f"<svg {told}", 1)
        parts.append(f'<div class="panel" style="--w:{_size(drawn)[0]:g}px">{svg}</div>')
    return Markup("".join(parts))  # noqa: S704  drawn by us, texts escaped


def _data(figures: Sequence[Figure]) -> Markup:
    pool = _Pool()
    packed = {figure.name: _packed(figure, pool) for figure in figures}
    return script_json(
        {
            "words": list(pool.words),
            "pool": pool.columns,
            "config": theme.config() if figures else {},
            "letters": letters.letter_widths() if figures else [],
            "figures": packed,
        }
    )


def _packed(figure: Figure, pool: _Pool) -> Spec:
    spec = {k: v for k, v in figure.spec.items() if k not in ("datasets", "config", "$schema")}
    sheets = figure.spec["datasets"].items()
    return {"spec": spec, "data": {name: _columns(rows, pool) for name, rows in sheets}}


def _columns(rows: Sequence[Mapping[str, Any]], pool: _Pool) -> dict[str, int]:
    names = rows[0] if rows else ()
    return {name: pool.add([row[name] for row in rows]) for name in names}


class _Pool:
    """Columns and strings, each stored once for all figures and referred to by position."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.columns: list[Any] = []
        self._positions: dict[str, int] = {}

    def add(self, values: list[Any]) -> int:
        """Return the position of a column."""
        column: Any = values
        if len(values) > 1 and all(v == values[0] for v in values):
            column = {"n": len(values), "c": values[0]}
        elif any(isinstance(v, str) for v in values):
            column = {"w": [None if v is None else self._word(str(v)) for v in values]}
        key = json.dumps(column)
        if key not in self._positions:
            self._positions[key] = len(self.columns)
            self.columns.append(column)
        return self._positions[key]

    def _word(self, word: str) -> int:
        return self.words.setdefault(word, len(self.words))


@cache
def _script() -> str:
    # The bundle declares names of one letter, which a function keeps local. It is neither run nor fully
    # compiled before a figure becomes interactive.
    return f"function manyhotVega() {{\n{_bundle()}\nreturn window.vegaEmbed;\n}}\n{asset('figures.js')}"


def _bundle() -> str:
    """Return Vega as one script. Building it takes a second, so it is cached on disk."""
    converter = _converter()
    cached = cache_folder() / f"vega-{converter.__version__}.js"
    with contextlib.suppress(OSError):
        digest, _, script = cached.read_bytes().partition(b"\n")
        if digest.decode("latin-1") == hashlib.sha256(script).hexdigest():
            return script.decode()
    bundle: str = converter.javascript_bundle("window.vegaEmbed=vegaEmbed;").replace("</script", "<\\/script")
    with contextlib.suppress(OutputError):  # without a writable cache, it is built each time
        write_text(cached, f"{hashlib.sha256(bundle.encode()).hexdigest()}\n{bundle}")
    return bundle


_SERVE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import vl_convert
sys.stdin.reconfigure(encoding="utf-8")
sys.stdout.reconfigure(encoding="utf-8")
for line in sys.stdin:
    drawn = [vl_convert.vegalite_to_svg(panel, allowed_base_urls=[]) for panel in json.loads(line)]
    print(json.dumps(drawn), flush=True)
"""
"""What the process runs. If it fails, the caller draws itself, and raises the error."""

_POINT = json.dumps({"data": {"values": [{}]}, "mark": "point"})
"""The first drawing takes half a second longer than later ones."""


class Renderer:
    """A process that draws panels one by one, because the library holds Python's global lock while it draws.

    It starts while results are computed, takes half a second to get ready, and then draws on a core of its
    own: the 15 figures of ``manyhot evaluate imagenet`` take 1.5 CPU s.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603  our own code
            # -P: a module in the folder of the call is not a library.
            [sys.executable, "-P", "-c", _SERVE, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        atexit.register(self.close)
        self._send([_POINT])
        self._is_ready = False

    @property
    def is_mine(self) -> bool:
        """Whether the renderer runs and was started by this process, not by its parent before a fork."""
        return self._owner == os.getpid() and self._process.poll() is None

    def draw(self, panels: Sequence[str]) -> list[str] | None:
        """Return the SVG of panels, or None if the process has failed."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if not self._is_ready:
                self._receive()
                self._is_ready = True
            self._send(panels)
            return self._receive()
        return None

    def close(self) -> None:
        """End the process."""
        if self._owner == os.getpid():
            self._process.kill()
            with contextlib.suppress(OSError):
                self._process.communicate()

    def _send(self, panels: Sequence[str]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then nothing is received
            self._process.stdin.write(json.dumps(panels) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> list[str]:
        assert self._process.stdout is not None
        drawn: list[str] = json.loads(self._process.stdout.readline())
        return drawn


_running: list[Renderer] = []


def start() -> None:
    """Start the renderer's process, unless the current process has loaded the library that draws."""
    if "vl_convert" in sys.modules or running() is not None:
        return
    with contextlib.suppress(OSError):
        _running[:] = [Renderer()]


def running() -> Renderer | None:
    """Return the renderer that this process has started; None if there is none."""
    return next((r for r in _running if r.is_mine), None)
