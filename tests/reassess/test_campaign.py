"""Campaigns: made whole or not at all, never written over, and what comes next."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from manyhot import cli, tables
from manyhot.classes import class_list
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, ManyhotError, MatchError, OutputError, UsageError
from manyhot.formats import read_golden, read_predictions
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose
from manyhot.reassess.status import campaign_status
from manyhot.run import Run
from manyhot.tables import Campaign

IDS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
CLASSES = ["cat", "dog", "cow", "hen", "owl"]
ONE = [(0, 1), (2, 1), (2, 4), (3, 0)]
TWO = [(0, 1), (1, 2), (4, 2), (3, 1)]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Write images, a class list and two models into the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos.csv").write_text(
        "image_id,label\n" + "".join(f"{i},{c}\n" for i, c in zip(IDS, "0123", strict=True))
    )
    Path("classes.txt").write_text("\n".join(CLASSES) + "\n")
    for name, top in (("timm/one", ONE), ("two", TWO)):
        write_model(name, top)
    return tmp_path


def write_model(name, top, folder="models", ids=IDS, **more):
    predictions = tables.Predictions(pa.array(ids), name, np.array(top), n_classes=5, **more)
    return tables.write_predictions(predictions, Path(folder) / tables.predictions_file_name(name))


def make(folder="camp", **more):
    options = {"images": "photos.csv", "classes": "classes.txt", "predictions": ["models"]} | more
    done = init_campaign(folder, run=Run("manyhot init camp"), **options)
    return done.campaign, done.is_new


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def error_of(work, *arguments, kind=InputError, **more):
    with pytest.raises(kind) as error:
        work(*arguments, **more)
    return str(error.value)


def test_the_kind_of_scores_of_files_that_do_not_declare_it(photos):
    np.save("net.npy", np.zeros((4, 5), np.float32))
    Path("rows.txt").write_text("\n".join(IDS) + "\n")
    make(predictions=["net.npy"], rows="rows.txt", scores="cosine")
    assert read_predictions("camp/predictions/net.parquet").score_kind == "cosine"


def test_a_campaign_holds_the_tables(photos):
    campaign, made = make()
    assert made
    assert sorted(contents("camp")) == [
        "campaign.json",
        "classes.parquet",
        "images.parquet",
        "predictions/timm--one.parquet",
        "predictions/two.parquet",
    ]
    assert Campaign.read("camp") == campaign
    assert (campaign.classes, campaign.n_classes, campaign.n_images) == ("classes", 5, 4)
    assert set(campaign.inputs) == {
        "images/photos.csv",
        "classes/classes.txt",
        "predictions/timm--one.parquet",
        "predictions/two.parquet",
    }
    assert tables.read("camp/images.parquet", "images")["label"].to_pylist() == [0, 1, 2, 3]
    assert tables.read("camp/classes.parquet", "classes")["key"].to_pylist() == CLASSES
    about = tables.metadata(tables.read("camp/predictions/two.parquet", "predictions"))
    assert (about["model"], about["classes"], about["n_classes"]) == ("two", campaign.class_hash, "5")
    assert not list(photos.glob(".camp*"))


def test_the_same_again_changes_nothing(photos):
    first, _ = make()
    before = contents("camp")
    again, made = make()
    assert (again, made) == (first, False)
    assert contents("camp") == before


def test_the_class_list_that_predictions_name(photos):
    """The first file that names a built-in list tells it."""
    known = class_list("imagenet-a")
    predictions = tables.Predictions(
        pa.array(IDS), "a", np.array(ONE), n_classes=len(known), class_hash=known.hash
    )
    tables.write_predictions(predictions, "a/a.parquet")
    campaign, _ = make(classes=None, predictions=["a"])
    assert (campaign.classes, campaign.class_hash) == ("imagenet-a", known.hash)
    assert make("known", classes="imagenet-a", predictions=["a"])[0].class_hash == known.hash


def test_a_class_list_that_nothing_names(photos):
    assert error_of(make, classes=None) == (
        "The class list is unknown.\n  where:   photos.csv\n"
        "  got:     no file that names a built-in class list\n"
        "  allowed: a file with one key per line, or imagenet1k, imagenet-a, imagenet-r\n"
        "  do:      pass it as `classes`"
    )
    assert error_of(make, classes=None, images="none.csv").startswith("The file does not exist.")
    assert not Path("camp").exists()


def test_an_empty_folder_may_be_there(photos):
    Path("camp").mkdir()
    assert make()[1]


def test_a_folder_that_predict_wrote(photos):
    images = pa.table(
        {"image_id": IDS, "uri": [f"photos/{i}" for i in IDS], "label": pa.array(range(4), pa.int32())}
    )
    tables.write(images, "models/images.parquet", "images")
    make(images="models")
    assert campaign_status("camp").stages[1].count == 2
    assert tables.read("camp/images.parquet", "images").column_names == ["image_id", "uri", "label"]


def test_predictions_over_the_same_list_are_copied_with_what_they_tell(photos):
    known = make("first")[0].class_hash
    path = write_model("three", TWO, "more", class_hash=known)
    make("second", predictions=["more"])
    assert Path("second/predictions/three.parquet").read_bytes() == path.read_bytes()


def test_arrays_with_rows(photos):
    Path("arrays").mkdir()
    np.save("arrays/three.npy", np.array(ONE))
    make(predictions=["arrays/three.npy"], rows="photos.csv")
    assert "predictions/three.parquet" in contents("camp")


def test_another_campaign_is_not_written_over(photos):
    make()
    before = contents("camp")
    assert error_of(make, predictions=["models/two.parquet"]) == (
        "The folder contains another campaign.\n"
        "  where:   camp\n"
        "  got:     made by: manyhot init camp\n"
        "  allowed: the same images, classes and predictions, or a new folder\n"
        "  do:      choose another folder; to add images or classes, pass `add`; to add models, put their "
        "predictions into the folder predictions of the campaign"
    )
    assert contents("camp") == before


def test_other_files_are_not_written_over(photos):
    assert error_of(make, "models") == (
        "The folder contains other files.\n"
        "  where:   models\n"
        "  allowed: a new or empty folder\n"
        "  do:      choose another folder"
    )
    assert error_of(make, "photos.csv") == (
        "This is a file, not a folder.\n"
        "  where:   photos.csv\n"
        "  allowed: a new or empty folder\n"
        "  do:      choose another folder"
    )


def test_all_or_nothing(photos, monkeypatch):
    def broken(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "write_predictions", broken)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert sorted(p.name for p in photos.iterdir()) == ["classes.txt", "models", "photos.csv"]


def test_a_place_that_cannot_be_written(photos):
    Path("file").write_text("")
    assert error_of(make, "file/camp", kind=OutputError).startswith("Cannot write the file: ")


def test_a_folder_of_pictures(photos):
    Path("pictures").mkdir()
    assert error_of(make, images="pictures") == (
        "The folder contains no images table.\n"
        "  where:   pictures\n"
        "  got:     no images.parquet in it\n"
        "  allowed: a folder written by manyhot predict, or a table with the columns image_id and label\n"
        "  do:      run this first: manyhot predict pictures --out predictions"
    )


def test_labels_that_do_not_exist(photos):
    Path("photos.csv").write_text("image_id,label\na.jpg,0\nb.jpg,9\n")
    assert error_of(make) == (
        "A class is out of range.\n"
        "  where:   photos, image b.jpg\n"
        "  got:     9\n"
        "  allowed: 0 to 4\n"
        "  do:      correct it, or pass the list of all classes as `classes`"
    )


def test_labels_of_another_class_list(photos):
    images = pa.table({"image_id": IDS, "label": pa.array(range(4), pa.int32())})
    tables.write(images, "labelled.parquet", "images", about={"classes": "aaaa"})
    assert error_of(make, images="labelled.parquet", kind=MatchError) == (
        "The labels of the images have a different class list.\n"
        "  where:   labelled\n"
        "  got:     class list aaaa\n"
        "  allowed: class list 524ed1e29592c536 (classes)\n"
        "  do:      pass the class list of the image labels"
    )


def test_predictions_of_another_class_list(photos):
    write_model("two", TWO, class_hash="bbbb")
    assert error_of(make, kind=MatchError) == (
        "two has a different class list from the campaign.\n"
        "  where:   models/two.parquet\n"
        "  got:     class list bbbb\n"
        "  allowed: class list 524ed1e29592c536\n"
        "  do:      predict again with the same class list, or convert the file"
    )
    assert not Path("camp").exists()


def test_predictions_of_other_images(photos):
    write_model("two", TWO, ids=["w.jpg", "x.jpg", "y.jpg", "z.jpg"])
    assert error_of(make, kind=MatchError) == (
        "No images are in both the campaign and models/two.parquet.\n"
        "  got:     ids such as w.jpg, x.jpg\n"
        "  allowed: ids such as a.jpg, b.jpg\n"
        "  do:      pass the file with the images of each row, or labels of the same data set"
    )


def test_a_model_twice(photos):
    write_model("two", TWO, "more")
    assert error_of(make, predictions=["models", "more"]) == (
        "There are two sets of predictions of two.\n"
        "  where:   models/two.parquet and more/two.parquet\n"
        "  do:      remove one of them"
    )


# The description.


def test_no_campaign(photos):
    assert error_of(campaign_status, "models") == (
        "The folder is not a campaign.\n"
        "  where:   models\n"
        "  got:     no campaign.json in it\n"
        "  do:      make one: manyhot init DIR --images FILE --classes LIST"
    )
    assert error_of(campaign_status, "nothing") == (
        "There is no such campaign.\n"
        "  where:   nothing\n"
        "  got:     no such folder\n"
        "  do:      make one: manyhot init DIR --images FILE --classes LIST"
    )


def changed(**more):
    path = Path("camp/campaign.json")
    told = json.loads(path.read_text()) | more
    path.write_text(json.dumps({k: v for k, v in told.items() if v is not None}))


KEYS = "classes, class_hash, n_classes, n_images, call, inputs, version, campaign"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"clases": "x"},
            f"A campaign has no key 'clases'.\n  allowed: {KEYS}\n  do:      did you mean 'classes'?",
        ),
        ({"zzz": 1}, f"A campaign has no key 'zzz'.\n  allowed: {KEYS}\n  do:      drop it"),
        ({"n_images": None}, f"The campaign lacks the key 'n_images'.\n  allowed: {KEYS}"),
        (
            {"n_images": "4"},
            "The key 'n_images' of a campaign has the wrong type.\n  got:     \"4\"\n"
            "  allowed: an integer of at least 1",
        ),
        (
            {"inputs": []},
            "The key 'inputs' of a campaign has the wrong type.\n"
            "  got:     []\n  allowed: an object of strings",
        ),
        (
            {"campaign": 2, "version": "9.0"},
            "The campaign was made by a later version of manyhot.\n"
            "  got:     campaign 2 of manyhot 9.0\n"
            "  allowed: campaign 1 and earlier\n"
            "  do:      upgrade manyhot",
        ),
    ],
)
def test_descriptions_that_are_not_right(photos, change, text):
    make()
    changed(**change)
    first, _, rest = text.partition("\n")
    assert error_of(campaign_status, "camp") == f"{first}\n  where:   camp/campaign.json\n{rest}"


def test_a_broken_description(photos):
    make()
    Path("camp/campaign.json").write_text('{"classes": ')
    assert error_of(campaign_status, "camp") == (
        "The description of the campaign is broken.\n"
        "  where:   camp/campaign.json\n"
        "  got:     Expecting value: line 1 column 13 (char 12)"
    )
    Path("camp/campaign.json").write_text("[]")
    assert error_of(campaign_status, "camp") == (
        f"The description of the campaign is not an object.\n  where:   camp/campaign.json\n  allowed: {KEYS}"
    )


# What comes next.


def told():
    status = campaign_status("camp")
    return {s.name: s.count for s in status.stages}, status.next_step, status.command


def test_the_way_of_a_campaign(photos):
    make(predictions=[])
    nothing = {"predictions": 0, "proposals": None, "votes": None, "labels": None}
    assert told() == (
        {"images": 4} | nothing,
        "run predict with a model of these classes; without one, ask raters about all 5 classes",
        "manyhot predict IMAGES --model NAME --classes camp/classes.parquet --out camp/predictions\n"
        "manyhot propose camp --rule all-classes",
    )
    shutil.copy("models/two.parquet", "camp/predictions")
    shutil.copy("models/timm--one.parquet", "camp/predictions")
    assert told()[0]["predictions"] == 2
    assert told()[1:] == ("propose the classes to ask about", "manyhot propose camp")
    propose("camp").write("camp")
    assert told()[0]["proposals"] == 4
    assert told()[1:] == (
        "ask raters the questions, or put answers into camp/votes.parquet",
        "manyhot annotate camp",
    )
    votes = {"image_id": ["b.jpg"] * 2, "class_id": pa.array([1, 2], pa.int32()), "answer": ["yes", "no"]}
    tables.write(pa.table(votes | {"rater_id": ["r", "r"]}), "camp/votes.parquet", "votes")
    assert told()[1:] == (
        "aggregate the answers",
        "manyhot aggregate camp",
    )
    three = {"image_id": ["b.jpg"] * 3, "class_id": pa.array([1] * 3, pa.int32()), "answer": ["yes"] * 3}
    tables.write(pa.table(three | {"rater_id": ["r", "s", "t"]}), "camp/votes.parquet", "votes")
    assert told()[2] == "manyhot aggregate camp"
    tables.write(pa.table(votes | {"rater_id": ["r", "r"]}), "camp/votes.parquet", "votes")
    tables.write(pa.table(votes | {"expert_id": ["e", "e"]}), "camp/golden.parquet", "golden")
    assert told()[2] == "manyhot aggregate camp --method golden-bayes"
    labels = {"image_id": ["b.jpg"], "usable": [True], "classes": [[1]], "state": [["yes"]]}
    tables.write(pa.table(labels), "camp/labels.parquet", "labels")
    assert told() == (
        {"images": 4, "predictions": 2, "proposals": 4, "votes": 2, "golden": 2, "labels": 1},
        "evaluate models on the label sets",
        "manyhot evaluate camp --out camp/results",
    )
    report = Path("camp/results/report/index.html")
    report.parent.mkdir(parents=True)
    report.touch()
    assert told()[1:] == ("look at the report", "python -m webbrowser camp/results/report/index.html")
    os.utime(report, (0, 0))  # older than the label sets
    assert told()[1] == "evaluate models on the label sets"


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (["my photos"] * 4, "'my photos'"),
        (["my photos/cat", "my photos/cat", "my photos/dog", "my photos/dog"], "'my photos'"),
        (["one/cat", "one/cat", "two/cat", "two/dog"], "IMAGES"),
    ],
    ids=["one folder", "class folders", "several folders"],
)
def test_the_folder_of_the_images_is_in_the_command(photos, folders, named):
    uris = [f"{folder}/{name}" for folder, name in zip(folders, IDS, strict=True)]
    images = pa.table({"image_id": IDS, "uri": uris, "label": pa.array(range(4), pa.int32())})
    tables.write(images, "images.parquet", "images")
    make(images="images.parquet", predictions=[])
    assert campaign_status("camp").command.startswith(f"manyhot predict {named} --model ")


def test_models_that_came_or_went_after_the_proposals(photos):
    make()
    propose("camp").write("camp")
    assert campaign_status("camp").notes == ()
    write_model("three", ONE, "camp/predictions")
    Path("camp/predictions/two.parquet").unlink()
    assert campaign_status("camp").notes == (
        "the proposals were made without 1 of the models in the campaign",
        "1 of the models used for the proposals are no longer in the campaign",
    )


def test_broken_files_are_said(photos):
    make()
    Path("camp/votes.parquet").write_bytes(b"PAR1")
    stage = next(s for s in campaign_status("camp").stages if s.name == "votes")
    assert (stage.done, stage.what) == (False, "the file is not a complete Parquet file")


# Proposals of a campaign.


def test_proposals_tell_what_they_are(photos):
    make()
    done = []
    found = propose("camp", run=Run(on_progress=lambda *step: done.append(step)))
    written, _ = found.write("camp", run=Run("manyhot propose camp"))
    assert written == Path("camp/proposals.parquet")
    table = tables.read(written, "proposals")
    assert table.equals(found.table)
    about = tables.metadata(table)
    assert about["models"].split("\n") == ["timm/one", "two"]
    assert json.loads(about["rule"]) == {"rule": "union"}
    assert json.loads(about["cost"]) == {
        "images": 4,
        "left_out": 2,
        "seconds": 5.0,
        "raters": 5,
        "hours": 4 * 25 / 3600,
    }
    assert json.loads(about["expected"]) is None
    assert set(json.loads(about["inputs"])) == {
        "images.parquet",
        "classes.parquet",
        "timm--one.parquet",
        "two.parquet",
    }
    assert done[-1] == ("reading predictions", 2, 2)
    before = written.read_bytes()
    propose("camp").write("camp", run=Run("manyhot propose camp"))
    assert written.read_bytes() == before


def test_golden_answers_of_the_campaign_are_known(photos):
    make()
    golden = pa.table(
        {
            "image_id": ["a.jpg", "b.jpg", "b.jpg"],
            "class_id": pa.array([0, 1, 2], pa.int32()),
            "expert_id": ["e"] * 3,
            "answer": ["yes", "yes", "no"],
        }
    )
    tables.write(golden, "camp/golden.parquet", "golden")
    found = propose("camp")
    assert (found.expected.n_images, found.expected.n_labels, found.expected.precision.value) == (2, 2, 0.5)
    assert "golden.parquet" in found.inputs
    tables.write(golden, "other.parquet", "golden")
    for known in ("other.parquet", read_golden("other.parquet")):
        # By their text, in which undefined ends are equal.
        assert repr(propose("camp", known_labels=known).expected) == repr(found.expected)
    assert error_of(propose, "camp", known_labels=3) == (
        "These are not label sets.\n  where:   `known_labels`\n  got:     int\n"
        "  allowed: a file, or the result of manyhot.read_labels or manyhot.read_golden"
    )


def test_models_are_chosen_by_patterns(photos):
    make()
    assert propose("camp", models=["timm/*"]).models == ("timm/one",)
    assert error_of(propose, "camp", models=["onnx/*"]) == (
        "No model has such a name.\n  got:     onnx/*\n  allowed: timm/one, two"
    )


def test_no_predictions_yet(photos):
    make(predictions=[])
    assert error_of(propose, "camp") == (
        "The campaign contains no predictions.\n"
        "  where:   camp/predictions\n"
        "  allowed: one table of predictions per model, as manyhot predict writes them\n"
        "  do:      run: manyhot predict IMAGES --model NAME --out camp/predictions. To ask "
        "raters about all classes, propose with the `rule` all-classes, which needs no predictions"
    )


def test_all_classes_without_a_model(photos):
    """A class list of one's own, which no published model knows."""
    campaign, _ = make(predictions=[])
    status = campaign_status("camp")
    assert status.next_step.endswith("; without one, ask raters about all 5 classes")
    assert status.command.endswith("/predictions\nmanyhot propose camp --rule all-classes")
    found = propose("camp", rule="all-classes")
    images = tables.read(Path("camp/images.parquet"), "images")["image_id"].to_pylist()
    n = campaign.n_classes
    rows = found.table.to_pylist()
    assert [(r["image_id"], r["class_id"]) for r in rows] == [(i, c) for i in images for c in range(n)]
    assert {(r["n_models"], r["source"]) for r in rows} == {(0, "all-classes")}
    assert (found.n_left_out, found.models) == (0, ())
    found.write("camp")
    assert campaign_status("camp").command == "manyhot annotate camp"
    with pytest.raises(UsageError, match=r"The rule all-classes needs no predictions\."):
        propose("camp", ["models"], rule="all-classes")


def test_proposals_that_people_answer_stay(photos):
    make()
    propose("camp").write("camp")
    propose("camp", rule='top-k(k=2, model="two")').write("camp")  # nobody answers yet
    standing = set(questions("camp/proposals.parquet"))
    shutil.copy("camp/proposals.parquet", "camp/votes.parquet")
    fewer = set(questions(propose("camp").table))
    done = CliRunner().invoke(cli.app, ["propose", "camp"])
    message = (
        "Raters are already answering the proposals of this campaign.\n"
        "  where:   camp/proposals.parquet\n"
        f"  got:     {len(standing - fewer)} of {len(standing)} questions are not among the new proposals\n"
        "  do:      pass {add} to keep them, or write the new proposals to another file with {out}; to "
        "withdraw questions, pass {without}"
    )
    assert str(done.exception) == message.format(add="--add", out="--out", without="--without")
    assert error_of(propose("camp").write, "camp") == message.format(
        add="`add`", out="`out`", without="`without`"
    )
    assert propose("camp").write("more.parquet") == [Path("more.parquet")]
    more = propose("camp", rule="union(k=2)", add=True)
    new = set(questions(propose("camp", rule="union(k=2)").table)) - standing
    assert more.notes[-1] == f"{len(new)} questions were added to the {len(standing)} of the campaign"
    more.write("camp")
    assert set(questions("camp/proposals.parquet")) == standing | new
    assert len(questions("camp/proposals.parquet")) == len(standing | new)
    assert error_of(propose, "photos.csv", ["models"], add=True, reading=Reading(classes="classes.txt")) == (
        "There are no proposals to which new ones can be added.\n"
        "  where:   `labels`\n"
        "  allowed: a campaign with proposals.parquet\n"
        "  do:      leave out `add`"
    )


def questions(table):
    """Return the questions of a table ``proposals``, or of its file."""
    table = tables.read(Path(table), "proposals") if isinstance(table, str) else table
    return list(zip(table["image_id"].to_pylist(), table["class_id"].to_pylist(), strict=True))


def test_other_kinds_of_files(photos):
    make()
    assert error_of(propose("camp").write, "more.json") == (
        "Cannot write this kind of file.\n  where:   more.json\n  allowed: .parquet, .csv, or a folder"
    )


def test_images_without_original_labels(photos):
    """Everything that models propose is asked about: no image is left out."""
    Path("photos.csv").write_text("image_id\n" + "\n".join(IDS) + "\n")
    make()
    for leave_out in ("proposals", "models", "nothing"):
        found = propose("camp", leave_out=leave_out)
        assert found.n_left_out == 0
        assert set(found.table["image_id"].to_pylist()) == set(IDS)


def test_an_unknown_rule(photos):
    make()
    assert error_of(propose, "camp", rule="unoin", kind=ManyhotError) == (
        "There is no proposer 'unoin'.\n"
        "  allowed: union, all-classes, top-k, real-search, mean-probability, label-errors\n"
        "  do:      did you mean 'union'?"
    )
