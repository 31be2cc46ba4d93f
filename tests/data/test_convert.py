"""Files to the formats of other tools and back, by the command line."""

import json
import os

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from forking import commands
from manyhot import tables
from manyhot.classes import from_keys
from manyhot.data import catalog
from manyhot.data.convert import convert
from manyhot.errors import InputError, UsageError
from manyhot.evaluate.evaluate import evaluate
from manyhot.formats import read_golden, read_labels, read_predictions, read_proposals, read_votes
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.card import data_card
from manyhot.reassess.next_questions import next_questions
from manyhot.tables import Labels, write
from manyhot.tables.arrays import label_sets

CLASSES = from_keys(["cat", "dog", "cup"], "three")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Labels, votes, proposals and a class list in the working folder."""
    monkeypatch.chdir(tmp_path)
    table = {
        "image_id": ["a.jpg", "b.jpg"],
        "label": [0, 1],
        "usable": [True, True],
        "classes": [[0, 1], [1, 2]],
        "state": [["yes", "yes"], ["no", "unclear"]],
        "p": [[0.9, 0.8], [0.1, 0.5]],
    }
    about = Labels(pa.table(table), 3, CLASSES.hash, asked_known=True, name="mine")
    told = about.about() | {"proposer": "union(threshold=0.1)", "threshold": "0.8"}
    write(about.table, "labels.parquet", "labels", about=told)
    votes = {
        "image_id": ["a.jpg"] * 2,
        "class_id": [0, 0],
        "rater_id": ["ann", "bob"],
        "answer": ["yes", "no"],
    }
    write(pa.table(votes), "votes.parquet", "votes")
    pairs = {"image_id": ["a.jpg"], "class_id": [2], "score": [0.5], "n_models": [3], "source": ["union"]}
    write(pa.table(pairs), "proposals.parquet", "proposals")
    (tmp_path / "classes.txt").write_text("cat\ndog\ncup\n")
    return tmp_path


def manyhot(*arguments, code=0):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MANYHOT")}
    return commands.run(*arguments, code=code, env=environment)


def message(make):
    with pytest.raises(InputError) as error:
        make()
    return str(error.value)


def test_one_line_says_what_is_left_out(files):
    done = manyhot("convert", "labels.parquet", "hub", "--to", "hf-labels", "--classes", "classes.txt")
    assert done.stdout == "labels: 2 images\nwrote hub/data/train-00000-of-00001.parquet\n"
    assert done.stderr == "Note: hub does not contain classes answered no, unclear classes, p.\n"
    done = manyhot(
        "convert", "labels.parquet", "t.json", "--to", "label-studio", "--classes", "classes.txt", "--json"
    )
    assert json.loads(done.stdout) == {
        "written": ["t.json", "t.xml"],
        "holds": "labels",
        "left_out": ["original labels", "p"],
    }
    assert done.stderr == ""


def test_our_own_files_leave_nothing_out(files):
    done = manyhot("convert", "labels.parquet", "labels.csv")
    assert done.stdout == "labels: 2 images\nwrote labels.csv\n"
    assert done.stderr == (
        "Note: labels.csv lists all classes that raters were asked about; those in the label sets have the "
        "state yes; --to=indicator writes one column per class, and --to=label-lists only the valid "
        "classes.\n"
    )


def test_what_other_tools_got_is_read_back(files):
    for to, name in (("hf-labels", "hub"), ("fiftyone(folder='/x')", "f.json"), ("multilabelfy", "m.json")):
        convert("labels.parquet", name, to=to, classes="classes.txt")
        convert(name, f"{name}.parquet", classes="classes.txt")
        back = read_labels(f"{name}.parquet")
        assert back.table["classes"].to_pylist() == [[0, 1], []]
        assert back.class_hash == CLASSES.hash


@pytest.mark.parametrize("name", ["votes", "proposals"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_of_pairs_come_back_the_same(files, name, suffix):
    convert(f"{name}.parquet", f"again{suffix}")
    read = {"votes": lambda path: read_votes(path).to_table(), "proposals": read_proposals}[name]
    assert read(f"again{suffix}").equals(tables.read(f"{name}.parquet", name))


def test_csv_keeps_times_and_ids(files):
    at = pa.array([1_700_000_000_123_456, None], pa.timestamp("us", "UTC"))
    before = tables.read("votes.parquet", "votes").set_column(2, "rater_id", pa.array(["007", "7"]))
    write(before.append_column("answered_at", at), "timed.parquet", "votes")
    convert("timed.parquet", "timed.csv")
    assert read_votes("timed.csv").to_table().equals(tables.read("timed.parquet", "votes"))


def test_votes_with_names_of_classes(files):
    pl.DataFrame({"image_id": ["a"], "class_id": ["dog"], "rater_id": ["x"], "answer": ["maybe"]}).write_csv(
        "v.csv"
    )
    convert("v.csv", "v.parquet", classes="classes.txt")
    assert tables.read("v.parquet", "votes")["class_id"].to_pylist() == [1]


def test_label_studios_answers(files):
    answers = [{"from_name": "classes", "type": "choices", "value": {"choices": ["cat"]}}]
    both = [
        {"id": 1, "completed_by": 3, "result": answers},
        {"id": 2, "completed_by": 4, "result": [], "was_cancelled": True},
    ]
    (files / "e.json").write_text(
        json.dumps([{"id": 1, "data": {"image": "a.jpg", "classes": ["cat", "dog"]}, "annotations": both}])
    )
    done = manyhot("convert", "e.json", "e.csv", "--classes", "classes.txt")
    assert done.stderr == (
        "Read e.json as votes (label-studio): 2 answers, 1 rater (3); 3 on a.jpg: cat yes.\n"
        "Note: e.csv does not contain 1 annotations (cancelled).\n"
    )
    assert (files / "e.csv").read_text().splitlines()[1:] == ["a.jpg,0,cat,3,yes,1", "a.jpg,1,dog,3,no,1"]


def test_proposals_to_label_studio(files):
    saved = convert("proposals.parquet", "t.json", to="label-studio", classes="classes.txt")
    assert [f.name for f in saved.written] == ["t.json", "t.xml"]
    (task,) = json.loads((files / "t.json").read_text())
    assert task["data"]["classes"] == [{"value": "cup"}]


def test_targets_that_are_refused(files):
    assert manyhot("convert", "labels.parquet", "x.xml", code=3).stderr == (
        "Error: Cannot write this kind of file.\n"
        "  where:   x.xml\n"
        "  allowed: .parquet, .csv; with --to: real, multilabelfy, fiftyone, fiftyone-samples, label-studio, "
        "label-studio-golden, tfds-multilabel, hf-labels, coco-labels, indicator, label-lists, "
        "corrected-csv, zooniverse-manifest\n"
    )
    for long, to in ((True, "hf-labels"), (True, None)):
        assert message(lambda t=to, o=long: convert("labels.parquet", "x.parquet", to=t, long=o)) == (
            "Only CSV has a long form.\n  where:   x.parquet\n  allowed: a target that ends in .csv"
        )
    assert sorted(f.name for f in files.glob("x*")) == []


def test_a_folder_is_not_written_over_what_is_read_in_it(files):
    convert("labels.parquet", "hub", to="hf-labels", classes="classes.txt")
    inner = files / "hub" / "data" / "train-00000-of-00001.parquet"
    before = inner.read_bytes()
    assert message(lambda: convert(inner, "hub", to="hf-labels")) == (
        "The output would overwrite an input.\n"
        "  where:   hub\n"
        f"  got:     {files.resolve() / 'hub'}\n"
        "  do:      choose another path for the output"
    )
    assert inner.read_bytes() == before


@pytest.fixture
def campaign(files):
    """A campaign of the labels' class list, which is no built-in one, with votes on what was proposed."""
    (files / "photos.csv").write_text("image_id,label\na.jpg,0\nb.jpg,1\n")
    (files / "one.csv").write_text("image_id,classes\na.jpg,1 0\nb.jpg,1 0\n")
    manyhot("init", "pets", "--images", "photos.csv", "--classes", "classes.txt", "--predictions", "one.csv")
    manyhot("propose", "pets")
    manyhot("convert", "pets/proposals.parquet", "pets/tasks.json", "--to", "label-studio")
    export = json.loads((files / "pets" / "tasks.json").read_text(encoding="utf-8"))
    for task in export:
        answers = [{"from_name": "classes", "type": "choices", "value": {"choices": ["dog"]}}]
        task["annotations"] = [{"completed_by": r, "result": answers} for r in (1, 2, 3)]
    (files / "export.json").write_text(json.dumps(export))
    manyhot("convert", "export.json", "pets/votes.parquet")
    return files / "pets"


def test_a_campaign_from_proposals_to_a_card(files, campaign):
    """No command names the class list, the proposer or the votes: the campaign's folder tells them."""
    assert [
        c["value"] for t in json.loads((campaign / "tasks.json").read_text()) for c in t["data"]["classes"]
    ] == [
        "dog",
        "cat",
    ]
    manyhot("aggregate", "pets", "--method", "majority")
    assert read_labels("pets/labels.parquet").table["state"].to_pylist() == [["no", "yes"], ["yes"]]
    done = manyhot("convert", "pets/labels.parquet", "hub", "--to", "hf-labels")
    assert done.stdout.splitlines()[1].startswith("wrote hub/")
    assert manyhot("card", "pets", "--out", "hub").stdout.endswith("wrote hub/README.md\n")
    card = (files / "hub" / "README.md").read_text(encoding="utf-8")
    for line in (
        "# pets: label sets",
        "3 raters gave 6 answers: 2 each.",
        "| proposer | union |",
        "| method | majority |",
        "| threshold | 0.5 |",
        "| pairwise | 1.0000 | none | 2 |",
    ):
        assert f"\n{line}\n" in card


def test_of_other_votes_than_the_labels_were_made_of_a_card_says_nothing(files, campaign):
    manyhot("aggregate", "pets", "--method", "majority")
    more = tables.read("pets/votes.parquet", "votes")
    more = more.set_column(2, "rater_id", pa.array(["9"] * len(more)))
    write(more, "pets/votes.parquet", "votes", about=read_votes("pets").about())
    assert "\nRaters: not recorded.\n" in data_card("pets/labels.parquet").text


def test_of_questions_that_were_not_proposed_no_proposer_is_told(files, campaign):
    about = read_votes("pets").about()
    votes = tables.read("pets/votes.parquet", "votes").select(["image_id", "class_id", "rater_id", "answer"])
    other = {"image_id": ["b.jpg"], "class_id": [2], "rater_id": ["1"], "answer": ["no"]}
    other = pa.table({n: pa.array(c, votes.schema.field(n).type) for n, c in other.items()})
    write(pa.concat_tables([votes, other]), "pets/votes.parquet", "votes", about=about)
    aggregate("pets", method="majority").write("pets")
    assert "proposer" not in tables.metadata(tables.read("pets/labels.parquet", "labels"))
    # Golden questions are hidden among the others: an expert's question is no other one.
    golden = other.rename_columns(["image_id", "class_id", "expert_id", "answer"])
    write(golden, "pets/golden.parquet", "golden", about=about)
    aggregate("pets", method="majority").write("pets")
    assert tables.metadata(tables.read("pets/labels.parquet", "labels"))["proposer"] == "union"


def test_names_of_another_list_are_not_written(files, campaign):
    (files / "alone").mkdir()
    asked, key = read_proposals(campaign / "proposals.parquet").drop_columns(["class_name"]), CLASSES.hash
    about = {"classes": key, "n_classes": "3"}  # as earlier versions wrote them
    tables.write(asked, "alone/p.parquet", "proposals", about=about)
    assert message(lambda: convert("alone/p.parquet", "t.json", to="label-studio")) == (
        "The names of the classes are unknown.\n  where:   t.json\n"
        f"  got:     class list {key} of 3 classes\n  do:      pass the class list as `classes`"
    )


def test_what_golden_answers_leave_out_is_said(files, mirror):
    names = ["golden.npz", "raters_golden.npz"]
    found = catalog.fetch("imagenet-real", only=names, mirror=mirror)
    saved = convert(found["golden.npz"], "g.json", to="label-studio-golden", classes="imagenet1k")
    assert saved.left_out == ("raters' answers to golden questions",)
    assert len(read_golden("g.json")) == 1135


def test_options_of_predictions_decide_that_it_is_predictions(files):
    (files / "hard.csv").write_text("image_id,cat,dog\na.jpg,1,0\nb.jpg,0,1\n")
    assert convert("hard.csv", "l.parquet").holds == "labels"  # which is also possible
    done = manyhot("convert", "hard.csv", "p.parquet", "--scores", "probability")
    assert done.stdout == (
        "predictions: 2 images, all classes, model p, scores probability\nwrote p.parquet\n"
    )
    assert read_predictions("p.parquet").scores.tolist() == [[1, 0], [0, 1]]
    assert manyhot("convert", "labels.parquet", "x.parquet", "--scores", "logit", code=3).stderr.startswith(
        "Error: The file does not contain predictions."
    )
    assert "--model=m" in manyhot("convert", "labels.parquet", "x.parquet", "--model", "m", code=2).stderr


def test_the_model_is_named_after_the_new_file(files):
    for team in ("aachen", "bonn"):
        (files / team).mkdir()
        np.save(files / team / "logits.npy", np.eye(2, 3, dtype=np.float32))
        options = {"rows": "rows.txt", "scores": "logit", "classes": "classes.txt"}
        (files / "rows.txt").write_text("a.jpg\nb.jpg\n")
        convert(f"{team}/logits.npy", f"nets/{team}.parquet", **options)
    assert [read_predictions(f"nets/{team}.parquet").model for team in ("aachen", "bonn")] == [
        "aachen",
        "bonn",
    ]
    convert("nets/bonn.parquet", "again.parquet")
    assert read_predictions("again.parquet").model == "bonn"  # as its source declares
    convert("nets/bonn.parquet", "third.parquet", model="köln")
    convert("third.parquet", "fourth.parquet")  # which the file declares
    assert read_predictions("fourth.parquet").model == "köln"


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_next_questions_become_tasks(files, suffix):
    rng = np.random.default_rng(0)
    rows = [(f"{i}.jpg", c, r) for i in range(6) for c in range(3) for r in ("ann", "bob")]
    answers = rng.choice(["yes", "no"], len(rows)).tolist()
    columns = dict(zip(("image_id", "class_id", "rater_id"), zip(*rows, strict=True), strict=True))
    write(pa.table(columns | {"answer": answers}), "many.parquet", "votes", about={"n_classes": "3"})
    asked = next_questions("many.parquet", budget=4, classes="classes.txt")
    asked.write(f"next{suffix}")
    table = pl.read_parquet("next.parquet") if suffix == ".parquet" else pl.read_csv("next.csv")
    assert len(table) == 4
    done = convert(f"next{suffix}", "tasks.json", to="label-studio", classes="classes.txt")
    assert done.holds == "proposals"
    tasks = json.loads(files.joinpath("tasks.json").read_text())
    shown = {(t["data"]["image_id"], c["value"]) for t in tasks for c in t["data"]["classes"]}
    assert shown == {(i, CLASSES.keys[c]) for i, c in table.select("image_id", "class_id").iter_rows()}


def test_no_answers_of_complete_label_sets_are_written(files):
    files.joinpath("hot.csv").write_text("image_id,cat,dog\na.jpg,1,0\nb.jpg,0,0\n")
    convert("hot.csv", "hot.parquet")
    table = read_labels("hot.parquet").table
    assert table["classes"].to_pylist() == [[0, 1], [0, 1]]
    assert table["state"].to_pylist() == [["yes", "no"], ["no", "no"]]


@pytest.mark.parametrize(
    ("name", "format"), [("y.npy", "npy-labels(label_values='states')"), ("y.npz", None)]
)
def test_rows_of_label_arrays(files, name, format):
    valid = np.eye(3, dtype=np.int64)[[0, 1, 2, 0]]
    np.save("y.npy", valid)
    np.savez("y.npz", y=valid)
    (files / "rows.txt").write_text("b\na\nd\nc\n")
    convert(name, "converted.parquet", rows="rows.txt", classes="classes.txt", format=format)
    labels = read_labels("converted.parquet", classes="classes.txt")
    assert labels.image_id.to_pylist() == ["b", "a", "d", "c"]
    pairs = zip(labels.table["classes"].to_pylist(), labels.table["state"].to_pylist(), strict=True)
    yes = [[c for c, s in zip(*row, strict=True) if s == "yes"] for row in pairs]
    assert yes == [[0], [1], [2], [0]]


@pytest.mark.parametrize("long", [False, True])
def test_csv_records_that_raters_chose_one_class_per_image(files, long):
    counts = pl.DataFrame({"image_id": ["a", "b"], "cat": [6, 0], "dog": [4, 9], "cup": [0, 1]})
    counts.write_csv("counts.csv")
    convert("counts.csv", "shares.parquet")
    convert("shares.parquet", "again.csv", long=long)
    scores = {"image_id": ["a", "b"], "cat": [0.5, 0.1], "dog": [0.3, 0.7], "cup": [0.2, 0.2]}
    pl.DataFrame(scores).write_csv("scores.csv")
    found = evaluate("again.csv", "scores.csv", scores="probability", metrics=["kl_votes"], resamples=0)
    shares = np.array([[0.6, 0.4, 0], [0, 0.9, 0.1]])
    ratio = np.where(shares > 0, shares, 1) / np.array([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2]])
    assert found.value("kl_votes") == pytest.approx((shares * np.log(ratio)).sum(1).mean(), rel=1e-5)


def test_a_matrix_of_probabilities_is_converted_as_labels(files):
    p = np.random.default_rng(0).random((40, 3)).round(2)
    ids = pl.DataFrame({"image_id": [f"{i}.jpg" for i in range(40)]})
    ids.hstack(pl.DataFrame(p, list(CLASSES.keys))).write_csv("p.csv")
    convert("p.csv", "out.parquet", label_values="p")
    sets = label_sets(read_labels("out.parquet"))
    assert np.array_equal(sets.yes_matrix(), p >= 0.5)
    with pytest.raises(UsageError) as error:
        convert("p.csv", "out.parquet", label_values="p", scores="probability")
    assert str(error.value) == (
        "A file contains either labels or predictions.\n  got:     `label_values` and `scores`\n"
        "  do:      pass one of them"
    )
