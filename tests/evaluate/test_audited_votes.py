"""Audits whose answers are votes, and whose proposals are in a file of their own."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from audits import IDS, N_CLASSES, World
from manyhot import evaluate
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.files import sha256
from manyhot.formats import read_votes
from manyhot.reassess.aggregate import aggregate
from manyhot.tables import Campaign, Images, write
from manyhot.tables.audit_samples import draw_sample, write_audit_sample


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


@pytest.fixture
def audited(tmp_path):
    """Three raters, right on nine of ten questions, answer about the drawn images."""
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.3), "uniform", 3)
    rng = np.random.default_rng(1)
    rows = pc.index_in(drawn.drawn, IDS).to_pylist()
    votes = pa.table(
        {
            "image_id": [IDS[i].as_py() for i in rows for _ in range(3 * N_CLASSES)],
            "class_id": pa.array([c for _ in rows for c in range(N_CLASSES) for _ in "abc"], pa.int32()),
            "rater_id": [r for _ in rows for _ in range(N_CLASSES) for r in "abc"],
        }
    )
    right = rng.random(len(votes)) < 0.9
    truth = [c in world.sets[i] for i in rows for c in range(N_CLASSES) for _ in "abc"]
    answer = ["yes" if t == r else "no" for t, r in zip(truth, right, strict=True)]
    return world, drawn, votes.append_column("answer", pa.array(answer)), tmp_path


def test_votes_are_combined_as_by_aggregate(audited):
    world, drawn, votes, folder = audited
    models, path = list(world.models.values()), folder / "votes.parquet"
    write(votes, path, "votes", about={"n_classes": str(N_CLASSES)})
    made = aggregate(path).labels
    same = evaluate(world.proposed, models, audited=made, sample=drawn)
    for answers in (path, pq.read_table(path)):
        found = evaluate(world.proposed, models, audited=answers, sample=drawn)
        assert found.to_polars().equals(same.to_polars())
        where = "votes.parquet" if answers == path else "the votes"
        assert found.notes[0].endswith(
            f"; people's label sets combine the 2,160 answers of 3 raters in {where} by the method "
            "auto, as in manyhot aggregate"
        )
    assert evaluate(world.proposed, models, audited=path, sample=drawn).inputs == {path.name: sha256(path)}


def test_draws_from_votes_are_those_from_their_labels(audited):
    world, drawn, votes, folder = audited
    models, path = list(world.models.values()), folder / "votes.parquet"
    write(votes, path, "votes", about={"n_classes": str(N_CLASSES)})
    made = aggregate(path).labels
    options = {"sample": drawn, "posterior": 10, "metrics": ["real1"]}
    found, same = (evaluate(world.proposed, models, audited=a, **options) for a in (path, made))
    assert found.to_polars().equals(same.to_polars())
    assert found.notes[1].startswith("proposed: raters cause ")


def test_the_sample_and_golden_images_of_a_campaign_are_those_beside_the_votes(audited):
    world, drawn, votes, folder = audited
    models = list(world.models.values())
    path = folder / "votes.parquet"
    about = {"n_classes": str(N_CLASSES)}
    write(votes, path, "votes", about=about)
    same = evaluate(world.proposed, models, audited=path, sample=drawn)
    write_audit_sample(drawn, folder / "audit_sample.parquet")
    assert evaluate(world.proposed, models, audited=path).to_polars().equals(same.to_polars())
    other = next(i for i in IDS.to_pylist() if i not in drawn.drawn.to_pylist())
    golden = pa.table(
        {"image_id": [other], "class_id": pa.array([0], pa.int32()), "rater_id": ["a"], "answer": ["yes"]}
    )
    write(pa.concat_tables([votes, golden]), path, "votes", about=about)
    assert "People answered questions about images that are not in the sample." in message(
        MatchError, lambda: evaluate(world.proposed, models, audited=path)
    )
    Campaign(folder, "", "", N_CLASSES, 121, "", {}).write()
    expert = golden.rename_columns(["image_id", "class_id", "expert_id", "answer"])
    write(expert, folder / "golden.parquet", "golden", about=about)
    found = evaluate(world.proposed, models, audited=path)
    assert found.value("real1", model="good") == pytest.approx(same.value("real1", model="good"), abs=1e-3)


def test_votes_for_one_class_of_all_need_a_choice_of_the_method(audited):
    world, drawn, _, folder = audited
    choices = "".join(f"{i},{rater},{i[3]}\n" for i in drawn.drawn.to_pylist() for rater in "ab")
    (folder / "choices.csv").write_text("image_id,rater,class\n" + choices)
    votes = read_votes(folder / "choices.csv")
    models = list(world.models.values())
    text = message(InputError, lambda: evaluate(world.proposed, models, audited=votes, sample=drawn))
    assert text == (
        "Votes for one class per image are not combined automatically.\n"
        "  where:   choices\n"
        "  do:      combine them first: manyhot aggregate VOTES"
    )


def test_proposals_may_be_in_a_file_of_their_own(audited):
    """With probabilities of the classes, as a model of one's own proposes them."""
    world, drawn, _, folder = audited
    models = [replace(model, n_classes=N_CLASSES) for model in world.models.values()]
    people = world.audited(drawn.drawn)
    table = world.proposed.table
    p = pa.array([[0.7] for _ in world.label], pa.list_(pa.float32()))
    table = table.drop(["label"]).append_column("p", p)
    path = folder / "p.parquet"
    write(table, path, "labels", about={"n_classes": str(N_CLASSES)})
    images = Images(pa.table({"image_id": IDS}), "photos")
    found = evaluate(images, models, audited=people, sample=drawn, proposed=path)
    same = evaluate(path, models, audited=people, sample=drawn)
    assert found.to_polars().drop("dataset").equals(same.to_polars().drop("dataset"))
    assert found.inputs == {"p.parquet": sha256(path)}
    by_models = evaluate(images, models, audited=people, sample=drawn)
    assert found.value("real1", model="good") != by_models.value("real1", model="good")
    assert message(UsageError, lambda: evaluate(images, models, proposed=path)) == (
        "An audit requires people's label sets and the sample that was drawn.\n"
        "  got:     `proposed` without `audited`\n"
        "  do:      pass `audited`, too"
    )
    options = {"audited": people, "sample": drawn, "proposed": path, "proposed_by": "models"}
    assert message(UsageError, lambda: evaluate(images, models, **options)) == (
        "Label sets can be proposed by a file or by models, but not by both.\n"
        "  got:     `proposed` and `proposed_by` models\n"
        "  do:      leave out one of them"
    )
