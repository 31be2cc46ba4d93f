"""Explaining from files to files: a network that sees colours, and objects that are coloured squares."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from manyhot import cli, tables
from manyhot.classes import from_keys
from manyhot.diagnose.explain import explain
from manyhot.diagnose.explanations import explanations_answer
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.predict.network import Network, Preprocessing
from manyhot.run import Run
from report_pages import parse

KEYS = ("red", "green", "blue")
SQUARES = {
    "both.png": {"red": (8, 8, 24, 24), "blue": (40, 40, 56, 56)},
    "green.png": {"green": (24, 24, 40, 40)},
    "whole.png": {"red": (0, 0, 64, 64)},
}


class Colours(nn.Module):
    """Says how much there is of each colour, from a grid of 16 × 16."""

    def __init__(self):
        super().__init__()
        self.grid = nn.Conv2d(3, 3, 4, stride=4, bias=False)
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            self.grid.weight[:] = torch.eye(3)[:, :, None, None] / 16
            self.head.weight[:] = 100 * torch.eye(3)
            self.head.bias[:] = 0

    def forward(self, images):
        return self.head(torch.relu(self.grid(images)).mean((2, 3)))


def colours():
    way = Preprocessing((64, 64), (64, 64), mode="squash", mean=(0.0,) * 3, std=(1.0,) * 3)
    return Network("colours", from_keys(KEYS, "colours"), way, Colours().eval())


MODEL = "python:own_colours:colours"


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Three images of coloured squares on black, a broken one, and where the squares are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "own_colours", sys.modules[__name__])
    Path("photos").mkdir()
    rows = []
    for name, squares in SQUARES.items():
        pixels = np.zeros((64, 64, 3), np.uint8)
        for key, (left, top, right, bottom) in squares.items():
            pixels[top:bottom, left:right, KEYS.index(key)] = 255
            box = dict(
                zip(("x1", "y1", "x2", "y2"), (left / 64, top / 64, right / 64, bottom / 64), strict=True)
            )
            rows.append({"image_id": name, "class": key, **box})
        Image.fromarray(pixels).save(Path("photos") / name)
    (Path("photos") / "torn.png").write_bytes(b"torn")
    pq.write_table(pa.Table.from_pylist(rows), "boxes.parquet")
    Path("classes.txt").write_text("\n".join(KEYS))


def assuming():
    return replace(colours(), notes=("colours: preprocessing assumed",))


def refused(kind, **options):
    with pytest.raises(kind) as error:
        explain("photos", **({"model": MODEL} | options))
    return str(error.value)


def explained(**options):
    options = {"objects": "boxes.parquet", "classes": "classes.txt", "resamples": 50} | options
    run = Run(options.pop("call", ""))
    found = explain("photos", model=options.pop("model", MODEL), out="out", run=run, **options)
    return found, list(found.written)


def test_objects_may_be_a_table_in_memory():
    of_file, of_table = explained()[0], explained(objects=pq.read_table("boxes.parquet"))[0]
    assert of_table.maps.to_pylist() == of_file.maps.to_pylist()


def test_what_is_assumed_of_the_model_is_a_note():
    found, _ = explained(model="python:own_colours:assuming")
    assert found.notes[0] == "colours: preprocessing assumed"


def test_maps_point_at_the_squares():
    found, written = explained(call="manyhot explain …")
    assert [p.name for p in written] == [
        "maps.parquet",
        "maps.csv",
        "localisation.parquet",
        "localisation.csv",
        "skipped.csv",
        "index.html",
    ]
    rows = {(r["image_id"], r["class_name"]): r for r in found.maps.to_pylist()}
    assert list(rows) == [
        ("both.png", "red"),
        ("both.png", "blue"),
        ("green.png", "green"),
        ("whole.png", "red"),
    ]
    for key in list(rows)[:3]:
        row = rows[key]
        left, top, right, bottom = SQUARES[key[0]][key[1]]
        assert row["state"] == "yes"
        assert row["rank"] == 1
        assert (row["pointing"], row["pointing_near"], row["overlap"]) == (1, 1, 1)
        assert row["pointing_by_chance"] == row["area"] == 256 / 4096
        assert row["pointing_centre"] == (key == ("green.png", "green"))
        assert (row["x"], row["y"]) == ((left + right) / 128, (top + bottom) / 128)
        assert row["auroc"] == 1
        assert 0.7 < row["energy"] < 1  # between cells is interpolated
        assert row["difficult"] == (key[0] == "both.png")
        assert row["pointing_other"] == (0 if key[0] == "both.png" else None)
        assert row["pointing_other_by_chance"] == (1 / 16 if key[0] == "both.png" else None)
    whole = rows["whole.png", "red"]
    assert whole["skipped"] == "the object covers 90 % or more of the model's crop"
    assert whole["pointing"] is None
    assert tables.metadata(tables.read("out/maps.parquet", "maps"))["call"] == "manyhot explain …"
    assert pl.read_csv("out/maps.csv").height == 4
    assert Path("out/skipped.csv").read_text().splitlines() == [
        "image_id,uri,reason",
        "torn.png,photos/torn.png,not an image of a known format",
    ]
    assert found.notes == ("1 images cannot be read: not an image of a known format",)


def test_ids_of_objects_may_be_written_differently():
    exact, _ = explained()
    boxes = pl.read_parquet("boxes.parquet")
    boxes.with_columns(image_id="train/" + pl.col("image_id").str.replace(".png", ".jpg")).write_parquet(
        "other.parquet"
    )
    found, _ = explained(objects="other.parquet")
    assert found.maps.equals(exact.maps)
    assert found.notes[0].startswith("3 images are matched without regard to")
    boxes.with_columns(image_id="x" + pl.col("image_id")).write_parquet("others.parquet")
    assert refused(MatchError, objects="others.parquet").startswith("None of the images has objects.")


def test_the_means_over_maps():
    found, _ = explained()
    rows = {(r["slice"], r["metric"]): r for r in found.localisation.to_pylist()}
    pointing = rows["all", "pointing"]
    assert (pointing["value"], pointing["by_chance"], pointing["centre"]) == (1, 1 / 16, 1 / 3)
    assert (pointing["n"], pointing["n_images"], pointing["n_skipped"]) == (3, 2, 1)
    assert pointing["excess"] == pytest.approx(2 / 3)
    assert (pointing["lo"], pointing["hi"]) == (None, None)  # all maps are right, so nothing varies
    assert (pointing["excess_lo"], pointing["excess_hi"]) == (-1, 1)  # of two images
    by_class = [name for name, metric in rows if metric == "pointing"]
    assert by_class == ["all", "difficult", "class=red", "class=green", "class=blue"]
    assert [rows[name, "pointing"]["n"] for name in by_class] == [3, 2, 1, 1, 1]
    assert [rows[name, "pointing"]["n_skipped"] for name in by_class] == [1, 0, 1, 0, 0]
    assert (rows["all", "pointing_other"]["value"], rows["all", "pointing_other"]["n"]) == (0, 2)
    difficult = rows["difficult", "energy"]
    assert (difficult["n"], difficult["n_images"], difficult["n_skipped"]) == (2, 1, 0)
    maps = [r for r in found.maps.to_pylist() if r["difficult"]]
    assert difficult["value"] == pytest.approx(np.mean([r["energy"] for r in maps]))
    without, _ = explained(resamples=0)
    assert without.localisation["lo"].null_count == len(without.localisation)


def test_predictions_stand_beside_the_label_set():
    found, _ = explained(top=2, objects=None)
    rows = found.maps.to_pylist()
    assert [(r["image_id"], r["rank"], r["state"]) for r in rows][:2] == [("both.png", 1, None)] * 2
    assert not found.localisation.num_rows
    assert not Path("out/localisation.parquet").exists()
    scores = {r["class_name"]: r["score"] for r in rows if r["image_id"] == "green.png"}
    logits = np.array([0, 100 / 16, 0])  # a sixteenth is green
    assert scores["green"] == pytest.approx((np.exp(logits) / np.exp(logits).sum())[1])


def test_pictures_of_an_image_lie_side_by_side():
    found, _ = explained(pictures=1)
    rows = found.maps.to_pylist()
    names = [(r["photo"], r["file"]) for r in rows if r["photo"]]
    assert names == [
        ("pictures/0000-both.png.jpg", "pictures/0000-both.png-red-gradcam.jpg"),
        ("pictures/0000-both.png.jpg", "pictures/0000-both.png-blue-gradcam.jpg"),
    ]
    for photo, file in names:
        with Image.open(Path("out") / photo) as one, Image.open(Path("out") / file) as other:
            assert one.size == other.size == (320, 320)
    red, blue = (np.asarray(Image.open(Path("out") / file)).astype(int) for _, file in names)
    assert red[60:66, 60:66, 0].mean() > 200 > 120 > blue[70:90, 70:90, 0].mean()  # lit, and faded to grey
    explained(pictures=0)
    assert not list(Path("out/pictures").iterdir())


def test_maps_are_written_where_they_are_wanted():
    explained(arrays=True, method=["gradcam", "occlusion"])
    with np.load("out/arrays/both.png.npz") as arrays:
        assert sorted(arrays) == ["blue-gradcam", "blue-occlusion", "red-gradcam", "red-occlusion"]
        assert arrays["red-gradcam"].shape == (64, 64)
        assert arrays["red-gradcam"].dtype == np.float16
        assert arrays["red-gradcam"][16, 16] > arrays["red-gradcam"][48, 48]


def test_only_pictures_of_an_earlier_run_are_removed():
    found, _ = explained(pictures=1)
    Path("out/pictures/mine.jpg").touch()
    for name in ("../classes.txt", "pictures/../../classes.txt"):
        strange = found.maps.set_column(found.maps.column_names.index("photo"), "photo", pa.array([name] * 4))
        tables.write(strange, "out/maps.parquet", "maps")
        explained(pictures=0)
        assert Path("classes.txt").exists()
    left = sorted(p.name for p in Path("out/pictures").iterdir())
    assert left == ["0000-both.png.jpg", "mine.jpg"]  # the table no longer named the first
    pq.write_table(found.maps.drop(["score"]), "out/maps.parquet")  # of another version
    explained()


def test_an_earlier_run_stays_until_there_is_something_new():
    explained(pictures=1)
    before = {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()}
    assert refused(InputError, out="out", ids=["gone.png"]).startswith("No image could be")
    assert {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()} == before


def test_classes_and_images_can_be_chosen():
    found, _ = explained(class_=["blue", "red"])
    assert [(r["image_id"], r["class_name"]) for r in found.maps.to_pylist()] == [
        ("both.png", "blue"),
        ("both.png", "red"),
    ]
    found, _ = explained(class_=["blue"], objects=None, ids=["green.png", "gone.png", "torn.png"])
    assert [(r["image_id"], r["rank"]) for r in found.maps.to_pylist()] == [("green.png", 2)]
    because = "1 of the images named with `ids` are not explained, because"
    assert found.notes[1] == f"{because} there are no such images: gone.png"
    found, _ = explained(class_=["blue"], ids=["green.png", "both.png"])
    assert f"{because} their label sets do not contain all classes of `class_`: green.png" in found.notes
    found, _ = explained(limit=1)
    assert found.maps["image_id"].unique().to_pylist() == ["both.png"]


def test_labels_may_know_more_than_objects():
    ids, yes = ["both.png", "green.png"], [["yes"], ["yes"]]
    table = pa.table({"image_id": ids, "usable": [True, True], "classes": [[1], [1]], "state": yes})
    tables.write_labels(tables.Labels(table, 3, from_keys(KEYS, "").hash), "labels.parquet")
    found, _ = explained(labels="labels.parquet", top=0)
    rows = found.maps.to_pylist()
    assert [(r["image_id"], r["class_name"], r["skipped"]) for r in rows] == [
        ("both.png", "green", "no object of the class"),
        ("green.png", "green", None),
    ]


def test_sanity_checks():
    found, _ = explained(check=3, seed=1)
    rows = {(r["against"], r["layers"]): r for r in found.sanity.to_pylist()}
    assert list(rows) == [("class", None), ("image", None), ("weights", 1), ("weights", 2)]
    assert rows["class", None]["n"] == 1  # one image has two labels
    assert rows["class", None]["value"] < 0.2
    assert rows["image", None]["n"] + rows["image", None]["n_skipped"] == 3
    assert rows["weights", 1]["of_layers"] == 2
    assert rows["weights", 2]["n"] + rows["weights", 2]["n_skipped"] == 4
    assert Path("out/sanity.csv").exists()
    explained()
    assert not Path("out/sanity.parquet").exists()  # of an earlier run


def test_boxes_and_masks_that_do_not_fit():
    boxes = pq.read_table("boxes.parquet").to_pylist()
    outside = {"image_id": "both.png", "class": "red", "x1": 1.2, "y1": 0.1, "x2": 1.5, "y2": 0.4}
    empty = {"image_id": "both.png", "class": "red", "x1": 0.5, "y1": 0.5, "x2": 0.5, "y2": 0.9}
    pq.write_table(pa.Table.from_pylist([*boxes, outside, empty]), "more.parquet")
    Path("masks").mkdir()
    Image.new("L", (10, 20)).save("masks/green.png")
    found, _ = explained(objects="more.parquet", masks="masks")
    assert found.notes[1:] == ("2 objects are skipped, because their box is empty or outside the image",)
    rows = {(r["image_id"], r["class_name"]): r for r in found.maps.to_pylist()}
    assert rows["both.png", "red"]["pointing"] == 1
    assert rows["green.png", "green"]["skipped"] == "the mask has 10 × 20 pixels, the image 64 × 64"
    assert found.localisation["n_skipped"].to_pylist()[0] == 2


def test_classes_that_the_model_does_not_know():
    boxes = pq.read_table("boxes.parquet").to_pylist()
    strange = {"image_id": "both.png", "class": "pink", "x1": 0.1, "y1": 0.1, "x2": 0.2, "y2": 0.2}
    pq.write_table(pa.Table.from_pylist([*boxes, strange]), "more.parquet")
    found, _ = explained(objects="more.parquet", classes=None)
    assert found.notes[1] == "the model does not have 1 of 4 classes: pink"
    pq.write_table(pa.Table.from_pylist([strange]), "pink.parquet")
    assert refused(MatchError, objects="pink.parquet") == (
        "The model has none of the classes.\n"
        "  where:   colours\n"
        "  got:     pink\n"
        "  allowed: keys of colours, such as red"
    )


def test_what_is_refused():
    assert refused(UnknownNameError, class_=["pink"]) == (
        "The model has no class 'pink'.\n"
        "  where:   colours\n"
        "  allowed: 0 to 2, or the keys of colours, such as red"
    )
    assert refused(InputError, masks="masks") == (
        "Masks can only be used with objects.\n  got:     masks\n  do:      also pass the objects as "
        "`objects`"
    )
    assert refused(InputError, top=-1) == "`top` is out of range.\n  got:     -1\n  allowed: 0 or more"
    assert refused(InputError, method=()) == (
        "No method is given.\n  allowed: gradcam, integrated-gradients, occlusion, saliency"
    )
    assert refused(InputError, method=["saliency"], layer="grid") == (
        "Only the method gradcam uses a layer.\n  got:     grid with saliency"
    )
    assert refused(InputError, ids=["gone.png"]) == (
        "No image could be explained.\n"
        "  where:   photos\n"
        "  do:      check `ids`, `class_`, `limit` and the label sets"
    )
    assert refused(InputError, ids=["torn.png"]) == (
        "No image could be explained.\n  where:   photos\n  got:     1 images: not an image of a known format"
    )
    Path("maps").mkdir()
    Path("boxes.parquet").rename("maps/maps.parquet")
    assert refused(InputError, out="maps", objects="maps/maps.parquet") == (
        "The output would overwrite an input.\n"
        "  where:   maps\n"
        "  got:     maps/maps.parquet\n"
        "  do:      choose another path for the output"
    )


def place(metric, value, chance, n=30, part="class=dog"):
    about = {"model": "net", "method": "gradcam", "slice": part, "metric": metric, "n": n, "n_images": n}
    return about | {
        "value": value,
        "lo": None,
        "hi": None,
        "by_chance": chance,
        "centre": 0.1,
        "n_skipped": 0,
    }


def test_the_clearest_object_comes_first():
    """Without boxes of dogs, only what their maps show of other classes is known."""
    nothing = float("nan")
    other = place("pointing_other", 0.6, 0.08)
    rows = [place("pointing", nothing, nothing, 0, "all"), place("pointing", nothing, nothing, 0), other]
    said = (
        "For net and gradcam, the highest point of the map of dog is on an object of another class in 60 % "
        "of 30 maps, compared with 8 % by chance."
    )
    assert explanations_answer(rows) == [said]
    assert explanations_answer([place("pointing_other", 0.1, 0.08)]) == []
    assert explanations_answer([place("pointing_other", 1.0, 0.05, 1)]) == []
    own = place("pointing", 0.3, 0.2, 30, "all") | {"excess_lo": None}
    assert explanations_answer([own, other])[0] == said
    clear = own | {"value": 0.9}
    assert explanations_answer([clear, other])[1] == said


def test_several_methods_are_named_under_their_maps():
    explained(pictures=1, method=["gradcam", "saliency"])
    page = parse(Path("out/report/index.html").read_text())
    assert "red, gradcam" in page.text
    assert "red, saliency" in page.text


def test_the_command_prints_what_it_found():
    words = ["explain", "photos", "--model", MODEL, "--objects", "boxes.parquet", "--classes", "classes.txt"]
    done = CliRunner().invoke(cli.app, [*words, "--check", "2", "--resamples", "20", "--out", "out"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "colours: 4 maps of 3 images"
    assert lines[2].startswith(
        "For colours and gradcam, the highest point of the map is on the object in 100 %"
    )
    assert lines[4] == "objects: 3 maps, 1 not measured"
    cells = lines[6].split()
    assert cells[:6] == ["gradcam", "highest", "point", "on", "the", "object"]
    assert " ".join(cells[6:]) == "1.000 0.062 0.333 +0.667 (-1.000 to +1.000) 3"
    assert "difficult objects: small, and not alone: 2 maps" in lines
    assert "gradcam red 1 1.000 0.062 0.000 0.000" in [" ".join(line.split()) for line in lines]
    assert any(line.split()[1:6] == ["last", "1", "of", "2", "layers"] for line in lines)
    assert "wrote out/maps.parquet" in lines
    assert "Note: 1 images cannot be read: not an image of a known format." in done.stderr
    told = json.loads(CliRunner().invoke(cli.app, [*words, "--json", "--out", "out"]).stdout)
    assert set(told) == {"maps", "localisation", "notes", "written"}
    assert told["maps"][0]["image_id"] == "both.png"
