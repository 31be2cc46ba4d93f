"""Prediction sets with a guaranteed precision, from labels and predictions to a table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from manyhot import Predictions, diagnose_sets, tables
from manyhot.core.conformal import THRESHOLDS
from manyhot.data.inputs import Reading
from manyhot.errors import InputError
from manyhot.tables import check
from manyhot.tables.array_inputs import as_labels

N, C = 1200, 5


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    logits = 4 * rng.normal(size=(N, C))
    p = softmax(logits, axis=1)
    label = np.array([rng.choice(C, p=row) for row in p])
    sets = [[] if i % 10 == 0 else {y, int(rng.choice(C, p=p[i]))} for i, y in enumerate(label)]
    labels = as_labels([sorted(s) for s in sets], n_classes=C, label=label)
    return labels, Predictions(
        labels.image_id, "net", scores=p.astype(np.float32), score_kind="probability", n_classes=C
    )


def unknown(name, n):
    return (
        f"{name}: {n:,} images without a valid class are left out, because answers about some classes are "
        "missing; the guarantee does not include such images; if these classes are absent, declare this with "
        "`empty='no'` or `unlisted='no'` of the labels' format"
    )


def test_images_without_a_valid_class_count_if_all_classes_have_answers():
    """Against plain loops: half of the images show nothing, and some of their cells are not answered."""
    rng, n, c = np.random.default_rng(3), 4000, 4
    chance = rng.beta(0.3, 1.5, (n, c))
    valid, p = (rng.random(chance.shape) < chance).astype(float), np.sqrt(chance).astype(np.float32)
    valid[rng.random(valid.shape) < 0.05] = np.nan
    labels, scores = (
        pd.DataFrame(
            cells, columns=list("wxyz"), index=pd.Index([f"{i:04d}" for i in range(n)], name="image_id")
        )
        for cells in (valid, p)
    )
    found = diagnose_sets(labels, scores, precision=0.6, seed=1, reading=Reading(scores="probability"))
    (row,) = found.precise_sets.to_pylist()
    chosen = np.zeros(n, bool)
    chosen[np.random.default_rng(1).permutation(n)[: n // 2]] = True
    counts = [1 in image or not np.isnan(image).any() for image in valid]
    assert row["n_fitted"] == sum(counts[i] for i in np.flatnonzero(chosen))
    shares, recalls, empty, none, skipped = [], [], 0, 0, 0
    for i in np.flatnonzero(~chosen):
        if not counts[i]:
            skipped += 1
            continue
        own, inside = set(np.flatnonzero(valid[i] == 1)), set(np.flatnonzero(p[i] >= row["threshold"]))
        if own:
            recalls.append(len(own & inside) / len(own))
        else:
            none += 1
        if inside:
            shares.append(len(own & inside) / len(inside))
        else:
            empty += 1
    assert (row["n"], row["n_empty"], row["n_none"], row["n_skipped"]) == (len(shares), empty, none, skipped)
    assert none > 500
    assert row["measured"] == pytest.approx(np.mean(shares))
    assert row["recall"] == pytest.approx(np.mean(recalls))
    assert found.notes == (unknown("labels", n - sum(counts)),)
    assert list(found.lines())[-1].split()[-1] == str(none)


def test_no_image_has_a_valid_class():
    p = np.random.default_rng(0).random((60, 3)).astype(np.float32)
    reading = Reading(classes=list("abc"), scores="probability", trust_order=True)
    found = diagnose_sets(np.zeros((60, 3)), p, reading=reading)
    (row,) = found.precise_sets.to_pylist()
    assert (row["n_fitted"], row["n_none"], row["n_needed"]) == (30, 30, None)
    assert np.isnan([row["threshold"], row["recall"]]).all()


def test_held_out_images_are_measured(model):
    labels, net = model
    found = diagnose_sets(labels, [net], precision=0.85, seed=1, reading=Reading(dataset="made up"))
    (row,) = check(found.precise_sets, "precise_sets").to_pylist()
    # A list without classes does not say whether raters were asked about all of them.
    assert found.notes == (unknown("made up", 120),)
    assert row["threshold"] in THRESHOLDS
    assert row["n_needed"] is None
    chosen = np.zeros(N, bool)
    chosen[np.random.default_rng(1).permutation(N)[: N // 2]] = True
    sets = [labels.table["classes"][i].as_py() for i in range(N)]
    rest = [i for i in np.flatnonzero(~chosen) if sets[i]]
    assert row["n_fitted"] == sum(bool(sets[i]) for i in np.flatnonzero(chosen))
    inside = [set(np.flatnonzero(net.scores[i] >= row["threshold"])) for i in rest]
    shares = [len(s & set(sets[i])) / len(s) for s, i in zip(inside, rest, strict=True) if s]
    assert (row["n"], row["n_empty"]) == (len(shares), len(rest) - len(shares))
    assert row["measured"] == pytest.approx(np.mean(shares))
    assert row["lo"] < row["measured"] < row["hi"]
    # Between the normal interval's ends, whose error is that of a mean.
    error = np.std(shares, ddof=1) / np.sqrt(len(shares))
    assert (row["hi"] - row["lo"]) / 2 == pytest.approx(1.96 * error, rel=0.05)
    recall = [len(s & set(sets[i])) / len(sets[i]) for s, i in zip(inside, rest, strict=True)]
    assert row["recall"] == pytest.approx(np.mean(recall))
    assert row["mean_size"] == pytest.approx(np.mean([len(s) for s in inside if s]))
    assert next(iter(found.lines())).split() == [
        *(
            "data",
            "model",
            "target",
            "threshold",
            "measured",
            "recall",
            "mean",
            "size",
            "sets",
            "empty",
            *("no", "valid", "class"),
        )
    ]


def test_no_threshold_is_never_an_empty_answer(model):
    labels, net = model
    found = diagnose_sets(labels, [net], precision=0.99, delta=0.01, fit=0.05)
    (row,) = found.precise_sets.to_pylist()
    assert np.isnan([row[k] for k in ("threshold", "measured", "lo", "hi", "recall", "mean_size")]).all()
    assert row["n_needed"] is not None or row["n"] == 0
    images = f"no threshold is certified for a precision of 0.99 with {row['n_fitted']} images"
    assert found.notes == (
        unknown("labels", 120),
        f"net: {images}; about {row['n_needed']:,} are needed at the measured precision",
    )
    assert list(found.lines())[-1].split()[3:7] == ["none", "–", "–", "–"]
    wrong = replace(net, scores=np.tile(np.eye(C, dtype=np.float32)[0], (N, 1)))
    found = diagnose_sets(labels, [wrong], precision=0.9)
    (row,) = found.precise_sets.to_pylist()
    images = f"no threshold is certified for a precision of 0.9 with {row['n_fitted']} images"
    assert row["n_needed"] is None
    assert found.notes == (
        unknown("labels", 120),
        f"net: {images}; more images would not help, because no threshold reaches this precision",
        "labels: net: the scores are no more closely related to the labels than if the images were in random "
        "order (mean correlation 0.000 over 5 classes): check the order of rows and classes",
    )


def test_ranks_are_left_out(model, tmp_path):
    labels, net = model
    top = np.argsort(-net.scores, axis=1)[:, :2].astype(np.int32)
    ranks = Predictions(labels.image_id, "ranks", classes=top, n_classes=C)
    found = diagnose_sets(labels, [ranks, net])
    assert found.precise_sets["model"].to_pylist() == ["net"]
    assert found.notes == ("ranks was left out, because it has no probabilities", unknown("labels", 120))
    written = found.write(tmp_path / "sets")
    assert tables.read(written[0], "precise_sets").equals(found.precise_sets)
    with pytest.raises(InputError) as error:
        diagnose_sets(labels, [ranks])
    assert str(error.value) == (
        "No model has the probabilities that prediction sets require.\n"
        "  got:     ranks was left out, because it has no probabilities\n"
        "  allowed: probabilities, logits of all classes, or lists of logits with logsumexp\n"
        "  do:      declare the kind of the scores with `scores`; pass cosines, such as those of CLIP, "
        "multiplied by 100 as logits, with `links` softmax"
    )


def test_the_chapter_says_the_precision_first(model, tmp_path):
    labels, net = model
    found = diagnose_sets(labels, [net], precision=0.85, seed=1, reading=Reading(dataset="made up"))
    written = found.write(tmp_path)
    assert [path.name for path in written] == ["precise_sets.parquet", "precise_sets.csv", "index.html"]
    (row,) = found.precise_sets.to_pylist()
    shown = f"{100 * row['measured']:.1f} % ({100 * row['lo']:.1f} to {100 * row['hi']:.1f})"
    page = (tmp_path / "report" / "index.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert (
        f"On made up, the mean share of valid classes in the prediction sets of net is {shown}; the target "
        f"was 85 %. {row['n']:,} of {row['n'] + row['n_empty']:,} held-out images have a set that is not "
        "empty."
    ) in page
    assert "Precision of prediction sets on held-out images" in page or "manyhot[report]" in page


def test_the_chapter_of_models_without_a_threshold(model, tmp_path):
    labels, net = model
    pair = [net, replace(net, model="none", scores=net.scores * 0 + np.float32(0.2))]
    found = diagnose_sets(labels, pair, precision=0.85)
    found.write(tmp_path)
    page = (tmp_path / "report" / "index.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    (row,) = [r for r in found.precise_sets.to_pylist() if r["n"]]
    one = f"{100 * row['measured']:.1f} % (net, {row['n']:,} sets)"
    start = "A threshold is certified for {} of 2 models. On held-out images, the measured precision "
    assert f"{start.format(1)}is {one}." in page
    twins = [net, replace(net, model="twin")]
    diagnose_sets(labels, twins, precision=0.85).write(tmp_path / "twins")
    page = (tmp_path / "twins" / "report" / "index.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"{start.format(2)}ranges from {one} to {one}, and is at least the target for 2 models." in page
    diagnose_sets(labels, pair[1:], precision=0.85).write(tmp_path / "none")
    page = (tmp_path / "none" / "report" / "index.html").read_text()
    assert "A threshold is certified for 0 of 1 models." in page


@pytest.mark.parametrize("repeated", [True, False])
def test_images_that_depend_on_each_other_are_noted(model, repeated):
    labels, net = model
    patient = np.arange(N) // 2 if repeated else np.arange(N)
    images = pd.DataFrame({"image_id": labels.image_id.to_pylist(), "patient_id": [f"p{i}" for i in patient]})
    found = diagnose_sets(labels, [net], reading=Reading(dataset="made up", images=images))
    notes = [note for note in found.notes if "patient_id" in note]
    assert len(notes) == repeated
    for note in notes:
        assert note.startswith(
            "made up: intervals assume that images are independent, but some of them share"
        )
        assert note.endswith(
            "; the guarantee of the precision makes the same assumption, and both halves may contain images "
            "that share a "
            "value: keep one image of each value"
        )


def test_logits_of_independent_classes_become_sigmoids():
    rng = np.random.default_rng(0)
    valid = rng.random((N, C)) < 0.3
    logits = (6 * (valid - 0.5) + rng.normal(0, 1.5, valid.shape)).astype(np.float32)
    labels = as_labels([np.flatnonzero(row).tolist() for row in valid], n_classes=C)
    net = Predictions(labels.image_id, "net", scores=logits, score_kind="logit", n_classes=C)
    same = replace(net, scores=expit(logits), score_kind="probability")
    found = [diagnose_sets(labels, [m], precision=0.8).precise_sets.to_pylist() for m in (net, same)]
    assert found[0] == found[1]
