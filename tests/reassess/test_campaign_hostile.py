"""What nobody should do to votes and campaigns: refused in our own words, and nothing is lost."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli, tables
from manyhot.data.convert import convert
from manyhot.errors import InputError, ManyhotError, MatchError, OutputError
from manyhot.formats import read_votes
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose
from manyhot.reassess.status import campaign_status

IDS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
VOTES = {
    "image_id": ["a.jpg"] * 6 + ["b.jpg"] * 3,
    "class_id": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "rater_id": ["x", "y", "z"] * 3,
    "answer": ["yes", "yes", "no", "no", "yes", "maybe", "no", "no", "no"],
}
GOLDEN = {"image_id": ["a.jpg"] * 2, "class_id": [0, 1], "expert_id": ["e"] * 2, "answer": ["yes", "no"]}


@pytest.fixture
def camp(tmp_path, monkeypatch):
    """Make a campaign of four images, five classes and two models in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos.csv").write_text("image_id,label\na.jpg,0\nb.jpg,1\nc.jpg,2\nd.jpg,3\n")
    Path("classes.txt").write_text("cat\ndog\ncow\nhen\nowl\n")
    for name, top in (("one", [(0, 1), (2, 1), (2, 4), (3, 0)]), ("two", [(0, 1), (1, 2), (4, 2), (3, 1)])):
        predictions = tables.Predictions(pa.array(IDS), name, np.array(top), n_classes=5)
        tables.write_predictions(predictions, f"models/{name}.parquet")
    init_campaign("camp", images="photos.csv", classes="classes.txt", predictions=["models"])
    return Path("camp")


def error_of(work, *arguments, kind=InputError, **more):
    with pytest.raises(kind) as error:
        work(*arguments, **more)
    return str(error.value)


def put_votes(camp, **about):
    return tables.write(pa.table(VOTES), camp / "votes.parquet", "votes", about={"n_classes": "5"} | about)


# Class lists.


def test_votes_over_another_class_list_than_the_campaign(camp):
    put_votes(camp, classes="dead")
    key = tables.Campaign.read(camp).class_hash
    assert error_of(mh.aggregate, camp, kind=MatchError) == (
        "The table has a different class list from the one passed.\n  where:   votes\n"
        f"  got:     5 classes, class list dead\n  allowed: 5 classes, class list {key}\n"
        "  do:      pass the class list of the table, or omit it"
    )


def test_golden_answers_over_another_class_list_are_not_known_sets(camp):
    tables.write(pa.table(GOLDEN), camp / "golden.parquet", "golden", about={"classes": "dead"})
    key = tables.Campaign.read(camp).class_hash
    assert error_of(propose, camp, kind=MatchError) == (
        "The table has a different class list from the one passed.\n  where:   golden\n"
        f"  got:     0 classes, class list dead\n  allowed: 5 classes, class list {key}\n"
        "  do:      pass the class list of the table, or omit it"
    )


@pytest.mark.parametrize("kind", ["table", "csv", "folder", "real"])
def test_golden_answers_in_any_format_are_known_sets(camp, kind):
    ids = [f"ILSVRC2012_val_{i:08}.JPEG" for i in (1, 2, 3)]
    Path("real.csv").write_text("image_id,label\n" + "".join(f"{i},{n}\n" for n, i in enumerate(ids)))
    top = np.array([(0, 1), (2, 1), (2, 4)])
    tables.write_predictions(tables.Predictions(pa.array(ids), "m", top, n_classes=5), "m.parquet")
    init_campaign("small", images="real.csv", classes="classes.txt", predictions=["m.parquet"])
    # One expert: class 0 is in the first image, class 2 in the second, class 1 in neither.
    asked = [(ids[0], 0, "yes"), (ids[0], 1, "no"), (ids[1], 1, "no"), (ids[1], 2, "yes")]
    columns = dict(zip(("image_id", "class_id", "answer"), zip(*asked, strict=True), strict=True))
    golden = pl.DataFrame(columns | {"expert_id": ["e"] * 4})
    if kind == "real":
        said = np.zeros((1, 4, 3))
        said[0, range(4), [2 if answer == "yes" else 0 for *_, answer in asked]] = 1
        info = np.array([(image, str(class_id)) for image, class_id, _ in asked])
        np.savez("golden.npz", tensor=said, info=info, ids=np.array([7]))
    elif kind == "csv":
        golden.write_csv("g.csv")
    else:
        tables.write(pa.table(golden.to_dict(as_series=False)), "of/golden.parquet", "golden")
    path = {"table": "of/golden.parquet", "csv": "g.csv", "folder": "of", "real": "golden.npz"}[kind]
    found = propose("small", known_labels=path, rule="top-k(k=1)", leave_out="nothing", resamples=0)
    expected = found.expected
    # Proposed: 0 of the first image; 2 and the original label 1 of the second.
    assert (expected.n_images, expected.n_labels, expected.n_questions) == (2, 2, 3)
    assert (expected.recall.value, expected.precision.value) == (1, 2 / 3)


def test_proposals_over_another_class_list_than_the_votes(camp):
    put_votes(camp)
    propose(camp).write("p.parquet")
    table = pq.read_table("p.parquet")
    told = {**table.schema.metadata, b"manyhot.classes": b"dead"}
    pq.write_table(table.replace_schema_metadata(told), "p.parquet")
    key = tables.Campaign.read(camp).class_hash
    assert error_of(mh.next_questions, camp, budget=3, proposals="p.parquet", kind=MatchError) == (
        "The proposals and the votes have different class lists.\n  where:   p.parquet\n"
        f"  got:     class list dead\n  allowed: class list {key}\n"
        "  do:      pass the proposals that the votes answer"
    )


# Campaigns that are not whole.


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more"])
def test_a_broken_model_is_skipped_and_named(camp, content):
    (camp / "predictions/two.parquet").write_bytes(content)
    found = propose(camp)
    assert found.models == ("one",)
    (note,) = found.notes
    # In between in Arrow's words.
    assert note.startswith(
        "camp/predictions/two.parquet: skipped: The file is not a complete Parquet file (got: Parquet "
    )
    assert note.endswith("; do: create or download it again)")
    (note,) = campaign_status(camp).notes
    assert note == "two.parquet in the folder predictions is not a complete Parquet file"


def test_predictions_of_other_tools_count(camp):
    plain = pa.table({"image_id": IDS, "classes": [[0], [1], [2], [3]]})
    pq.write_table(plain, camp / "predictions/own.parquet")
    found = propose(camp)
    assert found.models == ("one", "own", "two")


def test_a_model_twice_in_a_campaign(camp):
    shutil.copy(camp / "predictions/two.parquet", camp / "predictions/zwei.parquet")
    assert error_of(propose, camp) == (
        "There are two sets of predictions of two.\n"
        "  where:   camp/predictions/two.parquet and camp/predictions/zwei.parquet\n"
        "  do:      remove one of them"
    )


@pytest.mark.parametrize("table", ["classes", "images"])
def test_a_campaign_without_what_it_was_made_with(camp, table):
    put_votes(camp)
    (camp / f"{table}.parquet").unlink()
    assert error_of(mh.aggregate, camp) == (
        f"The campaign is incomplete.\n  where:   camp/{table}.parquet\n  got:     no such file\n"
        "  do:      create the campaign again in another folder, and copy the votes of this campaign into it"
    )


def test_nobody_has_answered_yet(camp):
    assert error_of(mh.agreement, camp) == (
        "The campaign has no votes yet.\n  where:   camp\n  got:     no votes.parquet in it\n"
        "  do:      see the next step: manyhot status camp"
    )


def test_golden_answers_that_are_a_folder_are_not_passed_over(camp):
    put_votes(camp)
    (camp / "golden.parquet").mkdir()
    assert error_of(mh.aggregate, camp) == (
        "The folder does not contain golden.\n  where:   camp/golden.parquet\n"
        "  got:     a folder of no known format\n"
        "  allowed: golden-table: image_id, class_id, expert_id and answer; "
        "other suffixes: .csv, .json, .npz, .parquet, .tsv"
    )


def test_a_description_that_was_changed_by_hand(camp):
    path = camp / "campaign.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"n_images": 9}))
    key = told["class_hash"]
    assert error_of(propose, camp, kind=MatchError) == (
        "The description of the campaign does not match its classes and images.\n"
        f"  where:   camp/campaign.json\n  got:     class list {key} of 5 classes, 9 images\n"
        f"  allowed: class list {key} of 5 classes, 4 images\n"
        "  do:      restore the changed files, or create the campaign again in another folder"
    )


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ('{"call": "a", "call": "b"}', "the key 'call' occurs twice"),
    ],
)
def test_descriptions_that_are_no_json_of_ours(camp, content, got):
    (camp / "campaign.json").write_text(content)
    said = error_of(campaign_status, camp)
    assert said.startswith(
        f"The description of the campaign is broken.\n  where:   camp/campaign.json\n  got:     {got}"
    )


def test_a_campaign_in_the_folder_where_one_stands(camp, monkeypatch):
    here = Path("here")
    (here / ".here.killed.part").mkdir(parents=True)
    monkeypatch.chdir(here)
    options = {"images": "../photos.csv", "classes": "../classes.txt", "predictions": ["../models"]}
    assert [init_campaign(".", **options).is_new for _ in range(2)] == [True, False]
    assert Path.cwd().name == "here"
    assert sorted(p.name for p in Path().iterdir()) == sorted(
        [".here.killed.part", *(p.name for p in Path("../camp").iterdir())]
    )
    assert campaign_status(".").command == "manyhot propose ."


def test_status_where_images_are_broken(camp):
    shutil.rmtree(camp / "predictions")
    (camp / "images.parquet").write_bytes(b"PAR1")
    assert campaign_status(camp).command == (
        "manyhot predict IMAGES --model NAME --classes camp/classes.parquet --out camp/predictions\n"
        "manyhot propose camp --rule all-classes"
    )


def test_the_files_that_changed_are_named(camp):
    Path("photos.csv").write_text("image_id,label\na.jpg,1\n")
    said = error_of(init_campaign, "camp", images="photos.csv", classes="classes.txt", predictions=["models"])
    assert said == (
        "The folder contains another campaign.\n  where:   camp\n"
        "  got:     made by: unknown; changed since: images/photos.csv\n"
        "  allowed: the same images, classes and predictions, or a new folder\n"
        "  do:      choose another folder; to add images or classes, pass `add`; to add models, put their "
        "predictions into the folder predictions of the campaign"
    )


# Places that are not written over.


@pytest.mark.parametrize("name", ["votes", "golden", "images", "classes"])
def test_proposals_are_not_written_over_another_table(camp, name):
    put_votes(camp)
    before = {p: p.read_bytes() for p in camp.rglob("*") if p.is_file()}
    assert error_of(propose(camp).write, camp / f"{name}.parquet") == (
        f"This file is reserved for a table other than proposals.\n  where:   camp/{name}.parquet\n"
        f"  got:     {name}\n  do:      choose another path for the output"
    )
    assert before == {p: p.read_bytes() for p in camp.rglob("*") if p.is_file()}


def test_proposals_are_not_written_over_the_predictions_they_are_made_of(camp):
    target = camp / "predictions/two.parquet"
    before = target.read_bytes()
    error_of(propose(camp).write, target)
    assert target.read_bytes() == before


def test_what_is_written_beside_labels_is_not_written_over_votes(camp):
    pl.DataFrame(VOTES).write_csv("o-raters.csv")
    before = Path("o-raters.csv").read_bytes()
    done = CliRunner().invoke(cli.app, ["aggregate", "o-raters.csv", "--out", "o.parquet"])
    assert str(done.exception) == (
        "The output would overwrite an input.\n  where:   o-raters.csv\n"
        "  got:     o-raters.csv\n  do:      choose another path for the output"
    )
    assert Path("o-raters.csv").read_bytes() == before


def test_the_curve_of_an_earlier_run_is_removed(camp):
    put_votes(camp)
    tables.write(pa.table(GOLDEN), "golden.parquet", "golden", about={"n_classes": "5"})
    mh.aggregate(camp, "golden.parquet", method="majority").write("o.parquet")
    assert Path("o-curve.csv").exists()
    mh.aggregate(camp, method="majority").write("o.parquet")
    assert not Path("o-curve.csv").exists()


def test_links_that_lead_nowhere(camp):
    Path("loop.csv").symlink_to("loop.csv")
    assert error_of(convert, "loop.csv", "o.parquet") == ("The file does not exist.\n  where:   loop.csv")


def test_names_that_are_not_utf_8(camp):
    put_votes(camp)
    name = os.fsdecode(b"\xff.parquet")
    said = "The name of a file or folder is not UTF-8.\n  where:   \\udcff.parquet\n  got:     b"
    assert error_of(mh.aggregate(camp).write, name, kind=OutputError) == (
        f"{said}'{Path.cwd()}/\\xff.parquet'\n  do:      choose another path for the output"
    )
    shutil.copy(camp / "votes.parquet", name)
    assert error_of(mh.aggregate, name) == (f"{said}'\\xff.parquet'\n  do:      rename it")


# Cells.

HEAD = "image_id,class_id,rater_id,answer\n"
UNKNOWN = "A class is not in the class list.\n  where:   v.csv\n  got:     "
KNOWN = (
    "\n  allowed: 0 to 4, or a key or name of classes\n  do:      pass a list with this class as `classes`, "
    "or remove the value if it is not a class"
)
EMPTY = "The column '{}' of the votes table contains an empty value.\n  where:   v, row 0\n  got:     "


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a.jpg,\u00b2,x,yes\na.jpg,cat,x,no\n", f"{UNKNOWN}\u00b2{KNOWN}"),
        (
            "a.jpg,2147483647,x,yes\na.jpg,1,x,no\n",
            "A class is out of range.\n  where:   v, image a.jpg\n  got:     2147483647\n  allowed: 0 to 4\n"
            "  do:      correct it, or pass the list of all classes as `classes`",
        ),
        (f"a.jpg,{'9' * 5000},x,yes\na.jpg,cat,x,no\n", f"{UNKNOWN}'{'9' * 78}…{KNOWN}"),
        ("a.jpg,--1,x,yes\na.jpg,cat,x,no\n", f"{UNKNOWN}--1{KNOWN}"),
        (
            "a.jpg,true,x,yes\n",
            "The column 'class_id' of the votes table has the wrong type.\n"
            "  where:   v\n  got:     bool\n  allowed: int32\n  do:      write integers",
        ),
        ('"",1,x,yes\n', f"{EMPTY.format('image_id')}''"),
        ("dir/,1,x,yes\n", f"{EMPTY.format('image_id')}''"),
        ('a.jpg,1," ",yes\n', f"{EMPTY.format('rater_id')}''"),
        ("", "The file has no rows.\n  where:   v.csv"),
    ],
)
def test_cells_that_are_not_what_they_should_be(camp, rows, said):
    Path("v.csv").write_text(HEAD + rows)
    assert error_of(mh.aggregate, "v.csv", classes="classes.txt") == said


@pytest.mark.parametrize(
    ("times", "got"),
    [
        (pa.array([1_615_328_168] * 9), "int64"),
        (pa.array([0] * 9, pa.timestamp("us")), "timestamp[us]"),
    ],
)
def test_times_without_a_unit_or_a_zone(times, got):
    votes = pa.table(VOTES | {"answered_at": times})
    assert error_of(mh.aggregate, votes) == (
        "The column 'answered_at' of the votes table has the wrong type.\n  where:   votes\n"
        f"  got:     {got}\n  allowed: timestamp[us, tz=UTC]\n"
        "  do:      write times with their zone, such as 2021-03-09T22:16:08Z"
    )


def test_a_time_that_is_not_known_is_not_the_earlier_one():
    twice = {k: v[:1] * 2 for k, v in VOTES.items()} | {"answer": ["yes", "no"]}
    for known in (-1, 1):
        times = pa.array([known, None], pa.timestamp("us", "UTC"))
        said = error_of(mh.aggregate, pa.table(twice | {"answered_at": times}), kind=MatchError)
        assert said == (
            "A rater answered a question twice.\n  where:   votes, image a.jpg, class 0\n"
            "  got:     rater x, with the same round and time\n"
            "  allowed: one answer per rater and question, or a column `round` or `answered_at` that gives "
            "their order\n"
            "  do:      remove one of the answers"
        )


def test_messages_cannot_be_forged():
    error = InputError("No.", where="a\n  do:      rm -rf /", got="\x1b[31m" + "x" * 10_000)
    lines = str(error).split("\n")
    assert lines[:2] == ["No.", "  where:   a\\n  do:      rm -rf /"]
    assert lines[2].startswith("  got:     \\x1b[31mxxx")
    assert len(lines[2]) < 2_100


def test_packed_files_are_not_unpacked(camp):
    import gzip

    Path("v.csv").write_bytes(gzip.compress(b"image_id,class_id,rater_id,answer\n"))
    assert error_of(read_votes, "v.csv", format="votes-table") == (
        "The file was not read, because it is compressed.\n  where:   v.csv\n"
        "  do:      decompress it first, for example with gunzip"
    )


# Python.


@pytest.mark.parametrize("given", [VOTES, [1], 3, b"votes.csv", pl.Series([1])])
def test_what_is_no_table(given):
    why = "one column alone" if isinstance(given, pl.Series) else "no columns"
    assert error_of(mh.aggregate, given) == (
        f"This is not a table.\n  where:   votes\n  got:     {type(given).__name__} ({why})\n"
        "  allowed: a pyarrow, Polars or pandas table with the columns of the table votes, a file, or "
        "the result of manyhot.read_votes"
    )


def test_tables_of_every_kind_are_taken():
    images = pl.DataFrame({"image_id": IDS, "label": [0, 1, 2, 3]})
    for votes in (pl.DataFrame(VOTES).lazy(), pa.RecordBatch.from_pydict(VOTES)):
        assert len(mh.aggregate(votes, images=images, classes=5, method="majority").labels) == 4


@pytest.mark.parametrize("classes", [2.5, -1, True])
def test_a_number_of_classes_that_is_none(classes):
    assert error_of(mh.agreement, pa.table(VOTES), classes=classes) == (
        "This is neither a class list nor a number of classes.\n"
        f"  where:   `classes`\n  got:     {classes!r}\n"
        "  allowed: a file, a class list, a list of names, or a whole number of at least 1"
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("iterations='x'", "The option 'iterations' needs a number."),
        ("iterations=1.5", "The option 'iterations' needs an integer."),
        ("smoothing=1e999", "The option 'smoothing' needs a number."),
    ],
)
def test_options_that_are_no_numbers(option, said):
    with pytest.raises(ManyhotError) as error:
        mh.aggregate(pa.table(VOTES), method=f"dawid-skene({option})")
    example = f"{option.partition('=')[0]}=1"
    assert str(error.value) == f"{said}\n  got:     dawid-skene({option})\n  allowed: {example}"


# The order of rows.


@pytest.mark.parametrize("method", ["dawid-skene", "one-coin", "golden-bayes", "yes-share"])
def test_the_order_of_rows_changes_nothing(method):
    rng = np.random.default_rng(0)
    rows = [(f"{i}.jpg", c, f"r{r}") for i in range(20) for c in (0, 1) for r in rng.permutation(6)[:3]]
    image, class_id, rater = map(list, zip(*rows, strict=True))
    answer = rng.choice(["no", "maybe", "yes"], len(rows)).tolist()
    votes = pl.DataFrame({"image_id": image, "class_id": class_id, "rater_id": rater, "answer": answer})
    experts = votes.unique(["image_id", "class_id"], maintain_order=True).rename({"rater_id": "expert_id"})
    experts = experts.with_columns(expert_id=pl.lit("e"))

    def results(seed):
        shuffled = [t.sample(fraction=1, shuffle=True, seed=seed) for t in (votes, experts)]
        done = mh.aggregate(*shuffled, method=method, resamples=20)
        found = mh.agreement(*shuffled, resamples=20)
        return [repr(t.to_pylist()) for t in (done.labels.table, done.raters, done.curve, found.agreement)]

    assert results(1) == results(2)
