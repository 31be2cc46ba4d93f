"""Results of different models on one data set, joined: the numbers of one evaluation of all models."""

import dataclasses
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from manyhot import compare, evaluate, leaderboard, tables
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError, OutputError
from manyhot.evaluate import compared_pairs, sampled_pairs
from manyhot.evaluate.compared_pairs import ComparedPairs
from manyhot.evaluate.joined_models import join, join_thresholds
from manyhot.tables.result_tables import read_results_folder

N, C = 300, 6
READING = Reading(n_classes=C, dataset="mine")
NAMES = ("first", "near", "best", "last")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    label = rng.integers(0, C, N)
    second = (label + rng.integers(1, C, N)) % C
    sets = [[a, b] if i % 3 == 0 else [a] for i, (a, b) in enumerate(zip(label, second, strict=True))]
    dense = {}
    for name, noise in zip(NAMES, (0.7, 0.72, 0.4, 1.5), strict=True):
        dense[name] = rng.normal(0, noise, (N, C))
        for i, classes in enumerate(sets):
            dense[name][i, classes] += 1
    ranks = {name: np.argsort(-scores, axis=1)[:, :5] for name, scores in dense.items()}
    ids = [f"{i}.jpg" for i in range(N)]
    return pa.table({"image_id": ids, "label": pa.array(label, pa.int32()), "classes": sets}), ranks, dense


def judge(data, names, kind="ranks", *, labels=None, resamples=200, **options):
    own, ranks, dense = data
    models = {n: (ranks if kind == "ranks" else dense)[n] for n in names}
    reading = READING if kind == "ranks" else dataclasses.replace(READING, scores="logit")
    labels = own if labels is None else labels
    return evaluate(labels, models, reading=reading, resamples=resamples, **options)


def joined(*evaluations):
    return join([found.as_results(f"night{i}") for i, found in enumerate(evaluations, 1)])


def rows(table):
    """The rows of a table in one order; each float as the text that gives it back."""
    return sorted(repr(row) for row in table.to_pylist())


def assert_same(joint, whole):
    for name in ("table", "pairs", "samples"):
        assert rows(getattr(joint, name)) == rows(getattr(whole, name)), name
    for key in ("compared_pairs", "judged_on", "drawn_images", "metrics"):
        assert joint.about.get(key) == whole.about.get(key), key


@pytest.mark.parametrize(("kind", "labelled"), [("ranks", True), ("dense", True), ("dense", False)])
def test_joined_results_are_those_of_one_evaluation(data, tmp_path, kind, labelled):
    labels = None if labelled else data[0]["classes"].to_pylist()
    nights = (NAMES[:1], NAMES[1:3], NAMES[3:])
    folders = [tmp_path / str(k) for k in range(3)]
    judge(data, NAMES, kind, labels=labels).write(tmp_path / "all")
    for names, folder in zip(nights, folders, strict=True):
        judge(data, names, kind, labels=labels).write(folder)
    whole = read_results_folder(tmp_path / "all")
    assert len(whole.pairs) >= 6  # of four models, under each metric
    assert_same(join([read_results_folder(folder) for folder in folders]), whole)
    assert rows(leaderboard(folders).ranked) == rows(leaderboard(tmp_path / "all").ranked)
    one, several = compare(tmp_path / "all"), compare(*folders)
    assert several.answers == one.answers
    for name, table in one.tables.items():
        assert rows(several.tables[name]) == rows(table), name
    assert rows(several.described["datasets"]) == rows(one.described["datasets"])
    several.write(tmp_path / "joined")  # which can be joined again
    assert_same(join([read_results_folder(tmp_path / "joined"), whole]), whole)


def test_models_of_two_folders_are_compared(data, tmp_path):
    for name in ("first", "best"):
        judge(data, [name]).write(tmp_path / name)
    found = compare(tmp_path / "best", tmp_path / "first", fail_if_worse=1)
    expected = compare(
        {n: data[1][n] for n in ("best", "first")}, labels=data[0], reading=READING, resamples=200
    )
    assert found.answers == expected.answers
    assert rows(found.to_polars().to_arrow()) == rows(expected.to_polars().to_arrow())
    assert found.exit_code == 7


def test_a_model_that_several_results_contain_counts_once(data):
    """As the published models of a benchmark, which are evaluated every night."""
    joint = joined(judge(data, ("best", "first")), judge(data, ("best", "last")))
    assert_same(joint, judge(data, ("best", "first", "last")).as_results())


def test_results_compared_with_a_reference(data):
    options = {"kind": "dense", "compare_with": "best"}
    joint = joined(judge(data, ("best", "first"), **options), judge(data, ("best", "last"), **options))
    assert len(joint.pairs)
    whole = judge(data, ("best", "first", "last"), **options).as_results()
    assert rows(joint.pairs) == rows(whole.pairs)
    assert ComparedPairs.of(joint.about, "mine") == ComparedPairs("reference", "best")


def test_results_without_pairs(data):
    for options in ({"compare_with": "none"}, {"resamples": 0}):
        joint = joined(judge(data, NAMES[:2], **options), judge(data, NAMES[2:], **options))
        assert_same(joint, judge(data, NAMES, **options).as_results())
        assert not len(joint.pairs)


def test_models_without_stored_values_are_not_compared_and_named(data, tmp_path, monkeypatch):
    """A model 49 points worse than the best had best rank 1, and nothing said so."""
    for name in ("best", "first"):
        judge(data, [name], "dense").write(tmp_path / name)
    monkeypatch.setattr(sampled_pairs, "MOST_STORED", 0)
    large = judge(data, ["last", "near"], "dense")
    assert any("take more than 64 MB and are not stored" in note for note in large.notes)
    large.write(tmp_path / "large")
    folders = [tmp_path / name for name in ("best", "first", "large")]
    board = leaderboard(folders, by="map_macro")
    assert board.ranked["model"].to_pylist() == ["best", "first", "near", "last"]
    assert board.ranked["best_rank"].to_pylist() == [None] * 4
    (note,) = board.notes
    assert note.startswith(
        f"mine: models in {tmp_path / 'large'} are not compared with models of other results"
    )
    assert note in compare(*folders).notes
    assert leaderboard(tmp_path / "large", by="map_macro").ranked["best_rank"].to_pylist() == [1, 2]
    assert not leaderboard(folders[:2]).notes


def test_a_run_that_fails_leaves_no_results(data, tmp_path, monkeypatch):
    """As at a quota: what a folder without its samples lacks cannot be seen in it."""
    found, write = judge(data, ["best"]), tables.write

    def failing(table, path, name, **options):
        if name == "samples":
            raise OutputError("No space left on device.", where=path)
        return write(table, path, name, **options)

    monkeypatch.setattr(tables, "write", failing)
    with pytest.raises(OutputError):
        found.write(tmp_path)
    with pytest.raises(InputError, match="The folder contains no results"):
        read_results_folder(tmp_path)


def test_joined_results_of_many_models_have_no_pairs(data, monkeypatch):
    monkeypatch.setattr(compared_pairs, "MAX_COMPARED", 3)
    joint, whole = joined(judge(data, NAMES[:2]), judge(data, NAMES[2:])), judge(data, NAMES)
    assert not len(joint.pairs)
    assert rows(joint.table) == rows(whole.results)
    assert ComparedPairs.of(joint.about, "mine") == ComparedPairs("none")
    notes = [note["text"] for note in json.loads(joint.about["notes"]) if note["kind"] == "pairs"]
    assert notes == [note.text for note in whole.model_notes if note.kind == "pairs"]


def test_models_that_were_evaluated_in_different_ways_are_not_joined(data):
    labels = data[0]
    other = labels.set_column(2, "classes", [[[c] for c in labels["label"].to_pylist()]])
    fewer = labels.slice(0, N - 10)
    whole = judge(data, ["first"]).as_results("old")
    for label, options, differing in (
        (labels, {"seed": 3}, ["seed"]),
        (labels, {"resamples": 100}, ["resamples"]),
        (labels, {"metrics": ["real1"]}, ["metrics"]),
        (labels, {"compare_with": "best"}, ["compare_with"]),
        (labels, {"slices": ["class=2"]}, ["slices"]),
        (other, {}, ["label sets", "slices"]),
        (fewer, {}, ["images", "label sets", "slices"]),
    ):
        models = {"best": data[1]["best"][: label.num_rows]}
        found = evaluate(label, models, reading=READING, **{"resamples": 200} | options)
        with pytest.raises(MatchError) as error:
            join([whole, found.as_results("new")])
        got = [part.split()[0] for part in error.value.details["got"].split("; ")]
        assert got == [name.split()[0] for name in differing]


def test_the_message_says_what_differs(data):
    parts = [judge(data, [name], seed=k).as_results(f"night{k}") for k, name in enumerate(NAMES[:2])]
    with pytest.raises(MatchError) as error:
        join(parts)
    assert str(error.value) == (
        "Results on mine cannot be joined, because models were evaluated in different ways.\n"
        "  where:   night0 and night1\n"
        "  got:     seed 0 and 1\n"
        "  allowed: models evaluated on the same labels, with the same options and version\n"
        "  do:      evaluate the models of one result again, with the labels and options of the other"
    )


def test_the_message_says_how_results_get_the_same_classes():
    images = ["a", "b", "c"]
    parts = []
    for names in (["x", "y"], ["x", "y", "stray"]):
        scores = [[0.9 - 0.1 * ((i + j) % len(names)) for j in range(len(names))] for i in range(3)]
        frame = pl.DataFrame(scores, schema=names, orient="row").with_columns(image_id=pl.Series(images))
        truth = pl.DataFrame({"image_id": images, "x": [1, 0, 0], "y": [0, 1, 1]})
        found = evaluate(truth, {f"m{len(names)}": frame}, scores="probability", resamples=0, dataset="mine")
        parts.append(found.as_results(f"night{len(names)}"))
    with pytest.raises(MatchError) as error:
        join(parts)
    assert error.value.details["do"].endswith("of the other; pass the same `classes` to both")


def test_two_data_sets_of_one_name_can_be_renamed(data):
    """As those of several files that are all called labels.csv."""
    others = judge((data[0].slice(0, 200), {"last": data[1]["last"][:200]}, {}), ["last"]).as_results()
    with pytest.raises(MatchError) as error:
        join([judge(data, ["best"]).as_results(), others])
    assert error.value.details["do"].endswith(
        "; if these are two data sets, name one: manyhot evaluate --dataset mine-2"
    )


def test_another_version_is_refused(data):
    old, new = judge(data, ["first"]), judge(data, ["best"])
    about = json.loads(old.metadata["judged_on"])
    about["mine"]["version"] = "0.0.1"
    old = dataclasses.replace(old, metadata={**old.metadata, "judged_on": json.dumps(about)})
    with pytest.raises(MatchError, match=r"version 0\.0\.1 and "):
        joined(old, new)


def test_two_versions_of_a_model_are_refused(data):
    other = (data[0], {"first": data[1]["best"]}, {})
    with pytest.raises(MatchError) as error:
        joined(judge(data, ["first", "last"]), judge(other, ["first"]))
    assert str(error.value) == (
        "A model has different values in two of the results.\n"
        "  where:   night1 and night2\n"
        "  got:     first on mine\n"
        "  allowed: one version of each model\n"
        "  do:      leave out one of the results; to compare two versions, compare models from their "
        "predictions, with `labels`"
    )


def test_thresholds_of_all_results_are_joined(data):
    parts = [judge(data, names).as_results() for names in (NAMES[:2], NAMES[1:])]
    found = join_thresholds(parts)
    assert rows(found.table) == rows(judge(data, NAMES).results)
    assert join_thresholds([]) is None
