"""Rows of each class and model against scikit-learn, and what is null or NaN where it is undefined."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from manyhot.classes import from_keys
from manyhot.core.jackknife import FEWEST_POSITIVES
from manyhot.core.ranking import class_precision
from manyhot.core.sets import YES, Case, LabelSets
from manyhot.evaluate.per_class.class_tables import (
    CLASS_TABLES,
    ClassTables,
    PointSettings,
    best_first,
    first_of,
    mean_ap,
    of_models,
    worst_first,
)
from manyhot.tables import check
from scored_states import case_of, draw

NAMES = [f"class {c}" for c in range(20)]


@pytest.fixture(scope="module")
def drawn():
    state, scores, _ = draw(0)
    return state, scores, case_of(state, scores)


def tables_of(*cases, curves=4, **settings):
    made = ClassTables("mine", 20, from_keys(NAMES), PointSettings(**settings), curves)
    for i, case in enumerate(cases):
        assert made.add(f"net {i}", case)
    return made.tables()


def test_tables_have_their_schemas(drawn):
    made = tables_of(drawn[2], drawn[2])
    assert tuple(made) == CLASS_TABLES
    for name, table in made.items():
        check(table, name)
        assert set(table["model"].to_pylist()) == {"net 0", "net 1"}
        assert set(table["dataset"].to_pylist()) == {"mine"}
    assert made["class_results"].num_rows == 40


def test_values_are_those_of_scikit_learn(drawn):
    state, scores, case = drawn
    rows = tables_of(case)["class_results"].to_pylist()
    assert [r["name"] for r in rows] == [r["key"] for r in rows] == NAMES
    precision = class_precision(case)
    for r in rows[:-1]:
        yes, own = state[:, r["class_id"]] == YES, scores[:, r["class_id"]].astype(float)
        assert (r["n_positives"], r["n_negatives"]) == (yes.sum(), (~yes).sum())
        assert r["ap"] == pytest.approx(average_precision_score(yes, own))
        assert r["auroc"] == pytest.approx(roc_auc_score(yes, own))
        ends = (precision.lo[r["class_id"]], precision.hi[r["class_id"]])
        assert (r["ap_lo"], r["ap_hi"]) == (ends if yes.sum() >= FEWEST_POSITIVES else (None, None))
        if r["reason"] is None:
            # At the threshold of all images, which was chosen on them, F1 is at least as large.
            assert f1_score(yes, own >= r["threshold"]) >= r["f1"] - 0.05
            for name in ("precision", "recall", "f1"):
                assert r[f"{name}_lo"] <= r[name] <= r[f"{name}_hi"]
            assert r["precision"] == pytest.approx(r["n_right"] / r["n_predicted"])
            assert r["recall"] == pytest.approx(r["n_right"] / r["n_positives"])


def test_goals_reach_the_image_that_they_are_chosen_on(drawn):
    state, scores, case = drawn
    for goal, score in (("precision", precision_score), ("recall", recall_score)):
        rows = tables_of(case, goal=goal, at=0.7)["class_results"].to_pylist()
        fitted = [r for r in rows if not math.isnan(r["threshold"])]
        assert len(fitted) > 10
        for r in fitted:
            c = r["class_id"]
            assert score(state[:, c] == YES, scores[:, c] >= r["threshold"]) >= 0.7


def test_undefined_numbers_are_nan_and_their_ends_null(drawn):
    none = tables_of(drawn[2])["class_results"].to_pylist()[-1]
    assert (none["n_positives"], none["reason"]) == (0, "no positives")
    for name in ("ap", "precision", "recall", "f1"):
        assert math.isnan(none[name])
        assert none[f"{name}_lo"] is none[f"{name}_hi"] is None
    assert math.isnan(none["threshold"])
    assert (none["n_predicted"], none["n_right"]) == (0, 0)


def test_negatives_that_nobody_was_asked_about_are_counted(drawn):
    state, scores, case = drawn
    rows = tables_of(case)["class_results"].to_pylist()
    assert [r["n_unasked"] for r in rows] == (state == 0).sum(axis=0).tolist()
    masked = tables_of(case, masked=True)["class_results"].to_pylist()
    assert {r["n_unasked"] for r in masked} == {0}
    assert [r["n_negatives"] for r in masked] == (state == 1).sum(axis=0).tolist()
    sets = LabelSets.from_lists([np.flatnonzero(s == YES) for s in state], 20)
    only_valid = tables_of(Case(sets, case.top, scores))["class_results"]
    assert only_valid["n_unasked"].null_count == 20


def test_confusions_have_names_and_totals(drawn):
    made = tables_of(drawn[2])
    results = {r["class_id"]: r for r in made["class_results"].to_pylist()}
    pairs = made["class_confusions"].to_pylist()
    for r in pairs:
        for end in ("predicted", "present"):
            assert r[f"{end}_name"] == (None if r[end] is None else NAMES[r[end]])
        own = results.get(r["predicted"])
        assert r["n_wrong"] == (own and own["n_predicted"] - own["n_right"])
        own = results.get(r["present"])
        missed = own and (None if own["reason"] else own["n_positives"] - own["n_right"])
        assert r["n_missed"] == missed
        assert r["n_instead"] <= r["n"] <= max(r["n_wrong"] or 0, r["n_missed"] or 0)
    assert {r["predicted"] is None for r in pairs} == {True, False}


def test_curves_are_those_of_the_worst_classes(drawn):
    made = tables_of(drawn[2], curves=3)
    worst = [r for r in worst_first(made["class_results"].to_pylist()) if r["reason"] is None][:3]
    curves = made["class_curves"].to_pylist()
    assert {r["class_id"] for r in curves} == {r["class_id"] for r in worst}
    assert {r["curve"] for r in curves} == {"precision-recall", "roc"}
    assert all(r["name"] == NAMES[r["class_id"]] for r in curves)
    assert tables_of(drawn[2], curves=0)["class_curves"].num_rows == 0


def test_models_that_cannot_be_added(drawn):
    made = ClassTables("mine", 20)
    assert not made.add("ranks", Case(drawn[2].labels, drawn[2].top))
    assert made.tables() == {}
    sets = LabelSets.from_lists([[0], [1]], 2)
    scores = np.zeros((2, 2), np.float32)
    masked = ClassTables("mine", 2, settings=PointSettings(masked=True))
    assert not masked.add("net", Case(sets, np.zeros((2, 1), np.int32), scores))


def test_orders_of_classes_and_models(drawn):
    state, scores, case = drawn
    noise = case_of(state, np.random.default_rng(0).random(scores.shape, np.float32))
    models = of_models(tables_of(noise, case)["class_results"])
    assert list(best_first(models, "mine")) == ["net 1", "net 0"]
    rows = worst_first(models["mine", "net 1"])
    known = [r["ap"] for r in rows[:-1]]
    rare = [r["n_positives"] < 30 for r in rows[:-1]]
    assert rare == sorted(rare)
    assert 0 < (k := rare.index(True)) < 19
    assert known == sorted(known[:k]) + sorted(known[k:])
    assert min(known[k:]) < known[0]  # it would be the first
    assert first_of(rows) == " of classes with 30 images or more"
    assert first_of(rows[:k]) == first_of(rows[k:]) == ""
    assert math.isnan(rows[-1]["ap"])
    assert mean_ap(rows) == (pytest.approx(np.mean(known)), 19)
    assert mean_ap([])[1] == 0
