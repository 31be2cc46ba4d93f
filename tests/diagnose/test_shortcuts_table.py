"""Pairs, their rows and their examples, against what a plain loop over images finds."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot.classes import from_keys
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES
from manyhot.diagnose.object_remover import Change
from manyhot.diagnose.shortcut_marks import conclusion, mark_of, untested_lines
from manyhot.diagnose.shortcut_pairs import Pair, find_pairs, images_to_alter, judge_shortcuts, named_pairs
from manyhot.tables import Labels, Objects, Predictions, check
from manyhot.tables.arrays import States, states_of_labels, states_of_objects

N, C = 300, 4
CLASSES = from_keys(("sofa", "dog", "cat", "square"))
KNOWN = from_keys(("cat", "dog", "sofa"))
IDS = [f"{i:03}" for i in range(N)]


@pytest.fixture
def states():
    state = np.random.default_rng(0).choice([NOT_ASKED, NO, UNCLEAR, YES], (N, C), p=[0.1, 0.3, 0.1, 0.5])
    return States(pa.array(IDS), state.astype(np.uint8), CLASSES)


def predicted(ids, seed, kind):
    scores = np.random.default_rng(seed).random((len(ids), 3)).astype(np.float32)
    ids = pa.array(ids)
    return Predictions(ids, "net", scores=scores, score_kind=kind, n_classes=3, class_hash=KNOWN.hash)


def found(predictions, image, key, at=0.5):
    row = predictions.scores[predictions.image_id.to_pylist().index(image)]
    column = KNOWN.keys.index(key)
    return row[column] >= at if predictions.score_kind == "probability" else row.argmax() == column


@pytest.mark.parametrize("kind", ["probability", "logit"])
def test_rows_are_what_a_loop_finds(states, kind):
    pairs = find_pairs(states, KNOWN, [0, 3], min_images=5)
    assert {(p.main, p.companion) for p in pairs if not p.why_not} == {(0, 3), (1, 0), (1, 3), (2, 0), (2, 3)}
    wanted = images_to_alter(states, pairs)
    rng = np.random.default_rng(1)
    after = {}
    for companion, images in wanted.items():
        some = sorted(i for i in images if rng.random() < 0.9)
        after[Change(companion, "grey", False)] = predicted(some, 10 + companion, kind)
        after[Change(companion, "grey", True)] = predicted(some[::2], 20 + companion, kind)
    before = predicted(IDS[:-5], 5, kind)
    options = {"probability": 0.6, "min_images": 5, "min_lost": 0.2, "resamples": 0, "fills": ["grey"]}
    told = judge_shortcuts(states, pairs, before, after, KNOWN, **options)
    rows = {(r["main"], r["companion"]): r for r in told.shortcuts.to_pylist()}
    assert told.notes == ("5 images with labels or objects are skipped, because they have no prediction",)
    for (main, companion), row in rows.items():
        key = CLASSES.keys[main]
        if row["skipped"]:
            assert companion in (0, 3)
            assert key == "square"
            continue
        gone, control = (after[Change(companion, "grey", c)] for c in (False, True))
        state = dict(zip(IDS[:-5], states.state, strict=False))
        both = [i for i, s in state.items() if s[main] == YES and s[companion] == YES]
        alone = [i for i, s in state.items() if s[main] == YES and s[companion] == NO]
        assert (row["both"], row["main_only"]) == (len(both), len(alone))
        flips = {
            name: {
                i: found(before, i, key, 0.6) != found(p, i, key, 0.6)
                for i in both
                if i in set(p.image_id.to_pylist())
            }
            for name, p in (("flips", gone), ("control", control))
        }
        assert (row["n"], row["n_control"]) == (len(flips["flips"]), len(flips["control"]))
        assert row["flips"] == pytest.approx(np.mean([*flips["flips"].values()]))
        assert row["control"] == pytest.approx(np.mean([*flips["control"].values()]))
        lost = {
            name: {i: found(before, i, key, 0.6) and not found(p, i, key, 0.6) for i in flips[name]}
            for name, p in (("flips", gone), ("control", control))
        }
        assert row["lost"] == pytest.approx(np.mean([*lost["flips"].values()]))
        assert row["control_lost"] == pytest.approx(np.mean([*lost["control"].values()]))
        more = np.mean([lost["flips"][i] for i in lost["control"]]) - row["control_lost"]
        assert row["excess"] == pytest.approx(more)
        assert row["lo"] <= row["excess"] <= row["hi"]
        assert row["predicted_main_only"] == pytest.approx(
            np.mean([found(before, i, key, 0.6) for i in alone])
        )
        assert row["recall_gap"] == pytest.approx(row["predicted_both"] - row["predicted_main_only"])
        assert row["shortcut"] == (row["lost"] >= 0.2 and row["lo"] > 0)
        assert row["ap_lo"] is None
        gaps = [row["recall_gap_lo"] >= 0.1, row["hallucination_gap_lo"] >= 0.1]
        by_gap = {(True, True): "both gaps", (True, False): "recall gap", (False, True): "hallucination gap"}
        assert row["mark"] == ("lost" if row["shortcut"] else by_gap.get(tuple(gaps)))
    order = [(r["mark"] is None, -r["lo"]) for r in told.shortcuts.to_pylist() if not r["skipped"]]
    assert order == sorted(order)


def test_examples_are_flips_first_that_the_control_does_not_share(states):
    pair = Pair(1, 0, 70)
    (wanted,) = images_to_alter(states, [pair]).values()
    ids = sorted(wanted)
    before = Predictions(
        pa.array(IDS), "net", scores=np.full((N, 3), 0.9, np.float32), score_kind="probability", n_classes=3
    )

    def score(values):
        scores = np.repeat(np.array(values, np.float32)[:, None], 3, axis=1)
        return Predictions(
            pa.array(ids[: len(values)]), "net", scores=scores, score_kind="probability", n_classes=3
        )

    gone = np.full(len(ids), 0.8)
    gone[[3, 5, 8, 9]] = 0.4, 0.1, 0.2, 0.45
    control = np.full(8, 0.9)
    control[5] = 0.2
    after = {Change(0, "grey", False): score(gone), Change(0, "grey", True): score(control)}
    told = judge_shortcuts(states, [pair], before, after, KNOWN, fills=["grey"], resamples=0)
    rows = told.shortcut_examples.to_pylist()
    assert [r["image_id"] for r in rows[:4]] == [ids[3], ids[8], ids[9], ids[5]]
    assert [r["flipped"] for r in rows] == [True] * 4 + [False] * 2
    assert [r["flipped_control"] for r in rows[:4]] == [False, None, None, True]
    assert rows[1]["score_control"] is None


def test_a_companion_that_hides_a_class_is_no_shortcut(states):
    """Without it the class comes back: each image flips, and nothing is lost."""
    pair = Pair(1, 0, 70)
    (ids,) = images_to_alter(states, [pair]).values()

    def score(images, value):
        scores = np.full((len(images), 3), value, np.float32)
        return Predictions(pa.array(images), "net", scores=scores, score_kind="probability", n_classes=3)

    gone, control = score(sorted(ids), 0.9), score(sorted(ids), 0.1)
    after = {Change(0, "grey", False): gone, Change(0, "grey", True): control}
    told = judge_shortcuts(states, [pair], score(IDS, 0.1), after, KNOWN, fills=["grey"], resamples=0)
    (row,) = told.shortcuts.to_pylist()
    assert (row["flips"], row["control"]) == (1.0, 0.0)
    assert (row["lost"], row["excess"], row["shortcut"]) == (0.0, 0.0, False)
    assert told.summary[0]["mean"] == 1.0
    assert told.summary[0]["mean_lost"] == 0.0


def test_a_pair_without_controls_is_not_called_clean():
    """Four classes beside a square: what each loses without it, and how many images have a control."""
    classes = from_keys(("a", "b", "c", "d", "square"))
    known = from_keys(("a", "b", "c", "d"))
    ids = [f"{i:02}" for i in range(40)]
    state = np.full((40, 5), NO, np.uint8)
    state[:, 4] = YES
    lost, controls = (0.8, 0.3, 0.9, 1.0), (0, 0, 1, 2)
    pairs, n = [], 10

    def score(images, values):
        scores = np.array(values, np.float32).reshape(-1, 4)
        return Predictions(pa.array(images), "net", scores=scores, score_kind="probability", n_classes=4)

    seen, gone, control = (np.full((40, 4), p) for p in (0.9, 0.9, 0.9))
    kept = []
    for c in range(4):
        rows = slice(n * c, n * (c + 1))
        state[rows, c] = YES
        gone[n * c : n * c + round(n * lost[c]), c] = 0.1
        kept += range(n * c, n * c + controls[c])
        pairs.append(Pair(c, 4, n))
    after = {
        Change(4, "grey", False): score(ids, gone),
        Change(4, "grey", True): score([ids[i] for i in kept], control[kept]),
    }
    states = States(pa.array(ids), state, classes)
    told = judge_shortcuts(
        states, pairs, score(ids, seen), after, known, fills=["grey"], min_images=5, resamples=0
    )
    rows = told.shortcuts.to_pylist()
    # By the lower end of what is lost, 0.60 and 0.49; and of the difference, 0.07 on two images.
    assert [(r["main_name"], r["n_control"], r["shortcut"], r["mark"]) for r in rows] == [
        ("c", 1, None, "lost, no control possible"),
        ("a", 0, None, "lost, no control possible"),
        ("d", 2, True, "lost"),
        ("b", 0, None, None),
    ]
    (summary,) = told.summary
    names = ("pairs", "shortcuts", "not_testable", "lost_no_control", "not_testable_lost")
    assert [summary[k] for k in names] == [4, 1, 3, 2, 0.9]
    assert [*told.lines()][:8] == [
        "Marked as shortcuts: 3 of 3 pairs.",
        "d and square: without square, d is no longer predicted on 100 % of 10 images (grey; 0 % in the",
        "  control).",
        "c and square: without square, c is no longer predicted on 90 % of 10 images (grey; no control",
        "  possible).",
        "a and square: without square, a is no longer predicted on 80 % of 10 images (grey; no control",
        "  possible).",
        "1 other pair cannot be tested: no control is possible.",
    ]
    assert "grey: no control is possible for 3 pairs; 2 lost 40% or more, the most 90.0%" in told.lines()


def test_a_sure_loss_below_the_threshold_is_no_all_clear():
    """A tag on dogs: 12 % of them are lost without it, and none in the control."""
    row = {"model": "net", "main": 0, "main_name": "dog", "companion_name": "tag", "mark": None, "n": 69}
    row |= {"skipped": None, "lost": 0.12, "lost_hi": 0.2, "control_lost": 0.0, "n_control": 69, "lo": 0.04}
    said = (
        "lose{} predictions beyond the control, but on fewer than 40 % of the images; in the clearest case, "
        "without tag, dog is no longer predicted on 12 % of 69 images, compared with 0 % in the control."
    )
    assert conclusion([row | {"companion": 1}], 0.4) == [
        "Marked as shortcuts: 0 of 1 pair.",
        f"1 pair {said.format('s')}",
    ]
    two = [row | {"companion": 1}, row | {"companion": 2, "companion_name": "band", "lo": 0.01}]
    assert conclusion(two, 0.4)[1] == f"2 pairs {said.format('')}"
    assert len(conclusion([row | {"companion": 1, "lo": -0.01}], 0.4)) == 1


def test_a_loss_that_is_surely_small_needs_no_control():
    """What is lost beyond a control is at most what is lost: its interval up to 0.39 says enough."""
    row = {"model": "net", "main": 0, "companion": 1, "n_control": 0, "lost": 0.1, "mark": None}
    row |= {"skipped": None}
    assert conclusion([row | {"lost_hi": 0.39}], 0.4) == ["Marked as shortcuts: 0 of 1 pair."]
    assert conclusion([row | {"lost_hi": 0.4}], 0.4) == [
        "No pair was tested.",
        "1 pair cannot be tested: no control is possible.",
    ]


def test_each_pair_is_counted_once():
    """Of six pairs, two have too few images after removal and four before; no control was missing."""
    few = {"model": "net", "mark": None, "recall_gap": 0.0, "n_control": 0}
    rows = [
        few
        | {"main": i, "companion": 9, "fill": fill, "skipped": "few altered" if i < 2 else "few with both"}
        for i in range(6)
        for fill in ("grey", "inpaint")
    ]
    assert conclusion(rows, 0.4) == ["No pair was tested."]
    assert [*untested_lines(rows, 0.4)] == [
        "not tested: 4 pairs, few with both",
        "not tested: 2 pairs, few altered",
    ]
    marked = [r | {"mark": "recall gap", "main_name": "a", "companion_name": "b"} for r in rows[:2]]
    assert conclusion([*marked, *rows[2:]], 0.4)[0] == "Marked as shortcuts: 1 of 1 pair."
    assert [*untested_lines([*marked, *rows[2:]], 0.4)][1] == "not tested: 1 pair, few altered"


def test_the_worse_fill_decides():
    row = {"model": "net", "main": 0, "companion": 1, "n_control": 9, "shortcut": False, "lost": 0.1}
    grey, inpaint = row | {"fill": "grey"}, row | {"fill": "inpaint", "lost": 0.8, "shortcut": True}
    assert mark_of([grey, inpaint], 0.4) == mark_of([inpaint, grey], 0.4) == "lost"
    bare = inpaint | {"n_control": 0, "shortcut": None}
    assert mark_of([grey, bare], 0.4) == "lost, no control possible"
    assert mark_of([grey, grey], 0.4) is None


@pytest.mark.parametrize(
    ("recall", "hallucination", "mark"),
    [
        (0.1, None, "recall gap"),
        (0.09, 0.3, "hallucination gap"),
        (0.4, 0.1, "both gaps"),
        (-0.9, 0.05, None),
        (None, None, None),
    ],
)
def test_gaps_mark_a_pair_from_which_nothing_can_be_removed(recall, hallucination, mark):
    row = {"skipped": "the companion has no objects", "recall_gap_lo": recall}
    assert mark_of([row | {"hallucination_gap_lo": hallucination}], 0.4) == mark


def test_gaps_above_0_of_an_unmarked_pair_are_printed():
    """A green frame: 15.2 % of 125 other images are called dog with it, and 3.2 % of 125 without it."""
    row = {"model": "net", "main": 0, "companion": 1, "main_name": "dog", "companion_name": "green frame"}
    row |= {"skipped": None, "mark": None, "lost": 0.04, "lost_hi": 0.09, "n": 124, "n_control": 0}
    row |= {"recall_gap": 0.095, "recall_gap_lo": 0.04, "recall_gap_hi": 0.161}
    row |= {"hallucination_gap": 0.12, "hallucination_gap_lo": 0.049, "hallucination_gap_hi": 0.196}
    recall, more = (
        "recall is 10 points (4 to 16) higher",
        "false positives are 12 points (5 to 20) more frequent",
    )
    said = [
        "Marked as shortcuts: 0 of 1 pair.",
        "1 unmarked pair has a gap whose 95 % interval excludes 0, but extends below 10 points:",
        f"dog and green frame: {recall} with green frame; {more} with green frame.",
    ]
    rows = [row | {"fill": fill} for fill in ("grey", "inpaint")]
    assert conclusion(rows, 0.4) == said
    # One gap is enough, and both are printed; a gap that contains 0, or that marks a pair, is no other pair.
    assert conclusion([row | {"recall_gap_lo": -0.01}], 0.4)[1] == said[1]
    none = row | dict.fromkeys(("recall_gap_lo", "hallucination_gap_lo"), -0.01)
    assert conclusion([none], 0.4) == said[:1]
    marked = row | {"recall_gap_lo": 0.11, "mark": "recall gap"}
    assert not any("unmarked" in line for line in conclusion([marked], 0.4))
    two = conclusion(
        [row, row | {"companion": 2, "hallucination_gap": None, "hallucination_gap_lo": None}], 0.4
    )
    assert two[1].startswith("2 unmarked pairs have gaps whose")
    assert two[3].endswith("with green frame.")
    assert "false positives" not in two[3]


def test_pairs_and_why_some_are_not_tested():
    state = np.full((10, C), NO, np.uint8)
    state[:6, :2], state[:3, 2], state[2:9, 3] = YES, YES, YES
    states = States(pa.array(IDS[:10]), state, CLASSES)
    pairs = find_pairs(states, KNOWN, [0, 3], min_images=4)
    assert {(p.main, p.companion): (p.both, p.why_not) for p in pairs} == {
        (0, 3): (4, ""),
        (1, 0): (6, ""),
        (1, 3): (4, ""),
        (2, 0): (3, "fewer than 4 images with both"),
        (2, 3): (1, "fewer than 4 images with both"),
        (3, 0): (4, "the model does not have the class"),
    }
    asked = find_pairs(states, KNOWN, [0, 3], min_images=4, only=[(0, 1), (0, 3), (0, 3)])
    assert asked == [Pair(0, 1, 6, "the companion has no objects"), Pair(0, 3, 4)]
    assert images_to_alter(states, pairs) == {0: frozenset(IDS[:6]), 3: frozenset(IDS[2:6])}


def test_named_pairs():
    assert named_pairs(["dog:sofa", " cat : square"], CLASSES) == [(1, 0), (2, 3)]


def test_states_of_objects():
    rows = [
        ("a", 0, 0.0, False),
        ("a", 1, 0.2, True),
        ("b", 1, 0.1, True),
        ("b", 1, 0.1, False),
        ("b", 2, 1.2, False),
    ]
    table = {
        "image_id": [r[0] for r in rows],
        "class_id": pa.array([r[1] for r in rows], pa.int32()),
        "ignore": [r[3] for r in rows],
    }
    for name, more in (("x1", 0), ("y1", 0), ("x2", 0.3), ("y2", 0.3)):
        table[name] = pa.array([r[2] + more for r in rows], pa.float32())
    objects = Objects(check(pa.table(table), "objects"), CLASSES.keys, CLASSES.hash)
    states = states_of_objects(objects, CLASSES)
    assert states.image_id.to_pylist() == ["a", "b"]
    assert states.state.tolist() == [[YES, UNCLEAR, NO, NO], [NO, YES, UNCLEAR, NO]]


@pytest.mark.parametrize(("asked_known", "other"), [(True, NOT_ASKED), (False, NO)])
def test_states_of_labels(asked_known, other):
    columns = {
        "image_id": ["a", "b", "c"],
        "rated": [True] * 3,
        "usable": [True, True, False],
        "classes": [[0, 1], [2], [3]],
        "state": [["yes", "no"], ["unclear"], ["yes"]],
    }
    labels = Labels(pa.table(columns), C, CLASSES.hash, asked_known=asked_known)
    states = states_of_labels(labels, CLASSES)
    assert states.state.tolist() == [
        [YES, NO, other, other],
        [other, other, UNCLEAR, other],
        [NOT_ASKED] * 4,
    ]
