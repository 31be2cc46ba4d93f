"""Names that are suggested for a missing file."""

import pytest

from manyhot.files import near_paths


@pytest.mark.parametrize(
    ("missing", "near"),
    [
        ("lables.csv", ["labels.csv"]),
        ("Labels.csv", ["labels.csv"]),
        ("labels.parquet", ["labels.csv"]),  # the same name with another suffix
        ("votes.tsv", ["votes.csv"]),
        ("vote.csv", ["votes.csv"]),
        ("prediction", ["predictions"]),
        ("nothere.csv", []),  # the same suffix is not likeness
        ("scores.csv", []),
        ("x.csv", []),
        ("none/labels.csv", []),
    ],
)
def test_only_similar_names_are_suggested(tmp_path, missing, near):
    for name in ("labels.csv", "labels.txt", "votes.csv", "predictions", "rows.csv", "notes.csv"):
        (tmp_path / name).touch()
    assert near_paths(tmp_path / missing) == [str(tmp_path / name) for name in near]


def test_the_most_similar_name_comes_first(tmp_path):
    for name in ("photos", "photos2", "photo-set", "phones.csv"):
        (tmp_path / name).touch()
    assert near_paths(tmp_path / "photo", n=2) == [str(tmp_path / "photos"), str(tmp_path / "photos2")]
