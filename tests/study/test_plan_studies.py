"""The four studies: data sets and arms against what is known beforehand, and all of it on tiny images."""

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import manyhot
from manyhot.core.sets import NO, YES, LabelSets
from manyhot.errors import InputError
from manyhot.registry import get
from manyhot.study import StudyRun
from manyhot.tables.arrays import label_sets

pytest.importorskip("timm")
pytest.importorskip("imagecorruptions")
STUDIES = Path(__file__).parents[2] / "studies"
sys.path.insert(0, str(STUDIES))

import ensembles  # noqa: E402
import raters  # noqa: E402
from arms import ARMS, REASSESSED, SOFT  # noqa: E402
from data_sets import CIFAR_SETS, VOC9, cifar_sets, voc9  # noqa: E402
from data_sets.compositions import Pair, compose  # noqa: E402
from data_sets.written import VARIABLE  # noqa: E402
from measuring import robustness, uncertainty  # noqa: E402

from manyhot.study import JudgedRun  # noqa: E402

COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255], [255, 0, 255]], np.uint8
)


def plain(n_each=4):
    """Return pictures of one colour a class, which is found again in a composition."""
    label = np.repeat(np.arange(len(COLOURS)), n_each)
    return np.broadcast_to(COLOURS[label][:, None, None], (len(label), 32, 32, 3)).copy(), label


def areas(pixels):
    """Return how many pixels have the colour of each class."""
    return [(pixels == c).all(2).sum() for c in COLOURS]


def test_a_composition_shows_exactly_its_classes_and_the_largest_is_its_label():
    pictures, label = plain()
    made = list(compose(pictures, label, np.arange(6), 200, np.random.default_rng(0)))
    assert {len(m.classes) for m in made} == {1, 2, 3, 4}
    for m in made:
        area = areas(m.pixels)
        assert {c for c in range(6) if area[c]} == set(m.classes)
        assert all(round(a**0.5) ** 2 == a for a in area)  # whole squares: none lies over another
        assert sorted(m.classes, key=lambda c: -area[c]) == list(m.classes)
        assert [label[u] for u in m.used] == list(m.classes)


def test_sizes_of_sets_are_those_of_imagenetv2_and_pictures_are_used_alike():
    pictures, label = plain(50)
    made = list(compose(pictures, label, np.arange(6), 2500, np.random.default_rng(1)))
    shares = np.bincount([len(m.classes) for m in made])[1:] / len(made)
    np.testing.assert_allclose(shares, np.array([5083, 2385, 1306, 1097]) / 9871, atol=0.03)
    used = np.bincount(np.concatenate([m.used for m in made]), minlength=len(label)).reshape(6, 50)
    assert (np.ptp(used, axis=1) <= 1).all()


def test_a_pair_is_together_as_often_as_wanted():
    pictures, label = plain()
    for often in (0.9, 0.5):
        rng = np.random.default_rng(2)
        made = list(compose(pictures, label, np.arange(6), 1500, rng, Pair(0, 3, often)))
        with_main = [m for m in made if 0 in m.classes]
        assert np.mean([3 in m.classes for m in with_main]) == pytest.approx(often, abs=0.05)
        assert all(len(set(m.classes)) == len(m.classes) for m in made)


def picture(*colour):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_no_picture_of_test_is_in_training_or_val(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    rows = [(f"{i}", "test" if i >= 200 else "train", i % 10, picture(i, 0, 0)) for i in range(250)]
    (tmp_path / "cifar10").mkdir()
    table = pl.DataFrame(rows, ["image_id", "split", "label", "jpeg"], orient="row")
    table.write_parquet(tmp_path / "cifar10" / "cifar10_subset.parquet")
    found = {split: cifar_sets._pictures(split, False) for split in ("train", "val", "test")}
    of = {split: {int(p[0, 0, 0]) for p in pixels} for split, (pixels, _) in found.items()}
    assert [len(of[s]) for s in ("train", "val", "test")] == [180, 20, 50]
    assert not of["train"] & of["val"]
    assert min(of["test"]) == 200
    assert all((pixels[:, 0, 0, 0] % 10 == label).all() for pixels, label in found.values())


def test_the_label_is_that_of_the_largest_object_and_difficult_ones_are_unclear(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    rows = [
        ("a", "test", ["dog", "sofa"], ["person"], "dog"),
        ("b", "test", ["sofa", "cat"], [], "sofa"),
        ("c", "test", ["person", "horse"], ["person"], "horse"),
        ("d", "train", ["bus"], None, "bus"),
    ]
    columns = ["image_id", "split", "labels", "difficult_labels", "label_largest"]
    table = pl.DataFrame(rows, columns, orient="row").with_columns(jpeg=pl.lit(picture(9, 9, 9)))
    (tmp_path / "voc").mkdir()
    table.write_parquet(tmp_path / "voc" / "images.parquet")
    pixels, label, states = voc9.photographs("test", False)
    assert list(pixels) == ["a", "c"]
    assert pixels["a"].shape == (96, 96, 3)
    assert [voc9.NINE[y] for y in label] == ["dog", "horse"]
    told = [dict(zip(voc9.NINE, s, strict=True)) for s in states]
    assert {k: v for k, v in told[0].items() if v != "no"} == {"dog": "yes", "person": "unclear"}
    assert {k: v for k, v in told[1].items() if v != "no"} == {"person": "yes", "horse": "yes"}


def test_pictures_that_are_not_there_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(InputError) as caught:
        voc9.photographs("test", False)
    assert str(caught.value) == (
        "The pictures that this study is made of are not there.\n"
        f"  where:   {tmp_path / 'voc' / 'images.parquet'}\n"
        "  allowed: 5,479 photographs of PASCAL VOC\n"
        "  do:      get them, or name their folder: MANYHOT_STUDY_DATA=FOLDER; --smoke needs none"
    )


def test_raters_are_those_of_real():
    table = pl.read_csv(raters.MEASURED)
    cells = ("no_no", "no_maybe", "no_yes", "yes_no", "yes_maybe", "yes_yes")
    # docs/guides/reassess/agreement.md: all raters on golden questions.
    assert [table[c].sum() for c in cells] == [63084, 3285, 2817, 6204, 3212, 9928]
    assert len(table) == 78
    there = np.arange(200_000) % 2 == 0
    rng = np.random.default_rng(0)
    said = raters.answers(there, rng.integers(0, 78, len(there)), raters.measured(), rng)
    for truth, published in ((False, [0.912, 0.047, 0.041]), (True, [0.321, 0.166, 0.513])):
        shares = np.bincount(said[there == truth], minlength=3) / (there == truth).sum()
        np.testing.assert_allclose(shares, published, atol=0.006)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "data" / "voc9"
    folder.mkdir(parents=True)
    VOC9.make(folder, True)
    return folder


def a_run(data, arm, tmp_path):
    shutil.copytree(data, tmp_path / "data" / "voc9", dirs_exist_ok=True)
    folder = tmp_path / "runs" / "voc9" / "small" / arm / "seed-0"
    folder.mkdir(parents=True)
    return StudyRun(tmp_path / "data" / "voc9", "voc9", "small", arm, 0, folder, smoke=True)


def out_of_fold(run, monkeypatch, of):
    """Return what an ensemble says whose networks say `of(half, inside)`."""
    monkeypatch.setattr(
        ensembles, "_probabilities", lambda run, home, labels, inside, _: of(home, labels, inside)
    )
    return [manyhot.read_predictions(file) for file in ensembles.out_of_fold(run)]


def test_no_network_of_the_ensemble_says_anything_of_its_own_images(data, tmp_path, monkeypatch):
    def seen(home, labels, inside):
        return np.repeat(np.where(inside, 1.0, 0.0).astype(np.float32)[:, None], labels.n_classes, 1)

    found = out_of_fold(a_run(data, "soft", tmp_path), monkeypatch, seen)
    assert len(found) == 2
    assert all((f.scores == 0).all() for f in found)
    halves = ensembles.halves([f"{i}" for i in range(1000)], 0)
    assert 400 < halves.sum() < 600
    assert (halves != ensembles.halves([f"{i}" for i in range(1000)], 1)).any()


def test_arms_know_nothing_of_images_held_out(data, tmp_path, monkeypatch):
    """Without any file of val and test all labels are the same."""
    made = {}
    for name in ("with", "without"):
        for arm in (REASSESSED, SOFT):
            run = a_run(data, arm.name, tmp_path / name)
            if name == "without":
                for file in [*run.data.glob("*-test.parquet"), *run.data.glob("*-val.parquet")]:
                    file.unlink()
                (run.data / "images-seen.parquet").unlink()
                shutil.rmtree(run.data / "transfer")
                shutil.rmtree(run.data / "dense")
            made[name, arm.name] = pq.read_table(arm.labels(run))
    for arm in (REASSESSED, SOFT):
        assert made["with", arm.name].equals(made["without", arm.name])
    assert {a.name for a in ARMS if a.labels not in (REASSESSED.labels, SOFT.labels)} == {
        "single",
        "single-bce",
        "sets",
        "role",
        "em-apl",
    }


def test_raters_find_what_is_proposed_as_their_quality_allows(data, tmp_path, monkeypatch):
    """All that is there is proposed, and more: most of what the sets hold is there, and part is missed."""
    run = a_run(data, "reassessed", tmp_path)
    truth = label_sets(manyhot.read_labels(run.labels("train"))).yes_matrix()
    others = np.random.default_rng(0).random(truth.shape) < 0.3
    shown = np.where(truth, 0.9, np.where(others, 0.2, 0.01)).astype(np.float32)
    out_of_fold(run, monkeypatch, lambda home, labels, inside: shown)
    found = manyhot.read_labels(REASSESSED.labels(run))
    assert found.image_id.to_pylist() == manyhot.read_labels(run.labels("train")).image_id.to_pylist()
    sets = label_sets(found).yes_matrix()
    assert (sets & truth).sum() / sets.sum() > 0.9
    assert 0.5 < (sets & truth).sum() / truth.sum() <= 1


def test_sureness_by_hand():
    found = uncertainty.sureness(np.log([[0.5, 0.3, 0.2]]).astype(np.float32) + 1, "logit")
    assert found["confidence"][0] == pytest.approx(0.5, abs=1e-6)
    assert found["margin"][0] == pytest.approx(0.2, abs=1e-6)
    assert found["entropy"][0] == pytest.approx(
        0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2), abs=1e-6
    )
    assert found["energy"][0] == pytest.approx(1, abs=1e-6)
    found = uncertainty.sureness(np.array([[0.5, 0.25]], np.float32), "probability")
    # log(1 + exp(logit p)) = -log(1 - p)
    assert found["energy"][0] == pytest.approx(-np.log(0.5) - np.log(0.75), abs=1e-6)
    h = [-p * np.log(p) - (1 - p) * np.log(1 - p) for p in (0.5, 0.25)]
    assert found["entropy"][0] == pytest.approx(-sum(h), abs=1e-6)


def test_unknown_classes_are_found_as_scikit_learn_says():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 40).round(1)
    case = uncertainty.against_unknown(known, unknown)
    expected = roc_auc_score(np.repeat([1, 0], [60, 40]), np.concatenate([known, unknown]))
    assert get("metric", "error_auroc")(case).value(None) == pytest.approx(expected)


def test_pairs_that_are_swapped_are_counted():
    # Of the three pairs (a, b), (a, c), (b, c) the last is in the other order; a tie is no order.
    assert uncertainty.swapped(np.array([1.0, 2, 3]), np.array([1.0, 3, 2])) == pytest.approx(1 / 3)
    assert uncertainty.swapped(np.array([1.0, 2, 3]), np.array([3.0, 2, 2])) == pytest.approx(2 / 3)


def test_gaps_of_a_class_that_is_found_beside_its_companion_only():
    # Four images with both, two with the main class alone, one with the companion alone, three with neither.
    there = np.array([[1, 1]] * 4 + [[1, 0]] * 2 + [[0, 1]] + [[0, 0]] * 3, bool)
    state = np.where(there, YES, NO).astype(np.uint8).ravel()
    none = np.zeros(10, np.int32)
    sets = LabelSets(2, np.arange(0, 21, 2), np.tile([0, 1], 10), state, none, none == 0, True)
    scores = np.array([[0.9, 0]] * 4 + [[0.1, 0]] * 2 + [[0.8, 0]] + [[0.2, 0]] * 3, np.float32)
    found = robustness._pair(JudgedRun(sets, scores, "probability"), 0, 1)
    # Six images hold the class: the five highest scores, and three that are equal, are found.
    assert found["recall_gap"][0] == 1
    assert found["hallucination_gap"][0] == 0
    strict = np.array([[0.9, 0]] * 4 + [[0.1, 0]] * 2 + [[0.8, 0]] + [[0.3, 0]] + [[0.2, 0]] * 2, np.float32)
    found = robustness._pair(JudgedRun(sets, strict, "probability"), 0, 1)
    assert found["hallucination_gap"][0] == pytest.approx(1 - 1 / 3)


@pytest.mark.parametrize("data_set", [VOC9, CIFAR_SETS], ids=lambda d: d.name)
def test_a_data_set_is_made_alike_twice(data_set, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        data_set.make(tmp_path / name, True)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.parquet"))
    assert len(files) == 12
    for file in files:
        assert pq.read_table(tmp_path / "one" / file).equals(pq.read_table(tmp_path / "other" / file)), file


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("studies") / "out"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transfer", "uncertainty", "benchmarking", "robustness"])
def test_each_study_runs_and_answers(name, out):
    from manyhot.study import run_studies

    for only in (("cifar-sets", "small"), ("voc9", "lite0", "single", "sets")):
        (found,) = run_studies(STUDIES / f"{name}.py", out=out, smoke=True, only=only).answers
        assert not found.failed
    assert (out / "results" / name / "effects.csv").is_file()
    assert (out / "report" / f"{name}.html").is_file()
