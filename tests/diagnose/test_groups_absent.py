"""Labels whose images lack another label, against counts from the matrix of labels."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import fisher_exact

from manyhot import Predictions, diagnose_groups

N, NAMES = 3000, ("male", "blond", "beard", "smiling", "young")
IDS = [f"{i:06}.jpg" for i in range(N)]
MALE, BLOND, BEARD, SMILING, YOUNG = range(5)


@pytest.fixture(scope="module")
def truth():
    """Return labels: few men are blond, no woman has a beard, and all else is independent."""
    rng = np.random.default_rng(0)
    made = rng.random((N, len(NAMES))) < [0.42, 0.25, 0.4, 0.5, 0.7]
    made[:, BLOND] &= ~made[:, MALE] | (rng.random(N) < 0.25)
    made[:, BEARD] &= made[:, MALE]
    return made


def written(truth, folder):
    rows = [f"{name},{','.join(map(str, row))}" for name, row in zip(IDS, truth.astype(int), strict=True)]
    (folder / "labels.csv").write_text("\n".join([f"image_id,{','.join(NAMES)}", *rows]))
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def found(truth, tmp_path_factory):
    """Return the result for a model that calls women blond, and misses half of the blond men."""
    rng = np.random.default_rng(1)
    predicted = truth.copy()
    predicted[:, BLOND] |= ~truth[:, MALE] & (rng.random(N) < 0.2)
    predicted[:, BLOND] &= ~truth[:, MALE] | (rng.random(N) < 0.5)
    scores = (0.05 + 0.9 * predicted).astype(np.float32)
    model = Predictions(pa.array(IDS), "net", n_classes=5, scores=scores, score_kind="probability")
    return diagnose_groups(written(truth, tmp_path_factory.mktemp("data")), [model], permutations=200)


def test_a_label_whose_images_lack_another_is_found_with_the_counts_of_a_two_by_two_table(found, truth):
    rows = [r for r in found.groups.to_pylist() if r["outcome"] == "label"]
    assert {(r["class_name"], r["name"]) for r in rows} == {
        ("beard", "also male"),
        ("male", "also beard"),
        ("blond", "not also male"),
    }  # and not that blond people lack beards, since this does not hold among men
    (row,) = (r for r in rows if (r["class_name"], r["name"]) == ("blond", "not also male"))
    blond, male = truth[:, BLOND], truth[:, MALE]
    table = [[int((b & m).sum()) for m in (~male, male)] for b in (blond, ~blond)]
    assert [row["events"], row["n"] - row["events"]] == table[0]
    assert [row["events_outside"], row["n_outside"] - row["events_outside"]] == table[1]
    assert row["also"] == ["not also beard"]
    assert fisher_exact(table).pvalue < row["p"] < 0.01
    share, other = (100 * of[0] / sum(of) for of in table)
    assert row["sentence"] == (
        f"{share:.0f} % of {blond.sum()} images of blond do not show male, compared with {other:.0f} % of "
        "images without blond."
    )
    docs = Path(__file__).parents[2] / "docs/guides/diagnose/groups.md"
    assert row["sentence"] in " ".join(docs.read_text(encoding="utf-8").split())


def test_labels_that_are_together_too_seldom_are_pairs_and_follow_all_other_findings(found):
    rows = found.groups.to_pylist()
    lacking = [r["outcome"] == "label" and r["name"].startswith("not also ") for r in rows]
    assert lacking == sorted(lacking)
    text = "\n".join(found.lines())
    title = "Labels that are together less often than by chance"
    assert sum(lacking) == 1
    assert f", and 1 pair of l{title[1:]}." in text
    assert text.index("Properties of images that are associated with labels:") < text.index(f"{title}:")


def test_a_model_that_goes_by_the_absent_label_is_found_on_both_sides(found, truth):
    """False positives are where the label is absent, and misses are where it is present."""
    rows = {(r["outcome"], r["class_name"], r["name"]): r for r in found.groups.to_pylist()}
    blond, male = truth[:, BLOND], truth[:, MALE]
    assert rows["called", "blond", "not also male"]["n"] == (~blond & ~male).sum()
    assert rows["missed", "blond", "also male"]["n"] == (blond & male).sum()


def test_labels_that_are_never_together_come_last(tmp_path):
    """They may exclude each other by definition."""
    rng = np.random.default_rng(2)
    truth = rng.random((N, len(NAMES))) < 0.4
    truth[:, BEARD] &= ~truth[:, YOUNG]
    truth[:, BLOND] &= ~truth[:, MALE] | (rng.random(N) < 0.4)
    rows = diagnose_groups(written(truth, tmp_path), permutations=200).groups.to_pylist()
    assert [{r["class_name"], r["name"]} & set(NAMES) for r in rows] == [{"blond"}, {"beard"}]
    assert [r["share"] == 1 for r in rows] == [False, True]
    assert rows[0]["difference"] < rows[1]["difference"]


def test_independent_labels_are_not_reported(tmp_path):
    truth = np.random.default_rng(3).random((N, len(NAMES))) < [0.42, 0.25, 0.4, 0.5, 0.7]
    assert not diagnose_groups(written(truth, tmp_path), permutations=200).groups.num_rows
