"""Duplicates from images to files: each kind of copy is found, others are not, and what is wrong is said."""

import io
import json
import re
import shutil
import sys
import tarfile

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import norm
from typer.testing import CliRunner

import manyhot
from manyhot import cli, tables
from manyhot.diagnose import duplicate_images
from manyhot.diagnose.duplicates import diagnose_duplicates
from manyhot.errors import InputError, MatchError, MissingExtraError
from manyhot.predict.embeddings import EMBEDDINGS_FOLDER
from manyhot.tables.predictions_files import write_predictions as write_table
from report_pages import parse
from source_kinds import add

N = 12


def photograph(seed, size=(120, 96)):
    rng = np.random.default_rng(seed)
    layers = [
        gaussian_filter(rng.normal(size=(size[1], size[0], 3)), (s, s, 0)) * s**1.5 for s in (1, 3, 8, 20)
    ]
    pixels = sum(layers)
    pixels = 255 * (pixels - pixels.min()) / np.ptp(pixels)
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "JPEG", "quality": 90} | options))
    return buffer.getvalue()


def copies(image):
    """Return a file of each kind of copy, by the name of the kind."""
    width, height = image.size
    box = (0, 4, round(0.9 * width), 4 + round(0.9 * height))
    return {
        "bytes": saved(image),
        "pixels": saved(Image.open(io.BytesIO(saved(image))), format="PNG"),
        "saved again": saved(image, quality=50),
        "resized": saved(image.resize((width // 2, height // 2))),
        "cropped": saved(image.crop(box)),
        "mirrored": saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    }


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a test set of 12 photographs, and a training set with a copy of six of them, each of a kind."""
    root = tmp_path_factory.mktemp("duplicates")
    images = [photograph(seed) for seed in range(2 * N)]
    test = write(root / "test", {f"{'ab'[i % 2]}/{i:02}.jpg": saved(images[i]) for i in range(N)})
    files = {f"a/{i:02}.jpg": saved(images[i]) for i in range(N, 2 * N)}
    # The copy of image 1 is in the folder of another class.
    for i, (kind, data) in enumerate(copies(images[0]).items()):
        data = copies(images[i])[kind]
        files[f"a/{kind.replace(' ', '-')}{'.png' if kind == 'pixels' else '.jpg'}"] = data
    return test, write(root / "train", files)


@pytest.fixture(scope="module")
def found(folders, tmp_path_factory):
    test, train = folders
    out = tmp_path_factory.mktemp("found") / "out"
    return diagnose_duplicates(test, others=[str(train)], out=out), out


def lines_of(error):
    """Return the text of an error with single spaces."""
    return re.sub(r"(?<=:) +", " ", str(error))


def test_each_kind_of_copy_is_found_and_nothing_else(found):
    result, _ = found
    rows = tables.check(result.duplicate_pairs, "duplicate_pairs").to_pylist()
    kinds = {
        r["image_b"]: (r["image_a"], r["kind"], r["mirrored"], r["overlap"] < 0.9, r["conflict"])
        for r in rows
    }
    assert kinds == {
        "bytes.jpg": ("00.jpg", "bytes", False, False, False),
        "pixels.png": ("01.jpg", "pixels", False, False, True),
        "saved-again.jpg": ("02.jpg", "near", False, False, False),
        "resized.jpg": ("03.jpg", "near", False, False, True),
        "cropped.jpg": ("04.jpg", "near", False, True, False),
        "mirrored.jpg": ("05.jpg", "near", True, False, True),
    }
    by_name = {r["image_b"]: r for r in rows}
    assert by_name["cropped.jpg"]["overlap"] == pytest.approx(0.81, abs=0.03)
    assert all(r["between"] and r["dataset_a"] == "test" and r["dataset_b"] == "train" for r in rows)
    # Conflicting groups first.
    assert [r["conflict"] for r in rows] == [True] * 3 + [False] * 3
    assert [r["group"] for r in rows] == [1, 2, 3, 4, 5, 6]
    assert result.summary == {
        "images": 30,
        "groups": 6,
        "images_in_groups": 12,
        "groups_between": 6,
        "groups_unknown": 0,
        "groups_with_conflict": 3,
        "repeated": 0,
        "labelled": 12,
    }


def test_files_lines_and_page(found):
    result, out = found
    for name in ("duplicates", "duplicate_pairs", "duplicate_accuracy", "images"):
        assert tables.read(out / f"{name}.parquet", name).num_rows == getattr(result, name).num_rows
    first, blank, head, *rest = result.lines()
    assert first == (
        "12 of 30 images (40.0 %) are in 6 groups of duplicates (6 groups between splits or data sets, "
        "3 groups with different labels)."
    )
    assert (blank, head.split()) == ("", ["pairs", "within", "between", "mirrored", "cropped"])
    assert [line.split() for line in rest[:3]] == [
        ["equal", "files", "0", "1", "0", "0"],
        ["equal", "pixels", "0", "1", "0", "0"],
        ["near", "0", "4", "1", "1"],
    ]
    page = (out / "report" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 12
    assert "Groups with different labels" in page
    assert "Groups between splits or data sets" in page
    images = tables.read(out / "duplicates.parquet", "duplicates").to_pylist()
    assert all((out / r["picture"]).is_file() for r in images)
    json.dumps(result.to_json())


def test_images_are_read_once(folders, found, tmp_path, monkeypatch):
    test, train = folders
    result, out = found
    shutil.copytree(out, tmp_path / "out")

    def refuse(data):
        raise AssertionError("decoded again")

    monkeypatch.setattr(duplicate_images, "decode", refuse)
    again = diagnose_duplicates(test, others=[str(train)], out=tmp_path / "out", pictures=0)
    assert again.duplicate_pairs.equals(result.duplicate_pairs)
    # Pictures of the earlier run are removed.
    assert not list((tmp_path / "out" / "duplicate_examples").iterdir())
    # A damaged file is read again.
    monkeypatch.undo()
    for path in (tmp_path / "out" / "signatures").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    repaired = diagnose_duplicates(test, others=[str(train)], out=tmp_path / "out", pictures=0)
    assert repaired.duplicate_pairs.equals(result.duplicate_pairs)


def write_predictions(path, ids, classes):
    scores = np.where(np.arange(2) == np.array(classes)[:, None], 4, 0).astype(np.float32)
    predictions = manyhot.Predictions(pa.array(ids), "net", scores=scores, score_kind="logit", n_classes=2)
    return write_table(predictions, path)


def newcombe(k, n, out_k, out_n):
    """Return the interval of k / n - out_k / out_n by Newcombe's method 10."""
    z = norm.ppf(0.975)

    def wilson(k, n):
        p = k / n
        half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return (p + z**2 / (2 * n) + np.array([-half, half])) / (1 + z**2 / n)

    (l1, u1), (l2, u2) = wilson(k, n), wilson(out_k, out_n)
    p, q = k / n, out_k / out_n
    return p - q - np.hypot(p - l1, u2 - q), p - q + np.hypot(u1 - p, q - l2)


def test_accuracy_without_duplicates_and_slices_of_evaluate(folders, tmp_path):
    test, train = folders
    labels = tmp_path / "labels.csv"
    ids = [f"{i:02}.jpg" for i in range(N)]
    pl.DataFrame({"image_id": ids, "label": ["ab"[i % 2] for i in range(N)]}).write_csv(labels)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    # Wrong on two of the six images with copies, and on three of the others.
    wrong = {0, 3, 7, 8, 9}
    predictions = write_predictions(tmp_path / "net.parquet", ids, [(i % 2) ^ (i in wrong) for i in range(N)])
    out = tmp_path / "out"
    result = diagnose_duplicates(
        test,
        others=[str(train)],
        out=out,
        labels=labels,
        predictions=[predictions],
        classes=tmp_path / "classes.txt",
        pictures=0,
    )
    rows = {r["without"]: r for r in result.duplicate_accuracy.to_pylist() if r["metric"] == "top1"}
    assert set(rows) == {"between", "conflict"}
    row = rows["between"]
    assert (row["n"], row["n_without"], row["model"]) == (12, 6, "net")
    assert (row["value"], row["value_without"]) == pytest.approx((7 / 12, 3 / 6))
    assert row["difference"] == pytest.approx(3 / 6 - 7 / 12)
    assert (row["lo"], row["hi"]) == pytest.approx([end * 6 / 12 for end in newcombe(3, 6, 4, 6)])
    assert row["lo"] < row["difference"] < row["hi"]
    assert (rows["conflict"]["n_without"], rows["conflict"]["value_without"]) == (9, pytest.approx(5 / 9))
    shown = [re.findall(r"[\d.]+\s%", line) for line in result.lines()]
    assert ["58.3 %", "50.0 %"] in [[re.sub(r"\s", " ", share) for share in line] for line in shown]
    # The same from evaluate, with the table of images.
    evaluated = manyhot.evaluate(
        out / "images.parquet",
        [predictions],
        classes=tmp_path / "classes.txt",
        slices=["between=false"],
        metrics=["top1"],
        resamples=0,
    )
    rows = [r for r in evaluated.results.to_pylist() if r["metric"] == "top1"]
    values = {r["slice"]: (r["value"], r["n"]) for r in rows}
    assert values["between=false"] == (pytest.approx(0.5), 6)


def test_splits_and_repeated_images(tmp_path):
    image = photograph(0)
    folder = write(tmp_path / "photos", {f"{i}.jpg": saved(photograph(i)) for i in range(4)})
    write(folder, {"x.jpg": saved(image, quality=60), "y.png": saved(image, format="PNG")})
    splits = tmp_path / "splits.csv"
    splits.write_text("image_id,split\n0.jpg,train\nx.jpg,train\ny.png,val\n1.jpg,val\n")
    found = diagnose_duplicates(folder, splits=splits, out=tmp_path / "out", pictures=1)
    rows = {r["image_id"]: r for r in found.duplicates.to_pylist()}
    assert {name: (r["split"], r["repeated"], r["between"]) for name, r in rows.items()} == {
        "0.jpg": ("train", False, True),
        "x.jpg": ("train", True, True),
        "y.png": ("val", False, True),
    }
    images = {r["image_id"]: r for r in found.images.to_pylist()}
    assert images["1.jpg"] == {
        "image_id": "1.jpg",
        "uri": str(folder / "1.jpg"),
        "split": "val",
        "repeated": False,
        "between": False,
        "conflict": False,
    }
    page = parse((tmp_path / "out/report/index.html").read_text(encoding="utf-8"))
    assert "--images out/images.parquet --slice between=false" in page.text
    (tmp_path / "labels.csv").write_text("image_id,label\n" + "".join(f"{i}.jpg,a\n" for i in "0123x"))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    found = diagnose_duplicates(
        folder,
        splits=splits,
        labels=tmp_path / "labels.csv",
        predictions=[write_predictions(tmp_path / "net.parquet", ["0.jpg", "1.jpg", "x.jpg"], [0, 1, 0])],
        classes=tmp_path / "classes.txt",
        out=tmp_path / "out",
    )
    mixed = (
        "The accuracy below is computed on the images of all splits together (train, val), including images "
        "that "
        "a model may have been trained on."
    )
    assert mixed in list(found.lines())
    assert mixed in " ".join((tmp_path / "out/report/index.html").read_text(encoding="utf-8").split())
    splits.write_text("image_id,label\n0.jpg,1\n")
    with pytest.raises(InputError) as error:
        diagnose_duplicates(folder, splits=splits, out=tmp_path / "out")
    assert lines_of(error.value) == (
        f"The table has no split.\n  where: {splits}\n  got: image_id, label\n  "
        "allowed: a table with the column image_id, filename, path or id and the column 'split'"
    )


def test_folders_named_test_and_train_are_no_labels(tmp_path):
    """Only with a class list that contains them are the names of the folders themselves labels."""
    files = {f"{i}.jpg": saved(photograph(i)) for i in range(3)}
    test, train = (write(tmp_path / name, files) for name in ("test", "train"))
    found = diagnose_duplicates(test, others=[train], out=tmp_path / "out")
    assert found.summary["groups"] == 3
    assert found.duplicates["label"].null_count == 6
    assert "labels are unknown" in next(found.lines())
    (tmp_path / "classes.txt").write_text("test\ntrain\n")
    found = diagnose_duplicates(test, others=[train], classes=tmp_path / "classes.txt", out=tmp_path / "out")
    assert found.summary["groups_with_conflict"] == 3


@pytest.mark.parametrize("root", ["", "images/"])
@pytest.mark.parametrize("below", ["", "cat/", "clips/7/"])
def test_folders_named_like_splits_are_splits(tmp_path, root, below):
    """Copies between ``train`` and ``val`` were reported as 0 groups between splits, with other labels."""
    for split, seed, quality in (("train", 0, 90), ("val", 0, 50), ("train", 1, 90), ("train", 2, 90)):
        folder = tmp_path / "set" / root / split / below
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}{seed}.jpg").write_bytes(saved(photograph(seed), quality=quality))
    (tmp_path / "set" / "labels" / "train").mkdir(parents=True)  # as beside YOLO's images
    found = diagnose_duplicates(tmp_path / "set", out=tmp_path / "out")
    assert (found.summary["groups_between"], found.summary["groups_with_conflict"]) == (1, 0)
    rows = found.duplicates.to_pylist()
    label = {"": None, "cat/": "cat", "clips/7/": "7"}[below]
    assert sorted((r["image_id"], r["split"], r["label"]) for r in rows) == [
        ("train0.jpg", "train", label),
        ("val0.jpg", "val", label),
    ]
    table = pl.DataFrame({"image_id": ["train0.jpg", "val0.jpg"], "split": "x"})
    table.write_csv(tmp_path / "splits.csv")
    own = diagnose_duplicates(tmp_path / "set", splits=tmp_path / "splits.csv", out=tmp_path / "out")
    assert own.summary["groups_between"] == 0


SHARDED = [
    (
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "data/test-00000-of-00001.parquet",
    ),
    ("train/x.parquet", "train/y.parquet", "test/x.parquet"),
    ("train.parquet", "more-train.parquet", "test.parquet"),
    ("train-000000.tar", "train-000001.tar", "test-000000.tar"),
    ("train-000000.tar.gz", "train-000001.tar.gz", "test-000000.tar.gz"),
]


def write_shards(root, files):
    """Write 12 photographs: 4 in each file. Two of the first file are in the third, and one in the second."""
    seeds = {files[0]: (0, 1, 2, 3), files[1]: (4, 5, 6, 3), files[2]: (7, 0, 1, 8)}
    for number, (name, own) in enumerate(seeds.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        images = {f"{number}-{seed}.jpg": saved(photograph(seed)) for seed in own}
        if name.endswith(".parquet"):
            pq.write_table(pa.table({"image_id": [*images], "jpeg": [*images.values()]}), path)
            continue
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as tar:
            for image, data in images.items():
                add(tar, image, data)
    return root


@pytest.mark.parametrize("files", SHARDED)
def test_files_named_like_splits_are_splits(tmp_path, files):
    """Copies between shards of ``train`` and ``test`` were reported as 0 groups between splits."""
    root = write_shards(tmp_path / "test" / "set", files)
    found = diagnose_duplicates(root, out=tmp_path / "out")
    assert next(found.lines()) == (
        "6 of 12 images (50.0 %) are in 3 groups of duplicates (2 groups between splits or data sets, labels "
        "are unknown)."
    )
    rows = {r["image_id"]: r for r in found.images.to_pylist()}
    assert {i for i, row in rows.items() if row["between"]} == {"0-0.jpg", "0-1.jpg", "2-0.jpg", "2-1.jpg"}
    assert {i: row["split"] for i, row in rows.items()} == {
        i: "test" if i.startswith("2") else "train" for i in rows
    }
    assert sum(row["repeated"] for row in rows.values()) == 1  # in another shard of train
    # Splits of the other data set are known, too: none of the first.
    other = write_shards(tmp_path / "other", files)
    alone = write(tmp_path / "alone", {"x.jpg": saved(photograph(99))})
    found = diagnose_duplicates(alone, others=[other], out=tmp_path / "second")
    assert sorted(r["between"] for r in found.duplicate_pairs.to_pylist()) == [False, True, True]


def test_files_of_which_some_name_no_split(tmp_path):
    """Of these, it is unknown whether they are of another split."""
    root = write_shards(tmp_path / "set", ("train.parquet", "train-2.parquet", "extra.parquet"))
    found = diagnose_duplicates(root, out=tmp_path / "out")
    assert [found.summary[f"groups_{kind}"] for kind in ("between", "unknown")] == [0, 2]
    table = pl.DataFrame({"image_id": found.images["image_id"].to_pylist()})
    split = pl.when(pl.col("image_id").str.starts_with("2")).then(pl.lit("a")).otherwise(pl.lit("b"))
    table.with_columns(split=split).write_csv(tmp_path / "splits.csv")  # replaces the names of files
    found = diagnose_duplicates(root, splits=tmp_path / "splits.csv", out=tmp_path / "out")
    assert [found.summary[f"groups_{kind}"] for kind in ("between", "unknown")] == [2, 0]


def test_folders_in_an_archive_are_splits(tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for i, name in enumerate(("train/cat/a.jpg", "train/cat/b.jpg", "val/cat/c.jpg")):
            add(tar, name, saved(photograph(i % 2)))
    found = diagnose_duplicates(tmp_path / "set.tar", out=tmp_path / "out")
    assert [(r["image_id"], r["between"]) for r in found.duplicates.to_pylist()] == [
        ("a.jpg", True),
        ("c.jpg", True),
    ]


def test_classes_named_like_splits_beside_others_are_labels(tmp_path):
    for name, quality in (("train", 90), ("car", 50)):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / f"{name}.jpg").write_bytes(saved(photograph(0), quality=quality))
    found = diagnose_duplicates(tmp_path / "set", out=tmp_path / "out")
    assert (found.summary["groups_between"], found.summary["groups_with_conflict"]) == (0, 1)


def test_a_pair_of_which_a_split_is_unknown_is_neither_within_nor_between(tmp_path):
    """Of four pairs, one is between splits, one within one, and two have one or two unknown splits."""
    files = {f"{i}.jpg": saved(photograph(i)) for i in range(5)}
    copies = {f"{i}-copy.jpg": files[f"{i}.jpg"] for i in range(4)}
    folder = write(tmp_path / "photos", files | copies)
    splits = tmp_path / "splits.csv"
    known = {"0": "train", "0-copy": "val", "1": "train", "1-copy": "train", "2": "train", "3": ""}
    splits.write_text("image_id,split\n" + "".join(f"{name}.jpg,{split}\n" for name, split in known.items()))
    found = diagnose_duplicates(folder, splits=splits, out=tmp_path / "out")
    pairs = {r["image_a"].removesuffix(".jpg")[0]: r["between"] for r in found.duplicate_pairs.to_pylist()}
    assert pairs == {"0": True, "1": False, "2": None, "3": None}
    by_image = {r["image_id"].removesuffix(".jpg"): r for r in found.images.to_pylist()}
    assert {name: row["between"] for name, row in by_image.items()} == {
        **{"0": True, "0-copy": True, "1": False, "1-copy": False},
        **{"2": None, "2-copy": None, "3": None, "3-copy": None, "4": False},
    }
    # Of each pair, the later image is repeated, or may be.
    repeated = [
        (row["image_a"][0], by_image[row["image_b"].removesuffix(".jpg")]["repeated"])
        for row in found.duplicate_pairs.to_pylist()
    ]
    assert dict(repeated) == {"0": False, "1": True, "2": None, "3": None}
    assert not any(
        by_image[row["image_a"].removesuffix(".jpg")]["repeated"] for row in found.duplicate_pairs.to_pylist()
    )
    sentence = (
        "8 of 9 images (88.9 %) are in 4 groups of duplicates (1 group between splits or data sets, 2 groups "
        "of which some splits are unknown, labels are unknown)."
    )
    lines = list(found.lines())
    assert lines[0] == sentence
    assert [line.split() for line in lines[2:4]] == [
        ["pairs", "within", "between", "unknown", "mirrored", "cropped"],
        ["equal", "files", "1", "1", "2", "0", "0"],
    ]
    assert found.notes[-1].startswith("splits.csv has no split for 4 of 9 images, ")
    page = (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert sentence in " ".join(page.split())
    assert "Groups whose splits are unknown" in page
    # With the rest of the splits unknown, no group is known to be between splits, nor to be within one.
    splits.write_text("image_id,split\n4.jpg,train\n")
    found = diagnose_duplicates(folder, splits=splits, out=tmp_path / "out")
    assert (found.summary["groups_between"], found.summary["groups_unknown"]) == (0, 4)
    page = parse((tmp_path / "out/report/index.html").read_text(encoding="utf-8"))
    assert "--slice between=false" in page.text


@pytest.mark.parametrize("form", ["{}", "{}/{}", "photos/{}/{}"])
def test_leaks_are_found_if_splits_have_other_folders(tmp_path, form):
    """Three of six pairs are between splits, however the table writes the ids of the class folders."""
    files = {f"{'ab'[i % 2]}/{i}.jpg": saved(photograph(i)) for i in range(6)}
    files |= {f"{'ab'[i % 2]}/{i}-copy.jpg": files[f"{'ab'[i % 2]}/{i}.jpg"] for i in range(6)}
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
    folder = write(tmp_path / "photos", files)
    rows = []
    for name in sorted(files):
        split = "val" if "copy" in name and name[2] in "012" else "train"
        parts = name.split("/") if "/" in form else [name.rpartition("/")[2]]
        rows.append(f"{form.format(*parts)},{split}")
    splits = tmp_path / "splits.csv"
    splits.write_text("\n".join(["filename,split", *rows]) + "\n")
    found = diagnose_duplicates(folder, splits=splits, out=tmp_path / "out", pictures=0)
    assert found.summary["groups_between"] == 3
    assert found.duplicate_pairs["between"].to_pylist().count(True) == 3
    assert found.images["split"].to_pylist().count("val") == 3
    ways = [note for note in found.notes if note.startswith("splits.csv: ")]
    text = "splits.csv: 12 images are matched without regard to leading folders, such as "
    assert [note.startswith(text) for note in ways] == [True] * (form != "{}")
    # A table of some of the images, and one of none of them.
    splits.write_text("\n".join(["filename,split", *rows[:5]]) + "\n")
    found = diagnose_duplicates(folder, splits=splits, out=tmp_path / "out", pictures=0)
    assert found.notes[-1] == (
        "splits.csv has no split for 7 of 12 images, so it is unknown whether their duplicates are in "
        "another split"
    )
    splits.write_text("filename,split\nq.jpg,train\nr.jpg,val\n")
    with pytest.raises(MatchError) as error:
        diagnose_duplicates(folder, splits=splits, out=tmp_path / "new", pictures=0)
    assert lines_of(error.value) == (
        f"None of the images is in the table of splits.\n  where: {splits}\n  got: splits of images such as "
        "q.jpg, r.jpg\n  allowed: images such as 0-copy.jpg, 0.jpg\n  do: pass the table of these images, "
        "with their ids"
    )
    assert not (tmp_path / "new").exists()  # before any image is read


def embed(folder, ids, vectors, model="net"):
    """Write embeddings as manyhot predict --embeddings does."""
    (folder / EMBEDDINGS_FOLDER).mkdir(parents=True)
    scores = np.zeros((len(ids), 2), np.float32)
    predictions = manyhot.Predictions(pa.array(ids), model, scores=scores, score_kind="logit", n_classes=2)
    write_table(predictions, folder / f"{model}.parquet")
    np.save(folder / EMBEDDINGS_FOLDER / f"{model}.npy", vectors.astype(np.float16))
    return str(folder)


def test_only_images_with_similar_embeddings_are_read(folders, found, tmp_path, monkeypatch):
    test, train = folders
    pairs = found[0].duplicate_pairs.to_pylist()
    ids = [sorted(p.name for p in folder.rglob("*.*")) for folder in folders]
    rng = np.random.default_rng(0)
    vectors = {name: rng.normal(size=32) for names in ids for name in names}
    for pair in pairs:
        vectors[pair["image_b"]] = vectors[pair["image_a"]] + 0.3 * rng.normal(size=32)
    vectors["06.jpg"] = vectors["07.jpg"]  # similar, but other pixels
    embedded = [
        embed(tmp_path / name, names, np.array([vectors[i] for i in names]))
        for name, names in zip(("e", "f"), ids, strict=True)
    ]
    decoded = []
    original = duplicate_images.decode
    monkeypatch.setattr(duplicate_images, "decode", lambda data: decoded.append(1) or original(data))
    result = diagnose_duplicates(
        test, others=[str(train)], embeddings=embedded, out=tmp_path / "out", pictures=0
    )
    columns = ["image_a", "image_b", "kind", "mirrored"]
    assert result.duplicate_pairs.select(columns).equals(found[0].duplicate_pairs.select(columns))
    assert len(decoded) == 14
    assert result.notes == ("only images whose net embeddings are similar were read: 14",)
    assert result.images.num_rows == N
    assert result.summary["images"] == 30
    with pytest.raises(InputError) as error:
        diagnose_duplicates(test, others=[str(train)], embeddings=embedded[:1], out=tmp_path / "out")
    assert lines_of(error.value) == (
        "The numbers of data sets and of folders of embeddings differ.\n  got: 1\n  allowed: 2, "
        "in the order of the data sets\n  do: pass `embeddings` once for each data set, first the "
        "embeddings of the images"
    )
    other = embed(tmp_path / "g", ids[1], rng.normal(size=(len(ids[1]), 32)), "other")
    with pytest.raises(MatchError) as error:
        diagnose_duplicates(test, others=[str(train)], embeddings=[embedded[0], other], out=tmp_path / "out")
    assert lines_of(error.value) == (
        "The data sets are embedded by different models.\n  got: net, other\n  allowed: one model\n  "
        "do: embed all data sets with the same model, or choose one with `embeddings_model`"
    )


def test_embeddings_with_other_folders(tmp_path):
    image = photograph(0)
    files = {"0.jpg": saved(image), "1.jpg": saved(image, quality=60), "2.jpg": saved(photograph(2))}
    folder = write(tmp_path / "in", files)
    alike = np.array([[1, 0], [1, 0.1], [0, 1]])
    embedded = embed(tmp_path / "e", [f"a/{name}" for name in files], alike)
    result = diagnose_duplicates(folder, embeddings=[embedded], out=tmp_path / "out", pictures=0)
    (pair,) = result.duplicate_pairs.to_pylist()
    assert (pair["image_a"], pair["image_b"]) == ("0.jpg", "1.jpg")
    assert result.notes[0] == (
        "e: 3 images are matched without regard to leading folders, such as a/0.jpg with 0.jpg"
    )
    other = embed(tmp_path / "f", ["x.jpg", "y.jpg"], alike[:2])
    with pytest.raises(MatchError) as error:
        diagnose_duplicates(folder, embeddings=[other], out=tmp_path / "out")
    assert lines_of(error.value) == (
        f"None of the images has an embedding.\n  where: {other}\n  got: embeddings of images such as x.jpg, "
        "y.jpg\n  allowed: images such as 0.jpg, 1.jpg\n  do: pass the folders of embeddings in the order "
        "of the data sets"
    )


def test_images_that_are_read_for_their_embeddings_are_searched_by_hash_too(tmp_path):
    """A smaller copy, mirrored, whose embedding is similar to those of other images alone."""
    images = [photograph(seed) for seed in range(3)]
    small = images[0].resize((60, 48)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    folder = write(tmp_path / "in", {f"{i}.jpg": saved(image) for i, image in enumerate([*images, small])})
    alike = np.array([[1, 0, 0], [1, 0.1, 0], [0, 0, 1], [0, 0.1, 1]])
    embedded = embed(tmp_path / "e", [f"{i}.jpg" for i in range(4)], alike)
    result = diagnose_duplicates(folder, embeddings=[embedded], out=tmp_path / "out", pictures=0)
    (pair,) = result.duplicate_pairs.to_pylist()
    assert (pair["image_a"], pair["image_b"], pair["mirrored"]) == ("0.jpg", "3.jpg", True)


def test_sources_without_files_and_broken_images(tmp_path):
    image = photograph(1)
    rows = {
        "image_id": ["a", "b", "broken", "grey", "grey again"],
        "label": [0, 1, 0, 0, 0],
        "jpeg": [
            saved(image),
            saved(image, quality=70),
            saved(image)[:400],
            saved(Image.new("RGB", (40, 40), (90, 90, 90))),
            saved(Image.new("RGB", (60, 40), (90, 90, 90))),
        ],
    }
    pq.write_table(pa.table(rows), tmp_path / "images.parquet")
    found = diagnose_duplicates(tmp_path / "images.parquet", out=tmp_path / "out")
    (pair,) = found.duplicate_pairs.to_pylist()
    assert (pair["image_a"], pair["image_b"], pair["label_a"], pair["label_b"], pair["conflict"]) == (
        "a",
        "b",
        "0",
        "1",
        True,
    )
    unread, flat = found.notes
    assert unread.startswith("1 images cannot be read, such as broken: cannot be decoded")
    assert flat == "2 images have no contrast, so only copies with equal pixels are found"


def test_labels_of_other_data_sets_are_compared_by_the_class_list(tmp_path):
    """Numbers, keys and names of one class list are the same labels; without it, a number is no name."""
    images = [photograph(seed) for seed in range(3)]
    test = write(tmp_path / "test", {f"{'ab'[i % 2]}/{i}.jpg": saved(images[i]) for i in range(3)})
    rows = {"image_id": ["x", "y", "z"], "label": [0, 0, 5], "jpeg": [saved(i, quality=60) for i in images]}
    pq.write_table(pa.table(rows), tmp_path / "train.parquet")
    (tmp_path / "classes.csv").write_text("key,name\na,apple\nb,banana\n")
    for classes, expected in (
        (
            tmp_path / "classes.csv",
            {("apple", "apple", False), ("banana", "apple", True), ("apple", None, None)},
        ),
        (None, {("a", None, None), ("b", None, None)}),
    ):
        found = diagnose_duplicates(
            test, others=[str(tmp_path / "train.parquet")], classes=classes, out=tmp_path / "out", pictures=0
        )
        pairs = found.duplicate_pairs.to_pylist()
        assert {(r["label_a"], r["label_b"], r["conflict"]) for r in pairs} == expected
        assert len(pairs) == 3


def test_label_sets_are_compared_where_there_are_no_labels(tmp_path):
    data = saved(photograph(0))
    pq.write_table(pa.table({"image_id": ["x", "y"], "jpeg": [data] * 2}), tmp_path / "images.parquet")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    states = "x,0,yes\nx,1,no\nx,2,yes\ny,0,no\ny,1,yes\n"
    (tmp_path / "labels.csv").write_text(f"image_id,class_id,state\n{states}")
    found = diagnose_duplicates(
        tmp_path / "images.parquet",
        labels=tmp_path / "labels.csv",
        classes=tmp_path / "classes.txt",
        out=tmp_path / "out",
        pictures=0,
    )
    (pair,) = found.duplicate_pairs.to_pylist()
    assert (pair["label_a"], pair["label_b"], pair["conflict"]) == ("a, c", "b", True)


def test_large_groups_and_images_without_labels(tmp_path):
    data = saved(photograph(0))
    pq.write_table(pa.table({"image_id": list("abcdefgh"), "jpeg": [data] * 8}), tmp_path / "images.parquet")
    found = diagnose_duplicates(tmp_path / "images.parquet", out=tmp_path / "out")
    assert next(found.lines()) == (
        "8 of 8 images (100.0 %) are in 1 group of duplicates (splits are unknown, labels are unknown)."
    )
    assert [r["repeated"] for r in found.images.to_pylist()] == [False] + 7 * [True]
    assert len(found.duplicate_pairs) == 7
    page = (tmp_path / "out/report/index.html").read_text()
    assert "Group 1, 6 of 8 images" in page
    assert "<span>--slice</span> <span>repeated=false</span>" in page
    assert "between=false" not in page


def test_no_duplicates_and_inputs_that_do_not_fit(tmp_path):
    folder = write(tmp_path / "photos", {f"{i}.jpg": saved(photograph(i)) for i in range(3)})
    found = diagnose_duplicates(folder, out=tmp_path / "out")
    assert list(found.lines()) == ["No duplicates were found among 3 images."]
    page = (tmp_path / "out/report/index.html").read_text()
    assert "No duplicates were found among 3 images." in page
    assert "--slice" not in page
    assert "Each of these pairs" not in page
    with pytest.raises(InputError) as error:
        diagnose_duplicates(folder, out=folder / "out")
    assert lines_of(error.value) == (
        f"The output folder is inside the folder of images.\n  where: {folder / 'out'}\n  "
        f"got: images in {folder}\n  do: choose an `out` outside this folder"
    )
    with pytest.raises(InputError) as error:
        diagnose_duplicates(folder, out=tmp_path / "out", predictions=["p.parquet"])
    assert (
        lines_of(error.value)
        == "Computing the accuracy requires labels.\n  got: predictions alone\n  do: pass `labels`, too"
    )
    (tmp_path / "predicted").mkdir()
    tables.write(pa.table({"image_id": ["a"]}), tmp_path / "predicted/images.parquet", "images")
    with pytest.raises(InputError) as error:
        diagnose_duplicates(folder, out=tmp_path / "predicted")
    assert lines_of(error.value) == (
        "The folder contains the images table of another command.\n  where: "
        f"{tmp_path / 'predicted/images.parquet'}\n  do: choose another `out`"
    )
    broken = write(tmp_path / "broken", {"a.jpg": b"no image"})
    with pytest.raises(InputError) as error:
        diagnose_duplicates(broken, out=tmp_path / "out2")
    assert lines_of(error.value) == (
        f"No image can be decoded.\n  where: {broken}\n  got: a.jpg: not an image of a known format"
    )


def test_the_command(folders, tmp_path):
    test, train = folders
    done = CliRunner().invoke(
        cli.app,
        ["diagnose", "duplicates", str(test), "--other", str(train), "--out", str(tmp_path / "o"), "--json"],
    )
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["summary"]["groups"] == 6
    assert len(printed["duplicate_pairs"]) == 6
    assert not printed["notes"]


def test_without_torch_the_extra_is_named_instead_of_unreadable_images(tmp_path, monkeypatch):
    write(tmp_path / "photos", {"a.jpg": saved(photograph(0))})
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError) as error:
        diagnose_duplicates(str(tmp_path / "photos"), out=tmp_path / "out")
    assert str(error.value) == (
        "Decoding images needs torch, which cannot be imported.\n"
        "  got:     import of torch halted; None in sys.modules\n"
        '  do:      pip install "manyhot[models]"'
    )


def test_different_parts_in_a_fixed_place_are_noted_with_a_threshold_that_separates_them(tmp_path):
    """Three frames of each of 12 parts, whose background and outline are the same."""
    rng, folder = np.random.default_rng(0), tmp_path / "parts"
    folder.mkdir()
    place = np.full((96, 96), 90.0)
    place[20:76, 20:76], place[40:56, 30:66] = 150, 60
    for part in range(12):
        own = place.copy()
        for x, y in rng.integers(20, 68, (6, 2)):
            own[x : x + 8, y : y + 8] += rng.normal(0, 35)
        for frame in range(3):
            pixels = (own + rng.normal(0, 4, own.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{part}-{frame}.png")
    found = manyhot.diagnose_duplicates(folder, out=tmp_path / "all")
    (note,) = [text for text in found.notes if "in one group" in text]
    assert note.startswith(
        "36 of 36 images are in one group, as photographs of different objects in one place may be; no pair "
        "has "
        "a similarity between 0."
    )
    least = float(note.rsplit(" ", 1)[1])
    again = manyhot.diagnose_duplicates(folder, out=tmp_path / "parts-only", min_similarity=least)
    groups = {}
    for row in again.duplicates.to_pylist():
        groups.setdefault(row["group"], set()).add(row["image_id"].split("-")[0])
    assert sorted(next(iter(g)) for g in groups.values()) == sorted(map(str, range(12)))
    assert not any("in one group" in text for text in again.notes)
