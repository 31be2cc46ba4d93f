"""`manyhot next --ask`: from ranked questions to one more answer each, and round again."""

import json
import sqlite3

import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from manyhot import cli, next_questions, tables
from manyhot.errors import InputError
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.app import CampaignSettings
from manyhot.reassess.init import init_campaign
from manyhot.reassess.status import campaign_status
from stores import NO, YES, answer

QUESTION = ("image_id", "class_id")
IMAGES = [f"{n}.png" for n in range(6)]
GOLDEN = "5.png"


@pytest.fixture
def campaign(tmp_path):
    """Return a campaign of six images with two proposals each."""
    images = {"image_id": IMAGES, "uri": IMAGES, "label": pa.array([0] * 6, pa.int32())}
    tables.write(pa.table(images), tmp_path / "images.parquet", "images")
    (tmp_path / "classes.txt").write_text("apple\npear\n")
    made = init_campaign(
        tmp_path / "camp", images=tmp_path / "images.parquet", classes=tmp_path / "classes.txt"
    ).campaign
    proposals = {
        "image_id": [name for name in IMAGES for _ in range(2)],
        "class_id": pa.array([0, 1] * 6, pa.int32()),
        "score": pa.array([0.5] * 12, pa.float32()),
        "n_models": pa.array([1] * 12, pa.int32()),
        "source": ["test"] * 12,
    }
    about = {"n_classes": "2", "classes": made.class_hash}
    tables.write(pa.table(proposals), made.path("proposals"), "proposals", about=about)
    return made.folder


def run(*words):
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def answer_all(store, name, yes):
    """Let a rater answer all that there is: yes to some questions; return what was asked."""
    who = next((r for r in store.raters() if r.name == name), None) or store.invited(store.invite(name))
    asked = []
    while visits := store.queue(who).visits:
        for c in visits[0].shown:
            asked.append((visits[0].name, c))
            answer(store, who, visits[0], [c], value=YES if (visits[0].name, c) in yes else NO)
    return sorted(asked)


TRUE = {(name, n % 2) for n, name in enumerate(IMAGES)}
UNCLEAR = {("0.png", 1), ("3.png", 0)}
"""Questions on which raters disagree."""


def test_round_by_round(campaign, url, monkeypatch):
    monkeypatch.setenv("MANYHOT_DATABASE", url)
    ask = ("next", campaign, "--budget", "2", "--ask", "--json")
    with open_annotation(campaign, database=url, settings=CampaignSettings(raters=3)) as annotation:
        store = annotation.store
        for name, yes in (("ann", TRUE), ("bob", TRUE | UNCLEAR), ("cem", TRUE | UNCLEAR)):
            answer_all(store, name, yes)
        run("export", campaign)
        dry = json.loads(run("next", campaign, "--budget", "2", "--json"))
        assert (dry["added"], store.count_free()) == (None, 0)
        assert "next: have the app ask these questions, with --ask" in run("next", campaign, "--budget", "2")
        first = json.loads(run(*ask))
        assert (first["asked"], first["added"]) == (2, 2)
        chosen = pl.read_csv(campaign / "next.csv")
        assert set(chosen.select("image_id", "class_id").iter_rows()) == UNCLEAR
        assert chosen["n_votes"].to_list() == [3, 3]
        told = run("next", campaign, "--budget", "2", "--ask")
        assert "added        0  each goes to one more rater, who has not answered it" in told
        again = json.loads(run(*ask))
        assert (
            "questions that were not added because they are already waiting for an answer: 2"
            in again["notes"]
        )
        assert campaign_status(campaign, database=url).notes == (
            "answers requested by `manyhot next --ask` that are still to come: 2",
        )
        assert answer_all(store, "ann", TRUE) == []
        assert answer_all(store, "dan", TRUE) == sorted(UNCLEAR)
        late = json.loads(run(*ask))
        assert (late["added"], store.count_free()) == (0, 0)
        newer = f"they have newer answers in the app (first run manyhot export {campaign})"
        assert f"questions that were not added because {newer}: 2" in late["notes"]
        run("export", campaign)
        more = json.loads(run(*ask))
        assert more["added"] == more["asked"]
        asked = answer_all(store, "eve", TRUE)
    votes = run("export", campaign) and pl.read_parquet(campaign / "votes.parquet")
    counts = {(i, c): n for i, c, n in votes.group_by("image_id", "class_id").len().iter_rows()}
    assert {q for q, n in counts.items() if n > 3} == UNCLEAR | set(asked)
    assert all(n == 3 + (q in UNCLEAR) + (q in asked) for q, n in counts.items())
    assert (votes["round"] == 0).all()


def test_golden_questions_new_proposals_and_votes_of_another_tool(campaign, url):
    golden = pl.DataFrame(
        {"image_id": [GOLDEN] * 2, "class_id": [0, 1], "expert_id": ["x"] * 2, "answer": ["no", "yes"]}
    )
    golden.write_csv(campaign / "golden.csv")
    settings = CampaignSettings(raters=2, golden_every=1)
    with open_annotation(campaign, database=url, settings=settings) as annotation:
        store = annotation.store
        for name, yes in (("ann", TRUE), ("bob", TRUE | UNCLEAR)):
            answer_all(store, name, yes)
        run("export", campaign, "--database", url)
        votes = tables.read(campaign / "votes.parquet", "votes")
        more = votes.filter(pa.compute.equal(votes["rater_id"], "ann")).select(
            ["image_id", "class_id", "answer"]
        )
        more = more.append_column("rater_id", pa.array(["zoe"] * len(more)))
        about = {"n_classes": "2", "classes": tables.Campaign.read(campaign).class_hash}
        whole = pa.concat_tables([votes, more], promote_options="default").replace_schema_metadata(None)
        tables.write(whole, campaign / "votes.parquet", "votes", about=about)
        found = next_questions(campaign, budget=100, ask=True, database=url, max_answers=9, settled=0)
        asked = list(zip(*(found.questions[name].to_pylist() for name in QUESTION), strict=True))
        assert GOLDEN not in {image for image, _ in asked}
        # Zoe's answers are not in the app: there, two raters of three answered.
        assert found.questions["n_votes"].to_pylist() == [3] * len(asked)
        assert found.added == len(asked) > 0
        again = next_questions(campaign, budget=100, ask=True, database=url, max_answers=9, settled=0)
        assert again.added == 0
        alone = (
            f"added questions that all raters have already answered: {len(asked)}; to get answers, invite "
            "other raters: "
        )
        assert f"{alone}manyhot invite {campaign} NAME" in found.notes
        assert set(answer_all(store, "cem", TRUE)) - {(GOLDEN, 0), (GOLDEN, 1)} == set(asked)


def test_questions_that_the_app_does_not_have(campaign, url):
    path = campaign / "proposals.parquet"
    proposals, about = tables.read(path, "proposals"), {"n_classes": "2"}
    tables.write(proposals.slice(1).replace_schema_metadata(None), path, "proposals", about=about)
    with open_annotation(campaign, database=url, settings=CampaignSettings(raters=1)) as annotation:
        answer_all(annotation.store, "ann", TRUE)
        run("export", campaign, "--database", url)
        annotation.store.change_settings(state="closed")
        found = next_questions(
            campaign, budget=50, ask=True, database=url, by="entropy", settled=0, proposals=proposals
        )
        assert found.added == found.n_open - 1 > 0
        assert found.notes[-3:] == (
            "questions that were not added because they are not in the app, which adds new proposals when it "
            "starts: 1",
            f"added questions that all raters have already answered: {found.added}; to get answers, invite "
            f"other raters: manyhot invite {campaign} NAME",
            "the campaign is closed: raters get the questions when it is resumed",
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rater": "ann"},
            "Questions cannot be reserved for one rater.\n  got:     `ask` together with `rater` 'ann'\n"
            "  allowed: one of the two",
        ),
        (
            {"votes": "votes.parquet"},
            "Only the app of a campaign can ask raters.\n  where:   {0}/votes.parquet\n"
            "  got:     votes that are not the folder of a campaign\n"
            "  do:      pass the folder of a campaign, or leave out `ask`",
        ),
        (
            {},
            "Annotation of this campaign has not begun yet.\n  where:   {0}\n"
            "  got:     no annotation.sqlite in it\n  do:      begin: manyhot annotate {0}",
        ),
    ],
    ids=["rater", "file", "not begun"],
)
def test_what_cannot_be_asked(campaign, options, message):
    votes = {"image_id": ["0.png"] * 3, "class_id": pa.array([0] * 3, pa.int32())}
    about = {"n_classes": "2", "classes": tables.Campaign.read(campaign).class_hash}
    table = pa.table(votes | {"rater_id": ["r", "s", "t"], "answer": ["yes", "no", "yes"]})
    tables.write(table, campaign / "votes.parquet", "votes", about=about)
    source = campaign / options.pop("votes", "")
    with pytest.raises(InputError) as error:
        next_questions(source, budget=1, ask=True, **options)
    assert str(error.value) == message.format(campaign)
    assert not (campaign / "annotation.sqlite").exists()
    assert "--ask" not in run("next", campaign, "--budget", "1")


def test_status_suggests_it_once_there_are_label_sets(campaign):
    with open_annotation(campaign, settings=CampaignSettings(raters=3)) as annotation:
        for name in ("ann", "bob", "cem"):
            answer_all(annotation.store, name, TRUE)
    tables.write_predictions(
        tables.Predictions(pa.array(IMAGES), "model", pl.DataFrame({"a": [0] * 6}).to_numpy(), n_classes=2),
        campaign / "predictions" / "model.parquet",
    )
    run("export", campaign)
    run("aggregate", campaign, "--resamples", "0")
    found = campaign_status(campaign)
    assert found.next_step == (
        "evaluate models on the label sets, or ask raters again where this is most likely to change the "
        "states"
    )
    assert found.command.splitlines() == [
        f"manyhot evaluate {campaign} --out {campaign}/results",
        f"manyhot next {campaign} --budget 1000 --ask",
    ]
    with sqlite3.connect(campaign / "annotation.sqlite") as connection:  # as an earlier version left it
        connection.execute("DROP INDEX slots_further")
        connection.execute("ALTER TABLE slots DROP COLUMN classes")
    assert campaign_status(campaign).command == found.command
