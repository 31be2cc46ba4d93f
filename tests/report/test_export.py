"""Tables as Markdown and LaTeX."""

import pyarrow as pa
import pytest

from manyhot.errors import OutputError
from manyhot.report.export import for_paper, to_latex, to_markdown, write_text_table

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
        "a\\_b\\textbar{}c & 0.123 & 50000 \\\\\n"
        "x \\& y \\% \\$1 \\#2 \\{z\\} \\textasciitilde{} \\textasciicircum{} \\textbackslash{}"
        " & -- & 3 \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def test_signs_and_relations_in_latex():
    text = to_latex(pa.table({"slice": ["n_objects>=2 <x"], "drop": [-0.5]}), digits=1)
    assert text.splitlines()[4] == "n\\_objects\\textgreater{}=2 \\textless{}x & $-$0.5 \\\\"


def test_leaderboards_for_paper_are_in_percent():
    ranked = pa.table(
        {
            "rank": [1],
            "model": ["vit"],
            "params": [305.08],
            "val real1": [0.9114],
            "lo": [0.9088],
            "hi": [0.914],
            "val coverage": [2.5],
        }
    )
    assert to_markdown(for_paper(ranked)) == (
        "| rank | model | parameters (M) | val real1 (%) | lo | hi | val coverage |\n"
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| 1 | vit | 305.1 | 91.14 | 90.88 | 91.40 | 2.5000 |\n"
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
