"""A campaign into the app and out of it again."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyarrow import compute as pc

from manyhot import tables
from manyhot.data.convert import convert
from manyhot.errors import InputError, MatchError
from manyhot.formats import read_votes
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.agreement import agreement
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.app import CampaignSettings
from manyhot.reassess.app.store import NewRemark, Vote
from manyhot.reassess.card import data_card
from manyhot.reassess.export_votes import export_votes
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose
from manyhot.reassess.status import campaign_status
from manyhot.run import Run
from manyhot.tables.labels import class_list_from_metadata

CLASSES = "key,name\nn0,tench\nn1,goldfish\nn2,shark\n"


def write_model(names, classes):
    """Write what a model predicts: the same classes for all images."""
    top = np.array([classes] * len(names))
    tables.write_predictions(
        tables.Predictions(pa.array(names), "model", top, n_classes=3), "models/model.parquet"
    )


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """Return the folder of a campaign of four images, with three classes proposed for each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes.csv").write_text(CLASSES)
    names = [f"{n}.png" for n in range(4)]
    for n, name in enumerate(names):
        Image.new("RGB", (40, 30), (60 * n, 0, 0)).save(tmp_path / name)
    images = {
        "image_id": names,
        "uri": [str(tmp_path / n) for n in names],
        "label": pa.array([0, 0, 1, 1], pa.int32()),
    }
    pq.write_table(pa.table(images), tmp_path / "images.parquet")
    write_model(names, (0, 1, 2))
    init_campaign("camp", images="images.parquet", classes="classes.csv", predictions=["models"])
    propose("camp", rule="top-k(k=3)").write("camp")
    return tmp_path / "camp"


def answer_all(store, name, yes):
    """Let a rater say yes to one class of each image, and return how many answers were given."""
    who, given = store.invited(store.invite(name)), 0
    while visits := store.queue(who).visits:
        for c in visits[0].shown:
            given += 1
            store.store(who, [Vote(f"{name}-{given:05d}", visits[0].key, c, 2 * (c == yes))])
    return given


def read_rows(path, *columns):
    """Return some columns of a table as tuples."""
    return list(zip(*(pq.read_table(path)[name].to_pylist() for name in columns), strict=True))


def test_from_the_campaign_to_labels_with_a_decision(campaign):
    with open_annotation(campaign, settings=CampaignSettings(raters=2)) as annotation:
        store = annotation.store
        assert answer_all(store, "ann", yes=0) == answer_all(store, "bob", yes=0) == 12
        visit = store.last_done(next(r for r in store.raters() if r.name == "bob"))
        bob = next(r for r in store.raters() if r.name == "bob")
        store.store(bob, [Vote("bob-again", visit.key, 1, 2), NewRemark("bob-says", visit.key, "blurred", 2)])
        numbers = annotation.app.state.context.status.peek(30)
        assert numbers.measures["pairwise"]["n"] == 12
        assert numbers.measures["pairwise"]["value"] == pytest.approx(11 / 12)
        (page, _), *others = numbers.counts.disputes
        assert not others
        owner = store.invited(store.invite("owner", role="owner"))
        decision = store.refine(owner, [page])
        store.store(owner, [Vote("owner-decides", decision.key, 1, 2)])

    assert [p.name for p in export_votes(campaign, run=Run("manyhot export camp")).written] == [
        "votes.parquet",
        "remarks.parquet",
    ]
    table = tables.read(campaign / "votes.parquet", "votes")
    assert len(table) == 12 + 12 + 1 + 1
    assert table["round"].to_pylist() == [0] * 25 + [1]
    assert tables.metadata(table)["call"] == "manyhot export camp"
    remarks = tables.read(campaign / "remarks.parquet", "remarks").to_pylist()
    assert [(r["rater_id"], r["text"], r["missing_class_id"]) for r in remarks] == [("bob", "blurred", 2)]
    votes = read_votes(campaign / "votes.parquet")
    assert (len(votes), len(votes.refined)) == (24, 1)
    done = aggregate(campaign, method="majority", resamples=0)
    sets = {
        r["image_id"]: [c for c, s in zip(r["classes"], r["state"], strict=True) if s == "yes"]
        for r in done.labels.table.to_pylist()
    }
    assert sets == {f"{n}.png": [0, 1] if f"{n}.png" == visit.name else [0] for n in range(4)}


def test_each_vote_is_later_than_the_one_that_it_replaces(campaign):
    """Two tabs and slow lines: what was stored last counts, also where clocks say nothing."""
    with open_annotation(campaign, settings=CampaignSettings(raters=1)) as annotation:
        store = annotation.store
        ann = store.invited(store.invite("ann"))
        visit = store.queue(ann).visits[0]
        # Given before the page was opened, if one believes the browser: all at the time of its opening.
        store.store(
            ann, [Vote(f"ann-{i:05d}", visit.key, visit.shown[0], i % 3, False, 10**12) for i in range(6)]
        )
    export_votes(campaign)
    (answer,) = read_votes(campaign / "votes.parquet").answer
    assert answer == 2


def test_status_knows_what_is_not_exported(campaign):
    assert campaign_status(campaign).command == f"manyhot annotate {campaign}"
    with open_annotation(campaign, settings=CampaignSettings(raters=1)) as annotation:
        assert campaign_status(campaign).command == f"manyhot annotate {campaign}"
        answer_all(annotation.store, "ann", yes=0)
        status = campaign_status(campaign)  # while the app runs
    assert status.command == f"manyhot export {campaign}"
    assert status.notes[0] == "annotation.sqlite contains 12 answers that are not in votes.parquet yet"
    export_votes(campaign)
    status = campaign_status(campaign)
    assert status.command.startswith(f"manyhot aggregate {campaign}")
    assert not status.notes


def test_ids_of_another_tool_become_those_of_the_campaign(campaign, tmp_path):
    """Otherwise the same image would be there under two ids, and `aggregate` would refuse one of them."""
    rows = [f"photos/{n}.png,{c},vendor,{'yes' if c else 'no'}" for n in range(4) for c in range(3)]
    (tmp_path / "vendor.csv").write_text("\n".join(["image_id,class_id,rater_id,answer", *rows]))
    convert(tmp_path / "vendor.csv", campaign / "votes.parquet")
    with open_annotation(campaign, settings=CampaignSettings(raters=1)) as annotation:
        answer_all(annotation.store, "ann", yes=1)
    export_votes(campaign)
    rows = read_rows(campaign / "votes.parquet", "image_id", "class_id", "rater_id")
    assert sorted(rows) == [(f"{n}.png", c, r) for n in range(4) for c in range(3) for r in ("ann", "vendor")]
    assert len(aggregate(campaign, method="majority", resamples=0).labels) == 4


def test_golden_answers_in_a_csv_file_are_read_everywhere(campaign):
    rows = [f"{n}.png,{c},me,{'yes' if c == 0 else 'no'}" for n in range(2) for c in range(3)]
    (campaign / "golden.csv").write_text("\n".join(["image_id,class_id,expert_id,answer", *rows]))
    assert campaign_status(campaign).to_json()["stages"]["golden"]["count"] == 6
    with open_annotation(campaign, settings=CampaignSettings(raters=1, qualify=2)) as annotation:
        assert annotation.store.count_golden_pages() == (2, 2)
        answer_all(annotation.store, "ann", yes=0)
    export_votes(campaign)
    found = agreement(campaign, resamples=0)
    assert "there are no golden answers" not in " ".join(found.notes)
    assert {row["golden"] for row in found.raters.to_pylist()} == {6}
    assert campaign_status(campaign).command == f"manyhot aggregate {campaign} --method golden-bayes"


def test_golden_answers_that_are_not_proposed_are_noted(campaign):
    rows = [f"{n}.png,{c},me,no" for n in (2, 3) for c in range(3)]
    (campaign / "golden.csv").write_text("\n".join(["image_id,class_id,expert_id,answer", *rows]))
    with open_annotation(campaign) as annotation:
        assert not any("golden" in note for note in annotation.notes)
    (campaign / "annotation.sqlite").unlink()
    (campaign / "proposals.parquet").unlink()
    propose(campaign, rule="top-k(k=1)").write(campaign)
    with open_annotation(campaign) as annotation:
        assert annotation.notes[0] == (
            "2 of 6 golden questions are not among the proposals, so the app does not ask them. It uses 4"
        )


def test_golden_answers_that_come_after_their_questions_are_noted(campaign):
    def golden(*rows):
        lines = [f"{n}.png,{c},me,{answer}" for n, c, answer in rows]
        (campaign / "golden.csv").write_text("\n".join(["image_id,class_id,expert_id,answer", *lines]))

    golden((0, 0, "yes"), (0, 1, "no"))
    with open_annotation(campaign) as annotation:
        assert not any("golden" in note for note in annotation.notes)
    golden((0, 0, "yes"), (0, 1, "yes"), (1, 0, "no"))  # one as it was, one changed, one new
    with open_annotation(campaign) as annotation:
        assert annotation.notes[0] == (
            "2 golden answers were added or changed after the app had their questions, so it does not use "
            "them; `manyhot agreement` does. To use them in the app, export the votes, move "
            "annotation.sqlite away and start again"
        )
        assert annotation.store.golden_truths() == {("0.png", 0): True, ("0.png", 1): False}


def test_status_counts_by_rater(campaign, tmp_path):
    """Other tools number their pages, too; answers that were left out are not waiting."""
    rows = [f"{n}.png,{c},vendor-{n},yes,p{n}" for n in range(4) for c in range(3)]
    (tmp_path / "vendor.csv").write_text("\n".join(["image_id,class_id,rater_id,answer,page_id", *rows]))
    convert(tmp_path / "vendor.csv", campaign / "votes.parquet")
    held = "annotation.sqlite contains {} answers that are not in votes.parquet yet"
    with open_annotation(campaign, settings=CampaignSettings(raters=2)) as annotation:
        answer_all(annotation.store, "ann", yes=0)
        answer_all(annotation.store, "bob", yes=0)
        assert campaign_status(campaign).notes == (held.format(24),)
        export_votes(campaign)
        assert campaign_status(campaign).notes == ()
        bob = next(r for r in annotation.store.raters() if r.name == "bob")
        annotation.store.leave_out(bob.id)
        assert campaign_status(campaign).notes == ()
        answer_all(annotation.store, "cem", yes=0)
        assert campaign_status(campaign).notes == (held.format(12),)
    export_votes(campaign)
    assert campaign_status(campaign).notes == ()


def test_votes_of_another_tool_are_kept(campaign, tmp_path):
    """Neither `export` nor `convert` removes the other's answers."""
    rows = "image_id,class_id,rater_id,answer\n1.png,0,vendor-1,yes\n2.png,0,vendor-2,no\n"
    (tmp_path / "vendor.csv").write_text(rows)
    target = campaign / "votes.parquet"
    convert(tmp_path / "vendor.csv", target)
    with open_annotation(campaign, settings=CampaignSettings(raters=1)) as annotation:
        answer_all(annotation.store, "ann", yes=0)
    assert campaign_status(campaign).notes == (
        "annotation.sqlite contains 12 answers that are not in votes.parquet yet",
    )
    for _ in range(2):
        assert export_votes(campaign).notes == ("2 votes that were not given in this app were kept",)
        assert len(pq.read_table(target)) == 14
    assert not campaign_status(campaign).notes
    before = target.read_bytes()
    with pytest.raises(InputError, match="would replace answers from the annotation app"):
        convert(tmp_path / "vendor.csv", target)
    assert target.read_bytes() == before
    (tmp_path / "more.csv").write_text(rows.replace("vendor-1", "vendor-3"))
    added = convert(tmp_path / "more.csv", target, add=True).notes
    assert added == ("1 answers were added to the 14 of the campaign, which already contained 1 others",)
    assert export_votes(campaign).notes == ("3 votes that were not given in this app were kept",)
    assert len(pq.read_table(target)) == 15
    before = target.read_bytes()
    target.write_bytes(before[:300])  # broken, so that nothing is lost
    convert(tmp_path / "vendor.csv", target)
    assert len(pq.read_table(target)) == 2


def test_raters_who_were_renamed_in_the_file_are_noted(campaign):
    with open_annotation(campaign, settings=CampaignSettings(raters=2)) as annotation:
        answer_all(annotation.store, "ann", yes=0)
        answer_all(annotation.store, "bob", yes=1)
    assert export_votes(campaign).notes == ()
    path = campaign / "votes.parquet"
    table = pq.read_table(path)
    names = pc.if_else(pc.equal(table["rater_id"], "ann"), "Anna", table["rater_id"])
    at = table.column_names.index("rater_id")
    pq.write_table(table.set_column(at, table.schema.field(at), names), path)
    assert export_votes(campaign).notes == (
        "raters of the app had other names in votes.parquet, and have those of the app again: Anna is ann; "
        "to publish other names, rename raters in a copy of the file",
    )
    assert sorted(set(pq.read_table(path)["rater_id"].to_pylist())) == ["ann", "bob"]
    assert export_votes(campaign).notes == ()


def test_votes_of_an_earlier_app_are_kept(campaign):
    """The advice is to move the database away: raters have the same names in the next one."""
    with open_annotation(campaign, settings=CampaignSettings(raters=2)) as annotation:
        answer_all(annotation.store, "ann", yes=0)
        answer_all(annotation.store, "bob", yes=1)
    export_votes(campaign)
    earlier = read_rows(campaign / "votes.parquet", "page_id", "rater_id", "image_id", "class_id", "answer")
    (campaign / "annotation.sqlite").unlink()
    with open_annotation(campaign, settings=CampaignSettings(raters=2)) as annotation:
        annotation.store.invite("ann")
        assert export_votes(campaign).notes == ("24 votes that were not given in this app were kept",)
        assert len(pq.read_table(campaign / "votes.parquet")) == 24
        answer_all(annotation.store, "ann", yes=2)
        held = "annotation.sqlite contains 12 answers that are not in votes.parquet yet"
        assert campaign_status(campaign).notes == (held,)
        assert export_votes(campaign).notes == (
            "24 votes that were not given in this app were kept",
            "12 questions were answered again in the app by the same raters: the later answer counts",
        )
        assert campaign_status(campaign).notes == ()
        assert set(earlier) < set(
            read_rows(campaign / "votes.parquet", "page_id", "rater_id", "image_id", "class_id", "answer")
        )
        votes = read_votes(campaign / "votes.parquet")
        names = votes.rater_id.to_pylist()
        said_yes = np.flatnonzero(votes.answer)
        yes = [(names[votes.rater[n]], votes.class_id[votes.question[n]]) for n in said_yes]
        assert sorted(yes) == [("ann", 2)] * 4 + [("bob", 1)] * 4
        ann = next(r for r in annotation.store.raters() if r.name == "ann")
        annotation.store.leave_out(ann.id)
        assert "12 of them come from raters whose answers in the app" in export_votes(campaign).notes[1]
    rows = read_rows(campaign / "votes.parquet", "page_id", "rater_id", "image_id", "class_id", "answer")
    assert sorted(rows) == sorted(earlier)  # what the app left out is not taken from the file


def test_votes_without_times_are_replaced_by_answers_of_the_same_rater(campaign, tmp_path):
    rows = "image_id,class_id,rater_id,answer\n1.png,0,ann,maybe\n2.png,0,bob,no\n"
    (tmp_path / "earlier.csv").write_text(rows)
    convert(tmp_path / "earlier.csv", campaign / "votes.parquet")
    with open_annotation(campaign, settings=CampaignSettings(raters=1)) as annotation:
        answer_all(annotation.store, "ann", yes=0)
    assert export_votes(campaign).notes == (
        "1 votes that were not given in this app were kept",
        "1 questions were answered again in the app by the same raters: the later answer counts, and 1 "
        "earlier answers without a time were replaced",
    )
    assert len(read_votes(campaign / "votes.parquet")) == 13


def test_label_sets_that_are_older_than_the_votes(campaign):
    with open_annotation(campaign, settings=CampaignSettings(raters=1)) as annotation:
        answer_all(annotation.store, "ann", yes=0)
    export_votes(campaign)
    aggregate(campaign).write(campaign / "labels.parquet")
    assert campaign_status(campaign).command.startswith("manyhot evaluate ")
    os.utime(campaign / "labels.parquet", (0, 0))
    assert campaign_status(campaign).command == f"manyhot aggregate {campaign}"


def test_what_the_owner_should_know(campaign):
    with open_annotation(campaign) as annotation:
        assert annotation.notes == ()
    (campaign / "proposals.parquet").unlink()
    propose(campaign, rule="top-k(k=1)").write(campaign)
    note = (
        "8 questions about 4 images are no longer among the proposals, so they are no longer asked. 0 "
        "answers to them are kept and exported"
    )
    for notes in ((note,), ()):
        with open_annotation(campaign) as annotation:
            assert annotation.notes == notes
            progress = annotation.store.votes().count(5, 0).progress
            assert (progress.questions, progress.missing, progress.withdrawn) == (4, 20, 8)


def test_withdrawn_questions_keep_their_answers_and_come_back(campaign):
    with open_annotation(campaign, settings=CampaignSettings(raters=2)) as annotation:
        assert answer_all(annotation.store, "ann", yes=0) == 12
    standing = pq.read_table(campaign / "proposals.parquet")
    left = standing.filter(pc.not_equal(standing["class_id"], 2))
    pq.write_table(left, campaign / "proposals.parquet")
    with open_annotation(campaign) as annotation:
        assert annotation.notes == (
            "4 questions about 4 images are no longer among the proposals, so they are no longer asked. 4 "
            "answers to them are kept and exported",
        )
        assert answer_all(annotation.store, "bob", yes=0) == 8
        assert annotation.store.votes().count(2, 0).progress.missing == 0
    export_votes(campaign)
    assert len(pq.read_table(campaign / "votes.parquet")) == 20
    pq.write_table(standing, campaign / "proposals.parquet")
    with open_annotation(campaign) as annotation:
        assert annotation.notes == ("4 questions are among the proposals again, so they are asked again",)
        assert annotation.store.votes().count(2, 0).progress.missing == 4


def test_questions_that_are_proposed_later_are_added(campaign):
    """Raters go on: nothing that they answered is asked again."""
    (campaign / "proposals.parquet").unlink()
    propose(campaign, rule="top-k(k=1)").write(campaign)  # of two images, the label is another class
    with open_annotation(campaign, settings=CampaignSettings(raters=2)) as annotation:
        assert answer_all(annotation.store, "ann", yes=0) == 4
    export_votes(campaign)
    answered = read_rows(campaign / "votes.parquet", "image_id", "class_id")
    (campaign / "proposals.parquet").unlink()
    propose(campaign, rule="top-k(k=3)").write(campaign)
    with open_annotation(campaign) as annotation:
        store = annotation.store
        assert annotation.notes == (
            "8 questions about 4 images were added, because they are new among the proposals",
        )
        ann = next(r for r in store.raters() if r.name == "ann")
        seen = []
        while visits := store.queue(ann).visits:
            for c in visits[0].shown:
                seen.append((visits[0].name, c))
                store.store(ann, [Vote(f"more-{len(seen):05d}", visits[0].key, c, 0)])
        assert sorted([*answered, *seen]) == [(f"{n}.png", c) for n in range(4) for c in range(3)]
        assert answer_all(store, "bob", yes=0) == 12
        progress = store.votes().count(2, 0).progress
        assert (progress.questions, progress.questions_done, progress.missing) == (12, 12, 0)
    with open_annotation(campaign) as annotation:
        assert annotation.notes == ()
    export_votes(campaign)
    assert len(read_votes(campaign / "votes.parquet")) == 24


def test_a_class_and_images_are_added_while_raters_answer(campaign, tmp_path):
    """The votes so far stay valid, and raters go on with what is new."""
    with open_annotation(campaign, settings=CampaignSettings(raters=1)) as annotation:
        assert answer_all(annotation.store, "ann", yes=0) == 12
    export_votes(campaign)
    Path("classes.csv").write_text(CLASSES + "n3,eel\n")
    images = pq.read_table("images.parquet").to_pylist()
    Image.new("RGB", (40, 30)).save("new.png")
    new = {"image_id": "new.png", "uri": str(tmp_path / "new.png"), "label": 3}
    pq.write_table(pa.Table.from_pylist([*images[2:], new]), "more.parquet")
    for _ in range(2):  # an interrupted call can be repeated
        made = init_campaign("camp", images="more.parquet", classes="classes.csv", add=True)
    assert (made.campaign.n_images, made.campaign.n_classes) == (5, 4)
    assert made.notes == (
        "0 images and 0 classes were added",
        "2 images of the campaign are not among the images passed; they are kept",
    )
    about = tables.metadata(pq.read_schema(campaign / "proposals.parquet"))
    assert class_list_from_metadata(about, "proposals").names == ("tench", "goldfish", "shark", "eel")
    propose("camp", rule="all-classes").write("camp")
    with open_annotation(campaign) as annotation:
        assert annotation.notes[0] == (
            "8 questions about 5 images were added, because they are new among the proposals"
        )
        ann, given = next(r for r in annotation.store.raters() if r.name == "ann"), []
        while visits := annotation.store.queue(ann).visits:
            given += [(visits[0].name, c) for c in visits[0].shown]
            votes = [Vote(f"later-{visits[0].key}-{c}", visits[0].key, c, 2) for c in visits[0].shown]
            annotation.store.store(ann, votes)
        assert sorted(given) == [*((f"{n}.png", 3) for n in range(4)), *(("new.png", c) for c in range(4))]
    export_votes(campaign)
    found = aggregate(campaign, method="majority", resamples=0).labels
    sets = dict(zip(*(found.table[name].to_pylist() for name in ("image_id", "classes")), strict=True))
    assert sets == {f"{n}.png": [0, 1, 2, 3] for n in range(4)} | {"new.png": [0, 1, 2, 3]}
    assert found.class_hash == made.campaign.class_hash


@pytest.mark.parametrize("rule", ["all-classes", "top-k(k=1)"])
def test_findings_are_added_to_the_questions_of_a_rule(campaign, rule):
    (campaign / "proposals.parquet").unlink()
    propose("camp", rule=rule).write("camp")
    n = pq.read_metadata(campaign / "proposals.parquet").num_rows
    Path("own.csv").write_text("image_id,class_b\n1.png,shark\n2.png,shark\n")
    propose("camp", findings="own.csv", add=True).write("camp")
    table = tables.read(campaign / "proposals.parquet", "proposals")
    assert len(table) == n + 2 * (rule != "all-classes")
    assert {("1.png", 2), ("2.png", 2)} <= set(
        zip(table["image_id"].to_pylist(), table["class_id"].to_pylist(), strict=True)
    )


def test_changed_names_of_classes_are_refused_or_recorded(campaign):
    with open_annotation(campaign, settings=CampaignSettings(raters=1)) as annotation:
        assert answer_all(annotation.store, "ann", yes=0) == 12
    export_votes(campaign)
    before = (campaign / "classes.parquet").read_bytes()
    Path("swap.csv").write_text("key,name\nn0,goldfish\nn1,tench\nn2,shark\n")
    with pytest.raises(MatchError) as error:
        init_campaign("camp", images="images.parquet", classes="swap.csv", add=True)
    assert str(error.value) == (
        "A class of the campaign gets the name of another, so the meaning of answers would change.\n"
        "  where:   camp/classes.parquet\n"
        "  got:     goldfish as the name of class 0 (n0), which is the name of class 1 (n1)\n"
        "  allowed: the names of the campaign, or names that no other class of the campaign has\n"
        "  do:      keep the names of the campaign, and put new classes at the end of the list"
    )
    assert (campaign / "classes.parquet").read_bytes() == before
    Path("more.csv").write_text("key,name,definition\nn0,tench,a fish\nn1,golden fish,\nn2,shark,\n")
    wording = (
        "name of n1: goldfish -> golden fish (4 answers under the old wording); "
        "definition of n0: none -> a fish (4 answers under the old wording)"
    )
    made = init_campaign("camp", images="images.parquet", classes="more.csv", add=True)
    assert made.notes == (
        "0 images and 0 classes were added",
        f"the wording of classes has changed: {wording}",
    )
    assert len(init_campaign("camp", images="images.parquet", classes="more.csv", add=True).notes) == 1
    rows = tables.read(campaign / "class_changes.parquet", "class_changes").to_pylist()
    assert [(row["class_id"], row["column"], row["n_answers"]) for row in rows] == [
        (1, "name", 4),
        (0, "definition", 4),
    ]
    aggregate(campaign).write(campaign / "labels.parquet")
    (line,) = [t for t in data_card(campaign).text.splitlines() if "changed wording of classes" in t]
    assert line.replace("\\>", ">") == f"| changed wording of classes | {wording} |"


def test_images_of_the_same_name_elsewhere_are_not_added_in_silence(campaign, tmp_path):
    Path("more").mkdir()
    Image.new("RGB", (40, 30)).save("more/0.png")
    there = {"image_id": ["0.png", "1.png"], "uri": [str(tmp_path / "more/0.png"), str(tmp_path / "1.png")]}
    pq.write_table(pa.table(there), "more.parquet")
    made = init_campaign("camp", images="more.parquet", classes="classes.csv", add=True)
    assert made.notes[-1] == (
        "1 images were not added, because the campaign has images with the same names at other locations, "
        f"such as {tmp_path / '0.png'} for {tmp_path / 'more/0.png'}: if the images differ, rename the new "
        "ones"
    )


def test_a_class_that_is_added_while_the_app_runs_is_in_what_it_exports(campaign):
    with open_annotation(campaign, settings=CampaignSettings(raters=1)) as annotation:
        answer_all(annotation.store, "ann", yes=0)
        Path("classes.csv").write_text(CLASSES + "n3,eel\n")
        made = init_campaign("camp", images="images.parquet", classes="classes.csv", add=True)
        annotation.app.state.context.callbacks.export(campaign)
    about = tables.metadata(pq.read_schema(campaign / "votes.parquet"))
    assert (about["classes"], about["n_classes"]) == (made.campaign.class_hash, "4")


def test_classes_in_another_order_are_not_added(campaign):
    before = (campaign / "campaign.json").read_bytes()
    Path("classes.csv").write_text("key,name\nn0,tench\nn2,shark\nn1,goldfish\nn3,eel\n")
    with pytest.raises(MatchError) as error:
        init_campaign("camp", images="images.parquet", classes="classes.csv", add=True)
    assert str(error.value) == (
        "The classes of the campaign are not the first classes of the list.\n"
        f"  where:   {Path('camp/classes.parquet')}\n"
        "  got:     class 1 is n1 in the campaign and n2 in the list\n"
        "  allowed: the classes of the campaign in the same order, and new classes after them\n"
        "  do:      put new classes at the end of the list"
    )
    assert (campaign / "campaign.json").read_bytes() == before


def test_a_campaign_on_another_machine(campaign, tmp_path):
    """Examples may be in another folder than the images."""
    Path("examples").mkdir()
    Image.new("RGB", (40, 30)).save("examples/e.png")
    shown = {"image_id": ["e.png"], "uri": [str(tmp_path / "examples/e.png")], "label": [0]}
    pq.write_table(pa.table(shown), "examples.parquet")
    with open_annotation(campaign, examples="examples.parquet") as annotation:
        assert not [note for note in annotation.notes if "exist" in note]
    Path("moved").mkdir()
    for n in range(4):
        (tmp_path / f"{n}.png").rename(tmp_path / f"moved/{n}.png")
    with open_annotation(campaign) as annotation:
        assert annotation.notes[0] == (
            f"4 of 4 images that were checked do not exist, such as {tmp_path / '0.png'}. If images were "
            "moved, pass `image_folder`"
        )
    with open_annotation(campaign, image_folder="moved") as annotation:
        assert annotation.notes[0] == (
            "1 example images are not in the image folder; their locations are unchanged"
        )
        assert annotation.store.places() == [str(tmp_path / f"moved/{n}.png") for n in range(4)]
        assert annotation.store.other_example_places() == [str(tmp_path / "examples/e.png")]


def test_the_owner_hears_of_classes_without_examples(campaign, tmp_path):
    alone = {"image_id": ["x.png"], "uri": [str(tmp_path / "0.png")], "label": pa.array([0], pa.int32())}
    pq.write_table(pa.table(alone), "others.parquet")
    with open_annotation(campaign, examples="others.parquet") as annotation:
        assert annotation.notes == (
            "3 of 3 classes asked about have fewer than two example images: raters see at most one and "
            "depend on names and definitions. To show more, move annotation.sqlite away and start again "
            "with manyhot annotate --examples TABLE, a table of other images with labels",
        )


def test_other_examples_come_too_late(campaign):
    with open_annotation(campaign) as annotation:
        before = annotation.store.examples([0, 1, 2])
    with open_annotation(campaign, examples=campaign / "images.parquet") as annotation:
        assert annotation.notes == ()  # they are the same
    others = tables.read(campaign / "images.parquet", "images").slice(0, 3)
    pq.write_table(others, "others.parquet")
    with open_annotation(campaign, examples="others.parquet") as annotation:
        assert annotation.notes == (
            "the examples that were passed have no effect, because annotation began with different examples. "
            "To use the new examples, export the votes, move annotation.sqlite away and start again",
        )
        assert annotation.store.examples([0, 1, 2]) == before


def test_without_proposals(campaign):
    (campaign / "proposals.parquet").unlink()
    with pytest.raises(InputError) as error, open_annotation(campaign):
        pass
    assert str(error.value) == (
        "The campaign has no proposals yet.\n"
        f"  where:   {campaign}\n"
        "  got:     no proposals.parquet in it\n"
        f"  do:      propose the classes to ask about: manyhot propose {campaign}"
    )


def test_nothing_to_export(campaign):
    with pytest.raises(InputError) as error:
        export_votes(campaign)
    assert str(error.value) == (
        "Annotation of this campaign has not begun yet.\n"
        f"  where:   {campaign}\n"
        "  got:     no annotation.sqlite in it\n"
        f"  do:      begin: manyhot annotate {campaign}"
    )


def test_images_that_do_not_say_where_they_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes.csv").write_text(CLASSES)
    pq.write_table(pa.table({"image_id": ["0.png"], "label": pa.array([0], pa.int32())}), "images.parquet")
    write_model(["0.png"], (1,))
    init_campaign("camp", images="images.parquet", classes="classes.csv", predictions=["models"])
    propose("camp", rule="top-k(k=1)").write("camp")
    with pytest.raises(InputError) as error, open_annotation("camp"):
        pass
    assert str(error.value) == (
        "The images table lacks the locations of the images.\n"
        "  where:   images\n"
        "  got:     columns image_id, label\n"
        "  allowed: a column uri with paths or addresses\n"
        "  do:      if the ids are file names, pass `image_folder`; otherwise, create the campaign from a "
        "table with the column uri, such as the images.parquet that manyhot predict writes"
    )
    Path("photos").mkdir()
    with pytest.raises(InputError, match="are not at the new location"):
        open_annotation("camp", image_folder="photos").__enter__()
    Image.new("RGB", (40, 30)).save("photos/0.png")
    with open_annotation("camp", image_folder="photos") as annotation:
        assert annotation.store.places() == [str(tmp_path / "photos" / "0.png")]
    with open_annotation("camp") as annotation:
        assert annotation.store.places() == [str(tmp_path / "photos" / "0.png")]


def test_an_example_under_another_name_is_not_beside_itself(campaign, tmp_path):
    """The same file, and a copy of it, have the id of the campaign's image."""
    (tmp_path / "copy.png").write_bytes((tmp_path / "1.png").read_bytes())
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "other.png")
    rows = [("a", "0.png", 0), ("b", "copy.png", 0), ("c", "other.png", 0), ("d", "gone.png", 1)]
    lines = [f"{name},{tmp_path / file},{label}" for name, file, label in rows]
    (tmp_path / "examples.csv").write_text("\n".join(["image_id,uri,label", *lines]) + "\n")
    with open_annotation(campaign, examples="examples.csv") as annotation:
        names = {name for of_class in annotation.store.examples([0, 1, 2]).values() for _, name in of_class}
        assert names == {"0.png", "1.png", "c", "d"}
    with open_annotation(campaign, examples="examples.csv") as annotation:
        assert not any("have no effect" in note for note in annotation.notes)
