"""Columns that make no difference to what is read."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot.formats import read_labels, read_predictions, read_votes
from manyhot.run import FilesRead

LISTS = "image,labels,site\na,cat dog,x\nb,dog,y\nc,cat,x\n"


def ignored(path, read=read_labels):
    """Return the columns that are said to be ignored when a file is read."""
    with FilesRead().recording() as found:
        read(path)
    (line,) = found.lines()
    return line.partition("; ignored columns: ")[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LISTS, "site"),
        (LISTS.replace(",", ";"), "site"),
        # As R's write.csv does.
        (",image,labels\n1,a,cat\n2,b,dog\n3,c,cat\n", "(no name)"),
        ("image,label,site\na,cat,x\na,dog,y\nb,dog,x\n", "site"),
        ("image,label,valid\na,cat,1\na,dog,0\nb,dog,1\n", ""),
        # All values are equal, so others might have made a difference.
        ("image,label,valid\na,cat,1\na,dog,1\nb,dog,1\n", ""),
        ("image,cat,dog,weather\na,1,0,rain\nb,0,1,sun\n", "weather"),
        # A class, too.
        ("image,cat,dog,rain\na,1,0,1\nb,0,1,0\n", ""),
    ],
)
def test_labels(tmp_path, text, expected):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    assert ignored(path) == expected


def test_the_label_beside_a_prediction(tmp_path):
    path = tmp_path / "model.csv"
    path.write_text("image,label,prediction,score\na,dog,cat,.9\nb,cat,cat,.4\nc,dog,dog,.7\n")
    assert ignored(path, read_predictions) == "label"


def test_votes(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("image_id,rater_id,label,answer,room\na,p,cat,yes,1\na,q,cat,no,2\nb,p,dog,yes,1\n")
    assert ignored(path, read_votes) == "room"


def test_parquet(tmp_path):
    path = tmp_path / "labels.parquet"
    lists = [["cat"], ["cat", "dog"], ["dog"]]
    columns = {"image_id": ["a", "b", "c"], "labels": lists, "cloud": [0.1, 0.2, 0.3], "tags": lists[::-1]}
    pq.write_table(pa.table(columns), path)
    assert ignored(path) == "cloud, tags"


@pytest.mark.parametrize("is_lines", [True, False])
def test_json(tmp_path, is_lines):
    rows = [
        {"image": i, "tags": [t], "site": s}
        for i, t, s in (("a", "cat", 1), ("b", "dog", 2), ("c", "cat", 3))
    ]
    lines = [json.dumps(row) for row in rows]
    path = tmp_path / ("labels.jsonl" if is_lines else "labels.json")
    path.write_text("\n".join(lines) if is_lines else f"[{', '.join(lines)}]")
    assert ignored(path) == "site"


def test_json_of_another_form(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"a": ["cat"], "b": ["dog", "cat"]}, indent=1))
    assert ignored(path) == ""


def test_a_few_rows_decide(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,labels,site\n" + "".join(f"{i},cat dog,x{i % 2}\n" for i in range(200)))
    assert ignored(path) == "site"


def test_a_cell_with_a_line_break(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text('image,labels,remark\na,cat,"two\nlines"\nb,dog,one\n')
    assert ignored(path) == "remark"


def test_a_table_with_one_column(tmp_path):
    from manyhot.formats import read_images

    path = tmp_path / "images.parquet"
    pq.write_table(pa.table({"filename": ["a.jpg", "b.jpg"]}), path)
    assert ignored(path, read_images) == ""
