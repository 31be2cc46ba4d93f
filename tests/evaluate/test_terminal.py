"""What a terminal shows of numbers has their n, and the interval where there is one."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest

from forking import commands
from manyhot import Leaderboard, Reading, leaderboard
from manyhot import evaluate as evaluate_arrays
from manyhot.evaluate.ranks import leading_metric, rank_models
from manyhot.evaluate.report.datasets import build_datasets
from manyhot.evaluate.result_rows import Note
from manyhot.evaluate.terminal import _changed, headline_blocks, headline_lines
from manyhot.report.page import Anchors
from manyhot.run import QUIET, Run
from manyhot.tables import Results, schema

IDS = [f"{i:02d}.jpg" for i in range(20)]
CLASSES = np.arange(20) % 5
HEAD = "dataset,model,metric,slice,value,lo,hi,n,n_skipped\n"


def predict(folder, name, images, right):
    """Write a model's ranks of some images, the first of which it has right."""
    rows = [
        f"{IDS[i]},{(CLASSES[i] + (place + (at >= right)) % 5) % 5},{place + 1}\n"
        for at, i in enumerate(images)
        for place in range(5)
    ]
    (folder / f"{name}.csv").write_text("image_id,class_id,rank\n" + "".join(rows))


@pytest.fixture
def folder(tmp_path):
    # Of four images the label set is empty.
    rows = [f"{i},{c},{'' if n >= 16 else c}\n" for n, (i, c) in enumerate(zip(IDS, CLASSES, strict=True))]
    (tmp_path / "labels.csv").write_text("image_id,label,classes\n" + "".join(rows))
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    (tmp_path / "models").mkdir()
    predict(tmp_path / "models", "good", range(20), 15)
    predict(tmp_path / "models", "bad", range(20), 5)
    return tmp_path


def evaluate(folder, *more):
    words = ["evaluate", "labels.csv", "--classes", "classes.txt", "--predictions", "models"]
    words += ["--metric", "top1", "--metric", "real1", "--out", "out", "--dataset", "mine", *more]
    done = commands.run(*words, cwd=folder)
    return done.stdout.partition("wrote")[0].splitlines()


def test_models_of_the_same_images_share_a_row_of_n(folder):
    assert evaluate(folder, "--resamples", 0) == [
        "mine: 2 models, best 2 by real1",
        "   model      top1   real1",
        "   images       20      16",
        "   skipped       0       4",
        "1  good     75.00%  93.75%",
        "2  bad      25.00%  31.25%",
    ]


def test_intervals_to_the_farther_end(folder):
    lines = evaluate(folder, "--resamples", 100)
    frame = pl.read_csv(folder / "out" / "results.csv").filter(slice="all")
    for line, model in zip(lines[4:6], ("good", "bad"), strict=True):
        cells = []
        for metric in ("top1", "real1"):
            (row,) = frame.filter(model=model, metric=metric).to_dicts()
            half = max(row["value"] - row["lo"], row["hi"] - row["value"])
            cells.append(f"{row['value']:.2%} ±{100 * half:.2f}")
        assert line.endswith("  ".join(cell.rjust(len("75.00% ±20.00")) for cell in cells)), lines
    assert lines[6].startswith("good is better than bad by ")
    assert lines[7] == "±: to the farther end of the 95 % interval"


@pytest.mark.parametrize("resamples", [0, 50])
def test_a_model_of_fewer_images_is_not_ranked_among_the_others(folder, resamples):
    predict(folder / "models", "lucky", range(4), 4)
    lines = [" ".join(line.split()) for line in evaluate(folder, "--resamples", resamples)]
    assert lines[0] == "mine: 2 models, best 2 by real1"
    assert [line.split()[:2] for line in lines[4:6]] == [["1", "good"], ["2", "bad"]]
    assert lines[6:9] == [
        "mine, not ranked: 1 model, evaluated on other images; "
        "16 of 20 labelled images have no prediction and were left out",
        "model top1 real1",
        "images 4 4",
    ]
    assert lines[9].startswith("lucky 100.00%")
    assert len(lines) == 10 + bool(resamples)


def test_as_many_images_are_not_the_same_ones(folder):
    predict(folder / "models", "lucky", range(4), 4)
    predict(folder / "models", "late", range(10, 14), 3)
    lines = [" ".join(line.split()) for line in evaluate(folder, "--resamples", 50)]
    assert lines[6] == "mine, not ranked: 2 models, each evaluated on other images"
    assert [line.split()[0] for line in lines[8:11]] == ["images", "late", "lucky"]


def test_two_models_of_other_images_are_ranked_among_themselves(folder):
    predict(folder / "models", "one", range(4), 3)
    predict(folder / "models", "two", range(4), 4)
    assert evaluate(folder, "--resamples", 0)[6:] == [
        "mine: 2 models, best 2 by real1, evaluated on other images and ranked separately; "
        "16 of 20 labelled images have no prediction and were left out",
        "   model      top1    real1",
        "   images        4        4",
        "1  two     100.00%  100.00%",
        "2  one      75.00%   75.00%",
    ]


def test_models_of_which_no_two_saw_the_same_images(folder):
    predict(folder / "models", "bad", range(19), 5)
    assert evaluate(folder, "--resamples", 0) == [
        "mine, not ranked: 2 models, each evaluated on other images",
        "  model      top1   real1",
        "  images       20      16",
        "  skipped       0       4",
        "  good     75.00%  93.75%",
        "  images       19      16",
        "  skipped       0       3",
        "  bad      26.32%  31.25%",
    ]


def test_the_share_of_misses_that_nobody_was_asked_about_stands_above_the_models(folder):
    rows = "".join(f"{i},{c},{state}\n" for i in IDS[:4] for c, state in (("a", "yes"), ("b", "no")))
    (folder / "labels.csv").write_text("image_id,class_id,state\n" + rows)
    predict(folder / "models", "good", range(4), 1)
    lines = [
        " ".join(line.split()) for line in evaluate(folder, "--resamples", 0, "--metric", "real1_unasked")
    ]
    values = pl.read_csv(folder / "out" / "results.csv").filter(metric="real1_unasked", slice="all")
    shares = sorted(round(100 * v) for v in values["value"] if v == v)
    assert f"unasked misses – {shares[0]}–{shares[-1]}% –" in lines


def results(rows):
    frame = pl.DataFrame(rows, ["model", "metric", "value", "lo", "hi", "n"], orient="row")
    frame = frame.with_columns(dataset=pl.lit("mine"), slice=pl.lit("all"), n_skipped=0)
    return Results(frame.select(schema("results").names).to_arrow().cast(schema("results")))


def test_a_leaderboard():
    rows = [("one", "real1", 0.8, 0.75, 0.84, 2000), ("two", "real1", 0.7, 0.65, 0.74, 2000)]
    rows += [("lucky", "real1", 0.9, 0.5, 1.0, 10), ("one", "top1", 0.7, None, None, 2100)]
    ranked = rank_models(results([*rows, ("lucky", "top1", 0.9, None, None, 10)]))
    assert ranked["model"].to_pylist() == ["one", "two", "lucky"]
    assert ranked["rank"].to_pylist() == [1, 2, None]
    assert list(Leaderboard(ranked).lines()) == [
        "3 models, the best by mine real1 first",
        "rank  model  mine real1                    n  mine top1",
        "   1  one    80.00% (75.00 to 84.00)   2,000     70.00%",
        "   2  two    70.00% (65.00 to 74.00)   2,000          –",
        "   –  lucky  90.00% (50.00 to 100.00)     10     90.00%",
        "images: mine top1 10 to 2,100",
        "without a rank: 1 evaluated on other images",
    ]


def test_models_without_the_leading_metric_are_shown_and_counted():
    """real1, which only one of three models had, hid the other two."""
    rows = [("one", "map_macro", 0.6), ("two", "map_macro", 0.7), ("ranks", "real1", 0.8)]
    made = results([(*row, None, None, 20) for row in rows])
    about = {"manyhot.metrics": json.dumps({m: {"better": "higher", "unit": "share"} for _, m, _ in rows})}
    made = Results(made.table.replace_schema_metadata(about))
    lines = list(headline_lines(headline_blocks(made)))
    assert lines == [
        "mine: 2 of 3 models, best 2 by map_macro",
        "   model   map_macro",
        "   images         20",
        "1  two        70.00%",
        "2  one        60.00%",
        "mine, without map_macro: 1 model by real1",
        "   model    real1",
        "   images      20",
        "1  ranks   80.00%",
    ]
    assert list(Leaderboard(rank_models(made)).lines()) == [
        "2 of 3 models, the best by mine map_macro first",
        "rank  model  mine map_macro   n",
        "   1  two            70.00%  20",
        "   2  one            60.00%  20",
    ]
    note = "without map_macro: ranks; to rank by real1: manyhot leaderboard RESULTS --by real1"
    assert leaderboard(made).notes == (note,)
    by_ranks = Leaderboard(rank_models(made, by="real1"))
    assert next(iter(by_ranks.lines())) == "1 of 3 models, the best by mine real1 first"


def test_a_leading_metric_that_few_models_lack_stays():
    rows = [("one", "top1", 0.6), ("two", "top1", 0.7), ("one", "real1", 0.8), ("two", "real1", 0.8)]
    made = results([(*row, None, None, 20) for row in [*rows, ("three", "top1", 0.9)]])
    assert leading_metric(made, "mine") == "real1"
    assert leading_metric(made, "mine", ["three"]) == "top1"


def test_a_shortened_leaderboard_counts_all_models():
    rows = [(name, "real1", value, None, None, 20) for name, value in (("one", 0.9), ("two", 0.8))]
    ranked = rank_models(results([*rows, ("lucky", "real1", 1.0, None, None, 4)]))
    lines = list(Leaderboard(ranked.slice(0, 1)).lines())
    assert lines[0] == "1 of 3 models, the best by mine real1 first"
    assert lines[-1] == "without a rank: 1 evaluated on other images, of which 1 are not shown"


def test_a_comparison(folder):
    (folder / "a.csv").write_text(
        HEAD + "".join(f"a,{m},top1,all,{v},,,90,0\n" for m, v in (("x", 0.9), ("y", 0.8)))
    )
    (folder / "b.csv").write_text(
        HEAD + "".join(f"b,{m},top1,all,{v},,,70,0\n" for m, v in (("x", 0.7), ("y", 0.5)))
    )
    assert commands.run("compare", "a.csv", "b.csv", "--out", "c", cwd=folder).stdout.splitlines()[:3] == [
        "a → b: points lost, means over models",
        "metric   drop  95 % over images  95 % over families  models  images",
        "top1    25.00                 –                   –       2  90 → 70",
    ]


def test_the_table_of_models_is_reported_once():
    found = evaluate_arrays([[0, 1], [2]], [[1, 0], [0, 2]], n_classes=3, resamples=0)
    reported = list[str]()
    shown = found.stream(Run(on_event=lambda kind, values: reported.append(values["text"])))
    assert reported
    assert [*reported, *shown.lines()] == list(found.lines())
    assert list(found.stream(QUIET).lines()) == list(found.lines())


def two_places(metrics, slices=(), n_models=2):
    """Evaluate models on 40 images of two places; each model lacks another number of images."""
    rng = np.random.default_rng(0)
    hot = rng.random((40, 4)) < 0.5
    ids = [f"{i}.png" for i in range(40)]
    labels = pd.DataFrame(hot.astype(int), index=ids, columns=list("abcd"))
    frames = {
        f"m{k}": pd.DataFrame(hot + rng.normal(size=(40, 4)), index=ids, columns=list("abcd"))[: 39 - k]
        for k in range(n_models)
    }
    images = pd.DataFrame({"image_id": ids, "place": ["north"] * 20 + ["south"] * 20})
    reading = Reading(images=images, scores="logit")
    return evaluate_arrays(labels, frames, metrics=metrics, slices=slices, resamples=0, reading=reading)


MANY = ["map_macro", "map_micro", "f1_macro", "f1_micro", "hamming", "jaccard", "lrap", "coverage", "real1"]


def test_zero_has_no_sign():
    drop = dict.fromkeys(("drop", "lo", "hi", "lo_models", "hi_models"), 0.0) | {"lo": 1e-9}
    assert _changed(drop, -1) == ("0.00", "0.00 to 0.00", "0.00 to 0.00")


def test_requested_metrics_that_are_not_shown_are_named():
    lines = list(two_places(MANY).lines())
    head = next(line for line in lines if line.split()[:1] == ["model"]).split()[1:]
    (line,) = [line for line in lines if "more metric" in line]
    names = line.partition("in the table: ")[2].split(", ")
    assert line.startswith(f"labels: {len(MANY) - len(head)} more metrics in the table: ")
    assert sorted([*head, *names]) == sorted(MANY)
    assert not [line for line in two_places(MANY[:7]).lines() if "more metric" in line]


def test_slices_say_where_the_other_metrics_are():
    lines = list(two_places(["f1_macro", "hamming", "lrap"], slices=["place"]).lines())
    assert lines[-1] == "… and 2 more metrics on each slice in the table"
    assert "more" not in list(two_places(["f1_macro"], slices=["place"]).lines())[-1]


def test_notes_on_data_sets_are_all_shown_and_the_others_counted():
    """Each model lacks another number of images, which is a note; how logits are used is a note on all."""
    found = two_places(["f1_macro"], n_models=10)
    assert len({n.text for n in found.model_notes if n.model}) == 11
    assert found.notes[-1] == "3 more notes on models are in the metadata of results.parquet"
    last = two_places(["f1_macro"], n_models=8).notes[-1]
    assert last == "1 more note on models is in the metadata of results.parquet"
    more = found.with_notes([Note("labels", "", "clusters", 12, "few clusters")])
    assert "labels: few clusters" in more.notes


def test_the_page_ranks_models_by_the_metric_that_the_terminal_ranks_by():
    """The first one that was asked for, although precision@k comes first in the registry."""
    values = {"f1_samples": (0.9, 0.8), "map_macro": (0.7, 0.9), "precision@k(k=5)": (0.5, 0.6)}
    made = results(
        [(m, name, v[i], None, None, 20) for name, v in values.items() for i, m in enumerate("ab")]
    )
    (data,) = build_datasets(made.table, made.pairs, (), Anchors())
    assert data.primary.name == leading_metric(made, "mine") == "f1_samples"
    assert [model.name for model in data.models] == ["a", "b"]
