"""Groups of images, end to end: what is planted is named, whatever defines it."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from manyhot import Predictions, Reading, diagnose_groups, evaluate, tables
from manyhot.core.sets import YES
from manyhot.diagnose import groups_result, image_statistics
from manyhot.errors import InputError
from manyhot.formats import read_images, read_labels, read_objects
from manyhot.formats.prediction_folders import prediction_files, unread_notes
from manyhot.predict.sources import open_source
from manyhot.run import Run
from manyhot.tables import Images, Objects, check
from manyhot.tables.array_inputs import as_labels
from manyhot.tables.arrays import states_of_labels
from report_pages import parse

N, CLASSES = 400, ("cat", "dog")
IDS = [f"{i:03}.jpg" for i in range(N)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Return photographs of which a third have a green frame, and their images table."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    framed = rng.random(N) < 1 / 3
    for i, name in enumerate(IDS):
        small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        pixels = np.array(small.resize((72, 60), Image.Resampling.BICUBIC))
        if framed[i]:
            pixels[:5] = pixels[-5:] = (0, 150, 60)
            pixels[:, :5] = pixels[:, -5:] = (0, 150, 60)
        Image.fromarray(pixels).save(folder / name, quality=92)
    uris = [str(folder / name) for name in IDS]
    pq.write_table(pa.table({"image_id": IDS, "uri": uris}), folder / "images.parquet")
    return folder, framed


@pytest.fixture(scope="module")
def label():
    return np.random.default_rng(1).integers(2, size=N)


def labels_of(label):
    found = as_labels([[int(c)] for c in label], n_classes=2, label=label)
    table = found.table.set_column(0, "image_id", pa.array(IDS))
    return type(found)(table, 2, found.class_hash, name="pets")


def predictions_of(label, wrong, sure=0.95):
    scores = np.full((N, 2), 1 - sure, np.float32)
    scores[np.arange(N), np.where(wrong, 1 - label, label)] = sure
    return Predictions(pa.array(IDS), "net", scores=scores, score_kind="probability", n_classes=2)


def asked(label, wrong, **options):
    reading = options.pop("reading", Reading(classes=CLASSES))
    return diagnose_groups(
        labels_of(label), [predictions_of(label, wrong)], reading=reading, permutations=200, **options
    )


def test_a_frame_is_named_with_its_colour_shown_and_nothing_else(photographs, label, tmp_path):
    folder, framed = photographs
    rng = np.random.default_rng(2)
    wrong = rng.random(N) < np.where(framed, 0.7, 0.1)
    found = asked(label, wrong, reading=Reading(images=folder / "images.parquet", classes=CLASSES))
    rows = check(found.groups, "groups").to_pylist()
    assert {row["name"] for row in rows} == {"green frame"}
    (row,) = [r for r in rows if r["outcome"] == "error"]
    assert (row["n"], row["events"]) == (framed.sum(), (wrong & framed).sum())
    assert (row["n_outside"], row["events_outside"]) == ((~framed).sum(), (wrong & ~framed).sum())
    right, others = (100 * (~wrong & images).sum() / images.sum() for images in (framed, ~framed))
    assert row["sentence"] == (
        f"Images with a green frame: {right:.0f} % of {framed.sum()} are right, compared with {others:.0f} % "
        "of other images."
    )
    assert row["p"] <= 0.01
    statistics = check(found.images, "images")
    assert [bool(g) for g in statistics["groups"].to_pylist()] == framed.tolist()

    written = found.write(tmp_path)
    examples = tables.read(tmp_path / "group_examples.parquet", "group_examples").to_pylist()
    own = [r for r in examples if r["group"] == row["group"]]
    assert len(own) == 9
    assert all((tmp_path / r["photograph"]).is_file() and framed[IDS.index(r["image_id"])] for r in own)
    page = next(p for p in written if p.name == "index.html").read_text()
    assert row["sentence"] in page
    assert page.count("<img") >= 9
    assert row["sentence"] in str(found)
    assert json.dumps(found.to_json())


def test_photographs_are_measured_once(photographs, label, monkeypatch):
    folder, framed = photographs
    reading = Reading(images=folder / "images.parquet", classes=CLASSES)
    first = asked(label, framed, reading=reading)
    monkeypatch.setattr(image_statistics, "find_photographs", lambda _: pytest.fail("read again"))
    second = asked(label, framed & False, reading=reading)
    tables_ = [found.images.drop_columns("groups") for found in (first, second)]
    assert repr(tables_[0].to_pylist()) == repr(tables_[1].to_pylist())
    assert not len(second.groups)


def test_a_changed_photograph_is_measured_again(tmp_path):
    place = tmp_path / "one.png"
    for level in (10, 250):
        Image.new("RGB", (40, 40), (level, level, level)).save(place)
        found = image_statistics.measure_images(pa.array(["one.png"]), [str(place)], tmp_path)
        assert found.values("brightness")[0] == pytest.approx(level / 255, abs=0.01)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    found = image_statistics.measure_images(pa.array(["a", "b"]), [str(broken), None], None)
    assert found.table["skipped"].to_pylist() == [
        "not an image of a known format",
        "the images table has no uri for this image",
    ]
    assert np.isnan(found.values("brightness")).all()


def test_kept_statistics_are_not_noted_as_unread_predictions(photographs, label, tmp_path):
    """Statistics are kept beside predictions, in the folder that later calls read."""
    folder, framed = photographs
    image_statistics.measure_images(pa.array(IDS[:3]), [str(folder / name) for name in IDS[:3]], tmp_path)
    tables.write_predictions(predictions_of(label, framed), tmp_path / "net.parquet")
    assert any((tmp_path / "statistics").iterdir())
    (read,) = prediction_files([tmp_path])
    assert unread_notes([tmp_path], [read]) == []


@pytest.mark.parametrize("is_listed", [True, False], ids=["empty lists", "images without a row"])
def test_images_without_a_predicted_class_are_an_outcome(label, is_listed):
    """Of a model of language, which refuses to answer about one hospital."""
    hospital = np.random.default_rng(3).choice(["north", "south", "west"], N)
    none = (hospital == "west") & (np.random.default_rng(4).random(N) < 0.6)
    best = np.where(none, -1, label)[:, None]
    model = Predictions(pa.array(IDS), "net", best, n_classes=2)
    model = model if is_listed else model.take(np.flatnonzero(~none))
    metadata = Images(pa.table({"image_id": IDS, "hospital": hospital}))
    options = {"metadata": metadata, "reading": Reading(classes=CLASSES), "permutations": 200}
    rows = diagnose_groups(labels_of(label), [model], **options).groups.to_pylist()
    (row,) = [r for r in rows if r["outcome"] == "no_prediction" and r["name"] == "hospital west"]
    west = hospital == "west"
    assert (row["n"], row["events"]) == (west.sum(), none.sum())
    assert (row["n_outside"], row["events_outside"]) == ((~west).sum(), 0)
    assert row["sentence"] == (
        f"Images with hospital west: {100 * none.sum() / west.sum():.0f} % of {west.sum()} have no predicted "
        "class, compared with 0 % of other images."
    )
    assert {r["outcome"] for r in rows} <= {"no_prediction", *(("error", "missed") if is_listed else ())}


def test_metadata_alone_will_do(label):
    rng = np.random.default_rng(3)
    hospital = rng.choice(["north", "south", "west"], N)
    dose = rng.random(N)
    wrong = rng.random(N) < np.where(hospital == "west", 0.6, 0.05) + 0.5 * (dose > 0.8)
    metadata = Images(pa.table({"image_id": IDS, "hospital": hospital, "dose": dose}))
    found = asked(label, wrong, metadata=metadata)
    errors = {r["name"]: r for r in found.groups.to_pylist() if r["outcome"] == "error"}
    west = errors["hospital west"]
    assert west["sentence"].startswith("Images with hospital west: ")
    assert (west["n"], west["events"]) == ((hospital == "west").sum(), (wrong & (hospital == "west")).sum())
    assert any(name.startswith("dose ≥ 0.") for name in errors)
    assert any("no groups are defined by pixels" in note for note in found.notes)


def test_columns_of_an_images_table_without_photographs_are_metadata(label, tmp_path):
    rng = np.random.default_rng(3)
    hospital = rng.choice(["north", "south", "west"], N)
    wrong = rng.random(N) < np.where(hospital == "west", 0.6, 0.05)
    order = rng.permutation(N)
    rows = [f"{IDS[i]},{hospital[i]}\n" for i in order]
    (tmp_path / "images.csv").write_text("".join(["image_id,hospital\n", *rows]))
    metadata = asked(label, wrong, metadata=tmp_path / "images.csv")
    images = asked(label, wrong, reading=Reading(classes=CLASSES, images=tmp_path / "images.csv"))
    assert images.groups.to_pylist() == metadata.groups.to_pylist()
    assert images.tables["group_rates"].to_pylist() == metadata.tables["group_rates"].to_pylist()
    assert "hospital west" in {r["name"] for r in images.groups.to_pylist()}


def test_with_several_models_each_sentence_about_one_names_it(label):
    hospital = np.random.default_rng(3).choice(["north", "south", "west"], N)
    metadata = Images(pa.table({"image_id": IDS, "hospital": hospital}))
    wrong = (hospital == "west") & (np.random.default_rng(4).random(N) < 0.6)
    one, other = predictions_of(label, wrong), replace(predictions_of(label, wrong), model="other")
    reading = Reading(classes=CLASSES)
    found = diagnose_groups(
        labels_of(label), [one, other], metadata=metadata, reading=reading, permutations=200
    )
    rows = found.groups.to_pylist()
    assert {r["model"] for r in rows} == {"net", "other"}
    assert all(r["sentence"].startswith(f"{r['model']}: I") for r in rows)
    alone = diagnose_groups(labels_of(label), [one], metadata=metadata, reading=reading, permutations=200)
    assert all(r["sentence"].startswith("I") for r in alone.groups.to_pylist())


@pytest.mark.parametrize("is_frame", [False, True])
def test_a_companion_from_a_table_of_objects_is_named(label, is_frame):
    rng = np.random.default_rng(4)
    person = (label == 1) & (rng.random(N) < 0.9)
    rows = np.flatnonzero(person)
    boxes = {
        name: np.full(len(rows), v, np.float32)
        for name, v in (("x1", 0), ("y1", 0), ("x2", 0.5), ("y2", 0.5))
    }
    table = pa.table(
        {
            "image_id": [IDS[i] for i in rows],
            "class_id": np.zeros(len(rows), np.int32),
            **boxes,
            "ignore": [False] * len(rows),
        }
    )
    found = diagnose_groups(
        labels_of(label),
        objects=pd.DataFrame(table.to_pydict() | {"class": "person"})
        if is_frame
        else Objects(table, ("person",)),
        reading=Reading(classes=CLASSES),
        permutations=200,
    )
    row = found.groups.to_pylist()[0]
    n = int((label == 1).sum())
    assert row["sentence"] == (
        f"{100 * person.sum() / n:.0f} % of {n} images of dog are images with a person, compared with 0 % of "
        "images with other labels."
    )
    assert (row["model"], row["class_name"], row["kind"]) == (None, "dog", "object")


def test_groups_that_differ_only_by_class_are_not_named(label):
    """Every image of a class comes from one hospital, and the model is worse on that class."""
    rng = np.random.default_rng(5)
    wrong = rng.random(N) < np.where(label == 1, 0.6, 0.1)
    metadata = Images(pa.table({"image_id": IDS, "hospital": np.where(label == 1, "west", "north")}))
    found = asked(label, wrong, metadata=metadata)
    assert {r["outcome"] for r in found.groups.to_pylist()} == {"label"}


def test_images_without_a_label_are_not_searched(photographs, label, tmp_path):
    """Groups, quantiles and counts of labels of a split are those of an images table of this split alone."""
    folder, _ = photographs
    images = pq.read_table(folder / "images.parquet")
    names = [CLASSES[c] for c in label]
    test = np.arange(N) % 2 == 0
    size = pa.array(np.where(test, np.arange(N), 10_000.0 + np.arange(N)))
    images = images.append_column("size", size)
    pq.write_table(images, tmp_path / "all.parquet")
    pq.write_table(images.filter(pa.array(test)), tmp_path / "some.parquet")
    labels = pa.table(
        {"image_id": IDS, "label": [n if t else None for n, t in zip(names, test, strict=True)]}
    )
    pq.write_table(labels, tmp_path / "l-empty.parquet")
    pq.write_table(labels.filter(pa.array(test)), tmp_path / "l-some.parquet")
    found = {}
    for labels, table in (("some", "some"), ("some", "all"), ("empty", "all")):
        made = diagnose_groups(
            tmp_path / f"l-{labels}.parquet", images=tmp_path / f"{table}.parquet", permutations=100
        )
        found[labels, table] = made
    expected = found["some", "some"]
    assert next(expected.lines()).startswith(f"Found among {N // 2} images: ")
    for made in found.values():
        assert next(made.lines()) == next(expected.lines())
        assert made.images["image_id"].to_pylist() == [i for i, t in zip(IDS, test, strict=True) if t]
        assert made.metadata == expected.metadata
    notes = {key: " ".join(made.notes) for key, made in found.items()}
    left_out = f"l-empty: {N // 2} of {N} images have no label and are left out"
    assert {key: left_out in text for key, text in notes.items()} == {key: "empty" in key for key in notes}


def test_statistics_define_slices(photographs, label, tmp_path):
    folder, framed = photographs
    found = asked(label, framed, reading=Reading(images=folder / "images.parquet", classes=CLASSES))
    found.write(tmp_path)
    images = read_images(tmp_path / "images.parquet")
    results = evaluate(
        labels_of(label),
        [predictions_of(label, framed)],
        slices=["groups", "brightness<=0.5"],
        reading=Reading(images=images, classes=CLASSES),
    ).results
    rows = {r["slice"]: r for r in results.to_pylist() if r["metric"] == "top1"}
    assert rows["groups=green frame"]["n"] == framed.sum()
    assert rows["groups=green frame"]["value"] == 0


def test_without_anything_that_defines_groups_there_is_an_error(label):
    with pytest.raises(InputError) as error:
        asked(label, label == 0)
    assert str(error.value) == (
        "Nothing defines groups of these images.\n"
        "  where:   pets\n"
        "  allowed: an images table with the column uri, `metadata`, `objects` or `embeddings`\n"
        "  do:      pass the folder that manyhot predict wrote as `images`, or a table as `metadata`"
    )


def test_no_finding_is_said_in_words():
    nothing = "no properties of images associated with labels."
    of_models = f"Found: no groups on which a model is worse, and {nothing}"
    assert next(groups_result.groups_answer([], {"models": "1"})) == of_models
    assert next(groups_result.groups_answer([], {})) == f"Found: {nothing}"
    counted = next(groups_result.groups_answer([], {"images": "1200"}))
    assert counted == f"Found among 1,200 images: {nothing}"


def test_what_nearly_all_images_of_a_class_have_cannot_be_tested():
    """A test needs images of other classes that have it, but none of the class that lack it."""
    row = {"model": None, "name": "tag", "class_name": "dog", "kind": "mark", "n_other": 14}
    row |= {"sentence": "A tag …", "outcome": "label", "class_id": 1}
    about = {"models": "1", "min_images": "25"}
    _, bound, _ = groups_result.groups_answer([row], about)
    assert bound == (
        "For 1 of these properties, it cannot be tested whether a model predicts the class because of the "
        "property, since fewer than 25 images of other classes have it: tag (dog, 14). Add such images, or "
        "paste the mark into images with manyhot mitigate, as in the command below."
    )
    assert len([*groups_result.groups_answer([row | {"n_other": 25}], about)]) == 2
    assert len([*groups_result.groups_answer([row], {"min_images": "25"})]) == 2
    _, bound, _ = groups_result.groups_answer([row | {"kind": "tint"}], about)
    assert bound.endswith(" tag (dog, 14). Add such images.")


def test_the_page_has_the_numbers_of_the_benchmark():
    root = Path(__file__).parents[2]
    page = " ".join((root / "docs/guides/diagnose/groups.md").read_text(encoding="utf-8").split())
    with (root / "benchmarks/groups.csv").open(encoding="utf-8") as file:
        every = list(csv.DictReader(file))
    rows = [row for row in every if row["phase"] == "plant"]
    assert len(rows) == 19
    clean = [row for row in every if row["phase"] == "clean"]
    assert [row["never"] for row in clean] == ["none"] * 10
    agree, measured = (sum(int(row[name]) for row in clean) for name in ("agree", "measured"))
    assert f"for {agree} of {measured} associations" in page
    chance = [row for row in every if row["phase"] == "chance"]
    assert {row["data"] for row in chance} == {"voc", "cifar10"}
    for row in chance:
        assert re.search(rf"\b{row['found']} of {row['searches']} ", page)
    for row in rows:
        name = {"voc": "VOC", "cifar10": "CIFAR-10"}[row["data"]]
        place = row["rank_held_out"] if row["rank_held_out"].isdigit() else "–"
        cells = (name, row["planted"], row["class"], row["called"], row["rank_labels"], place)
        assert f"| {' | '.join(cells)} |" in page


@pytest.fixture
def leaning(photographs):
    """Most images with a frame are dogs, and hardly any others."""
    framed = photographs[1]
    return np.where(np.random.default_rng(6).random(N) < 0.95, framed, ~framed).astype(int)


def test_the_boxes_of_a_frame_and_the_images_that_have_it_are_written(photographs, leaning, tmp_path):
    """They are those that were drawn: 5 of 72 pixels on the left and right, 5 of 60 above and below."""
    folder, framed = photographs
    reading = Reading(images=folder / "images.parquet", classes=CLASSES)
    found = asked(leaning, framed & False, reading=reading)
    (row,) = found.groups.to_pylist()  # and not that cats are images without a green frame
    assert (row["name"], row["class_name"]) == ("green frame", "dog")
    written = found.write(tmp_path / "groups")
    assert {"objects.parquet", "labels.parquet"} <= {path.name for path in written}
    objects, labels = (
        read_objects(tmp_path / "groups/objects.parquet"),
        read_labels(tmp_path / "groups/labels.parquet"),
    )
    assert objects.keys == (*CLASSES, "green frame")
    assert objects.keys == labels.class_list.keys
    assert set(objects.images) == {name for name, has in zip(IDS, framed, strict=True) if has}
    frame = objects.table.filter(pa.compute.equal(objects.table["image_id"], IDS[int(framed.argmax())]))
    boxes = np.array([frame[c].to_numpy() for c in ("x1", "y1", "x2", "y2")]).T
    x, y = 5 / 72, 5 / 60
    drawn = [(0, 0, 1, y), (0, 1 - y, 1, 1), (0, y, x, 1 - y), (1 - x, y, 1, 1 - y)]
    np.testing.assert_allclose(boxes, drawn, atol=0.015)
    covered = np.abs(boxes - drawn)
    assert covered.max() > 0  # a little wider, so that no line of it remains

    states = states_of_labels(labels, labels.class_list).state
    np.testing.assert_array_equal(states[:, 2] == YES, framed)
    np.testing.assert_array_equal(states[:, :2] == YES, np.eye(2, dtype=bool)[leaning])
    step = "--objects groups/objects.parquet --labels groups/labels.parquet --model NAME --pair"
    assert f"{step} 'dog:green frame'".replace("groups/", f"{tmp_path}/groups/") in str(found)
    page = parse((tmp_path / "groups/report/index.html").read_text())
    assert f"{step} 'dog:green frame'" in page.text

    asked(leaning, framed & False, metadata=Images(pa.table({"image_id": IDS, "x": ["a", "b"] * 200}))).write(
        tmp_path / "groups"
    )
    assert not (tmp_path / "groups/objects.parquet").exists()  # nor is an earlier one left


@pytest.mark.parametrize("kind", ["a table", "a table with ids of another form"])
def test_the_next_command_names_the_photographs_and_not_the_table_of_their_places(
    photographs, leaning, tmp_path, kind
):
    folder, _ = photographs
    ids = IDS if kind == "a table" else [name.removesuffix(".jpg") for name in IDS]
    table = pa.table({"image_id": ids, "uri": [str(folder / name) for name in IDS]})
    pq.write_table(table, tmp_path / "images.parquet")
    pq.write_table(
        pa.table({"image_id": ids, "label": [CLASSES[c] for c in leaning]}), tmp_path / "l.parquet"
    )
    call = f"manyhot diagnose groups l.parquet --images {tmp_path / 'images.parquet'}"
    found = diagnose_groups(tmp_path / "l.parquet", images=tmp_path / "images.parquet", permutations=100)
    found.write(tmp_path / "groups", run=Run(call=call))
    (step,) = (line.rpartition(": ")[2] for line in found.lines() if line.startswith("next: "))
    assert step.startswith(f"manyhot mitigate {folder} --objects ")
    assert open_source(folder).n == N
    page = (tmp_path / "groups" / "report" / "index.html").read_text(encoding="utf-8")
    assert f"manyhot mitigate {folder} --objects " in parse(page).text


@pytest.mark.parametrize(
    ("uris", "place"),
    [
        (["{}/a/1.jpg", "{}/a/b/2.jpg", None], "{}/a"),
        (["{}/a/b.tar#1.jpg", "{}/a/b.tar#2.jpg"], "{}/a/b.tar"),
        (["{}/a/b.tar/x/1.jpg", "{}/a/b.tar/x/2.jpg"], "{}/a/b.tar"),
        (["{}/a/1.jpg", "{}/ab/2.jpg"], "{}"),
        (["{}/gone/1.jpg"], ""),
        (["s3://photos/a/1.jpg", "s3://photos/b/2.jpg"], "s3://photos"),
        (["s3://one/1.jpg", "s3://two/2.jpg"], ""),
        (["1.jpg", "{}/a/2.jpg"], ""),
        ([], ""),
    ],
)
def test_the_place_of_photographs(uris, place, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b.tar").touch()
    own = [None if uri is None else uri.format(tmp_path) for uri in uris]
    assert groups_result._place_of(own) == place.format(tmp_path)


def test_original_labels_are_the_only_classes_of_their_images(photographs, leaning, tmp_path):
    folder, framed = photographs
    text = "".join(f"{name},{CLASSES[c]}\n" for name, c in zip(IDS, leaning, strict=True))
    (tmp_path / "labels.csv").write_text("image_id,label\n" + text)
    reading = Reading(images=folder / "images.parquet")
    found = diagnose_groups(tmp_path / "labels.csv", reading=reading, permutations=200)
    labels = found.marks.labels
    assert labels.class_list.keys == (*CLASSES, "green frame")
    for state, at in zip(labels.table["state"].to_pylist()[:50], range(50), strict=True):
        classes = ("yes" if shown else "no" for shown in (leaning[at] == 1, framed[at]))
        (dog, frame) = classes
        assert state[-2:] == [dog, frame]


@pytest.mark.parametrize("form", ["zeros and ones", "lists", "empty cells"])
def test_answers_no_are_written_with_the_marks(photographs, leaning, tmp_path, form):
    """Without them, all answers about a class would be *yes*, so any scores would have a mAP of 100 %."""
    folder, framed = photographs
    answers = np.stack([np.random.default_rng(7).random(N) < 0.5, leaning == 1], axis=1)
    expected = [
        dict(enumerate("yes" if shown else "no" for shown in (*own, has)))
        for own, has in zip(answers, framed, strict=True)
    ]
    if form == "lists":
        names = (" ".join(c for c, shown in zip(CLASSES, own, strict=True) if shown) for own in answers)
        lines = ["image_id,labels", *map(",".join, zip(IDS, names, strict=True))]
    else:
        cells = [[str(int(shown)) for shown in own] for own in answers]
        if form == "empty cells":
            cells[4][0], cells[9][0] = "", ""
            del expected[4][0], expected[9][0]
        lines = ["image_id,cat,dog", *(",".join((n, *own)) for n, own in zip(IDS, cells, strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    reading = Reading(images=folder / "images.parquet", classes=CLASSES)
    diagnose_groups(tmp_path / "labels.csv", reading=reading, permutations=200).write(tmp_path / "out")
    written = pq.read_table(tmp_path / "out/labels.parquet").to_pylist()
    assert [dict(zip(row["classes"], row["state"], strict=True)) for row in written] == expected


def found(outcome, class_name, **more):
    """Return a finding about a frame."""
    about = {"outcome": outcome, "class_name": class_name, "kind": "frame", "name": "green frame"}
    return about | {"model": "net", "n": 50, "events": 40, "sentence": f"{class_name} {outcome}."} | more


def test_the_answer_is_what_images_are_called_and_not_which_are_missed():
    """Framed cats that are called dog are missed; the frame is a shortcut of dogs, and not of cats."""
    rows = [found("missed", "cat"), found("called", "bird", name="tag"), found("called", "dog")]
    assert next(groups_result.groups_answer(rows, {})).startswith("dog called. ")
    step = groups_result._to_mitigate([rows[0], rows[2]])
    assert step.command.endswith("--pair 'dog:green frame'")
    assert next(groups_result.groups_answer(rows[:2], {})).startswith("cat missed. ")
    assert groups_result._to_mitigate(rows[:1]) is None
    of_label = found("label", "dog", model=None)
    answer = next(groups_result.groups_answer([of_label], {"models": "1", "images": "50"}))
    assert answer == (
        "Found among 50 images: no groups on which a model is worse, and 1 property of images associated "
        "with labels. dog label."
    )
    assert groups_result._to_mitigate([found("label", "dog")]) == step
    # A mark on all dogs and on no other image may be the dog; a frame is not, and is removed instead.
    itself = found("label", "dog", kind="mark", name="grey mark", events_outside=0)
    assert groups_result._to_mitigate([itself, found("label", "dog", events_outside=0)]) == step
    alone = groups_result._to_mitigate([itself])
    assert alone.command.endswith("--pair 'dog:grey mark'")
    assert "the grey mark (if it is not the class itself), whose boxes" in alone.text
    assert groups_result._to_mitigate([found("label", "dog", name="no green frame")]) is None


def test_class_folders_without_predictions_are_as_the_same_labels_in_a_file(photographs, tmp_path):
    folder, framed = photographs
    labels = tmp_path / "labels.csv"
    for name, is_framed in zip(IDS, framed, strict=True):
        place = tmp_path / "classes" / CLASSES[int(is_framed)]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, place)
    rows = [f"{name},{CLASSES[int(is_framed)]}" for name, is_framed in zip(IDS, framed, strict=True)]
    labels.write_text("\n".join(["image_id,label", *rows]))
    both = [
        diagnose_groups(place, reading=Reading(images=tmp_path / "classes"))
        for place in (tmp_path / "classes", labels)
    ]
    assert "images of dog are images with a green frame" in " ".join(both[0].lines())
    assert [*both[0].lines()] == [*both[1].lines()]
