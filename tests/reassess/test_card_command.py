"""Data cards from files, by the command and from Python."""

import json
import os

import pyarrow as pa
import pytest

from forking import commands
from manyhot import aggregate, data_card, read_labels, read_votes, tables
from manyhot.classes import from_keys
from manyhot.data import catalog
from manyhot.errors import InputError
from manyhot.tables import Labels, write, write_labels

CLASSES = from_keys(["cat", "dog", "cup"], "three")
ROW = {"measure": "fleiss_kappa", "value": 0.41201, "lo": None, "hi": None, "n": 1, "n_skipped": 0}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Labels, votes, agreement and a class list in the working folder."""
    monkeypatch.chdir(tmp_path)
    table = {
        "image_id": ["a.jpg", "b.jpg"],
        "label": [0, 1],
        "usable": [True, True],
        "classes": [[0, 1], [1, 2]],
        "state": [["yes", "yes"], ["no", "unclear"]],
        "p": [[0.9, 0.8], [0.1, 0.5]],
    }
    labels = Labels(pa.table(table), 3, CLASSES.hash, asked_known=True, name="mine")
    protocol = {"proposer": "union(threshold=0.1)", "threshold": "0.8"}
    write(labels.table, "labels.parquet", "labels", about=labels.about() | protocol)
    votes = {
        "image_id": ["a.jpg"] * 2,
        "class_id": [0, 0],
        "rater_id": ["ann", "bob"],
        "answer": ["yes", "no"],
    }
    asked = {"protocol": json.dumps({"Golden pages to qualify": "10", "Instructions": "Count | toys."})}
    write(pa.table(votes), "votes.parquet", "votes", about=asked)
    write(pa.Table.from_pylist([ROW], tables.schema("agreement")), "agreement.parquet", "agreement")
    (tmp_path / "classes.txt").write_text("cat\ndog\ncup\n")
    return tmp_path


def manyhot(*arguments, code=0):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MANYHOT")}
    return commands.run(*arguments, code=code, env=environment)


def message(make):
    with pytest.raises(InputError) as error:
        make()
    return str(error.value)


LINES = (
    'license: "cc0-1.0"',
    "# mine: label sets",
    "2 raters gave 2 answers: 1 each.",
    "| proposer | union(threshold=0.1) |",
    "| answers per question | 2 |",
    "| threshold | 0.8 |",
    "| fleiss\\_kappa | 0.4120 | none | 1 |",
    "| pairs asked about that are unclear | 1 |",
    "| images with an original label that is not in the label set | 1 |",
)


OF_THE_APP = ("| Golden pages to qualify | 10 |", "| Instructions | Count \\| toys. |")


def test_the_command_writes_a_card(files):
    done = manyhot(
        *("card", "labels.parquet", "--out", "hub/README.md", "--votes", "votes.parquet"),
        *("--agreement", "agreement.parquet", "--licence", "cc0-1.0", "--classes", "classes.txt"),
    )
    card = (files / "hub" / "README.md").read_text(encoding="utf-8")
    assert done.stdout == f"{card}wrote hub/README.md\n"
    for line in (*LINES, *OF_THE_APP):
        assert f"\n{line}\n" in card
    assert "bob" not in card
    again = manyhot("card", "labels.parquet", "--out", "hub", "--named", "--votes", "votes.parquet")
    assert again.stdout.endswith("wrote hub/README.md\n")
    assert "| bob | 1 |" in (files / "hub" / "README.md").read_text(encoding="utf-8")


def test_without_out_the_card_is_printed(files):
    done = manyhot("card", "labels.parquet")
    assert "\n# mine: label sets\n" in done.stdout
    assert "\nRaters: not recorded.\n" in done.stdout  # nothing says that they were made of votes.parquet
    assert "\nNot measured.\n" in done.stdout
    assert not (files / "README.md").exists()
    shown = json.loads(manyhot("card", "labels.parquet", "--json").stdout)
    assert shown == {"dataset": "mine", "card": done.stdout, "written": []}


def test_only_corrected_images_were_seen_by_raters(files):
    """It is unknown who made the zeros and ones; raters were asked about 6 of the 90 images."""
    rows = [f"{i},{i % 2},1,{int(i % 3 == 0)}" for i in range(90)]
    (files / "ones.csv").write_text("\n".join(["image_id,cat,dog,cup", *rows]))
    answers = [f"{i},cat,{rater},yes" for i in range(6) for rater in ("ann", "bob")]
    (files / "answers.csv").write_text("\n".join(["image_id,class_id,rater_id,answer", *answers]))
    aggregate("answers.csv", labels="ones.csv", method="majority").write("corrected.parquet")
    made = data_card("corrected.parquet")
    assert "| images | 90 |\n" in made.text
    assert "| seen by raters | 6 |\n| (image, class) pairs asked about | 6 |\n" in made.text
    assert made.notes == (
        "the labels were made from votes, which are not in votes.parquet next to them, so the card does not "
        "describe the raters and their agreement: pass the votes as `votes`",
    )
    assert not data_card("corrected.parquet", votes="answers.csv").notes


def test_the_same_from_tables_as_from_files(files):
    votes, agreement = read_votes("votes.parquet"), tables.read("agreement.parquet", "agreement")
    labels = read_labels("labels.parquet")
    found = data_card(labels, votes=votes, agreement=agreement, dataset="ours")
    kept = [line for line in LINES if "license" not in line and "mine" not in line]
    assert all(f"\n{line}\n" in found.text for line in kept if "0.8" not in line and "union" not in line)
    assert "\n# ours: label sets\n" in found.text
    assert "| proposer | not recorded |" in found.text  # the file's metadata says it, not the table
    measured = data_card(labels, votes=votes)
    assert "| pairwise | " in measured.text
    assert found._repr_html_().startswith("<pre>---\npretty_name")


def test_a_published_data_set_has_licence_and_citation(files, mirror, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    text = data_card("imagenet-val").text
    entry = catalog.catalog_entry("imagenet-real")
    assert f"\n| licence of the labels | {entry.licence} |\n" in text
    assert "\n# imagenet-val: label sets\n" in text


def test_a_card_of_two_data_sets(files, mirror, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    assert message(lambda: data_card("imagenet")) == (
        "A data card describes one data set.\n"
        "  got:     imagenet-val, imagenetv2-matched-frequency\n"
        "  do:      make one card for each data set"
    )


@pytest.mark.parametrize(
    ("options", "out"),
    [
        (("--votes", "votes.parquet"), "votes.parquet"),
        (("--classes", "classes.txt"), "classes.txt"),
        ((), "labels.parquet"),
    ],
)
def test_a_card_is_not_written_over_what_it_is_made_of(files, options, out):
    before = (files / out).read_bytes()
    done = manyhot("card", "labels.parquet", *options, "--out", out, code=3)
    assert done.stderr == (
        f"Error: The output would overwrite an input.\n  where:   {out}\n  got:     {out}\n"
        "  do:      choose another path for the output\n"
    )
    assert (files / out).read_bytes() == before


def test_votes_for_an_agreement(files):
    assert message(lambda: data_card("labels.parquet", agreement="votes.parquet")) == (
        "The file contains a different table.\n"
        "  where:   votes.parquet\n  got:     votes\n  allowed: agreement"
    )


@pytest.mark.parametrize(
    "arguments", [("describe", "labels.parquet"), ("convert", "labels.parquet", "l.csv")]
)
def test_other_commands_say_where_cards_are_made(files, arguments):
    done = manyhot(*arguments, "--card", "card.md", "--votes", "votes.parquet", code=2)
    said = " ".join(done.stderr.replace("│", " ").split())
    assert "--card is a command of its own now: manyhot card LABELS --out README.md" in said
    assert not (files / "card.md").exists()
    assert not (files / "l.csv").exists()


def test_several_names_of_labels_are_refused_alike(files):
    write_labels(read_labels("labels.parquet"), "other.parquet")
    done = manyhot("card", "labels.parquet", "other.parquet", code=2)
    assert "other.parquet" in done.stderr


def test_each_vote_for_one_class_is_counted_once(tmp_path):
    """Two raters gave five votes: cat and dog on a, cat twice on b, and dog of one rater on c."""
    (tmp_path / "clicks.csv").write_text(
        "image_id,rater,label\na,u,cat\na,v,dog\nb,u,cat\nb,v,cat\nc,u,dog\n"
    )
    (tmp_path / "counts.csv").write_text("image_id,cat,dog\na,1,1\nb,2,0\nc,0,1\n")
    cards = []
    for name, format in (("clicks", None), ("counts", "counts")):
        votes = read_votes(tmp_path / f"{name}.csv", format=format)
        aggregate(votes).write(tmp_path / f"{name}.parquet")
        cards.append(data_card(tmp_path / f"{name}.parquet", votes=votes).text)
    clicks, counts = cards
    assert "2 raters gave 5 votes: 2 to 3, median 2.5 each.\n\n| rater | votes |\n" in clicks
    assert "\n## Who\n\nUnknown raters gave 5 votes.\n\n## When\n" in counts
    for card in cards:
        assert "| classes to choose from | 2 |\n| votes per image | 1 to 2, median 2 |\n" in card
        assert "not only one" not in card
