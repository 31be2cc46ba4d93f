"""From files of votes to the questions to ask next, on a campaign of a few images and on ReaL's votes."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from manyhot import aggregate, next_questions
from manyhot.cli import app
from manyhot.data import catalog
from manyhot.errors import InputError
from manyhot.formats import read_classes
from manyhot.run import Run
from manyhot.tables import Campaign, metadata, read

SCHEMA = {"image_id": pl.String, "class_id": pl.Int32}


@pytest.fixture
def campaign(tmp_path):
    """A campaign: twenty golden questions, three of one image, and a proposal that nobody answered."""
    truths = ["yes"] * 10 + ["no"] * 10
    golden = [(f"g{i}.jpg", 0, f"e{e}", truth) for i, truth in enumerate(truths) for e in range(3)]
    raters = [
        (f"g{i}.jpg", 0, r, "maybe" if i % 10 < 2 else truth)
        for i, truth in enumerate(truths)
        for r in "abcde"
    ]
    votes = [
        ("1.jpg", 1, "a", "yes"),
        ("1.jpg", 2, "a", "no"),
        ("1.jpg", 2, "b", "no"),
        ("1.jpg", 2, "c", "no"),
        ("1.jpg", 3, "a", "yes"),
        ("1.jpg", 3, "b", "no"),
    ]
    for name, rows, who in (("votes", raters + votes, "rater_id"), ("golden", golden, "expert_id")):
        frame = pl.DataFrame(rows, schema=SCHEMA | {who: pl.String, "answer": pl.String}, orient="row")
        frame.write_parquet(tmp_path / f"{name}.parquet")
    proposals = pl.DataFrame({"image_id": ["1.jpg", "1.jpg"], "class_id": [1, 7]}, schema=SCHEMA)
    proposals = proposals.with_columns(score=0.5, n_models=pl.lit(1, pl.Int32), source=pl.lit("top1"))
    proposals.write_parquet(tmp_path / "proposals.parquet")
    return tmp_path


def test_campaign(campaign):
    found = next_questions(campaign, budget=10, settled=0.05)
    (written,) = found.write(campaign / "next.csv")
    frame = pl.read_csv(written)
    assert frame.columns == ["image_id", "class_id", "score", "p", "state", "n_votes", "class_name"]
    rows = {r["class_id"]: r for r in frame.iter_rows(named=True)}
    # Class 2 has three noes; the proposal for class 7 has no answer, only the golden share of yes.
    assert set(rows) == {1, 3, 7}
    assert (rows[7]["n_votes"], rows[7]["p"]) == (0, pytest.approx(0.5))
    assert (rows[3]["n_votes"], rows[3]["p"]) == (2, pytest.approx(0.5))
    # One yes of a rater who says yes to 9 in 13 of what is there, and to 1 in 13 of what is not.
    assert (rows[1]["n_votes"], rows[1]["p"], rows[1]["state"]) == (1, pytest.approx(0.9), "yes")
    assert (found.n_questions, found.n_full, found.n_settled, found.n_open) == (24, 20, 1, 3)
    assert frame["score"].is_sorted(descending=True)


def test_proposals_with_other_folders(campaign):
    """The same questions are next, whichever of the files writes ids with a folder."""
    expected = next_questions(campaign, budget=10, settled=0.05)
    votes = pl.read_parquet(campaign / "votes.parquet")
    images = votes.select(pl.col("image_id").unique().sort())
    prefixed = pl.concat_str(pl.lit("cat/"), "image_id").alias("image_id")
    images.write_parquet(campaign / "images.parquet")
    for name in ("votes", "proposals"):
        pl.read_parquet(campaign / f"{name}.parquet").with_columns(prefixed).write_parquet(
            campaign / f"{name}.parquet"
        )
    found = next_questions(campaign, budget=10, settled=0.05)
    assert found.questions.equals(expected.questions)
    assert found.notes[0] == (
        "the proposals: 1 image is matched without regard to leading folders, such as cat/1.jpg with 1.jpg"
    )


def test_parquet_tells_how_it_was_made(campaign):
    found = next_questions(campaign, budget=2, by="entropy")
    (written,) = found.write(campaign / "next.parquet", run=Run("made so"))
    about = metadata(read(written, "questions"))
    assert (about["method"], about["by"], about["call"]) == ("golden-bayes", "entropy", "made so")
    assert set(json.loads(about["inputs"])) == {"votes.parquet", "golden.parquet", "proposals.parquet"}


def test_command_line(campaign):
    line = ["next", str(campaign), "--budget", "1", "--settled", "0.05", "--out", str(campaign / "next.csv")]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["questions", "24"], ["full", "20"], ["settled", "1"]]
    assert lines[3].startswith("open         3  of which ")
    assert lines[4] == "asked next   1  one answer each (--budget)"
    assert [line for line in lines[5:] if not line.startswith("Read ")] == [f"wrote {campaign / 'next.csv'}"]
    told = json.loads(CliRunner().invoke(app, [*line, "--json"]).output)
    assert {k: told[k] for k in ("questions", "full", "settled", "open", "asked")} == {
        "questions": 24, "full": 20, "settled": 1, "open": 3, "asked": 1
    }  # fmt: skip


def test_without_golden_answers_auto_learns_from_the_votes(campaign):
    (campaign / "golden.parquet").unlink()
    assert next_questions(campaign, budget=5).metadata["method"] == "auto"


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            "next.json",
            "Cannot write this kind of file.\n  where:   {0}/next.json\n"
            "  allowed: .parquet, .csv, or a folder",
        ),
        (
            "votes.parquet",
            "The output would overwrite an input.\n  where:   {0}/votes.parquet\n"
            "  got:     {0}/votes.parquet\n  do:      choose another path for the output",
        ),
    ],
)
def test_output_that_cannot_be(campaign, out, message):
    before = (campaign / "votes.parquet").read_bytes()
    done = CliRunner().invoke(app, ["next", str(campaign), "--budget", "5", "--out", str(campaign / out)])
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == message.format(campaign)
    assert (campaign / "votes.parquet").read_bytes() == before


@pytest.mark.slow
def test_real_votes(mirror, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    found = next_questions("imagenet-real", budget=10_000, max_answers=8)
    frame = pl.from_arrow(found.questions)
    scores = catalog.fetch_file("imagenet-real", "scores.npz")
    with np.load(scores) as archive:
        info, score = archive["info"], archive["tensor"]
    known = {(name, int(c)): s for (name, c), s in zip(info.tolist(), score.tolist(), strict=True)}
    asked = list(zip(frame["image_id"], frame["class_id"], strict=True))
    assert frame["p"].to_list() == pytest.approx([known[pair] for pair in asked], abs=1e-12)
    assert (frame["n_votes"] == 5).all()
    assert found.n_questions == found.n_settled + found.n_open == 184_962
    # With as many answers as there are, nothing is left to ask.
    full = next_questions("imagenet-real", budget=10)
    assert (len(full.questions), full.n_full, full.changes) == (0, 184_962, 0)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--max-answers", "1"], "--max-answers=4"),
        (["--max-answers", "9", "--settled", "0.99"], "a lower --settled"),
    ],
)
def test_nothing_to_ask_says_how_to_go_on(campaign, options, note):
    (campaign / "proposals.parquet").unlink()
    out = campaign / "none.csv"
    done = CliRunner().invoke(app, ["next", str(campaign), "--budget", "5", "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-2] == f"no question is open; to ask further questions, set {note}"
    assert len(pl.read_csv(out)) == 0


def describe(folder):
    """Make the folder of tables a campaign."""
    ids = pl.read_parquet(folder / "votes.parquet")["image_id"].unique().sort().to_list()
    pl.DataFrame({"image_id": ids}).write_parquet(folder / "images.parquet")
    classes = pl.DataFrame(
        {"class_id": pl.Series(range(10), dtype=pl.Int32), "key": [f"k{i}" for i in range(10)]}
    )
    classes.write_parquet(folder / "classes.parquet")
    known = read_classes(folder / "classes.parquet")
    Campaign(folder, known.name, known.hash, len(known), len(ids)).write()


def written(words):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["written"]


def test_a_campaign_keeps_what_is_made_of_it(campaign, tmp_path_factory, monkeypatch):
    """A folder is a campaign by its description; of other votes files are written here."""
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    ask = ["next", str(campaign), "--budget", "5", "--json"]
    combine = ["aggregate", str(campaign), "--method", "majority", "--resamples", "0", "--json"]
    assert written(ask) == ["next.csv"]
    describe(campaign)
    assert written(ask) == [str(campaign / "next.csv")]
    assert written(combine)[0] == str(campaign / "labels.parquet")
    assert [p.name for p in here.iterdir()] == ["next.csv"]


def test_votes_for_one_class_are_refused(tmp_path):
    path = tmp_path / "choices.csv"
    path.write_text("image_id,rater_id,class_id\na.jpg,x,cat\na.jpg,y,dog\n")
    with pytest.raises(InputError) as error:
        next_questions(path, budget=1)
    assert str(error.value).startswith(
        "Votes in which raters choose one of all classes have no questions to rank.\n"
    )


def test_the_advice_on_votes_for_one_class_works(tmp_path, monkeypatch, capsys):
    """Both in the message and in the guide: the images with the least certain class come first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clicks.csv").write_text("image_id,s,f\na,40,0\nb,21,19\nc,30,10\n")
    with pytest.raises(InputError) as error:
        next_questions("clicks.csv", format="counts", budget=1)
    guide = Path(__file__).parents[2] / "docs/guides/reassess/next-questions.md"
    (code,) = re.findall(r'^python -c "(.*)"$', guide.read_text(), re.M)
    (shown,) = re.findall(r'python -c "(.*)"$', error.value.details["do"])
    aggregate("clicks.csv", format="counts").write("labels.parquet")
    for text in (code, shown):
        exec(text, {})
    assert (tmp_path / "next.csv").read_text().split() == ["image_id", "b", "c", "a"]
    assert re.findall(r"│ ([abc]) ", capsys.readouterr().out) == ["b", "c", "a"]
