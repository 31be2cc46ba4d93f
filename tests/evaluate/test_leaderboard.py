"""Leaderboards from small results."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot import Leaderboard, aggregate, evaluate, find_label_issues, leaderboard
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.ranks import narrow, rank_models
from manyhot.tables import Results, schema


def make(values, *, metric="real1", dataset="a", models=None, pairs=(), about=None):
    rows = [
        {"dataset": dataset, "model": m, "metric": metric, "slice": "all", "value": v, "lo": v - 0.01}
        | {"hi": v + 0.01, "n": 90, "n_skipped": 10}
        for m, v in values.items()
    ]
    tested = [
        {"dataset": dataset, "metric": metric, "slice": "all", "model_a": a, "model_b": b, "difference": 0.0}
        | {"lo": None, "hi": None, "p": p, "p_adjusted": p, "n": 90}
        for a, b, p in pairs
    ]
    table = pa.Table.from_pylist(rows, schema=schema("results"))
    known = schema("models").empty_table() if models is None else models
    return Results(
        table.replace_schema_metadata(about),
        pa.Table.from_pylist(tested, schema=schema("pairs")),
        models=known,
    )


VALUES = {"one": 0.7, "two": 0.9, "three": 0.8, "four": 0.8}


def test_the_best_first_equals_share_a_rank():
    ranked = rank_models(make(VALUES))
    assert ranked["model"].to_pylist() == ["two", "four", "three", "one"]
    assert ranked["rank"].to_pylist() == [1, 2, 2, 4]
    assert ranked["a real1"].to_pylist() == [0.9, 0.8, 0.8, 0.7]
    assert ranked["n"].to_pylist() == [90] * 4
    assert ranked["best_rank"].null_count == 4


def test_the_best_rank_counts_models_that_are_better_beyond_noise():
    pairs = [("two", "four", 0.2), ("two", "three", 0.01), ("one", "two", 0.001), ("three", "one", 0.04)]
    pairs += [("four", "one", 0.3), ("four", "three", 1.0)]
    ranked = rank_models(make(VALUES, pairs=pairs))
    best = dict(zip(ranked["model"].to_pylist(), ranked["best_rank"].to_pylist(), strict=True))
    assert best == {"two": 1, "four": 1, "three": 2, "one": 3}


def test_the_best_rank_is_unknown_unless_a_model_was_compared_with_every_other():
    """Models that were compared with none had best rank 1."""
    pairs = [("two", "four", 0.2), ("two", "three", 0.01), ("one", "two", 0.001), ("three", "four", 1.0)]
    ranked = rank_models(make(VALUES, pairs=pairs))
    best = dict(zip(ranked["model"].to_pylist(), ranked["best_rank"].to_pylist(), strict=True))
    assert best == {"two": 1, "four": None, "three": None, "one": None}


def test_lower_is_better_where_the_metric_says_so():
    told = {"manyhot.metrics": '{"mine": {"better": "lower"}}'}
    assert rank_models(make(VALUES, metric="mine", about=told), by="mine")["model"][0].as_py() == "one"
    for name in ("coverage", "ece", "jaccard(threshold=0.5)"):
        first = "two" if name.startswith("jaccard") else "one"
        assert rank_models(make(VALUES, metric=name), by=name)["model"][0].as_py() == first


def test_undefined_values_have_no_rank():
    ranked = rank_models(make(VALUES | {"none": float("nan")}))
    assert "none" not in ranked["model"].to_pylist()


def test_what_is_known_about_models_and_other_data_sets_stand_beside():
    known = pa.table({"model": ["two"], "params": [25.6]})
    first = make(VALUES, models=known)
    other = make({"two": 0.5, "one": 0.6}, dataset="b", metric="top1")
    both = Results(pa.concat_tables([first.table, other.table]), models=first.models)
    ranked = rank_models(both)
    assert ranked["params"].to_pylist() == [25.6, None, None, None]
    assert ranked["b top1"].to_pylist() == [0.5, None, None, 0.6]
    assert narrow(ranked).column_names == ["rank", "model", "params", "a real1", "lo", "hi", "n", "b top1"]


def test_models_of_other_data_sets_are_named_and_other_values_shown():
    """Both were missing, also in the JSON, without a note."""
    first, second = make({"one": 0.7}, metric="map_macro"), make(VALUES, metric="map_macro", dataset="b")
    found = leaderboard([first, second])
    assert (
        found.to_json()["leaderboard"][0] | {"b map_macro": VALUES["one"], "a map_macro": 0.7}
        == (found.to_json()["leaderboard"][0])
    )
    assert found.notes == (
        "evaluated only on other data sets: two, three, four; to rank on one of these, pass its name as "
        "`dataset`",
    )
    assert found.to_json()["notes"] == found.notes
    assert leaderboard([first, second], dataset="b").notes == ()


def test_a_folder_that_cannot_be_read_is_skipped_and_named(tmp_path):
    """One truncated folder ended the ranking of all others."""
    hot = (np.random.default_rng(0).random((50, 3)) < 0.4).astype(int)
    for name in ("good", "cut"):
        evaluate(hot, {name: hot + 0.0}, metrics=["map_macro"], scores="logit").write(tmp_path / name)
    file = tmp_path / "cut" / "results.parquet"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a complete Parquet file"):
        leaderboard([tmp_path / "cut", tmp_path / "good"], strict=True)
    found = leaderboard([tmp_path / "cut", tmp_path / "good"])
    assert found.ranked["model"].to_pylist() == ["good"]
    (note,) = found.notes
    assert note.startswith(
        f"{tmp_path / 'cut'} is skipped: The file is not a complete Parquet file: {file}; "
    )
    for sources in (tmp_path / "cut", [tmp_path / "good", tmp_path / "none"]):
        with pytest.raises(InputError):
            leaderboard(sources)


def test_a_metric_that_is_not_there():
    with pytest.raises(MatchError) as error:
        rank_models(make(VALUES), by="mla")
    assert str(error.value) == "There are no values of mla on a.\n  allowed: a: real1"
    with pytest.raises(MatchError) as error:
        rank_models(make(VALUES), dataset="b")
    assert str(error.value) == "There is no data set 'b' in the results.\n  allowed: a"


def test_every_result_is_a_frame():
    """Some results had no to_pandas, which an AttributeError said."""
    board = Leaderboard(rank_models(make(VALUES)))
    names = board.ranked["model"].to_pylist()
    assert board.to_pandas()["model"].tolist() == board.to_polars()["model"].to_list() == names
    issues = find_label_issues([0, 1], np.array([[0.9, 0.1], [0.8, 0.2]]), scores="probability")
    assert issues.to_pandas()["image_id"].tolist() == issues.table["image_id"].to_pylist()
    answers = {"class_id": [0, 1], "rater_id": ["x", "x"], "answer": ["yes", "no"]}
    votes = pa.table({"image_id": ["a", "b"], **answers})
    assert aggregate(votes, classes=["cat", "dog"]).to_pandas()["image_id"].tolist() == ["a", "b"]


def test_metrics_that_are_no_shares_have_their_unit(tmp_path):
    valid = (np.random.default_rng(0).random((200, 6)) < 0.4).astype(int)
    scores = valid + np.random.default_rng(1).normal(size=valid.shape)
    results = evaluate(valid, {"m": scores}, metrics=["coverage"], scores="logit")
    results.write(tmp_path / "out")
    rank = [(s >= s[v == 1].min()).sum() for s, v in zip(scores, valid, strict=True) if v.any()]
    line = [*leaderboard(tmp_path / "out").lines()][2]
    assert f" {np.mean(rank):.2f} classes (" in line
    assert "%" not in line
