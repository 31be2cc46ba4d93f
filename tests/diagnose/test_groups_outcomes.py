"""Groups in multi-label data: each class is compared by itself, against counts from the matrix of labels."""

import csv

import numpy as np
import pyarrow as pa
import pytest

from manyhot import Predictions, diagnose_groups
from manyhot.core.group_search import Outcome
from manyhot.diagnose.groups_findings import group_sentence
from manyhot.diagnose.groups_outcomes import NamedOutcome
from manyhot.tables import Images

N, CLASSES = 400, ("lung", "heart", "fluid", "device")
IDS = [f"{i:03}.png" for i in range(N)]
LUNG, HEART, FLUID, DEVICE = range(4)
BLANK = -9


@pytest.fixture(scope="module")
def states():
    """Return 1, 0 and -1 of each class; fluid is frequent on images with heart, and half show nothing."""
    rng = np.random.default_rng(0)
    states = (rng.random((N, 4)) < [0.2, 0.25, 0.1, 0.4]).astype(int)
    states[:, FLUID] |= (states[:, HEART] == 1) & (rng.random(N) < 0.6)
    states[rng.random(N) < 0.4] = 0
    states[rng.random((N, 4)) < 0.05] = -1
    return states


@pytest.fixture(scope="module")
def hospital():
    return np.random.default_rng(1).choice(["north", "south"], N)


@pytest.fixture(scope="module")
def scores(states, hospital):
    """Return 0.35 for valid classes, less some devices, and for lung on half of the images from the south."""
    rng = np.random.default_rng(2)
    yes = states == 1
    predicted = yes.copy()
    predicted[:, LUNG] |= (hospital == "south") & (rng.random(N) < 0.5)
    predicted[:, DEVICE] &= ~((hospital == "north") & (rng.random(N) < 0.6))
    return np.where(predicted, 0.35, 0.05).astype(np.float32)


def asked(states, scores, hospital, folder, classes=range(4), images=range(N), best=None, **options):
    classes, images = list(classes), list(images)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", *(CLASSES[c] for c in classes)])
        cells = np.where(states == BLANK, "", states.astype(str))
        writer.writerows([IDS[i], *cells[i, classes]] for i in images)
    ids = pa.array([IDS[i] for i in images])
    if best is None:
        about = {"scores": scores[images][:, classes], "score_kind": "probability"}
    else:
        about = {"classes": best[:, None]}
    predictions = Predictions(ids, "net", n_classes=4, **about)
    metadata = Images(pa.table({"image_id": IDS, "hospital": hospital}))
    return diagnose_groups(
        folder / "labels.csv", [predictions], metadata=metadata, permutations=200, **options
    )


@pytest.fixture(scope="module")
def found(states, scores, hospital, tmp_path_factory):
    return asked(states, scores, hospital, tmp_path_factory.mktemp("data"))


def rows_of(found, outcome):
    return {(r["class_name"], r["name"]): r for r in found.groups.to_pylist() if r["outcome"] == outcome}


def test_companions_are_compared_with_all_images_without_the_class(found, states):
    rows = rows_of(found, "label")
    assert {("heart", "also fluid"), ("fluid", "also heart")} <= set(rows)
    assert not any(class_name == name.removeprefix("also ") for class_name, name in rows)
    row, fluid = rows["heart", "also fluid"], states[:, FLUID] == 1
    yes, no = (states[:, HEART] == state for state in (1, 0))
    assert (row["n"], row["events"]) == (yes.sum(), (yes & fluid).sum())
    assert (row["n_outside"], row["events_outside"]) == (no.sum(), (no & fluid).sum())
    assert row["sentence"] == (
        f"{100 * fluid[yes].mean():.0f} % of {yes.sum()} images of heart are images that also show fluid, "
        f"compared with {100 * fluid[no].mean():.0f} % of images without heart."
    )


def test_a_class_is_predicted_at_its_f1_threshold(found, states, scores, hospital):
    """All scores are below 0.5, and the top class of an image says nothing."""
    (row,) = rows_of(found, "called").values()
    predicted, south = scores[:, LUNG] > 0.3, hospital == "south"
    assert (row["class_name"], row["name"]) == ("lung", "hospital south")
    inside, outside = ((states[:, LUNG] == 0) & images for images in (south, ~south))
    assert (row["n"], row["events"], row["n_other"]) == (inside.sum(), predicted[inside].sum(), inside.sum())
    assert (row["n_outside"], row["events_outside"]) == (outside.sum(), 0)
    assert row["sentence"] == (
        f"Images without lung with hospital south: {100 * predicted[inside].mean():.0f} % of {inside.sum()} "
        "are predicted as lung (at its F1 threshold), compared with 0 % of the rest."
    )


def test_a_miss_is_a_valid_class_below_its_threshold(found, states, scores, hospital):
    (row,) = rows_of(found, "missed").values()
    predicted, north = scores[:, DEVICE] > 0.3, hospital == "north"
    inside, outside = ((states[:, DEVICE] == 1) & images for images in (north, ~north))
    share, other = (100 * predicted[images].mean() for images in (inside, outside))
    assert (row["n"], row["events"]) == (inside.sum(), (~predicted[inside]).sum())
    assert row["sentence"] == (
        f"Images of device with hospital north: {share:.0f} % of {inside.sum()} are predicted as device (at "
        f"its F1 threshold), compared with {other:.0f} % of other images of device."
    )


@pytest.fixture(scope="module")
def positives_only(hospital):
    """Return labels and scores: the south writes half of its positives and no negatives.

    The model is as good in both hospitals: it predicts each class on all images that show it, reported or
    not. Nobody answers no to device.
    """
    rng = np.random.default_rng(5)
    truth = rng.random((N, 4)) < 0.35
    states, south = truth.astype(int), hospital == "south"
    states[south[:, None] & (~truth | (rng.random(truth.shape) < 0.5))] = BLANK
    states[:, DEVICE] = np.where(truth[:, DEVICE], 1, BLANK)
    return states, np.where(truth, 0.35, 0.05).astype(np.float32)


def test_a_class_that_nobody_was_asked_about_is_no_false_positive(positives_only, hospital, tmp_path):
    states, scores = positives_only
    found = asked(states, scores, hospital, tmp_path)
    assert not rows_of(found, "called")
    rates = {(r["outcome"], r["value"]): (r["n"], r["events"]) for r in found.group_rates.to_pylist()}
    north = hospital == "north"
    assert rates["called", "north"] == ((states[north] == 0).sum(), 0)
    assert ("called", "south") not in rates
    some = states[(states != BLANK).any(axis=1)]  # images without any answer are not rated
    n_blank = (some == BLANK).sum()
    assert (
        f"labels: {n_blank:,} pairs of an image and a class ({n_blank / some.size:.1%}) are without an "
        "answer and left out; device: raters never answered no, so no image is known to lack it"
    ) in found.notes
    heart = rows_of(found, "label")["heart", "hospital south"]
    yes, no = (states[:, HEART] == state for state in (1, 0))
    assert (heart["n"], heart["n_outside"]) == (yes.sum(), no.sum())
    assert heart["sentence"].endswith("compared with 0 % of images without heart (answered no).")


def test_unmasked_counts_a_class_that_nobody_was_asked_about_as_not_valid(positives_only, hospital, tmp_path):
    states, scores = positives_only
    found = asked(states, scores, hospital, tmp_path, unmasked=True)
    south, predicted = (hospital == "south") & (states != BLANK).any(axis=1), scores > 0.3
    rows = rows_of(found, "called")
    for at in (LUNG, HEART, FLUID):
        row, counted = rows[CLASSES[at], "hospital south"], south & (states[:, at] != 1)
        assert (row["n"], row["events"]) == (counted.sum(), (counted & predicted[:, at]).sum())
    (note,) = (n for n in found.notes if "without an answer" in n)
    assert "count as not valid in false positives" in note
    assert note.endswith("do not pass `unmasked`")


def test_top_classes_that_nobody_was_asked_about_are_no_errors(positives_only, hospital, tmp_path):
    states, scores = positives_only
    best = np.argmax(scores, axis=1)
    found = asked(states, scores, hospital, tmp_path, best=best)
    own = states[np.arange(N), best]
    shown = (states == 1).any(axis=1) & (own != BLANK)
    rates = {r["value"]: (r["n"], r["events"]) for r in found.group_rates.to_pylist()}
    for value in ("north", "south"):
        here = shown & (hospital == value)
        assert rates[value] == (here.sum(), (here & (own != 1)).sum())


def test_the_order_of_classes_and_images_is_nothing(found, states, scores, hospital, tmp_path):
    order = np.random.default_rng(3).permutation(N)
    again = asked(states, scores, hospital, tmp_path, classes=(3, 1, 0, 2), images=order)
    about = ("outcome", "class_name", "name", "n", "events", "n_outside", "events_outside", "sentence")
    one, other = ({tuple(r[a] for a in about) for r in f.groups.to_pylist()} for f in (found, again))
    assert one == other


def test_models_without_scores_of_all_classes_are_judged_by_their_top_class(states, hospital, tmp_path):
    rng = np.random.default_rng(4)
    south = hospital == "south"
    best = np.where(south & (rng.random(N) < 0.5), LUNG, np.argmax(states, axis=1))
    found = asked(states, None, hospital, tmp_path, best=best)
    note = (
        "net: there are no scores of all classes, so only the top class of each image is compared with its "
        "label set"
    )
    assert note in found.notes
    scored = (states == 1).any(axis=1)
    wrong = states[np.arange(N), best] != 1
    row = rows_of(found, "error")[None, "hospital south"]
    assert (row["n"], row["events"]) == ((scored & south).sum(), (wrong & scored & south).sum())
    assert not rows_of(found, "missed")


def test_a_softmax_is_compared_by_its_top_class(states, hospital, tmp_path):
    """It calls half of the images from the south lung, each with a probability of 0.4 only."""
    best = np.where((states == 1).any(axis=1), (states == 1).argmax(axis=1), DEVICE)
    best[(hospital == "south") & (np.arange(N) % 2 == 0)] = LUNG
    softmax = np.where(np.eye(4)[best] == 1, 0.4, 0.2).astype(np.float32)
    found = asked(states, softmax, hospital, tmp_path)
    row = rows_of(found, "called")["lung", "hospital south"]
    # The top class alone is judged only where some class is valid.
    inside = (states == 1).any(axis=1) & (states[:, LUNG] == 0) & (hospital == "south")
    assert (row["n"], row["events"]) == (inside.sum(), (inside & (best == LUNG)).sum())
    assert "F1 threshold" not in row["sentence"]
    row = rows_of(found, "missed")["device", "hospital south"]
    inside = (states[:, DEVICE] == 1) & (hospital == "south")
    wrong = states[np.arange(N), best] != 1
    assert (row["n"], row["events"]) == (inside.sum(), (inside & wrong).sum())
    note = (
        "net: probabilities add up to 1, so only the top class of each image is compared with its label set"
    )
    assert note in found.notes


def test_error_rates_by_value_are_those_of_a_count(found, states, scores, hospital):
    rows = {(r["outcome"], r["value"]): r for r in found.group_rates.to_pylist()}
    assert set(rows) == {(kind, value) for kind in ("called", "missed") for value in ("north", "south")}
    predicted = scores > 0.2
    for value in ("north", "south"):
        inside = (hospital == value)[:, None]
        for kind, event, counts in (
            ("called", predicted, (states == 0) & inside),
            ("missed", ~predicted, (states == 1) & inside),
        ):
            row = rows[kind, value]
            assert (row["n"], row["events"]) == (counts.sum(), (event & counts).sum())
            assert row["n_images"] == counts.any(axis=1).sum()
            assert row["lo"] <= row["share"] == row["events"] / row["n"] < row["hi"]


def test_error_rates_are_written_if_no_group_is_found(tmp_path):
    rng = np.random.default_rng(5)
    valid = np.eye(4, dtype=bool)[rng.integers(4, size=N)]
    p = rng.dirichlet(np.ones(4), N) + 0.3 * valid
    columns = {"season": rng.choice(["dry", "wet"], N), "age": rng.random(N), "split": ["test"] * N}
    camera = np.repeat(np.arange(N // 4), 4)
    metadata = Images(pa.table({"image_id": IDS, **columns, "camera": camera}))
    about = {"scores": (p / 2).astype(np.float32), "score_kind": "probability", "n_classes": 4}
    labels = tmp_path / "labels.csv"
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("image_id", *CLASSES), *((i, *row) for i, row in zip(IDS, valid.astype(int), strict=False))]
        )
    made = {
        clusters: diagnose_groups(
            labels,
            [Predictions(pa.array(IDS), "net", **about)],
            metadata=metadata,
            clusters=clusters,
            permutations=200,
        )
        for clusters in (None, "camera")
    }
    found = made["camera"]
    assert not found.groups.num_rows
    rows = found.group_rates.to_pylist()
    assert [r["column"] for r in rows] == ["season"] * 2 + ["age"] * 4
    wrong = p.argmax(axis=1) != valid.argmax(axis=1)
    by_season = {r["value"]: r for r in rows[:2]}
    for value in ("dry", "wet"):
        inside = columns["season"] == value
        row, events = by_season[value], int((wrong & inside).sum())
        assert (row["outcome"], row["events"], row["n"]) == ("error", events, inside.sum())
        rng = np.random.default_rng(6)
        counts = np.stack([wrong & inside, inside]).reshape(2, -1, 4).sum(axis=2)
        drawn = counts[:, rng.integers(N // 4, size=(4000, N // 4))].sum(axis=2)
        ends = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
        assert (row["lo"], row["hi"]) == pytest.approx(ends, abs=0.02)
    edges = np.quantile(columns["age"], [0, 0.25, 0.5, 0.75, 1])
    assert [r["n"] for r in rows[2:]] == [100] * 4
    assert [r["events"] for r in rows[2:]] == [
        (wrong & (columns["age"] > low) & (columns["age"] <= high)).sum()
        for low, high in zip([-1, *edges[1:-1]], edges[1:], strict=False)
    ]
    found.write(tmp_path / "out")
    assert len((tmp_path / "out" / "group_rates.csv").read_text().splitlines()) == 7
    assert "Error rates by value of each column" in (tmp_path / "out" / "report" / "index.html").read_text()
    assert any("error rates by value" in line for line in found.lines())
    assert {r["column"] for r in made[None].group_rates.to_pylist()} == {"season", "age", "camera"}


def sentence(outcome, kind, phrase, multi_label, outside=0.05):
    """Return the sentence on 25 of 100 events, and by default 5 of 100 among other images."""
    nothing = Outcome(np.zeros(1, bool), np.zeros(1, bool), np.zeros(1, np.int64))
    named = NamedOutcome(outcome, -1, nothing, multi_label)
    row = {
        "n": 100, "events": 25, "share": 0.25, "share_outside": outside, "class_name": "dent", "name": "x",
        "kind": kind, "outcome": outcome,
    }  # fmt: skip
    return group_sentence(row, named, phrase, 0.5)


@pytest.mark.parametrize(
    ("share", "wrong", "right"),
    [
        (0, "0", "100"),
        (1, "100", "0"),
        (1 / 535, "0.2", "99.8"),
        (1999 / 2000, "99.95", "0.05"),
        (1 / 3, "33", "67"),
    ],
)
def test_shares_are_rounded_to_0_and_100_only_if_they_are(share, wrong, right):
    """One of 535 images is not none of them."""
    assert sentence("called", "metadata", "with x", False, share).endswith(f" {wrong} % of the rest.")
    assert sentence("missed", "metadata", "with x", False, share).endswith(
        f"compared with {right} % of other images of dent."
    )


def test_sentences_on_all_images_and_on_patches():
    phrase = "that do not also show ok"
    assert sentence("error", "label", phrase, True) == (
        "Images that do not show ok: 75 % of 100 are right, compared with 95 % of other images."
    )
    assert sentence("error", "label", phrase, False).startswith("Images that do not also show ok: ")
    assert sentence("missed", "label", phrase, True).startswith("Images of dent that do not also show ok: ")
    end = "missed where it is rotated or shifted."
    assert sentence("label", "patch", "with a pasted object", True).endswith(
        f"It may be the class itself, or be {end}"
    )
    assert sentence("label", "mark", "with a tag", True).endswith(f" without dent. It may be {end}")
