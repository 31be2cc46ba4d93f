"""Saving figures as files: for light and dark paper, as a picture, and the numbers that they draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from manyhot.files import atomic_write
from manyhot.report.figure import Figure
from manyhot.report.prerender import draw_whole, to_png
from manyhot.report.theme import FONT, Scheme, colour, concrete

_SUFFIXES = (".svg", ".png", ".csv")


def save_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write each figure as NAME.svg, NAME-dark.svg, NAME.png and NAME.csv and return the paths.

    The same figures give the same bytes. A file is either whole or as it was. What an earlier run left of
    figures that there are no more goes.

    Raises
    ------
    MissingExtraError
        If vl-convert is not installed.
    OutputError
        If a file cannot be written.
    """
    written = [path for figure in figures for path in _save(figure, Path(folder))]
    if Path(folder).is_dir():
        for left in set(Path(folder).iterdir()) - set(written):
            if left.suffix in _SUFFIXES:
                left.unlink()
    return written


def _save(figure: Figure, folder: Path) -> list[Path]:
    drawn = draw_whole(figure)
    light, dark = (_standalone(figure, drawn, scheme) for scheme in ("light", "dark"))
    contents = {
        f"{figure.name}.svg": light.encode(),
        f"{figure.name}-dark.svg": dark.encode(),
        f"{figure.name}.png": to_png(light),
        f"{figure.name}.csv": _csv(figure.data),
    }
    return [_write(folder / name, content) for name, content in contents.items()]


def _write(path: Path, content: bytes) -> Path:
    with atomic_write(path) as part:
        part.write_bytes(content)
    return path


def _standalone(figure: Figure, svg: str, scheme: Scheme) -> str:
    """Return a drawing with paper, font, title and description of its own."""
    start, _, rest = svg.partition(">")
    told = f"<title>{_escaped(figure.title)}</title><desc>{_escaped(figure.alt)}</desc>"
    paper = f'<rect width="100%" height="100%" fill="{colour("paper")}"/>'
    return concrete(f'{start} font-family="{FONT}">{told}{paper}{rest}\n', scheme)


def _csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
