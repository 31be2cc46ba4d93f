"""Campaigns, class folders, foreign tables of images, and values in memory as the inputs of a call."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

import manyhot as mh
from manyhot import tables
from manyhot.data.inputs import open_inputs
from manyhot.data.table_inputs import read_splits
from manyhot.errors import InputError, MatchError
from manyhot.formats import read_images, read_labels, read_predictions
from manyhot.reassess.init import init_campaign
from manyhot.train.order import held_out_of

CLASSES = ["dog", "ant", "cow"]
"""Not sorted, so that sorting them is noticed."""

IDS = [f"{CLASSES[i % 3]}/{i // 3}.png" for i in range(60)]
LABEL = np.arange(60) % 3
NAMES = [CLASSES[c] for c in LABEL]


def scores(columns, seed=0):
    logits = np.random.default_rng(seed).normal(size=(60, 3)) + (1 + seed) * np.eye(3)[LABEL]
    return pd.DataFrame(logits.astype(np.float32), IDS, CLASSES)[columns]


MODELS = {"a": scores(CLASSES), "b": scores(sorted(CLASSES), 1)}
"""Columns of two models in different orders."""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("\n".join(CLASSES))
    return tmp_path


@pytest.fixture
def photos():
    for name in IDS:
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(f"photos/{name}")
    return Path("photos")


@pytest.fixture
def camp():
    """Make a campaign whose label sets differ from the original labels, with results in its folder."""
    pd.DataFrame({"image_id": IDS, "label": NAMES}).to_csv("images.csv", index=False)
    init_campaign("camp", images="images.csv", classes="classes.txt")
    votes = [
        (i, CLASSES[(c + d) % 3], "r", "yes" if d < 2 else "no")
        for i, c in zip(IDS, LABEL, strict=True)
        for d in range(3)
    ]
    frame = pd.DataFrame(votes, columns=["image_id", "class_id", "rater_id", "answer"])
    frame.to_csv("votes.csv", index=False)
    votes = mh.read_votes("votes.csv", classes=mh.ClassList(*class_columns()))
    mh.write_votes(replace(votes, class_list=None), "camp/votes.parquet")  # as the app writes them
    mh.aggregate("camp", method="majority").write("camp/labels.parquet")
    Path("camp/results/figures").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save("camp/results/figures/a.png")
    return Path("camp")


def class_columns():
    none = ((),) * 3
    return "classes", tuple(CLASSES), tuple(CLASSES), none, ("",) * 3, none


def real1(labels, **more):
    """Return real1 of both models by a loop, without the package."""
    sets = {
        i: {NAMES[k]} | ({CLASSES[(LABEL[k] + 1) % 3]} if labels == "camp" else set())
        for k, i in enumerate(IDS)
    }
    return {
        m: np.mean([row.idxmax() in sets[i] for i, row in frame.iterrows()]) for m, frame in MODELS.items()
    }


def of_models(labels, **more):
    found = mh.evaluate(labels, MODELS, scores="logit", metrics=["real1"], resamples=0, **more)
    table = found.to_pandas()
    table = table[(table["metric"] == "real1") & (table["slice"] == "all")]
    return dict(zip(table["model"], table["value"], strict=True)), set(table["n"])


def check(labels, by, **more):
    values, n = of_models(labels, **more)
    assert n == {60}
    expected = real1(by)
    assert expected["a"] != expected["b"]
    assert values == pytest.approx(expected)


def names_of(found):
    """Return the names of classes that a comparison shows."""
    return set(found.classes.to_pandas()["key"])


# Campaigns.


@pytest.mark.parametrize("labels", ["camp", "camp/labels.parquet", Path("camp")])
def test_a_campaign_is_a_data_set_for_models_in_memory(camp, labels):
    check(labels, "camp")
    found = mh.compare(MODELS, labels=labels, scores="logit", resamples=0)
    assert names_of(found) == set(CLASSES)


def test_the_label_sets_of_a_campaign_have_its_class_list(camp):
    for labels in (read_labels("camp"), read_labels("camp/labels.parquet")):
        assert labels.class_list.keys == tuple(CLASSES)
    predictions = tables.Predictions(
        pa.array(IDS),
        "m",
        scores=MODELS["a"].to_numpy(),
        score_kind="logit",
        n_classes=3,
        class_hash=read_labels("camp").class_hash,
    )
    tables.write_predictions(predictions, "camp/predictions/m.parquet")
    assert read_predictions("camp/predictions/m.parquet").class_list.keys == tuple(CLASSES)
    Path("camp/labels.parquet").rename("labels.parquet")
    assert read_labels("labels.parquet").class_list.keys == tuple(CLASSES)  # it has a copy
    Path("labels.parquet").rename("camp/labels.parquet")
    other = pd.DataFrame({"class_id": range(3), "key": ["x", "y", "z"], "name": ["x", "y", "z"]})
    other.to_parquet("camp/classes.parquet")
    assert read_predictions("camp/predictions/m.parquet").class_list is None  # another list


@pytest.mark.parametrize("labelled", [True, False])
def test_a_campaign_without_label_sets(camp, labelled):
    Path("camp/labels.parquet").unlink()
    if not labelled:
        images = tables.read("camp/images.parquet", "images").drop_columns("label")
        tables.write(images, "camp/images.parquet", "images", call="")
    for function in (read_labels, lambda camp: mh.evaluate(camp, MODELS, scores="logit")):
        with pytest.raises(InputError) as error:
            function("camp")
        assert str(error.value) == (
            "The campaign has no label sets yet.\n  where:   camp\n"
            "  do:      make them from its votes: manyhot aggregate camp"
        )


# Images.


def test_images_in_class_folders(photos):
    """Those of a campaign, and those to show."""
    init_campaign("camp", images="photos", classes="classes.txt")
    table = tables.read("camp/images.parquet", "images")
    assert table["uri"].to_pylist() == [f"photos/{i}" for i in table["image_id"].to_pylist()]
    of = dict(zip(IDS, LABEL.tolist(), strict=True))
    assert table["label"].to_pylist() == [of[i] for i in table["image_id"].to_pylist()]
    assert not init_campaign("camp", images="photos", classes="classes.txt").is_new
    (source,) = open_inputs(
        "photos",
        [tables.Predictions(pa.array(IDS), "m", LABEL[:, None], n_classes=3)],
        reading=mh.Reading(images="photos"),
    )
    assert set(source.images.table["uri"].to_pylist()) == {f"photos/{i}" for i in IDS}


def test_folders_that_are_not_classes(photos):
    Path("days.txt").write_text("sunny\nrainy")
    assert (
        read_images(
            "photos",
            classes=mh.ClassList("days", ("sun", "rain"), ("sun", "rain"), ((),) * 2, ("",) * 2, ((),) * 2),
        ).label
        is None
    )
    Path("photos/cow").rename("photos/cat")
    with pytest.raises(InputError, match="The name of a folder is not a class"):
        init_campaign("camp", images="photos", classes="classes.txt")


@pytest.mark.parametrize("column", ["file", "filename", "path"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_of_images_name_them_as_files_of_labels_do(column, suffix):
    frame = pd.DataFrame({column: IDS, "camera": ["x", "y"] * 30, "label": NAMES})
    frame.to_csv("images.csv", index=False) if suffix == "csv" else frame.to_parquet("images.parquet")
    images = read_images(f"images.{suffix}")
    assert images.image_id.to_pylist() == IDS
    assert images.class_list.keys == tuple(sorted(CLASSES))
    assert images.table["camera"].to_pylist() == ["x", "y"] * 30
    assert ("uri" in images.table.column_names) == (column == "path")
    init_campaign("camp", images=f"images.{suffix}", classes="classes.txt")
    assert tables.read("camp/images.parquet", "images")["label"].to_pylist() == LABEL.tolist()
    found = mh.diagnose_groups(pd.Series(NAMES, IDS), MODELS, metadata=f"images.{suffix}", scores="logit")
    assert f"images.{suffix}" in found.inputs


def test_addresses_are_in_a_column_of_paths():
    pd.DataFrame({"file": IDS, "path": [f"w/{i}" for i in IDS]}).to_csv("images.csv", index=False)
    table = read_images("images.csv").table
    assert table["image_id"].to_pylist() == IDS
    assert table["uri"].to_pylist() == [f"w/{i}" for i in IDS]
    assert "path" not in table.column_names


def test_a_table_of_numbers_may_be_one_of_images():
    """Fractions may be measurements, such as coordinates: what the table is was said by passing it."""
    wide = {c: (i == LABEL).astype(int) for i, c in enumerate(CLASSES)}
    pd.DataFrame({"file": IDS} | {c: v + 0.5 for c, v in wide.items()}).to_csv("scores.csv", index=False)
    assert read_images("scores.csv").image_id.to_pylist() == IDS
    # Columns beside the classes of a table of label sets may be conditions and clusters, such as patients.
    pd.DataFrame({"file": IDS} | wide).to_csv("wide.csv", index=False)
    assert read_images("wide.csv").image_id.to_pylist() == IDS


# Splits.


def test_a_table_of_splits():
    split = ["test" if i % 4 == 0 else "train" for i in range(60)]
    pd.DataFrame({"file": [f"photos/{i}" for i in IDS], "label": ["?"] * 60, "split": split}).to_csv(
        "s.csv", index=False
    )
    assert read_splits("s.csv") == {f"photos/{i}": s for i, s in zip(IDS, split, strict=True)}
    assert held_out_of("s.csv", 0.3, 0).of(IDS).tolist() == [s == "test" for s in split]
    with pytest.raises(MatchError):
        held_out_of("s.csv", 0.3, 0).of(["u.png", "v.png"])


# Values in memory.


def test_names_in_rows_do_not_depend_on_the_order_of_columns():
    check(pd.Series(NAMES, IDS), "original")
    assert names_of(mh.compare(MODELS, labels=pd.Series(NAMES, IDS), scores="logit", resamples=0)) == set(
        CLASSES
    )


@pytest.mark.parametrize("form", ["series", "frame", "column", "folders"])
def test_labels_without_answers_say_nothing_about_classes_that_were_not_asked(form, photos):
    series = pd.Series(NAMES, IDS, name="label")
    labels = {
        "series": series,
        "frame": series.to_frame(),
        "column": series.rename_axis("file").reset_index(),
        "folders": "photos",
    }
    found = mh.evaluate(labels[form], MODELS, scores="logit", metrics=["real1", "real1_unasked"], resamples=0)
    rows = found.to_pandas().query("slice == 'all'").set_index(["metric", "model"])
    assert (rows.loc["real1", "n"] == 60).all()
    assert (rows.loc["real1_unasked", "n"] == 0).all()
    assert rows.loc["real1_unasked", "value"].isna().all()


def test_class_folders_keep_their_names_for_models_in_memory(photos):
    check("photos", "original")
    assert names_of(mh.compare(MODELS, labels="photos", scores="logit", resamples=0)) == set(CLASSES)


def test_a_list_of_names_is_a_class_list(camp):
    made = init_campaign("other", images="images.csv", classes=CLASSES)
    assert made.campaign.class_hash == read_labels("camp").class_hash
    frame = pd.read_csv("votes.csv")
    found = mh.aggregate(frame, classes=CLASSES, method="majority")
    assert found.labels.class_hash == read_labels("camp").class_hash
    check(found, "camp")  # a result with label sets is label sets


def test_images_in_memory():
    frame = pd.DataFrame({"file": IDS, "camera": ["x", "y"] * 30, "label": NAMES})
    found = mh.evaluate(
        pd.Series(NAMES, IDS), MODELS, images=frame, slices=["camera"], scores="logit", resamples=0
    )
    made = init_campaign("camp", images=frame, classes=CLASSES)
    assert tables.read("camp/images.parquet", "images")["label"].to_pylist() == LABEL.tolist()
    assert not init_campaign("camp", images=frame, classes=CLASSES).is_new
    assert made.is_new
    assert {"camera=x", "camera=y"} <= set(found.to_pandas()["slice"])
    with pytest.raises(InputError) as error:
        mh.evaluate(pd.Series(NAMES, IDS), MODELS, images=frame[["camera"]], scores="logit")
    assert str(error.value) == (
        "`images` is not a table of images.\n  got:     the columns camera\n  allowed: a file, a folder, an "
        "images table, or a data frame with the column image_id, filename, path or id or with the ids as its "
        "index"
    )


@pytest.mark.parametrize("more", [[], ["yak", "ape"]])
def test_the_classes_of_a_file_have_the_same_ids_in_all_commands(more):
    """Those of its columns, in their order; classes of the predictions alone come last, sorted."""
    truth = pd.DataFrame(np.eye(3, dtype=int)[LABEL], pd.Index(IDS, name="image_id"), CLASSES)
    truth.to_csv("labels.csv")
    mh.convert("labels.csv", "labels.parquet")
    columns = [*more, *sorted(CLASSES)]
    wide = scores(CLASSES).assign(**dict.fromkeys(more, 0.0))[columns]
    wide.rename_axis("image_id").to_csv("scores.csv")
    expected = [*CLASSES, *sorted(more)]
    assert list(read_labels("labels.csv").class_list.keys) == CLASSES
    assert list(read_labels("labels.parquet").class_list.keys) == CLASSES
    ap = [average_precision_score(c == LABEL, scores(CLASSES)[name]) for c, name in enumerate(CLASSES)]
    for labels in ("labels.csv", "labels.parquet"):
        for model in ("scores.csv", *([] if more else [{"m": wide}])):
            found = mh.diagnose_classes(labels, model, scores="logit").class_results
            result = mh.evaluate(labels, model, scores="logit", resamples=0).per_class["class_results"]
            for table in (found, result):
                assert table["class_id"].to_pylist() == list(range(len(expected)))
                assert table["key"].to_pylist() == expected
                assert table["ap"].to_pylist()[:3] == pytest.approx(ap)
