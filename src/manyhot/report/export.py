"""Tables as CSV, Markdown and LaTeX, and figures as SVG for light and dark paper, PNG and CSV."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv
from pyarrow import types as kinds

from manyhot.errors import OutputError
from manyhot.files import atomic_write, write_text
from manyhot.report.figure import FONT, Figure, Scheme, colour, concrete
from manyhot.report.prerender import draw_whole, to_png
from manyhot.report.svg import escaped
from manyhot.report.text import metric

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {c: "\\" + c for c in "&%$#_{}"}


def to_csv(table: pa.Table) -> str:
    """Return a table as CSV; lists are joined by ``|``."""
    import polars as pl
    import polars.selectors as cs

    frame = pl.DataFrame(pl.from_arrow(table))
    texts = cs.list().list.eval(pl.element().cast(pl.String)).list.join("|")
    return frame.with_columns(texts).write_csv()


def to_markdown(table: pa.Table, *, digits: int = 4) -> str:
    """Return a table in the pipe syntax of GitHub and Pandoc; numbers are right-aligned."""
    head, *rows = (
        [_MARKDOWN.sub(r"\\\1", c) for c in r] for r in [_head(table), *_cells(table, digits, "–")]
    )
    marks = ["---:" if _is_number(f.type) else "---" for f in table.schema]
    lines = [head, marks, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(table: pa.Table, *, digits: int = 4) -> str:
    """Return a table as a LaTeX ``tabular`` with the rules of booktabs; numbers are right-aligned."""
    columns = "".join("r" if _is_number(f.type) else "l" for f in table.schema)
    head, *rows = ([_latex(c) for c in row] for row in [_head(table), *_cells(table, digits, "–")])
    numbers = [i for i, f in enumerate(table.schema) if _is_number(f.type)]
    for row in rows:
        for i in numbers:  # a hyphen is not a minus
            row[i] = f"$-${row[i][1:]}" if row[i].startswith("-") and row[i] != "--" else row[i]
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", f"{' & '.join(head)} \\\\", "\\midrule"]
    lines += [f"{' & '.join(row)} \\\\" for row in rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _head(table: pa.Table) -> list[str]:
    return [name.replace("_", " ") for name in table.column_names]


def _cells(table: pa.Table, digits: int, absent: str) -> list[list[str]]:
    columns = [
        [_text(v, _digits(name, table[name], digits), absent) for v in table[name].to_pylist()]
        for name in table.column_names
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _text(value: object, digits: int, absent: str) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return absent
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return " ".join(str(value).split())


def _finite(value: object) -> object:
    """Return the value, or None if it is NaN or infinite, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)


def _is_number(kind: pa.DataType) -> bool:
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind))


def for_paper(ranked: pa.Table) -> pa.Table:
    """Return a leaderboard with shares in percent and parameters in millions."""
    ranked_by = next(name for name in ranked.column_names if " " in name)
    columns: dict[str, pa.ChunkedArray] = {}
    for name in ranked.column_names:
        of = ranked_by if name in ("lo", "hi") else name
        if name == "params":
            columns["parameters (M)"] = pc.round(ranked[name], 1)
        elif " " in of and metric(of.rpartition(" ")[2]).percent:
            columns[name if name in ("lo", "hi") else f"{name} (%)"] = pc.multiply(ranked[name], 100.0)
        else:
            columns[name] = ranked[name]
    return pa.table(columns)


def _digits(name: str, values: pa.ChunkedArray, digits: int) -> int:
    """Return the decimals of a column: 2 for percent, 1 for millions, otherwise `digits`."""
    if name.endswith("(M)"):
        return 1
    # The ends of an interval of percent are percent, too.
    return (
        2 if name.endswith("(%)") or (name in ("lo", "hi") and (pc.max(values).as_py() or 0) > 1) else digits
    )


def write_text_table(table: pa.Table, kind: str, path: Path | None) -> str:
    """Return a table as ``csv``, ``markdown``, ``latex`` or ``json``; also write it to `path`, if passed."""
    if kind == "csv":
        text = to_csv(table)
    elif kind == "json":
        rows = [{k: _finite(v) for k, v in row.items()} for row in table.to_pylist()]
        text = json.dumps(rows, allow_nan=False) + "\n"
    else:
        text = to_markdown(table) if kind == "markdown" else to_latex(table)
    if path is not None:
        write_text(path, text)
    return text


def check_no_file(folder: Path) -> None:
    """Raise an `OutputError` if the path of a report's folder is a file."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            "The report's folder cannot be created, because a file has the same name.",
            where=folder,
            do="move or rename the file",
        )


def undrawn() -> str:
    """Return which packages for figures are missing and how to install them; empty if none is missing."""
    missing = [name for name in ("altair", "vl_convert") if importlib.util.find_spec(name) is None]
    return f'{" and ".join(missing)} missing; pip install "manyhot[report]"' if missing else ""


_SUFFIXES = (".svg", ".png", ".csv")


def save_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write each figure as NAME.svg, NAME-dark.svg, NAME.png and NAME.csv, and return the paths.

    The same figures give the same bytes. Each file is written atomically. Files of figures that no longer
    exist are removed.

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
    """Return a drawing with its own background, font, title and description."""
    start, _, rest = svg.partition(">")
    described = f"<title>{escaped(figure.title)}</title><desc>{escaped(figure.alt)}</desc>"
    paper = f'<rect width="100%" height="100%" fill="{colour("paper")}"/>'
    return concrete(f'{start} font-family="{FONT}">{described}{paper}{rest}\n', scheme)


def _csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink)
    return bytes(sink.getvalue().to_pybytes())
