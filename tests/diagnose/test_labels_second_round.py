"""Issues that raters have decided are not listed again; see docs/guides/reassess/corrections.md."""

import numpy as np
import polars as pl
import pytest

from manyhot import Reading, aggregate, convert, find_label_issues, propose

READING = Reading(scores="probability")
CLASSES = ["cat", "cow", "dog", "emu"]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def correct(tmp_path, issues, is_valid):
    """Have one rater answer each question truthfully; write the corrected label sets and CSV file."""
    questions = propose(tmp_path / "labels.csv", findings=issues).to_polars().select("image_id", "class_name")
    votes = pl.DataFrame(
        [(image, c, "ann", "yes" if is_valid(image, c) else "no") for image, c in questions.rows()],
        ("image_id", "class_id", "rater_id", "answer"),
        orient="row",
    )
    aggregate(votes, labels=tmp_path / "labels.csv").write(tmp_path / "corrected.parquet")
    to = f"corrected-csv(original='{(tmp_path / 'labels.csv').as_posix()}')"
    convert(tmp_path / "corrected.parquet", tmp_path / "corrected.csv", to=to)
    return set(questions["image_id"])


def listed(tmp_path, **options):
    table = find_label_issues(
        tmp_path / "corrected.csv", tmp_path / "scores.csv", reading=READING, **options
    ).to_polars()
    return set(table.filter(pl.col("kind").str.ends_with("-label"))["image_id"])


def test_single_labels(tmp_path, rng):
    n = 120
    ids = [f"{i:03d}.jpg" for i in rng.permutation(n)]
    truth = rng.integers(0, 4, n)
    given = np.where(rng.random(n) < 0.15, (truth + 1) % 4, truth)
    p = np.exp(rng.normal(size=(n, 4)) + 2 * np.eye(4)[truth])
    scores = pl.DataFrame(p / p.sum(1, keepdims=True), CLASSES).with_columns(image_id=pl.Series(ids))
    scores.write_csv(tmp_path / "scores.csv")
    columns = {"filename": ids, "label": [CLASSES[c] for c in given], "split": ["train", "val"] * (n // 2)}
    pl.DataFrame(columns).write_csv(tmp_path / "labels.csv")
    issues = find_label_issues(tmp_path / "labels.csv", tmp_path / "scores.csv", reading=READING)
    right = dict(zip(ids, [CLASSES[c] for c in truth], strict=True))
    asked = correct(tmp_path, issues, lambda image, c: right[image] == c)
    written = pl.read_csv(tmp_path / "corrected.csv")
    assert written.columns == list(columns)
    assert written["filename"].to_list() == ids
    assert written["split"].to_list() == columns["split"]
    was, now = columns["label"], written["label"].to_list()
    assert [a for i, a in zip(ids, now, strict=True) if i in asked] == [right[i] for i in ids if i in asked]
    assert all(a == b for i, a, b in zip(ids, was, now, strict=True) if i not in asked)
    # Without the answers, labels that raters confirmed are doubtful again.
    assert listed(tmp_path) & asked
    assert not listed(tmp_path, confirmed_labels=tmp_path / "corrected.parquet") & asked


def test_label_sets(tmp_path, rng):
    n = 150
    ids = [f"sub/{i}" for i in rng.permutation(n)]
    truth = rng.random((n, 4)) < 0.35
    given = truth ^ (rng.random((n, 4)) < 0.06)
    p = 1 / (1 + np.exp(2.5 - 5 * truth - 1.6 * rng.normal(size=(n, 4))))
    pl.DataFrame(p, CLASSES).with_columns(image_id=pl.Series(ids)).write_csv(tmp_path / "scores.csv")
    frame = pl.DataFrame(given.astype(int), CLASSES).insert_column(0, pl.Series("image", ids))
    frame.write_csv(tmp_path / "labels.csv")
    issues = find_label_issues(tmp_path / "labels.csv", tmp_path / "scores.csv", reading=READING)
    row = {image: i for i, image in enumerate(ids)}
    correct(tmp_path, issues, lambda image, c: truth[row[image], CLASSES.index(c)])
    found = issues.to_polars()
    cells = [
        (image, c)
        for image, c in zip(found["image_id"], found["name_a"].fill_null(found["name_b"]), strict=True)
        if image is not None
    ]
    expected = given.copy()
    for image, c in cells:
        expected[row[image], CLASSES.index(c)] = truth[row[image], CLASSES.index(c)]
    written = pl.read_csv(tmp_path / "corrected.csv")
    assert written["image"].to_list() == ids
    assert (written.select(CLASSES).to_numpy() == expected).all()

    def cells_of(**options):
        again = find_label_issues(
            tmp_path / "corrected.csv", tmp_path / "scores.csv", reading=READING, **options
        ).to_polars()
        return set(zip(again["image_id"], again["name_a"].fill_null(again["name_b"]), strict=True))

    assert cells_of() & set(cells)
    assert not cells_of(confirmed_labels=tmp_path / "corrected.parquet") & set(cells)
