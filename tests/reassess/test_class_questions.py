"""An audit for macro average precision, whose images and questions are drawn with recorded probabilities."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit

from manyhot import evaluate, tables
from manyhot.core.audit_average_precision import audited_average_precision
from manyhot.core.audit_designs import class_design
from manyhot.core.audited import estimate
from manyhot.errors import InputError, UsageError
from manyhot.reassess.audit import audit
from manyhot.tables import Labels, Predictions
from manyhot.tables.audit_samples import read_audit_sample

N, CLASSES = 300, 5
NAMES = [f"{n:03}.png" for n in range(N)]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Write images without labels and two models' probabilities, and return VOC's kind of truth and these."""
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("cat\ndog\ncow\nhen\npig\n")
    Path("predictions").mkdir()
    pq.write_table(pa.table({"image_id": NAMES, "uri": NAMES}), "predictions/images.parquet")
    rng = np.random.default_rng(0)
    odds = rng.normal(-1, 2, (N, CLASSES)) - np.arange(CLASSES) / 2
    scores = [expit(odds + rng.normal(0, s, odds.shape)).astype(np.float32) for s in (0.5, 1)]
    for name, own in zip(("one", "two"), scores, strict=True):
        about = {"n_classes": CLASSES, "score_kind": "probability"}
        write = tables.write_predictions
        write(Predictions(pa.array(NAMES), name, scores=own, **about), f"predictions/{name}.parquet")
    return rng.random(odds.shape) < expit(odds), scores


def draw(**more):
    options = {
        "size": 80,
        "design": "classes",
        "questions": 2.5,
        "out": "audit",
        "seed": 0,
        "classes": "classes.txt",
    }
    return audit("predictions", **options | more)


def asked_pairs(folder="audit"):
    table = tables.read(f"{folder}/proposals.parquet", "proposals")
    image = [int(name[:3]) for name in table["image_id"].to_pylist()]
    return table, np.array(image), table["class_id"].to_numpy()


def test_images_and_questions_have_the_probabilities_of_the_design(photos):
    _, scores = photos
    done = draw()
    top = sum(np.arange(CLASSES) == s.argmax(1)[:, None] for s in scores) > 0
    expected = class_design(scores, 80, certain=top, probability=np.mean(scores, axis=0), questions=2.5)
    drawn = read_audit_sample("audit/audit_sample.parquet")
    assert drawn.design == "active"
    assert drawn.sample.design.probability == pytest.approx(expected.design.probability, rel=1e-5)
    table, image, class_id = asked_pairs()
    assert table["score"].to_numpy() == pytest.approx(expected.asked[image, class_id], rel=1e-4)
    assert table.schema.metadata[b"manyhot.question_probability"] == b"score"
    assert done.n_questions == len(table) == pytest.approx(2.5 * 80, abs=30)
    rows = np.unique(image)
    assert len(rows) == 80
    missed = set(zip(*np.nonzero(top), strict=True)) - set(zip(image, class_id, strict=True))
    assert not missed & {(r, c) for r in rows for c in range(CLASSES)}
    assert not draw().is_new
    with pytest.raises(InputError):
        draw(questions=3)


def test_the_questions_about_an_image_do_not_depend_on_golden_images(photos):
    draw()
    draw(golden_images=10, out="more")
    pairs = [set(zip(*asked_pairs(folder)[1:], strict=True)) for folder in ("audit", "more")]
    assert pairs[0] < pairs[1]
    sampled = {image for image, _ in pairs[0]}
    assert pairs[0] == {(image, c) for image, c in pairs[1] if image in sampled}


def test_the_evaluation_uses_the_probabilities(photos):
    """By the names of the images, and also if people did not answer some of the questions."""
    truth, scores = photos
    draw()
    drawn = read_audit_sample("audit/audit_sample.parquet")
    _, image, class_id = asked_pairs()
    keep = (np.arange(len(image)) % 9 != 0) | ~np.isin(image, image[1:][np.diff(image) == 0])
    image, class_id = image[keep], class_id[keep]
    rows = np.unique(image)
    classes = [class_id[image == r].tolist() for r in rows]
    states = [["yes" if truth[r, c] else "no" for c in of] for r, of in zip(rows, classes, strict=True)]
    labels = {
        "image_id": [NAMES[r] for r in rows],
        "usable": [True] * 80,
        "classes": classes,
        "state": states,
    }
    about = Labels(pa.table(labels), CLASSES, asked_known=True)
    tables.write(
        about.table, "audit/labels.parquet", "labels", about={"n_classes": "5", "asked_known": "true"}
    )
    found = evaluate("predictions", audited="audit", classes="classes.txt", metrics=["map_macro"])
    assert any(
        "map_macro is estimated from drawn questions and, where these are rare, from a regression" in note
        for note in found.notes
    )
    with pytest.raises(InputError, match="real1 cannot be audited: the questions were drawn for map_macro"):
        evaluate("predictions", audited="audit", classes="classes.txt", metrics=["real1"])
    sample = drawn.sample_for(pa.array(NAMES))
    top = sum(np.arange(CLASSES) == s.argmax(1)[:, None] for s in scores) > 0
    design = class_design(scores, 80, certain=top, probability=np.mean(scores, axis=0), questions=2.5)
    asked = np.zeros((N, CLASSES))
    asked[image, class_id] = design.asked[image, class_id]
    odds = [np.log(s / (1 - s)) for s in scores]
    odds = [(x - x.mean()) / x.std() for x in odds]
    asked, answers = asked[sample.images], (truth & (asked > 0))[sample.images]
    values = audited_average_precision(answers, truth, scores[0], sample, features=odds, asked=asked)
    expected = estimate(values, sample, power=1.0)
    assert found.value("map_macro", model="one") == pytest.approx(expected.value[0], abs=1e-4)
    (pair,) = found.pairs.to_pylist()
    assert pair["lo"] < pair["difference"] < pair["hi"]


def test_ranks_do_not_suffice(photos):
    top = np.stack([np.random.default_rng(n).permutation(CLASSES)[:2] for n in range(N)])
    ranks = Predictions(pa.array(NAMES), "two", top, n_classes=CLASSES)
    tables.write_predictions(ranks, "predictions/two.parquet")
    with pytest.raises(InputError) as error:
        draw()
    assert str(error.value).splitlines() == [
        "The design requires scores for all classes.",
        "  where:   predictions/two.parquet",
        "  got:     ranks",
        "  do:      predict with scores for all classes, or set `design` to uniform",
    ]


def test_other_designs_draw_no_questions(photos):
    with pytest.raises(UsageError) as error:
        draw(design="uniform")
    assert str(error.value).splitlines() == [
        "The number of questions can be set only for the design classes.",
        "  got:     `questions` with the design uniform",
        "  do:      set `design` to classes, or choose the questions with `rule`",
    ]


def test_questions_are_drawn_by_the_softmax_of_logits_if_it_is_declared(photos):
    _, scores = photos
    p = [s / s.sum(1, keepdims=True) for s in scores]
    for name, own in zip(("one", "two"), p, strict=True):
        about = {"n_classes": CLASSES, "score_kind": "logit", "link": "softmax"}
        logits = Predictions(pa.array(NAMES), name, scores=np.log(own) + 5, **about)
        tables.write_predictions(logits, f"predictions/{name}.parquet")
    draw()
    top = sum(np.arange(CLASSES) == s.argmax(1)[:, None] for s in scores) > 0
    logits = [np.log(own) + 5 for own in p]
    expected = class_design(logits, 80, certain=top, probability=np.mean(p, axis=0), questions=2.5)
    table, image, class_id = asked_pairs()
    assert table["score"].to_numpy() == pytest.approx(expected.asked[image, class_id], rel=1e-4)
