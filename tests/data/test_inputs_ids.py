"""Files that write the ids of the same images differently, through the commands that join them."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from manyhot import (
    Predictions,
    aggregate,
    build_gallery,
    cli,
    diagnose_errors,
    evaluate,
    find_label_issues,
    init_campaign,
    propose,
    read_labels,
    tables,
    write_predictions,
)
from manyhot.data.inputs import Reading, open_inputs
from manyhot.errors import InputError, MatchError
from manyhot.reassess.answers import VotesReading

N, C = 60, 4
NAMES = [f"{'abc'[i % 3]}/{i // 3}.JPEG" for i in range(N)]
"""Each base name occurs in three folders."""

LABEL = np.arange(N) % C
CLASSES = ["ant", "bee", "cow", "dog"]


def model(name, ids, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, C))
    logits[np.arange(N), LABEL] += 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    at = rng.permutation(N)
    return Predictions(
        pa.array([ids[i] for i in at]),
        name,
        scores=p[at].astype(np.float32),
        score_kind="probability",
        n_classes=C,
    )


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = [f"{CLASSES[y]} {CLASSES[(y + 1) % C]}" for y in LABEL]
    pl.DataFrame({"image_id": NAMES, "label": LABEL, "classes": sets}).write_csv("labels.csv")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))


def judged(ids, match="auto", labels="labels.csv"):
    write_predictions(model("m", ids), "m.parquet")
    return evaluate(labels, ["m.parquet"], reading=Reading(classes="classes.txt", match=match))


def numbers(evaluation):
    return repr(evaluation.results.drop_columns(["dataset"]).to_pylist())  # NaN equals NaN


WAYS = {
    "data/val/{}": "leading folders",
    "/mnt/x/{}": "leading folders",
    "{stem}.jpg": "extensions",
    "{stem}": "extensions",
    "{upper}": "letter case",
    "data/{stem}.png": "leading folders and extensions",
    "DATA/{upper}": "leading folders and letter case",
    "x/{upperstem}.png": "leading folders, extensions and letter case",
}


def written(form):
    return [form.format(n, stem=n[:-5], upper=n.upper(), upperstem=n[:-5].upper()) for n in NAMES]


@pytest.mark.parametrize("form", WAYS)
def test_results_are_those_of_equal_ids(form):
    expected, ids = judged(NAMES), written(form)
    assert not [n for n in expected.model_notes if n.kind == "matched"]
    found = judged(ids)
    assert numbers(found) == numbers(expected)
    (note,) = (n for n in found.model_notes if n.kind == "matched")
    assert (note.dataset, note.model, note.n) == ("labels", "m", N)
    text = f"60 images are matched without regard to {WAYS[form]}, such as {ids[0]} with {NAMES[0]}"
    assert note.text == text
    assert f"labels, m: {text}" in found.notes


def test_it_is_noted_wherever_results_are(tmp_path):
    write_predictions(model("m", written("v/{}")), "m.parquet")
    arguments = ["evaluate", "labels.csv", "--predictions", "m.parquet", "--classes", "classes.txt"]
    result = CliRunner().invoke(cli.app, [*arguments, "--out", "r", "--json"])
    text = "60 images are matched without regard to leading folders, such as v/a/0.JPEG with a/0.JPEG"
    assert text in json.dumps(json.loads(result.stdout)["notes"])
    assert text in tables.metadata(tables.read(tmp_path / "r" / "results.parquet", "results"))["notes"]
    shown = CliRunner().invoke(cli.app, [*arguments, "--out", "s"])
    assert f"Note: labels, m: {text}." in " ".join(shown.output.split())


def test_ambiguous_and_contrary_ids_are_refused(tmp_path):
    with pytest.raises(MatchError) as error:
        judged([f"{i}.JPEG" for i in range(N)])
    assert str(error.value) == (
        "An id of m matches several ids of labels.\n"
        "  got:     a/13.JPEG and b/13.JPEG for 13.JPEG, and 19 more such ids\n"
        "  allowed: ids that differ in more than leading folders\n"
        "  do:      in both files, include in each id the folders that distinguish the images; or pass "
        "the leading "
        "folder to remove, such as `match`=a/; or "
        "pass `match`=exact"
    )
    with pytest.raises(MatchError) as error:
        judged(written("train/{}"), labels=renamed("labels.csv", "val/{}"))
    assert str(error.value).splitlines()[-1] == (
        "  do:      if these are the same images, pass `match`=val/: 60 images are matched without regard to "
        "leading folders, such as train/a/0.JPEG with val/a/0.JPEG"
    )
    result = CliRunner().invoke(
        cli.app,
        ["evaluate", "val.csv", "--predictions", "m.parquet", "--classes", "classes.txt", "--out", "r"],
    )
    assert "pass --match=val/" in str(result.exception)
    assert numbers(judged(written("train/{}"), "val/", "val.csv")) == numbers(judged(NAMES))


def renamed(path, form):
    frame = pl.read_csv(path)
    ids = [form.format(i) for i in frame["image_id"]]
    frame.with_columns(image_id=pl.Series(ids)).write_csv("val.csv")
    return "val.csv"


def test_exact_and_unknown_ways():
    with pytest.raises(MatchError) as error:
        judged(written("v/{}"), "exact")
    assert str(error.value).startswith("No images are in both labels and m.\n")
    with pytest.raises(InputError) as error:
        judged(NAMES, "folders")
    assert str(error.value).startswith(
        "There is no such way to match ids.\n  where:   `match`\n  got:     folders\n"
    )


def test_an_ambiguous_model_of_several_is_skipped():
    write_predictions(model("good", written("v/{stem}.png")), "models/good.parquet")
    write_predictions(model("bad", [f"{i}.JPEG" for i in range(N)]), "models/bad.parquet")
    found = evaluate("labels.csv", ["models"], reading=Reading(classes="classes.txt"))
    assert set(found.results["model"].to_pylist()) == {"good"}
    assert [n.kind for n in found.model_notes] == ["matched", "skipped", "chance"]
    assert any("An id of bad matches several ids of labels" in note for note in found.notes)


def test_models_can_be_read_twice_and_are_noted_once():
    write_predictions(model("m", written("v/{}")), "m.parquet")
    (source,) = open_inputs("labels.csv", ["m.parquet"], reading=Reading(classes="classes.txt"))
    for _ in range(2):
        (read,) = source.models()
        assert sorted(read.image_id.to_pylist()) == sorted(NAMES)
    assert len(source.misfits.notes()) == 1
    list(source.models())
    assert source.misfits.notes() == []


def test_original_labels_and_slices_of_an_images_table():
    images = pa.table({"image_id": written("photos/{stem}.png"), "label": pa.array(LABEL, pa.int32())})
    tables.write(images, "images.parquet", "images")
    pl.read_csv("labels.csv").drop("label").write_csv("unlabelled.csv")
    reading = Reading(classes="classes.txt", images="images.parquet")
    write_predictions(model("m", NAMES), "m.parquet")
    found = evaluate("unlabelled.csv", ["m.parquet"], metrics=["top1"], reading=reading)
    expected = evaluate("labels.csv", ["m.parquet"], metrics=["top1"], reading=Reading(classes="classes.txt"))
    assert numbers(found) == numbers(expected)
    assert any(n.model == "images" and n.kind == "matched" for n in found.model_notes)


def test_diagnoses_find_what_they_find_with_equal_ids():
    write_predictions(model("m", NAMES), "same/m.parquet")
    write_predictions(model("m", written("v/{stem}.png")), "other/m.parquet")
    for verb in (diagnose_errors, find_label_issues):
        same, other = (
            verb("labels.csv", [folder], reading=Reading(classes="classes.txt"))
            for folder in ("same", "other")
        )
        for name in same.NAMES:
            assert repr(other.tables[name].to_pylist()) == repr(same.tables[name].to_pylist())
        assert any("matched without regard to leading folders and extensions" in n for n in other.notes)


def test_a_campaign_has_the_ids_of_its_images():
    images = pa.table({"image_id": NAMES, "label": pa.array(LABEL, pa.int32())})
    tables.write(images, "images.parquet", "images")
    write_predictions(model("m", written("v/{stem}.png")), "m.parquet")
    made = init_campaign(
        "campaign", images="images.parquet", classes="classes.txt", predictions=["m.parquet"]
    )
    text = "60 images are matched without regard to leading folders and extensions"
    assert made.notes[0].startswith(f"m: {text}, such as ")
    stored = tables.read("campaign/predictions/m.parquet", "predictions")
    assert sorted(stored["image_id"].to_pylist()) == sorted(NAMES)
    # Predictions that are added later are matched when they are read.
    write_predictions(replace(model("n", written("w/{}"), 1)), "campaign/predictions/n.parquet")
    found = propose("campaign")
    assert set(found.table["image_id"].to_pylist()) <= set(NAMES)
    assert any(n.startswith("n: 60 images are matched") for n in found.notes)


def test_votes_and_the_original_labels_of_their_images():
    votes = pl.DataFrame(
        {
            "image_id": [n for n in NAMES for _ in range(3)],
            "class_id": np.repeat(LABEL, 3),
            "rater_id": ["x", "y", "z"] * N,
            "answer": ["yes", "yes", "no"] * N,
        }
    )
    votes.write_csv("votes.csv")
    for name, ids in (("same", NAMES), ("other", written("v/{}"))):
        pl.DataFrame({"image_id": ids, "label": LABEL}).write_csv(f"{name}.csv")
    same, other = (
        aggregate("votes.csv", images=f"{name}.csv", classes="classes.txt") for name in ("same", "other")
    )
    assert other.labels.image_id.to_pylist() == written("v/{}")
    ids = same.labels.table.column_names.index("image_id")
    assert other.labels.table.remove_column(ids).equals(same.labels.table.remove_column(ids))
    assert other.notes[0].startswith("votes: 60 images are matched without regard to leading folders, ")


def test_a_gallery_of_images_in_folders(tmp_path):
    """Names of its files are numbers, whatever the ids are."""
    image = pytest.importorskip("PIL.Image")
    hostile = ["../../x.jpg", "/etc/x.jpg", "a/1 %2F#?.jpg", "b/1 %2F#?.jpg"]
    uris = []
    for i in range(4):
        image.new("RGB", (40, 30), (50 * i, 9, 9)).save(tmp_path / f"{i}.jpg")
        uris.append(str(tmp_path / f"{i}.jpg"))
    (tmp_path / "pred").mkdir()
    table = pa.table({"image_id": hostile, "uri": uris, "label": pa.array([0, 1, 2, 3], pa.int32())})
    tables.write(table, tmp_path / "pred" / "images.parquet", "images")
    m = Predictions(pa.array(hostile), "m", np.array([[0], [1], [2], [2]]), n_classes=C)
    write_predictions(m, tmp_path / "pred" / "m.parquet")
    shown = build_gallery("pred", out="out", reading=Reading(classes="classes.txt")).gallery
    assert [s.image_id for s in shown.shots] == hostile
    written_files = [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.jpg")]
    assert len(written_files) == 8  # with thumbnails
    assert all(p.rpartition("/")[2].removesuffix(".jpg").isdigit() for p in written_files)


def test_ids_of_which_only_some_are_equal(tmp_path):
    """After an update, a camera writes another folder before the names of four in five images."""
    written = [f"{'/mnt/cam/' if i % 5 else ''}{i}.png" for i in range(100)]
    pl.DataFrame({"image_id": [f"{i}.png" for i in range(100)], "label": ["cat", "dog"] * 50}).write_csv(
        tmp_path / "l.csv"
    )
    scores = {"cat": [0.9, 0.2] * 50, "dog": [0.1, 0.8] * 50}
    pl.DataFrame({"image_id": written, **scores}).write_csv(tmp_path / "p.csv")
    options = {"scores": "probability", "metrics": ["top1"], "resamples": 0}
    found = evaluate(tmp_path / "l.csv", [tmp_path / "p.csv"], **options)
    assert found.results["n"].to_pylist()[0] == 20
    (note,) = (note for note in found.notes if "are only equal" in note)
    assert note.endswith(
        "p: 20 ids are equal, and 80 others are only equal without regard to leading folders; if these are "
        "the same images, pass `match`=path"
    )
    found = evaluate(tmp_path / "l.csv", [tmp_path / "p.csv"], match="path", **options)
    assert found.results["n"].to_pylist()[0] == 100
    assert not any("are only equal" in note for note in found.notes)


def _rounded_frames():
    """Return counts and clicks on three galaxies of SDSS, whose ids a left join of pandas made two floats."""
    pd = pytest.importorskip("pandas")
    ids = np.array([587722981742084144, 587722981742084150, 587722981742084163])
    assert len(set(ids.astype(float))) == 2
    counts = pd.DataFrame({"image_id": ids[:1].astype(float), "smooth": [3], "disc": [1]})
    clicks = pd.DataFrame(
        {"image_id": ids.astype(float), "rater": ["u1", "u2", "u3"], "label": ["smooth", "disc", "disc"]}
    )
    return counts, clicks


@pytest.mark.parametrize("suffix", [".csv", ".parquet", None])
def test_rounded_ids_are_refused_in_files_and_frames_of_votes(tmp_path, suffix):
    for name, frame in zip(("counts", "clicks"), _rounded_frames(), strict=True):
        values = frame if suffix is None else tmp_path / f"{name}{suffix}"
        if suffix is not None:
            write = frame.to_csv if suffix == ".csv" else frame.to_parquet
            write(values, index=False)
        format = "counts" if name == "counts" else None
        with pytest.raises(InputError) as error:
            aggregate(values, reading=VotesReading(format=format))
        where = "column image_id" if suffix is None else f"{values}, column image_id"
        assert str(error.value) == (
            "Image ids are floats that may have been rounded.\n"
            f"  where:   {where}\n  got:     5.877229817420841e+17\n"
            "  allowed: floats up to 9,007,199,254,740,992, whole numbers or strings\n"
            "  do:      where the table was made, read the column as strings or integers, such as Int64 "
            "in pandas"
        )


def test_rounded_ids_of_raters_are_refused(tmp_path):
    pd = pytest.importorskip("pandas")
    clicks = pd.DataFrame({"image_id": ["a", "b"], "rater_id": [2.0**60] * 2, "label": ["disc", "smooth"]})
    with pytest.raises(InputError, match="Rater ids are floats that may have been rounded"):
        aggregate(clicks)
    clicks.to_csv(path := tmp_path / "clicks.csv", index=False)
    with pytest.raises(InputError, match="Rater ids are floats that may have been rounded"):
        aggregate(path)


def test_a_rounded_id_is_not_called_a_duplicate(tmp_path):
    """The advice to retain one row per image would delete two of three galaxies."""
    (path := tmp_path / "labels.csv").write_text("image_id,labels\n5.87723E+17,disc\n5.87723E+17,smooth\n")
    with pytest.raises(InputError, match="may have been rounded"):
        read_labels(path)
