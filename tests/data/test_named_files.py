"""Mappings of names of models to files of predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

import manyhot as mh
from manyhot.errors import InputError

IDS = pd.Index([f"{i}.jpg" for i in range(80)], name="image")
RNG = np.random.default_rng(0)
TRUTH = pd.DataFrame(RNG.integers(0, 2, (80, 2)), IDS, ["cat", "dog"])
SCORES = {name: pd.DataFrame(RNG.random((80, 2)).round(3), IDS, ["cat", "dog"]) for name in ("p", "q")}
AP = {name: average_precision_score(TRUTH, values, average="macro") for name, values in SCORES.items()}
OPTIONS = {"scores": "probability", "metrics": ["map_macro"], "resamples": 0}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TRUTH.to_csv("labels.csv")
    for name, values in SCORES.items():
        values.to_csv(f"{name}.csv")
    Path("alone").mkdir()
    SCORES["q"].to_csv("alone/other.csv")


def values(result):
    rows = result.results.filter(result.results["slice"].to_numpy() == "all").to_pylist()
    return {row["model"]: pytest.approx(row["value"]) for row in rows}


@pytest.mark.parametrize("labels", ["labels.csv", TRUTH], ids=["file", "frame"])
def test_names_stand_for_files(labels):
    expected = {"small": AP["p"], "large": AP["q"]}
    forms = ({"small": "p.csv", "large": Path("q.csv")}, {"small": "p.csv", "large": "alone"})
    for models in (*forms, {"small": "p.csv", "large": SCORES["q"]}):
        assert values(mh.evaluate(labels, models, **OPTIONS)) == expected
    selected = mh.evaluate(labels, forms[0], models=["lar*"], **OPTIONS)
    assert values(selected) == {"large": AP["q"]}
    compared = mh.compare(forms[0], labels=labels, **OPTIONS)
    assert {row["model"] for row in compared.results.table.to_pylist()} == {"small", "large"}
    found = mh.diagnose_classes(labels, {"small": "p.csv"}, scores="probability")
    assert set(found.class_results["model"].to_pylist()) == {"small"}


def test_a_text_is_no_class_and_a_name_is_one_model():
    def message(models):
        with pytest.raises(InputError) as error:
            mh.evaluate("labels.csv", models, **OPTIONS)
        return str(error.value)

    missing = (
        "There is no such predictions file.\n  where:   model m\n  got:     {}\n"
        "  allowed: the path of a file or folder; or a list of classes, one for each image"
    )
    assert message({"m": "cat"}) == missing.format("cat")
    for models in ({"m": "alone/others.csv"}, {"n": SCORES["p"], "m": "alone/others.csv"}):
        assert (
            message(models)
            == missing.format("alone/others.csv") + "\n  do:      did you mean 'alone/other.csv'?"
        )
    assert message({"m": "p.csv", "n": Path("p.csv")}) == (
        "Two models are in the same file.\n  where:   p.csv\n  got:     m and n"
    )
    SCORES["p"].to_csv("alone/third.csv")
    assert message({"m": "alone"}) == (
        "A name refers to one model, but the folder contains several.\n  where:   model m\n"
        "  got:     2 files in alone\n  do:      pass the folder without a name, in a list"
    )


def test_lists_of_names_are_still_classes():
    best = [
        ["cat", "dog"] if row["cat"] > row["dog"] else ["dog", "cat"] for _, row in SCORES["p"].iterrows()
    ]
    lists = [TRUTH.columns[row == 1].tolist() or ["cat"] for row in TRUTH.to_numpy()]
    found = mh.evaluate(lists, {"m": best}, metrics=["real1"], resamples=0)
    expected = np.mean([top[0] in own for top, own in zip(best, lists, strict=True)])
    assert found.value("real1") == pytest.approx(expected)


def test_names_of_files_for_a_benchmark(mirror, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    top = [[f"ILSVRC2012_val_{i + 1:08d}.JPEG", i % 1000, 1] for i in range(50_000)]
    pd.DataFrame(top, columns=["image_id", "class_id", "rank"]).to_csv("own.csv", index=False)
    options = {"models": ["mine"], "metrics": ["real1"], "resamples": 0, "trust_order": True}
    found = mh.evaluate("imagenet-val", {"mine": "own.csv"}, **options)
    assert "mine" in found.results["model"].to_pylist()
