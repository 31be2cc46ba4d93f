"""Composed pictures: each class has a colour of its own here, so that pixels tell what is there."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

import manyhot
from manyhot import cli, tables
from manyhot.diagnose.patchml import folder as composed
from manyhot.diagnose.patchml.folder import PatchSettings
from manyhot.diagnose.patchml.patchml import patchml
from manyhot.errors import InputError, OutputError
from manyhot.predict.sources import open_source

KEYS = ("ant", "bee", "cow", "dog", "eel")
COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250]], np.uint8)
GROUND = (90, 90, 90)
SETTINGS = {"n_images": 30, "size": 64, "min_size": 8, "scale": (0.3, 0.5)}


def save(path, pixels):
    Path(path).parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def photograph(class_id):
    pixels = np.full((100, 100, 3), GROUND, np.uint8)
    pixels[20:60, 10:50] = COLOURS[class_id]
    return pixels


def row(image_id, class_id, box=(0.1, 0.2, 0.5, 0.6), ignore=False):
    x1, y1, x2, y2 = box
    found = {"image_id": image_id, "class": KEYS[class_id], "class_id": class_id, "ignore": ignore}
    return found | {"x1": x1, "y1": y1, "x2": x2, "y2": y2}


def write_objects(rows, path="objects.csv"):
    pl.DataFrame(rows).write_csv(path)
    return path


@pytest.fixture(autouse=True)
def photographs(tmp_path, monkeypatch):
    """Three photographs of each class, a coloured square in grey."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for i in range(15):
        save(f"photos/{i}.png", photograph(i % 5))
        rows.append(row(f"{i}.png", i % 5))
    write_objects(rows)
    return rows


def compose(out="out", table="objects.csv", *, masks=None, workers=None, **options):
    settings = PatchSettings(**SETTINGS | options)
    return patchml("photos", objects=table, out=out, settings=settings, masks=masks, workers=workers)


def refused(*given, **options):
    with pytest.raises((InputError, OutputError)) as error:
        compose(*given, **options)
    return str(error.value)


def seen(path):
    """Return the classes whose colours are in a picture, and of how many pixels."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    counts = [(pixels == c).all(axis=1).sum() for c in COLOURS]
    return {KEYS[i]: int(n) for i, n in enumerate(counts) if n}


def sets(out="out"):
    labels = tables.read(f"{out}/labels.parquet", "labels").to_pylist()
    return {
        r["image_id"]: {c for c, s in zip(r["classes"], r["state"], strict=True) if s == "yes"}
        for r in labels
    }


@pytest.mark.parametrize("overlap", [(0, 0), (0.2, 0.4)])
def test_label_sets_are_what_is_to_be_seen(overlap):
    done = compose(objects_per_image=(2, 4), overlap=overlap)
    assert (done.n, done.patches, done.notes) == (
        30,
        dict.fromkeys(KEYS, 3),
        ("classes with fewer than ten usable objects, each of which is used repeatedly: " + ", ".join(KEYS),),
    )
    images = {r["image_id"]: r for r in tables.read("out/images.parquet", "images").to_pylist()}
    found = sets()
    assert len(found) == 30
    for image_id, classes in found.items():
        of = seen(f"out/images/{image_id}")
        assert set(of) == {KEYS[c] for c in classes}
        assert of[KEYS[images[image_id]["label"]]] == max(of.values())
        assert images[image_id]["n_objects"] == len(classes)
    labels = manyhot.read_labels("out/labels.parquet")
    assert labels.asked_known
    assert {len(r["classes"]) for r in labels.table.to_pylist()} == {5}


def test_objects_are_where_their_pixels_are():
    compose(objects_per_image=(2, 4), overlap=(0.1, 0.5))
    objects = manyhot.read_objects("out/objects.parquet")
    assert objects.keys == KEYS
    images = {r["image_id"]: r for r in tables.read("out/images.parquet", "images").to_pylist()}
    covered = {}
    for r in objects.table.to_pylist():
        pixels = np.asarray(Image.open(f"out/images/{r['image_id']}"))
        there = (pixels == COLOURS[r["class_id"]]).all(axis=2)
        mask = np.asarray(Image.open(io.BytesIO(r["mask"]))) > 0
        assert (mask == there).all()
        left, top, right, bottom = (round(r[c] * 64) for c in ("x1", "y1", "x2", "y2"))
        assert there[top:bottom, left:right].sum() == there.sum()
        whole = (right - left) * (bottom - top)
        covered.setdefault(r["image_id"], []).append(1 - there.sum() / whole)
        assert 0.3 * 64 - 1 <= max(right - left, bottom - top) <= 0.5 * 64 + 1
    for image_id, shares in covered.items():
        assert images[image_id]["overlap"] == pytest.approx(max(shares), abs=1e-6)
        assert 0.1 <= max(shares) <= 0.5


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def test_the_same_seed_gives_the_same_files_with_any_number_of_threads():
    compose(workers=1, background="noise")
    one = files_of("out")
    compose(workers=5, background="noise")
    assert files_of("out") == one
    compose(workers=1, background="noise", seed=1)
    other = files_of("out")
    assert other.keys() == one.keys()
    assert other[Path("images/000000.png")] != one[Path("images/000000.png")]


def test_each_class_as_often_as_any_other_and_pairs_together():
    compose(n_images=100)
    counts = np.bincount([c for s in sets().values() for c in s])
    assert max(counts) - min(counts) <= 1
    compose("pairs", objects_per_image=(2, 3), pairs=(("ant", "dog"),))
    assert all({0, 3} <= s for s in sets("pairs").values())
    compose("only", objects_per_image=(1, 2), only=("bee", "eel"))
    assert {c for s in sets("only").values() for c in s} == {1, 4}
    assert Path("only/classes.txt").read_text().split() == list(KEYS)


def test_classes_as_they_occur(photographs):
    """The cow stands beside the dog once, the ant beside nobody."""
    rows = [r for r in photographs if r["image_id"] != "2.png"]
    pixels = photograph(2)
    pixels[70:95, 60:95] = COLOURS[3]
    save("photos/2.png", pixels)
    write_objects([*rows, row("2.png", 2), row("2.png", 3, (0.6, 0.7, 0.95, 0.95))])
    compose(objects_per_image=(2, 2), as_they_occur=True)
    assert {frozenset(s) for s in sets().values()} == {frozenset({2, 3})}
    assert refused(objects_per_image=(3, 3), as_they_occur=True) == (
        "No image has objects of enough classes.\n  got:     a minimum of 3 classes per image\n"
        "  allowed: at most 2"
    )


def test_what_cannot_be_used_is_told_and_counted(photographs):
    """A box outside, one that is empty, a small one, one that fills the image, no image, a broken image."""
    save("photos/full.png", np.full((80, 80, 3), COLOURS[0], np.uint8))
    Path("photos/broken.png").write_bytes(b"no picture")
    odd = [
        row("0.png", 0, (1.2, 0.2, 1.5, 0.6)),
        row("0.png", 0, (0.5, 0.6, 0.5, 0.6)),
        row("1.png", 1, (0.9, 0.9, 0.95, 0.95)),
        row("2.png", 2, ignore=True),
        row("full.png", 0, (0, 0, 1, 1)),
        row("absent.png", 0),
        row("broken.png", 0),
    ]
    write_objects([*photographs, *odd])
    done = compose()
    assert done.skipped == {
        "its box is empty or outside the image": 2,
        "ignored: too difficult, or a crowd": 1,
        "it fills the image": 1,
        "not an image of a known format": 1,
        "smaller than 8 pixels": 1,
        "the images do not contain it": 1,
    }
    told = pl.read_csv("out/skipped.csv")
    assert told["image_id"].to_list() == [
        "0.png",
        "0.png",
        "1.png",
        "2.png",
        "full.png",
        "absent.png",
        "broken.png",
    ]
    assert told["row"].to_list() == list(range(15, 22))
    assert json.loads(Path("out/patchml.json").read_text())["skipped"] == done.skipped


def test_masks_cut_out_and_masks_of_another_size():
    Path("masks").mkdir()
    for i in range(15):
        mask = np.zeros((100, 100), np.uint8)
        rows, columns = np.ogrid[:100, :100]
        mask[(rows - 40) ** 2 + (columns - 30) ** 2 < 400] = i % 5 + 1
        Image.fromarray(mask if i else mask[:50]).save(f"masks/{i}.png")
    done = compose(masks="masks", cut="mask", soft=0.8)
    assert done.skipped == {"the mask has 100 × 50 pixels, the image 100 × 100": 1}
    assert done.patches["ant"] == 2
    for image_id in sets():
        pixels = np.asarray(Image.open(f"out/images/{image_id}")).reshape(-1, 3).astype(int)
        # Round patches have no corners, in which the ground of the photograph would be seen.
        assert not (pixels == GROUND).all(axis=1).any()


def test_classes_without_patches(photographs):
    rows = [r for r in photographs if r["class"] != "eel"]
    write_objects([*rows, row("4.png", 4, (0.1, 0.2, 0.12, 0.6))])
    done = compose()
    assert done.notes[0] == "classes left out because they have no usable objects: eel"
    assert done.patches["eel"] == 0
    assert refused(only=("eel", "ant", "bee", "cow")) == (
        "None of the objects of a requested class can be cut out.\n  where:   objects\n"
        "  got:     eel (smaller than 8 pixels: 1)"
    )
    write_objects([r for r in photographs if r["class"] in ("ant", "bee")])
    assert refused("new") == (
        "The objects of an image must have different classes, but there are fewer classes than objects.\n"
        "  got:     2 classes, 4 objects\n"
        "  do:      set `objects_per_image`=1-2"
    )
    assert not Path("new").exists()


def test_objects_are_looked_for_until_none_is_left(photographs):
    """Of 300 ants one is large enough; which bee is taken first is chance, and not its place in the file."""
    rows = [r for r in photographs if r["class"] not in ("ant", "bee")]
    rows += [row("0.png", 0, (0.9, 0.9, 0.92, 0.95))] * 299 + [row("0.png", 0)]
    for i in range(40):
        save(f"photos/bee{i}.png", photograph(1))
        rows.append(row(f"bee{i}.png", 1))
    write_objects(rows)
    done = compose(n_images=5, objects_per_image=(1, 1))
    assert done.patches["ant"] == 1
    assert done.skipped == {"smaller than 8 pixels": 299}
    compose("many", n_images=40, objects_per_image=(1, 1), only=("bee",))
    found = tables.read("many/images.parquet", "images")["sources"].to_pylist()
    assert sorted(s for (s,) in found) == sorted(f"bee{i}.png" for i in range(40))
    assert found != sorted(found)


def test_what_has_no_room_is_an_error_that_ends():
    assert refused(n_images=3, objects_per_image=(5, 5), scale=(0.6, 0.6), overlap=(0, 0)) == (
        "The objects do not fit into an image.\n"
        "  got:     5 objects at a scale from 0.6, 0 to 0 of an object covered\n"
        "  allowed: 5 objects always fit if the scale starts at 0.33 or less and the overlap starts at 0\n"
        "  do:      use fewer objects, a smaller scale or a larger overlap"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"overlap": (0.2, 0.7)},
            "This is not a valid range for the overlap.\n"
            "  got:     0.2 to 0.7\n"
            "  allowed: 0 to 0.5, with the smaller number first",
        ),
        (
            {"scale": (0.6, 0.3)},
            "This is not a valid range for the scale.\n"
            "  got:     0.6 to 0.3\n"
            "  allowed: 0.05 to 1, with the smaller number first",
        ),
        ({"size": 8}, "This cannot be the size of images.\n  got:     8\n  allowed: 32 to 4,096"),
        (
            {"min_size": 3},
            "This cannot be the least size of an object.\n  got:     3\n  allowed: 4 to 4,096",
        ),
        ({"cut": "circle"}, "There is no such cut.\n  got:     circle\n  allowed: box or mask"),
        (
            {"overlap": (0.2, 0.4)},
            "An overlap needs at least two objects per image.\n"
            "  got:     a minimum of 1\n"
            "  do:      set `objects_per_image`=2-4",
        ),
        (
            {"pairs": (("ant", "bee"),)},
            "A pair needs at least two objects per image.\n"
            "  got:     a minimum of 1\n"
            "  do:      set `objects_per_image`=2-4",
        ),
        (
            {"only": ("aunt",)},
            "The objects have no class with this key.\n  got:     aunt\n  allowed: ant, bee, cow, dog, eel",
        ),
        (
            {"background": "plaid"},
            "There is no such background.\n"
            "  got:     plaid\n"
            "  allowed: grey, noise, colour, blur, crop; a colour such as #40a0ff; a folder of photographs",
        ),
        ({"background": "#12345"}, "This is not a colour.\n  got:     #12345\n  allowed: such as #40a0ff"),
    ],
)
def test_what_cannot_be_asked_for(options, text):
    assert refused(**options) == text
    assert not Path("out").exists()


def test_images_without_objects_and_objects_that_are_all_ignored(photographs):
    write_objects([row(f"other{i}.png", i % 5) for i in range(10)])
    assert refused() == (
        "None of the images has objects.\n  where:   photos\n  got:     images such as 0.png, 1.png\n"
        "  allowed: images with objects, such as other0.png, other1.png\n"
        "  do:      check that both belong to the same data set"
    )
    write_objects([{**r, "ignore": True} for r in photographs])
    assert refused() == (
        "There is no object to cut out.\n"
        "  where:   objects\n"
        "  got:     15 objects, all of which are ignored or belong to other classes"
    )


@pytest.mark.parametrize("background", ["grey", "noise", "colour", "#40a0ff", "blur", "crop", "photos"])
def test_backgrounds(background):
    compose(background=background, overlap=(0, 0))
    pixels = {i: np.asarray(Image.open(f"out/images/{i}")) for i in sets()}
    corners = {i: tuple(p[-1, -1]) for i, p in pixels.items()}
    if background == "grey":
        assert max(set(corners.values()), key=list(corners.values()).count) == (124, 116, 104)
    if background == "#40a0ff":
        assert max(set(corners.values()), key=list(corners.values()).count) == (0x40, 0xA0, 0xFF)
    if background == "colour":
        assert len(set(corners.values())) > 25
    if background == "crop":
        # Places without objects are the ground alone: no colour of another class comes with it.
        for image_id, classes in sets().items():
            assert set(seen(f"out/images/{image_id}")) == {KEYS[c] for c in classes}
            assert {tuple(c) for c in pixels[image_id].reshape(-1, 3)} <= {GROUND, *map(tuple, COLOURS)}


def test_photographs_without_a_free_place(photographs):
    write_objects([*photographs, *(row(r["image_id"], 0, (0, 0, 1, 1), True) for r in photographs)])
    assert refused(background="crop") == (
        "No photograph can be used for the background.\n"
        "  got:     `background`=crop\n"
        "  do:      choose another background, such as grey"
    )


def test_another_folder_is_not_touched():
    Path("other").mkdir()
    Path("other/thesis.txt").write_text("mine")
    assert refused("other") == (
        "The folder contains something other than composed images.\n"
        "  where:   other\n"
        "  got:     thesis.txt\n"
        "  do:      choose another `out`"
    )
    assert refused("photos").startswith("The output would overwrite an input.")
    Path("file").write_text("")
    assert refused("file") == (
        "There is a file with the name of the output folder.\n  where:   file\n  do: "
        "     move the file, or choose another `out`"
    )


def test_a_full_disk_leaves_the_earlier_pictures(monkeypatch):
    compose()
    before = files_of("out")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(composed.tables, "write_objects", full)
    assert refused(seed=3) == (
        "The disk is full; this file was not written.\n"
        "  where:   out/patchml.json\n"
        "  do:      free some space or choose another `out`"
    )
    assert files_of("out") == before
    assert refused("new").startswith("The disk is full")
    assert not Path("new").exists()


def test_a_run_that_is_killed_leaves_the_earlier_pictures():
    compose()
    before = files_of("out")
    script = """
import os, signal
from manyhot.diagnose.patchml.folder import PatchSettings
from manyhot.diagnose.patchml import folder
from manyhot.diagnose.patchml.patchml import patchml
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
folder.tables.write_objects = die
settings = PatchSettings(n_images=5, size=64, min_size=8, seed=9)
patchml("photos", objects="objects.csv", out="out", settings=settings)
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    after = {
        path: data for path, data in files_of("out").items() if not path.parts[0].startswith(".unfinished-")
    }
    assert after == before
    compose(seed=9)
    assert Path("out/patchml.json").is_file()


def test_pictures_are_read_by_what_comes_next():
    compose(n_images=12)
    source = open_source("out/images")
    assert source.n == 12
    objects = manyhot.read_objects("out/objects.parquet")
    assert set(objects.images) == {item.image_id for part in source.parts for item, _ in part.items()}
    labels = manyhot.read_labels("out/labels.parquet")
    best = np.zeros((12, 1), int)
    found = manyhot.evaluate(
        labels,
        manyhot.Predictions(labels.image_id, "ants", best, n_classes=5),
        reading=manyhot.Reading(images=manyhot.read_images("out/images.parquet")),
        slices=["n_objects", "overlap>=0.05"],
        metrics=["top1", "real1"],
        resamples=0,
    )
    shown = [0 in s for s in sets().values()]
    assert found.value("real1") == pytest.approx(np.mean(shown))
    settings = PatchSettings(**SETTINGS, cut="mask")
    again = patchml("out/images", objects="out/objects.parquet", out="again", settings=settings)
    assert again.n == 30
    for image_id, classes in sets("again").items():
        assert set(seen(f"again/images/{image_id}")) == {KEYS[c] for c in classes}


def run(*words):
    return CliRunner().invoke(cli.app, ["patchml", "photos", "--objects", "objects.csv", *words])


def test_the_command():
    words = ["--n-images", "6", "--size", "64", "--set", "min_size=8", "--set", "scale=0.4"]
    more = ["--objects-per-image", "2", "--pair", "ant+bee", "--to", "jpg"]
    more += ["--background", "blur", "--set", "overlap=0-0.2"]
    done = run(*words, *more)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "6 images of 15 objects of 5 classes",
        "",
        "wrote patchml/images",
        "wrote patchml/images.parquet",
        "wrote patchml/labels.parquet",
        "wrote patchml/objects.parquet",
        "wrote patchml/classes.txt",
        "wrote patchml/skipped.csv",
        "wrote patchml/patchml.json",
    ]
    assert len(list(Path("patchml/images").glob("*.jpg"))) == 6
    told = json.loads(run(*words, "--json", "--set", "as_they_occur=True", "--objects-per-image", "1").stdout)
    assert (told["pictures"], told["skipped"]) == (6, {})
    assert json.loads(Path("patchml/patchml.json").read_text())["settings"]["as_they_occur"] is True


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["--set", "scale=big"],
            "This is not a range of numbers.\n  where:   `scale`\n  got:     big\n  allowed: 0.3-0.6, or 0.5",
        ),
        (
            ["--objects-per-image", "1-2.5"],
            "This is not a range of numbers.\n"
            "  where:   --objects-per-image\n"
            "  got:     1-2.5\n"
            "  allowed: 1-4, or 2",
        ),
        (
            ["--set", "sizes=64"],
            "There is no setting 'sizes'.\n"
            "  allowed: n_images, objects_per_image, background, cut, size, pairs, to, seed, overlap, scale, "
            "soft, min_size, only, as_they_occur\n"
            "  do:      did you mean 'size'?",
        ),
        (
            ["--set", "soft=very"],
            "This cannot be the softness of edges.\n  got:     very\n  allowed: 0 to 50",
        ),
        (
            ["--pair", "ant"],
            "A pair must consist of two different classes.\n  where:   --pair\n  got:     ant\n  allowed: "
            "horse+person",
        ),
    ],
)
def test_values_that_are_refused(words, text):
    assert str(run(*words).exception) == text


def test_options_of_the_last_release_say_what_they_are_now():
    done = run("--overlap", "0-0.2")
    assert done.exit_code == 2
    assert "--overlap is now --set overlap=0-0.1" in " ".join(done.stderr.replace("│", " ").split())


def test_objects_may_be_a_frame():
    compose()
    compose("again", pl.read_csv("objects.csv"))
    images = sorted(Path("out/images").iterdir())
    assert images
    assert all(p.read_bytes() == (Path("again/images") / p.name).read_bytes() for p in images)
