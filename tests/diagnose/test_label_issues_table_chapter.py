"""The page about label issues says first how many labels may be wrong, of how many images."""

import re

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from manyhot.diagnose.label_issues_table import LabelIssues
from manyhot.diagnose.page import write_diagnosis
from manyhot.errors import InputError

REALS = ("score", "models", "neighbours", "people")
COLUMNS = {
    **{"kind": pa.string(), "image_id": pa.string(), "class_a": pa.int32(), "class_b": pa.int32()},
    **{"dataset": pa.string(), **dict.fromkeys(REALS, pa.float64())},
    **{"n_a": pa.int32(), "n_b": pa.int32(), "name_a": pa.string(), "name_b": pa.string()},
}


def issue(kind, image, a, b, score):
    names = {"name_a": None if a is None else f"class {a}", "name_b": None if b is None else f"class {b}"}
    about = {"kind": kind, "image_id": image, "class_a": a, "class_b": b, "score": score, "dataset": "pets"}
    return about | names | {"models": score, "n_a": 20, "n_b": 30}


def words(folder, rows, models=("net",)):
    table = pa.Table.from_pylist(rows, pa.schema(COLUMNS))
    result = LabelIssues.concat([LabelIssues(table, models, 50, 2)], {})
    html = result.write(folder)[-1].read_text(encoding="utf-8")
    html = re.sub(r"(?s)<(script|style).*?</\1>", " ", html[html.index("<main") :])
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


@pytest.fixture
def page(tmp_path):
    rows = [issue("doubtful-label", f"{i}.jpg", 1, 2, 0.9 - i / 100) for i in range(4)]
    rows += [issue("doubtful-label", "z.jpg", 3, 1, 0.95), issue("missing-label", "m.jpg", 1, 4, 0.4)]
    return words(tmp_path, [*rows, issue("merge-classes", None, 5, 6, 0.8)])


def test_the_answer_and_the_next_step_come_first(page, tmp_path):
    assert page.startswith(
        "Which labels may be wrong or missing On 50 labelled images of pets, 5 labels may be wrong (10.0 %) "
        "and 1 may be missing, and 1 pair of classes may be one class, according to net. These are "
        "suggestions, with the strongest evidence first. A model that was trained on these images repeats "
        "their wrong labels. Next: write the questions about these labels, and let people answer them. "
        f"manyhot propose DATASET --findings {tmp_path.name}/findings.parquet --out questions.csv Labels "
        "that may be wrong, and the classes suggested instead"
    )


@pytest.mark.parametrize("column", ["image_id", "class_a", "class_b", "score"])
def test_a_missing_column_is_named(page, tmp_path, column):
    path = tmp_path / "findings.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(InputError, match=column) as error:
        write_diagnosis(tmp_path)
    assert str(error.value).startswith("A column that the page needs is missing from a table.")


def test_the_figure_counts_pairs_of_classes(page):
    assert "class 1 → class 2" in page
    assert "The 2 most frequent of 2 pairs of a label and the class suggested instead." in page


def test_each_kind_has_its_table_the_strongest_first(page):
    first, missing = (page.split(f"Labels that may be {kind}")[-1] for kind in ("wrong: 5", "missing: 1"))
    assert first.index("z.jpg class 3 class 1 0.95") < first.index("0.jpg class 1 class 2 0.90")
    assert first.index("0.jpg") < first.index("m.jpg class 1 class 4 0.40")
    assert "m.jpg class 1 class 4 0.40" in missing
    assert "class 5 class 6 0.80 20 30" in missing


def test_label_sets_and_several_models(tmp_path):
    rows = [issue("doubtful-label", "a.jpg", 1, None, 0.9), issue("missing-label", "b.jpg", None, 2, 0.8)]
    said = words(tmp_path, rows, ("net", "other"))
    assert "1 label may be wrong (on 1 image, 2.0 %) and 1 may be missing, according to 2 models." in said
    # Nothing is suggested instead of a label, and nothing is missing for another: no columns of dashes.
    assert "a.jpg class 1 0.90" in said
    assert "b.jpg class 2 0.80" in said
    assert "–" not in said


def test_more_than_a_page_shows(tmp_path):
    """A stranger read "56 more are in findings.csv. Suggested: –. Data set: meta_vt."."""
    said = words(tmp_path, [issue("doubtful-label", f"{i:02}.jpg", 1 + i % 2, None, 0.9) for i in range(25)])
    assert "The 20 with the highest scores; 5 more are in findings.csv. Data set: pets." in said
    assert "Suggested" not in said


def test_several_labels_of_an_image_are_one_image(tmp_path):
    rows = [issue("doubtful-label", "a.jpg", c, None, score) for c, score in ((1, 0.9), (3, 0.5))]
    said = words(tmp_path, rows)
    assert "2 labels may be wrong (on 1 image, 2.0 %) and 0 may be missing, according to net." in said
    assert "the class suggested instead" not in said


def test_no_issues(tmp_path):
    answer = "On 50 labelled images, 0 labels may be wrong (0.0 %) and 0 may be missing, according to net."
    assert answer in words(tmp_path, [])
