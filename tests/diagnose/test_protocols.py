"""`diagnose protocols` on made label sets, with its mistakes, and on published ones."""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import special, stats

from manyhot import Reading, diagnose_protocols, read_labels
from manyhot.data import catalog
from manyhot.diagnose.page import write_diagnosis
from manyhot.diagnose.protocol_text import draw_protocols
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.tables.array_inputs import as_labels
from report_pages import parse
from saved_by_hand import MULTILABEL

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
benchmark = import_module("protocols")

READING = Reading(n_classes=4, trust_order=True)

LABEL = [0, 0, 1, 1, 2, 3] * 10
OURS = [[0], [0, 1], [1], [1, 2], [2], []] * 10
THEIRS = [[0], [0], [2], [1, 2, 3], [3], [3]] * 10
TOP = np.array([[0, 0], [1, 0], [2, 1], [2, 2], [3, 3], [3, 3]] * 10)


@pytest.fixture(scope="module")
def found():
    sets = {"ours": as_labels(OURS, n_classes=4, label=LABEL), "theirs": as_labels(THEIRS, n_classes=4)}
    models = {name: TOP[:, [i]] for i, name in enumerate("ab")}
    return diagnose_protocols(sets, models, reading=READING)


def rows(table, **values):
    return pl.from_arrow(table).filter(**values).to_dicts()


def test_relations_are_shares_of_images(found):
    values = {r["measure"]: (r["value"], r["n"]) for r in found.protocol_agreement.to_pylist()}
    sixth = pytest.approx(1 / 6)
    assert values["equal"] == (sixth, 60)
    assert values["b_in_a"] == (sixth, 60)
    assert values["a_in_b"] == (sixth, 60)
    assert values["disjoint"] == (pytest.approx(2 / 6), 60)
    assert values["a_empty"] == (sixth, 60)
    assert values["jaccard"] == (pytest.approx((1 + 1 / 2 + 0 + 2 / 3 + 0 + 0) / 6), 60)
    # Of the 50 images with a set in both, 20 have several classes in the first, and 10 in the second.
    assert values["several_difference"] == (pytest.approx(-10 / 50), 50)


def test_the_interval_of_the_jaccard_index_stays_within_0_and_1():
    """A stranger saw 0.954 to 1.009 for these 80 images."""
    ours, theirs = [[0]] * 78 + [[0, 1], [2]], [[0]] * 78 + [[0], [3]]
    sets = {"a": as_labels(ours, n_classes=4), "b": as_labels(theirs, n_classes=4)}
    (row,) = rows(diagnose_protocols(sets).protocol_agreement, measure="jaccard")
    each = np.array([1] * 78 + [0.5, 0])
    mean, half = each.mean(), stats.t.ppf(0.975, 79) * stats.sem(each)
    assert (row["value"], row["n"]) == (pytest.approx(0.98125), 80)
    ends = special.expit(special.logit(mean) + np.array([-1, 1]) * half / (mean * (1 - mean)))
    assert (row["lo"], row["hi"]) == pytest.approx(tuple(ends))
    assert row["hi"] < 1


def test_sizes_of_label_sets(found):
    (ours,) = rows(found.protocol_sets, group="ours, theirs", labels="ours")
    assert (ours["images"], ours["n_empty"], ours["n"]) == (60, 10, 50)
    assert (ours["mean_size"], ours["several"]) == (7 / 5, 2 / 5)
    assert ours["asked"] is None


def test_accuracy_by_each_protocol_is_on_the_same_images(found):
    """Of 50 images with both sets: a is right by label on 1 in 5, by ours on 3, and by theirs on 4."""
    values = {
        (r["by"], r["model"]): (r["value"], r["n"]) for r in rows(found.protocol_accuracy) if r["model"]
    }
    assert values["original label", "a"] == (pytest.approx(1 / 5), 50)
    assert values["ours", "a"] == (pytest.approx(3 / 5), 50)
    assert values["theirs", "a"] == (pytest.approx(4 / 5), 50)
    assert values["ours", "b"] == (pytest.approx(4 / 5), 50)
    ranks = {(r["by"], r["model"]): r["rank"] for r in rows(found.protocol_accuracy)}
    assert [ranks["ours", name] for name in (None, "a", "b")] == [None, 2, 1]
    assert [ranks["theirs", name] for name in (None, "a", "b")] == [None, 1, 1]  # equally right
    (mean,) = rows(found.protocol_errors, by_a="ours", by_b="theirs").copy()[:1]
    assert mean["model"] is None
    assert mean["difference"] == pytest.approx(((4 - 3) + (4 - 4)) / 5 / 2)
    # a errs by ours on two images, both of which are right by theirs; b on one, which is right.
    assert (mean["right"], mean["errors"], mean["n"]) == (1.0, 15, 50)


def test_rankings_and_variances(found):
    (order,) = rows(found.protocol_ranks, by_a="ours", by_b="theirs")
    assert (order["models"], order["pairs"], order["swapped"], order["n"]) == (2, 1, 0, 50)
    variances = rows(found.protocol_variance)
    assert sum(r["share"] for r in variances) == pytest.approx(1)
    assert [r["component"] for r in variances] == ["models", "protocols", "models × protocols"]


def test_of_one_model_there_are_no_ranks_and_no_variances():
    made = diagnose_protocols({"ours": OURS, "theirs": THEIRS}, {"a": TOP[:, [0]]}, reading=READING)
    assert made.protocol_ranks.num_rows == made.protocol_variance.num_rows == 0
    assert set(made.protocol_accuracy["by"].to_pylist()) == {"ours", "theirs"}


def test_labels_that_one_has_and_the_other_lacks(found):
    missing = {
        (r["labels_a"], r["which"], r["state"]): r["labels"] for r in found.protocol_missing.to_pylist()
    }
    assert missing["ours", "all", "yes"] == 40
    assert missing["ours", "all", "not recorded"] == 30
    assert missing["ours", "original label", "not recorded"] == 20
    assert missing["theirs", "other classes", "yes"] == 10
    (pair,) = rows(found.protocol_pairs, labels_a="ours", class_id=2, beside_id=3)
    assert (pair["images"], pair["class_name"]) == (10, "2")


def test_the_answer_comes_first_on_the_terminal_and_the_page(found, tmp_path):
    first, *_ = str(found).splitlines()
    assert first.startswith("ours, theirs: 16.7 % (")
    assert first.endswith(") of 60 images have the same label set in both protocols.")
    assert (
        " of the predictions that ours calls wrong are right according to theirs, on average over models "
        "(n 50).\n"
    ) in str(found)
    assert (
        "0 of 1 pairs of models change places, none of them beyond noise (p < 0.05 for both differences, "
        "with Holm's correction).\n"
    ) in str(found)
    found.write(tmp_path)
    page = parse(write_diagnosis(tmp_path).read_text(encoding="utf-8"))
    assert first in page.text
    assert "How one protocol judges the labels of another" in page.text
    assert page.all("figure")


def test_the_figure_shows_each_model(found):
    (figure,) = draw_protocols(found.protocol_sets.to_pylist(), found.protocol_accuracy.to_pylist())
    values = [row for rows in figure.spec["datasets"].values() for row in rows]
    assert {row["model"] for row in values if "model" in row} == {"a", "b"}


def test_label_sets_that_record_noes_agree_as_raters_do(tmp_path):
    """Of 4 questions that both asked, they agree on 3; Scott's pi is by hand."""
    ours = tmp_path / "ours.csv"
    head = "image_id,class_id,state\n"
    ours.write_text(f"{head}x,0,yes\nx,1,no\ny,0,yes\ny,2,no\nz,1,yes\n", encoding="utf-8")
    theirs = tmp_path / "theirs.csv"
    theirs.write_text(f"{head}x,0,yes\nx,1,yes\ny,0,yes\ny,2,no\nz,3,yes\n", encoding="utf-8")
    found = diagnose_protocols([ours, theirs], reading=READING, resamples=0)
    values = {r["measure"]: (r["value"], r["n"]) for r in found.protocol_agreement.to_pylist()}
    assert values["pairwise"] == (0.75, 4)
    chance = (5 / 8) ** 2 + (3 / 8) ** 2
    assert values["fleiss_kappa"] == (pytest.approx((0.75 - chance) / (1 - chance)), 4)
    states = {(r["labels_a"], r["state"]): r["labels"] for r in rows(found.protocol_missing, which="all")}
    assert (states["theirs", "no"], states["theirs", "not asked"]) == (1, 1)


def test_without_predictions_only_the_label_sets_are_compared():
    found = diagnose_protocols({"a": OURS, "b": THEIRS}, reading=READING)
    assert found.protocol_accuracy.num_rows == found.protocol_variance.num_rows == 0
    assert found.protocol_agreement.num_rows
    assert found.notes == (
        "a records only valid classes, so agreement statistics of raters are undefined for it",
        "b records only valid classes, so agreement statistics of raters are undefined for it",
        "there are no predictions, so only the label sets are compared; pass some as `predictions`",
    )


def test_three_protocols_are_compared_on_their_shared_images_and_two_by_two(tmp_path):
    """Images are shared as: x by all, y by a and b, z by none."""
    files = []
    for name, images in (("a", "xy"), ("b", "xyz"), ("c", "xw")):
        file = tmp_path / f"{name}.csv"
        lines = "".join(f"{i}.jpg,0,yes\n" for i in images)
        file.write_text(f"image_id,class_id,state\n{lines}", encoding="utf-8")
        files.append(file)
    found = diagnose_protocols(files, reading=READING)
    images = {r["group"]: r["images"] for r in found.protocol_sets.to_pylist()}
    assert images == {"a": 2, "b": 3, "c": 2, "all label sets": 1, "a, b": 2, "a, c": 1, "b, c": 1}


def test_two_label_sets_without_a_shared_image_are_noted(tmp_path):
    files = []
    for name, images in (("a", "x"), ("b", "xw"), ("c", "w")):
        lines = "".join(f"{i}.jpg,0,yes\n" for i in images)
        files.append(written(tmp_path / f"{name}.csv", f"image_id,class_id,state\n{lines}"))
    found = diagnose_protocols(files, reading=READING)
    assert found.notes[:2] == ("no image is in all label sets", "no image is in a, c")
    assert found.protocol_agreement["group"].unique().to_pylist() == ["a, b", "b, c"]
    assert set(found.protocol_missing["which"].to_pylist()) == {"all"}


def test_label_sets_of_one_name_are_numbered(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "labels.csv").write_text("image_id,class_id,state\nx,0,yes\n", encoding="utf-8")
    found = diagnose_protocols(
        [tmp_path / "x" / "labels.csv", tmp_path / "y" / "labels.csv"], reading=READING
    )
    assert found.protocol_sets["group"].unique().to_pylist() == [
        "labels (1)",
        "labels (2)",
        "labels (1), labels (2)",
    ]
    same = (
        "labels (1) and labels (2) contain identical label sets; different benchmarks may use the same ones"
    )
    assert any(note.endswith(same) for note in found.notes)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_one_label_set_is_refused(tmp_path):
    one = written(tmp_path / "ours.csv", "image_id,class_id,state\nx,0,yes\n")
    with pytest.raises(UsageError) as error:
        diagnose_protocols([one], reading=READING)
    assert str(error.value) == (
        "Comparing protocols needs at least two label sets.\n"
        "  got:     ours\n"
        "  do:      pass label sets of the same images, such as imagenet-val and labels.csv"
    )


def test_label_sets_of_other_images_are_refused(tmp_path):
    ours = written(tmp_path / "ours.csv", "image_id,class_id,state\nx,0,yes\n")
    theirs = written(tmp_path / "theirs.csv", "image_id,class_id,state\ny,0,yes\n")
    with pytest.raises(MatchError) as error:
        diagnose_protocols([ours, theirs], reading=READING)
    assert str(error.value) == (
        "No two of the label sets have an image in common.\n"
        "  got:     ids such as x in ours and y in theirs\n"
        "  do:      pass label sets of the same images; `match` says how ids of files are compared"
    )


def test_different_original_labels_are_refused():
    theirs = as_labels(THEIRS, n_classes=4, label=[1, *LABEL[1:]])
    with pytest.raises(InputError) as error:
        diagnose_protocols(
            {"ours": as_labels(OURS, n_classes=4, label=LABEL), "theirs": theirs}, reading=READING
        )
    assert str(error.value) == (
        "Two label sets give the same image different original labels.\n"
        "  where:   ours and theirs\n"
        "  got:     1 image, such as 0: 0 and 1\n"
        "  allowed: the same original label, or none, in each\n"
        "  do:      check that both are about the same images and that their classes are in the same order"
    )


def test_other_class_lists_are_refused():
    with pytest.raises(MatchError) as error:
        diagnose_protocols({"ours": as_labels(OURS, n_classes=4), "theirs": as_labels(THEIRS, n_classes=5)})
    assert str(error.value) == (
        "theirs has a different class list from ours.\n"
        "  got:     5 classes\n"
        "  allowed: 4 classes\n"
        "  do:      pass label sets over the same classes, or the class list as `classes`"
    )


def test_the_same_classes_in_another_order_are_joined_by_name(tmp_path):
    rows = {"a.jpg": "dog yes,cat no", "b.jpg": "cat yes,dog unclear"}
    sets = {}
    for name, order in (("ours", ["dog", "cat", "ape"]), ("theirs", ["ape", "cat", "dog"])):
        lines = [
            f"{image},{order.index(c)},{c},{state}"
            for image, text in rows.items()
            for c, _, state in (pair.partition(" ") for pair in text.split(","))
        ]
        # The class that only one row mentions completes the list.
        lines.append(f"c.jpg,{order.index('ape')},ape,yes")
        sets[name] = tmp_path / f"{name}.csv"
        sets[name].write_text("\n".join(["image_id,class_id,class_name,state", *lines]))
    found = diagnose_protocols(sets)
    values = {r["measure"]: r["value"] for r in found.protocol_agreement.to_pylist()}
    assert (values["equal"], values["fleiss_kappa"]) == (1, 1)
    assert [line for line in found.lines() if line.startswith("kappa")] == [
        "kappa: Fleiss' kappa over the states yes, unclear and no of the classes that both protocols asked "
        "about"
    ]


def test_models_are_chosen_from_predictions():
    with pytest.raises(UsageError) as error:
        diagnose_protocols({"a": OURS, "b": THEIRS}, models=["resnet*"], reading=READING)
    assert str(error.value) == (
        "There are no predictions from which to choose models.\n"
        "  got:     resnet*\n"
        "  do:      pass them as `predictions`"
    )


def test_a_name_of_a_data_set_is_refused():
    with pytest.raises(UsageError) as error:
        diagnose_protocols({"a": OURS, "b": THEIRS}, reading=Reading(n_classes=4, dataset="mine"))
    assert str(error.value) == (
        "The name of a data set has no effect, because tables contain the names of label sets.\n"
        "  got:     `dataset` mine\n"
        "  do:      leave it out; in Python, pass a mapping of names to label sets"
    )


def test_the_tables_of_the_page_are_those_of_the_committed_rows():
    text = benchmark.PAGE.read_text(encoding="utf-8")
    assert benchmark.with_tables(text) == text
    assert [name for name in benchmark.TABLES if f"% table: {name}\n|" not in text] == []


@pytest.mark.slow
def test_the_committed_rows_are_computed_again(mirror, monkeypatch, require):
    require(MULTILABEL.is_file(), f"{MULTILABEL}, Shankar et al.'s labels, whose licence is not stated")
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    made = [json.loads(json.dumps(benchmark.rounded(row))) for row in benchmark.compare(MULTILABEL)]
    lines = benchmark.RESULTS.read_text(encoding="utf-8").splitlines()
    for row, line in zip(made, map(json.loads, lines), strict=True):
        assert row == pytest.approx(line, abs=2e-6, nan_ok=True)


@pytest.mark.slow
def test_published_label_sets(mirror, monkeypatch):
    """Recomputed with Python sets from the published files: ReaL and the main objects of Tsipras et al."""
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    found = diagnose_protocols(["imagenet-val", "imagenet-val-main"], models=["resnet50", "alexnet"])
    real = json.loads(catalog.fetch_file("imagenet-real", "real.json").read_text(encoding="utf-8"))
    main = read_labels(catalog.fetch_file("tsipras", "annotations_classify_task.pkl")).table.to_pylist()
    pairs = [(set(real[int(r["image_id"][15:23]) - 1]), set(r["classes"])) for r in main]
    values = {r["measure"]: r["value"] for r in rows(found.protocol_agreement, slice="all")}
    assert values["equal"] == np.mean([a == b for a, b in pairs])
    assert values["b_in_a"] == np.mean([b < a for a, b in pairs])
    assert values["disjoint"] == np.mean([bool(a) and not a & b for a, b in pairs])
    assert values["a_empty"] == np.mean([not a for a, _ in pairs])
    whole, rated = rows(found.protocol_sets, labels="imagenet-val", group="imagenet-val")
    # Published: 3,163 label sets of 50,000 are empty, and 24,889 images were rated.
    assert (whole["n_empty"], whole["images"], rated["images"]) == (3_163, 50_000, 24_889)
    assert whole["several"] == np.mean([len(s) > 1 for s in real if s])
    files = catalog.fetch("imagenet-val-predictions")
    names = json.loads(files["imagenet-validation-original.json"].read_text())["image_filenames"]
    answers = np.load(files["resnet50.npy"])[:, 0]
    top = {name: int(answer) for (name, _), answer in zip(names, answers, strict=True)}
    judged = [
        (top[r["image_id"]] == r["label"], top[r["image_id"]] in a, top[r["image_id"]] in b)
        for r, (a, b) in zip(main, pairs, strict=True)
        if a
    ]
    by_label, by_real, by_main = np.array(judged).T
    values = {r["by"]: r["value"] for r in rows(found.protocol_accuracy, model="resnet50")}
    assert values["original label"] == by_label.mean()
    assert values["imagenet-val"] == by_real.mean()
    assert values["imagenet-val-main"] == by_main.mean()
    (errors,) = rows(found.protocol_errors, model="resnet50", by_a="imagenet-val", by_b="imagenet-val-main")
    assert (errors["errors"], errors["n"]) == (pytest.approx((~by_real).sum()), len(judged))
    assert errors["right"] == pytest.approx(by_main[~by_real].mean())
