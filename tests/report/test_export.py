"""Tables as Markdown and LaTeX."""

import pyarrow as pa
import pytest

from manyhot.errors import OutputError
from manyhot.report.export import to_latex, to_markdown, write_text_table

TABLE = pa.table(
    {"model_name": ["a_b|c", "x & y % $1 #2 {z} ~ ^ \\"], "real1": [0.123456, None], "n": [50_000, 3]}
)


def test_markdown():
    assert to_markdown(TABLE, digits=3) == (
        "| model name | real1 | n |\n"
        "| --- | ---: | ---: |\n"
        "| a\\_b\\|c | 0.123 | 50000 |\n"
        "| x & y % $1 \\#2 \\{z\\} \\~ ^ \\\\ | – | 3 |\n"
    )


def test_latex():
    assert to_latex(TABLE, digits=3) == (
        "\\begin{tabular}{lrr}\n\\toprule\nmodel name & real1 & n \\\\\n\\midrule\n"
        "a\\_b|c & 0.123 & 50000 \\\\\n"
        "x \\& y \\% \\$1 \\#2 \\{z\\} \\textasciitilde{} \\textasciicircum{} \\textbackslash{}"
        " & -- & 3 \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def test_lists_and_line_breaks_stay_in_their_cell():
    table = pa.table({"names": [["cat", "dog"]], "text": ["two\nlines"]})
    assert to_markdown(table).splitlines()[2] == "| cat, dog | two lines |"


def test_writing(tmp_path):
    text = write_text_table(TABLE, "csv", tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == text
    assert text.splitlines()[0] == "model_name,real1,n"
    assert write_text_table(TABLE.slice(0, 1), "json", None) == (
        '[{"model_name": "a_b|c", "real1": 0.123456, "n": 50000}]\n'
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_text_table(TABLE, "markdown", tmp_path / "file" / "t.md")
