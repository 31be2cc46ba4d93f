"""Columns and rows of arrays in a wrong order: every diagnosis treats them as `evaluate` does."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli
from manyhot.errors import OrderError

N, CLASSES = 300, list("abcde")
RNG = np.random.default_rng(0)
HOT = RNG.random((N, len(CLASSES))) < [0.5, 0.4, 0.3, 0.2, 0.1]
SCORES = 1 / (1 + np.exp(2 - 3 * HOT - RNG.normal(size=HOT.shape)))
FRAME = pd.DataFrame(HOT.astype(int), [f"{i:03}.jpg" for i in range(N)], CLASSES)

DIAGNOSES = [
    mh.find_label_issues,
    mh.diagnose_difficulty,
    mh.diagnose_classes,
    mh.diagnose_errors,
    mh.diagnose_calibration,
    mh.diagnose_sets,
]
UNRELATED = (
    "net: the scores are no more closely related to the labels than if the images were in random order"
)
ASSUMED = "so they are assumed to be in the order of the labels' classes: a, b, c and 2 more"


def notes(diagnose, scores, labels=FRAME, **options):
    return " / ".join(
        diagnose(labels, {"net": scores}, reading=mh.Reading(scores="probability", **options)).notes
    )


@pytest.mark.parametrize("diagnose", DIAGNOSES)
def test_columns_in_reverse_order_are_refused(diagnose):
    with pytest.raises(OrderError, match="the likely cause is columns of scores in the reverse order"):
        notes(diagnose, SCORES[:, ::-1])
    assert "random order" not in notes(diagnose, SCORES[:, ::-1], trust_order=True)


@pytest.mark.parametrize("diagnose", DIAGNOSES)
def test_rows_in_reverse_order_are_noted(diagnose):
    # The mean over classes of NumPy's correlation, on images with a valid class.
    filled = HOT.any(axis=1)
    pairs = zip(HOT[filled].T, SCORES[::-1][filled].T, strict=True)
    own = np.mean([np.corrcoef(hot, scores)[0, 1] for hot, scores in pairs])
    found = notes(diagnose, SCORES[::-1])
    assert UNRELATED in found
    assert f"(mean correlation {own:.3f} over 5 classes)" in found
    assert "random order" not in notes(diagnose, SCORES[::-1], trust_order=True)
    assert "random order" not in notes(diagnose, SCORES)


def test_many_wrong_labels_are_no_wrong_order():
    """Of 200 images, the labels of two in three are wrong: as in `evaluate`, nothing is refused or noted."""
    rng = np.random.default_rng(1)
    label = rng.integers(5, size=200)
    p = np.full((200, 5), 0.05)
    p[np.arange(200), label] = 0.8
    given = np.where(rng.random(200) < 2 / 3, rng.integers(5, size=200), label)
    assert "random order" not in notes(mh.find_label_issues, p, given)
    assert "random order" not in notes(mh.evaluate, p, given)


def test_single_labels_in_another_order_are_refused():
    label = np.random.default_rng(2).integers(50, size=400)
    p = np.full((400, 50), 0.01)
    p[np.arange(400), label] = 0.51
    with pytest.raises(OrderError, match="rows sorted by class"):
        notes(mh.find_label_issues, p[np.argsort(label, kind="stable")], label)
    assert notes(mh.find_label_issues, p, label) == ""


@pytest.mark.parametrize("diagnose", [mh.find_label_issues, mh.evaluate])
def test_arrays_beside_labels_with_names_are_noted(diagnose):
    assert ASSUMED in notes(diagnose, SCORES)
    assert ASSUMED in notes(diagnose, SCORES, FRAME.assign(camera="x"))
    named = pd.DataFrame(SCORES, FRAME.index, CLASSES)
    assert "assumed" not in notes(diagnose, named[CLASSES[::-1]])
    assert "assumed" not in notes(diagnose, SCORES, classes=CLASSES)
    assert "assumed" not in notes(diagnose, SCORES, HOT.astype(int))


def test_of_several_models_one_in_a_wrong_order_is_skipped(tmp_path):
    FRAME.rename_axis("image_id").reset_index().to_csv(tmp_path / "l.csv", index=False)
    files = [tmp_path / f"{name}.npy" for name in ("good", "reversed")]
    for file, scores in zip(files, (SCORES, SCORES[:, ::-1]), strict=True):
        np.save(file, scores)
    reading = mh.Reading(scores="probability", rows=tmp_path / "l.csv")
    found = mh.find_label_issues(tmp_path / "l.csv", files, reading=reading)
    assert found.models == ("good",)
    assert any("reversed.npy" in note and "reverse order of the classes" in note for note in found.notes)


@pytest.mark.parametrize(
    ("command", "first"), [("diagnose labels", "doubtful-label"), ("evaluate", "map_macro")]
)
def test_doubts_about_the_order_come_before_the_findings_that_they_explain(
    tmp_path, monkeypatch, command, first
):
    monkeypatch.chdir(tmp_path)
    FRAME.rename_axis("image_id").reset_index().to_csv("l.csv", index=False)
    np.save("net.npy", SCORES[::-1])
    words = [*command.split(), "l.csv", "--predictions", "net.npy", "--rows", "l.csv", "--out", "out"]
    shown = CliRunner().invoke(cli.app, [*words, "--scores", "probability"])
    assert shown.exit_code == 0
    assert shown.output.count("random order") == 1
    assert shown.output.index("random order") < shown.output.index(first)
    if command == "diagnose labels":
        page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
        assert page.index("random order") < page.index("<section")
    reading = mh.Reading(scores="probability", rows="l.csv")
    function = mh.evaluate if command == "evaluate" else mh.find_label_issues
    found = function("l.csv", "net.npy", reading=reading)
    for text in (str(found), found._repr_html_()):
        assert text.count("random order") == 1
        assert text.index("random order") < text.index(first)
