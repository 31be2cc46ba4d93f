"""Values that are too rare to be tested, and images without a value: neither is reported as no difference."""

import csv
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from manyhot import Reading, diagnose_groups
from manyhot.core.group_search import Groups, Outcome, search_groups
from manyhot.diagnose.groups_rates import untested_values
from manyhot.tables import Images, Predictions

N = 300
IDS = [f"{i}.jpg" for i in range(N)]
CLASSES = [f"sp{i}" for i in range(5)]
GROUP = ["A"] * 220 + ["B"] * 30 + ["C"] * 9 + [None] * 41


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """All images of C are wrong, and one in ten of the others."""
    rng = np.random.default_rng(0)
    label = rng.integers(5, size=N)
    wrong = (np.array(GROUP) == "C") | (rng.random(N) < 0.1)
    predicted = np.where(wrong, (label + 1) % 5, label)
    path = tmp_path_factory.mktemp("audited") / "labels.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("image_id", "label"), *zip(IDS, (CLASSES[c] for c in label), strict=True)]
        )
    scores = (np.eye(5)[predicted] * 0.8 + 0.04).astype(np.float32)
    return (
        path,
        Predictions(pa.array(IDS), "net", scores=scores, score_kind="probability", n_classes=5),
        wrong,
    )


def asked(audited, group, **options):
    path, predictions, _ = audited
    metadata = Images(pa.table({"image_id": IDS, "group": group}))
    return diagnose_groups(path, [predictions], metadata=metadata, permutations=200, **options)


def test_values_that_were_not_tested_are_counted_and_named(audited):
    found = asked(audited, GROUP)
    (first, *_), note = found.lines(), "labels: 1 value of the metadata was not tested, "
    assert first.startswith(
        "Found among 300 images: no groups on which a model is worse (of 3 tested; 1 value of the metadata "
        "could not be tested), and no properties"
    )
    assert (
        f"{note}because fewer than 25 images (`min_images`) have the value, or have another value of the "
        "same column: group C (9)" in found.notes
    )
    rows = {r["value"]: r for r in found.group_rates.to_pylist()}
    assert {value: r["tested"] for value, r in rows.items()} == {"A": True, "B": True, "C": False, None: True}
    assert (rows["C"]["n"], rows["C"]["share"]) == (9, 1.0)
    assert any("100 % (63 to 100) of 9, not tested" in line for line in found.lines())

    few = asked(audited, GROUP, min_images=5)
    assert few.groups["name"][0].as_py() == "group C"
    assert not any("not tested" in line for line in [*few.lines(), *few.notes])


def test_images_without_a_value_have_a_rate_and_are_not_among_the_others(audited):
    *_, wrong = audited
    missing = np.array([value is None for value in GROUP])
    found = asked(audited, GROUP, min_images=5)
    assert (
        "labels: 41 of 300 images have no value of group: images with a value are compared only with images "
        in (" ".join(found.notes))
    )
    rows = {r["value"]: r for r in found.group_rates.to_pylist()}
    assert (rows[None]["n"], rows[None]["events"]) == (41, wrong[missing].sum())
    row = next(r for r in found.groups.to_pylist() if (r["name"], r["outcome"]) == ("group C", "error"))
    others = ~missing & (np.array(GROUP) != "C")
    assert (row["n_outside"], row["events_outside"]) == (others.sum(), wrong[others].sum())


def test_no_group_large_enough_is_no_group_tested(audited):
    found = asked(audited, ["A"] * 290 + ["B"] * 10)
    assert "(of 0 tested; 2 values of the metadata could not be tested)" in next(iter(found.lines()))
    assert any(note.endswith("column: group A (290) and group B (10)") for note in found.notes)


def test_columns_with_too_many_values_are_named_and_identifiers_are_not(audited):
    many = [f"place {i // 2}" for i in range(N)]
    wide = asked(audited, many)
    assert "(of 0 tested; 150 values" in next(iter(wide.lines()))
    path, predictions, _ = audited
    table = Images(pa.table({"image_id": IDS, "group": GROUP, "serial": [f"s{i}" for i in range(N)]}))
    found = diagnose_groups(path, [predictions], metadata=table, permutations=200)
    assert not any("serial" in note for note in found.notes)


def test_a_missing_group_on_which_a_model_is_worse_is_found(audited):
    *_, wrong = audited
    group = [None if w else "A" for w in wrong]
    found = asked(audited, group)
    row = found.groups.to_pylist()[0]
    assert (row["name"], row["n"], row["share"], row["share_outside"]) == ("without group", wrong.sum(), 1, 0)


def test_groups_are_compared_only_among_their_images():
    """As if the other images did not exist: counts, moments and p are those of a search without them."""
    rng = np.random.default_rng(1)
    n, known = 400, rng.random(400) < 0.7
    inside = rng.random((3, n)) < 0.3
    event, stratum = rng.random(n) < 0.3, rng.integers(3, size=n)
    none = np.zeros(3, bool)
    some = Groups(inside & known, none, np.zeros(n, bool), None, [known] * 3)
    own = search_groups(some, [Outcome(event, np.ones(n, bool), stratum)], np.random.default_rng(2))
    alone = Groups(inside[:, known], none, np.zeros(known.sum(), bool))
    of = Outcome(event[known], np.ones(known.sum(), bool), stratum[known])
    expected = search_groups(alone, [of], np.random.default_rng(2))
    assert (own.p == expected.p).all()
    for name, values in vars(expected.counts[0]).items():
        assert getattr(own.counts[0], name) == pytest.approx(values)


def test_images_without_a_prediction_are_noted_and_not_counted(audited):
    """The model predicts neither the images of B nor half of those without a value."""
    path, predictions, _ = audited
    keep = np.array([group != "B" and i < 280 for i, group in enumerate(GROUP)])
    some = replace(
        predictions, image_id=predictions.image_id.filter(pa.array(keep)), scores=predictions.scores[keep]
    )
    found = asked((path, some, None), GROUP)
    rows = [(r["outcome"], r["name"], r["n"], r["events"]) for r in found.groups.to_pylist()]
    assert rows == [("no_prediction", "group B", 30, 30), ("no_prediction", "without group", 41, 20)]
    assert next(iter(found.lines())).startswith(
        "Images with group B: 100 % of 30 have no predicted class, compared with 0 % of other images. Found "
        f"among 300 images ({keep.sum()} of them predicted): 2 groups"
    )
    assert (
        f"net: {300 - keep.sum()} of 300 labelled images have no prediction and were left out" in found.notes
    )
    assert any(
        "not tested, because fewer than 25 images with predictions (`min_images`) have the value" in note
        and note.endswith(": group A (220), images without group (21), group C (9) and group B (0)")
        for note in found.notes
    )
    both = diagnose_groups(
        path,
        [predictions, replace(some, model="some")],
        metadata=Images(pa.table({"image_id": IDS, "group": GROUP})),
        permutations=200,
    )
    assert f"({keep.sum()} of them predicted by all models)" in next(iter(both.lines()))


def test_misses_of_a_value_with_few_images_of_each_class_are_untested():
    """In BR, all 48 positives are missed, but no class has 25 of them; false positives are tested."""
    rng = np.random.default_rng(0)
    n, ids, market = 1200, [f"i{k}" for k in range(1200)], np.repeat(["DE", "FR", "BR"], [600, 400, 200])
    valid = np.zeros((n, 3), bool)
    valid[rng.permutation(600)[:90], 0] = valid[600:690, 1] = valid[rng.permutation(600)[:60], 2] = True
    valid[700:730, 0] = valid[1000:1016, 0] = valid[1016:1032, 1] = valid[1032:1048, 2] = True
    scores = np.where(valid, rng.uniform(0.4, 1, (n, 3)), rng.uniform(0, 0.45, (n, 3)))
    scores[rng.random((n, 3)) < 0.05] = 0.9
    scores[1000:1048] *= 0.2
    labels = {"image_id": ids, **{c: valid[:, i].astype(int) for i, c in enumerate("abc")}}
    model = {"image_id": ids, **{c: scores[:, i] for i, c in enumerate("abc")}}
    found = diagnose_groups(
        pa.table(labels),
        {"net": pa.table(model)},
        scores="probability",
        metadata=Images(pa.table({"image_id": ids, "market": market})),
        permutations=200,
    )
    rows = {(r["outcome"], r["value"]): r for r in found.group_rates.to_pylist()}
    assert (rows["missed", "BR"]["n"], rows["missed", "BR"]["share"]) == (48, 1.0)
    # Only class a has 25 images inside and outside of DE (90 and 46) and of FR (30 and 106).
    assert {key: row["tested"] for key, row in rows.items()} == {
        **{("called", value): True for value in ("BR", "DE", "FR")},
        **{("missed", value): value != "BR" for value in ("BR", "DE", "FR")},
    }
    first = next(iter(found.lines()))
    assert "tested; misses of 1 value could not be tested for any class)" in first
    (note,) = (note for note in found.notes if note.startswith("net: misses of "))
    assert note.startswith(
        "net: misses of 3 values of the metadata could be tested for fewer than half of the 3"
    )
    for value in (
        "BR (0 of 3, 48 valid pairs)",
        "DE (1 of 3, 150 valid pairs)",
        "FR (1 of 3, 120 valid pairs)",
    ):
        assert f"market {value}" in note


def test_times_are_groups_by_date_and_small_rates_have_digits():
    """Images of two days in Berlin; few of those without the class are predicted as the class."""
    n, ids = 2000, [f"i{k}" for k in range(2000)]
    start = np.datetime64("2026-01-01T22:30:00")  # UTC; the day in Berlin changes after half an hour
    times = pa.array(start + np.arange(n) * np.timedelta64(2, "s"), pa.timestamp("s", "UTC"))
    times = times.cast(pa.timestamp("s", "Europe/Berlin"))
    valid = np.arange(n) % 10 == 0
    scores = np.where(valid, 0.9, 0.1)
    scores[np.flatnonzero(~valid)[:1300:100]] = 0.95
    found = diagnose_groups(
        pa.table({"image_id": ids, "a": valid.astype(int), "b": np.ones(n, int)}),
        {"net": pa.table({"image_id": ids, "a": scores, "b": scores})},
        scores="probability",
        metadata=pa.table({"image_id": ids, "taken_at": times}),
        permutations=100,
    )
    rows = {(r["outcome"], r["value"]): r for r in found.group_rates.to_pylist()}
    assert {value for _, value in rows} == {"2026-01-01", "2026-01-02"}
    assert rows["missed", "2026-01-01"]["n_images"] == 900  # half an hour
    row = rows["called", "2026-01-01"]
    assert 0 < row["share"] < 0.05
    assert f"{100 * row['share']:.{1 if row['share'] >= 0.01 else 2}f} % (" in "\n".join(found.lines())


def test_times_of_single_images_are_not_counted():
    """Of 600 times, two belong to two images; of 30 sites, all have too few images."""
    times = [f"2026-01-08T17:{i // 60:02}:{i % 60:02}" for i in range(598)]
    columns = pa.table(
        {"taken_at": [*times, times[0], times[1]], "site": [f"s{min(i, 29)}" for i in range(600)]}
    )
    n, (note,) = untested_values(columns, {"site s29"}, 25, np.ones(600, bool))
    assert n == 2 + 29
    assert note.startswith("31 values of the metadata were not tested, because fewer than 25 images")
    assert f"taken_at {times[0]} (2)" in note
    assert times[2] not in note


def test_differences_beyond_chance_below_the_minimum_are_noted():
    """28 of 700 against 0 of 929 false positives: Fisher's p is 4e-11; the difference is below 5 points."""
    rng = np.random.default_rng(0)
    male = np.arange(2000) % 2
    blond = rng.random(2000) < np.where(male, 0.06, 0.3)
    score = np.where(blond, 0.9, 0.1) + rng.uniform(-0.05, 0.05, 2000)
    others = np.flatnonzero(~blond & (male == 0))
    score[others[:28]] = 0.88
    assert len(others) == 700
    ids = [f"{i}.jpg" for i in range(2000)]
    labels = pl.DataFrame({"image_id": ids, "blond": blond.astype(int)})
    options = {
        "predictions": pl.DataFrame({"image_id": ids, "blond": score}),
        "metadata": pl.DataFrame({"image_id": ids, "male": male}),
        "reading": Reading(scores="probability"),
        "permutations": 200,
    }
    found = diagnose_groups(labels, **options)
    assert not [row for row in found.groups.to_pylist() if row["model"]]
    (note,) = (note for note in found.notes if "beyond chance" in note)
    assert "by less than 5 points, in 1 group: at most 4.0 points (male 0)" in note
    found = diagnose_groups(labels, min_difference=0.0, **options)
    assert [row["name"] for row in found.groups.to_pylist() if row["model"]] == ["male 0"]
    assert not any("beyond chance" in note for note in found.notes)
