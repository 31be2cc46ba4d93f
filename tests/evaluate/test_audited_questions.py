"""Models whose top classes people were not asked about in an audit, against plain counts of the images."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from audits import IDS, N_CLASSES, World
from manyhot import evaluate
from manyhot.errors import InputError
from manyhot.evaluate.audited_questions import MOST_UNASKED
from manyhot.tables import Labels, Predictions
from manyhot.tables.audit_samples import draw_sample

DO = "draw the audit with these models and a wider rule, as in: manyhot audit --rule 'union(k=5)'"


def asked_by(world, models=("good",), k=1, *, label=True):
    """Return the classes that people are asked about: the top k classes of models and the original label."""
    asked = [{int(c)} if label else set() for c in world.label]
    for name in models:
        for classes, top in zip(asked, world.models[name].classes[:, :k], strict=True):
            classes.update(int(c) for c in top)
    return asked


def answers(world, drawn, asked):
    """Return a labels table that lists all classes that people were asked about."""
    rows = pc.index_in(drawn.drawn, IDS).to_pylist()
    classes = [sorted(asked[i]) for i in rows]
    state = [
        ["yes" if c in world.sets[i] else "no" for c in asked] for i, asked in zip(rows, classes, strict=True)
    ]
    columns = {
        "image_id": drawn.drawn,
        "usable": [True] * len(rows),
        "classes": pa.array(classes, pa.list_(pa.int32())),
        "state": state,
    }
    return Labels(pa.table(columns), N_CLASSES, name="people", asked_known=True)


def audit(world, asked, n=150, models=None, **options):
    drawn = draw_sample(IDS, np.full(400, n / 400), "uniform", 3)
    listed = list(world.models.values()) if models is None else models
    found = evaluate(world.proposed, listed, audited=answers(world, drawn, asked), sample=drawn, **options)
    return pc.index_in(drawn.drawn, IDS).to_numpy(), found


def message(error, call):
    with pytest.raises(error) as found:
        call()
    return str(found.value)


def later(world, seed=10):
    """Return a model that knows the label sets, whose top class people were not always asked about."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(400, N_CLASSES))
    for i, classes in enumerate(world.sets):
        scores[i, classes] += 3
    return Predictions(IDS, "later", np.argsort(-scores, axis=1).astype(np.int32))


def test_a_model_whose_top_classes_nobody_was_asked_about_is_left_out():
    """It is the best one; by the answers about other models' classes, it would be the worst."""
    world = World()
    world.models["later"] = later(world)
    asked = asked_by(world, ("good", "bad"))
    rows, found = audit(world, asked, metrics=["top1", "real1", "mla"])
    unknown = np.mean([world.models["later"].classes[i, 0] not in asked[i] for i in rows])
    assert unknown > 0.1
    frame = found.to_polars()
    assert set(frame.filter(metric="real1")["model"]) == {"good", "bad"}
    assert set(frame.filter(metric="top1")["model"]) == {"good", "bad", "later"}
    assert {(r["model_a"], r["model_b"]) for r in found.pairs.to_pylist() if r["metric"] == "real1"} == {
        ("good", "bad")
    }
    assert found.notes[-1] == (
        "proposed: left out: real1, mla of later, because people were not asked about classes on which these "
        f"metrics depend, on {100 * unknown:.0f} % of the audited images; {DO}"
    )


def test_if_no_model_can_be_judged_it_is_an_error():
    world = World()
    asked = asked_by(world)
    rows, _ = audit(world, asked, metrics=["real1"])
    model = later(world)
    unknown = 100 * np.mean([model.classes[i, 0] not in asked[i] for i in rows])
    for options in ({"metrics": ["real1"]}, {"metrics": None}):
        assert message(InputError, lambda o=options: audit(world, asked, models=[model], **o)) == (
            "real1 cannot be audited: people were not asked about classes on which it depends.\n"
            "  where:   later\n"
            f"  got:     unknown classes on {unknown:.0f} % of the audited images\n"
            "  allowed: at most 1 %\n"
            f"  do:      {DO}"
        )


def test_of_five_classes_one_valid_one_is_enough_for_real5_and_all_count_for_precision():
    world = World()
    asked = asked_by(world, ("good", "bad"))
    rows, found = audit(world, asked)
    for model in world.models.values():
        top = [[int(c) for c in model.classes[i, :5]] for i in rows]
        hit = [any(c in asked[i] and c in world.sets[i] for c in t) for i, t in zip(rows, top, strict=True)]
        unasked = [any(c not in asked[i] for c in t) for i, t in zip(rows, top, strict=True)]
        real5 = np.mean([u and not h for u, h in zip(unasked, hit, strict=True)])
        judged = set(found.to_polars().filter(model=model.model, slice="all")["metric"])
        assert ("real5" in judged) == (real5 <= MOST_UNASKED)
        assert np.mean(unasked) > MOST_UNASKED
        assert not judged & {"precision@5", "recall@5", "f1@5"}
        assert {"real1", "mla", "valid_errors"} <= judged
    _, wide = audit(world, asked_by(world, ("good", "bad"), k=5))
    assert {"real5", "precision@5", "recall@5", "f1@5", "variable_topk"} <= set(wide.to_polars()["metric"])
    assert not any("because people were not asked" in n for n in wide.notes)


def test_a_rare_unknown_class_leaves_no_metric_out():
    """On 2 of 200 images, nobody was asked about the top class: the value is off by a point at most."""
    world = World()
    asked = asked_by(world)
    rows, _ = audit(world, asked, 200)
    model = world.models["good"]
    for n in (2, 3):
        fewer = list(asked)
        for i in [i for i in rows if len(asked[i]) > 1][:n]:
            fewer[i] = asked[i] - {int(model.classes[i, 0])}
        if n == 2:
            assert "real1" in set(audit(world, fewer, 200, models=[model])[1].to_polars()["metric"])
        else:
            with pytest.raises(InputError, match="real1 cannot be audited"):
                audit(world, fewer, 200, models=[model])


def test_classes_that_reach_the_threshold_must_be_asked_about():
    world = World()
    rng = np.random.default_rng(1)
    scores = rng.random((400, N_CLASSES)).astype(np.float32)
    model = Predictions(IDS, "dense", scores=scores, score_kind="probability")
    top = [{int(c)} for c in scores.argmax(axis=1)]

    def metrics(asked, names):
        return set(audit(world, asked, models=[model], metrics=names)[1].to_polars()["metric"])

    names = ["jaccard", "hamming"]
    assert metrics([set(range(N_CLASSES))] * 400, names) == set(names)
    rows = audit(world, top, models=[model], metrics=["real1"])[0]
    unknown = (scores[rows] >= 0.5).sum(axis=1) > 1
    assert message(InputError, lambda: metrics(top, names)).splitlines()[2] == (
        f"  got:     unknown classes on {100 * unknown.mean():.0f} % of the audited images"
    )
    assert metrics(top, ["jaccard(threshold=0.9999)"]) == {"jaccard(threshold=0.9999)"}


@pytest.mark.parametrize(
    "metric", ["map_image", "lrap", "coverage", "ranking_loss", "brier_set", "hamming", "subset_accuracy"]
)
def test_metrics_of_all_classes_need_questions_about_all(metric):
    world = World()
    scores = np.random.default_rng(5).random((400, N_CLASSES)).astype(np.float32)
    models = [Predictions(IDS, "dense", scores=scores, score_kind="probability")]
    options = {"models": models, "metrics": [metric], "trust_order": True}
    every = [set(range(N_CLASSES)) for _ in IDS]
    _, found = audit(world, every, **options)
    assert len(found)
    but_one = [classes - {(i + 1) % N_CLASSES} if i % 2 else classes for i, classes in enumerate(every)]
    with pytest.raises(InputError, match=f"^{metric} cannot be audited: people were not asked about classes"):
        audit(world, but_one, **options)


@pytest.mark.parametrize("empty", [0.0, 0.3])
def test_a_note_says_which_images_values_are_of(empty):
    world = World(empty=empty)
    asked = asked_by(world, ("good", "bad"), k=N_CLASSES)
    rows, found = audit(world, asked)
    share = 100 * np.mean([not world.sets[i] for i in rows])
    text = (
        "proposed: values are for images with at least one valid class among those that people were asked "
        "about"
    )
    if share:
        text += (
            f"; on {share:.1f} % of the audited images, no class was found valid; if other classes are valid "
            "on these images, real1 over all images with a valid class is lower by up to "
            f"{share:.1f} % of its value"
        )
    assert found.notes[1] == text


def test_people_who_answered_all_classes_were_asked_about_all():
    world = World()
    drawn = draw_sample(IDS, np.full(400, 0.5), "uniform", 3)
    labels = replace(answers(world, drawn, world.sets), complete=True)
    model = later(world)
    found = evaluate(world.proposed, [model], audited=labels, sample=drawn)
    assert found.value("real1", model="later") > 0.9
    assert not any("people were asked about" in note for note in found.notes)
