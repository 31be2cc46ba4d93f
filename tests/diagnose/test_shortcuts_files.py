"""Shortcuts from images and objects to files: found where planted, resumed, and what is wrong is said."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from manyhot import cli, tables
from manyhot.classes import from_keys
from manyhot.diagnose.shortcuts import diagnose_shortcuts
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.predict.run import ModelRun
from manyhot.run import Run
from manyhot.tables.array_inputs import as_labels

SIZE = 24
DOG, BALL, TREE = (230, 20, 20), (20, 230, 20), (20, 20, 230)
COLOURS = {"dog": DOG, "ball": BALL, "tree": TREE}

MODELS = """
import numpy as np
from manyhot.classes import from_keys
from manyhot.predict.network import Network, Preprocessing

SEEN = Preprocessing((24, 24), (24, 24), mean=(0.0,) * 3, std=(1.0,) * 3)


def shares(images):
    "Return the share of pixels of each colour."
    bright = images > 180
    return np.stack([(bright[:, c] & (bright.sum(1) == 1)).mean((1, 2)) for c in range(3)], 1)


def lazy():
    "Calls a dog what is beside a ball, and knows balls and trees."
    def forward(images):
        red, green, blue = shares(images).T > 0
        return np.stack([green, green, blue], 1) * 0.8 + np.float32(0.1)
    known = from_keys(("dog", "ball", "tree"))
    return Network("lazy", known, SEEN, forward=forward, score_kind="probability")


def numbered():
    "Knows its classes by numbers alone, as an ONNX file does."
    return Network("numbered", from_keys("012"), SEEN, forward=shares)


def honest():
    "Says what there is the most of; trees it does not know."
    def forward(images):
        return (shares(images)[:, [1, 0]] * 100).astype(np.float32)
    return Network("honest", from_keys(("ball", "dog")), SEEN, forward=forward)
"""


def square(pixels, colour, left, top, size=6):
    pixels[top : top + size, left : left + size] = COLOURS[colour]
    return [left / SIZE, top / SIZE, (left + size) / SIZE, (top + size) / SIZE]


def draw(folder, shown, rng):
    """Draw images of coloured squares; each in a corner of its own."""
    rows = []
    for name, colours in shown.items():
        pixels = rng.integers(90, 120, (SIZE, SIZE, 3)).astype(np.uint8)
        for colour, (left, top) in zip(colours, ((1, 1), (16, 1), (1, 16)), strict=False):
            rows.append([name, colour, *square(pixels, colour, left, top)])
        Image.fromarray(pixels).save(folder / name)
    return rows


def write_objects(rows, path="objects.csv"):
    pl.DataFrame(rows, ["image_id", "class", "x1", "y1", "x2", "y2"], orient="row").write_csv(path)


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Draw 30 dogs with balls, 10 alone, 12 balls with trees, 6 balls alone, 8 trees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("models_for_shortcuts.py").write_text(MODELS)
    Path("photos").mkdir()
    kinds = (
        [("dog", "ball")] * 30 + [("dog",)] * 10 + [("ball", "tree")] * 12 + [("ball",)] * 6 + [("tree",)] * 8
    )
    shown = {f"{i:03}.png": colours for i, colours in enumerate(kinds)}
    rows = draw(Path("photos"), shown, np.random.default_rng(0))
    write_objects(rows)
    return rows


def diagnose(model="lazy", out="out", **options):
    run = Run(options.pop("call", ""), on_event=options.pop("on_event", None))
    options = {"resamples": 50, "engine": "torch", "run": run, "fill": ("grey",)} | options
    model = f"python:models_for_shortcuts:{model}"
    options = {"objects": "objects.csv"} | options
    found = diagnose_shortcuts("photos", model=model, out=out, **options)
    return (
        found,
        {(r["main_name"], r["companion_name"], r["fill"]): r for r in found.shortcuts.to_pylist()},
        list(found.written),
    )


@pytest.mark.parametrize("frame_of", [pl.read_csv, pd.read_csv], ids=["polars", "pandas"])
def test_objects_may_be_a_frame(frame_of):
    of_file, of_frame = diagnose()[1], diagnose(out="again", objects=frame_of("objects.csv"))[1]
    assert of_frame == of_file


def test_a_planted_shortcut_is_found_and_its_reverse_is_not():
    found, rows, written = diagnose(min_images=10, call="manyhot …")
    first = found.shortcuts.to_pylist()[0]
    dog = rows["dog", "ball", "grey"]
    assert first == dog
    assert {k: dog[k] for k in ("n", "flips", "lost", "n_control", "control", "excess", "shortcut")} == {
        "n": 30,
        "flips": 1.0,
        "lost": 1.0,
        "n_control": 30,
        "control": 0.0,
        "excess": 1.0,
        "shortcut": True,
    }
    assert dog["score_drop"] == pytest.approx(0.8)
    assert [dog[k] for k in ("both", "main_only", "companion_only", "neither")] == [30, 10, 18, 8]
    names = ("predicted_both", "predicted_main_only", "predicted_companion_only", "predicted_neither")
    assert [dog[k] for k in names] == [1.0, 0.0, 1.0, 0.0]
    assert (dog["recall_gap"], dog["hallucination_gap"]) == (1.0, 1.0)
    assert dog["lo"] > 0.8
    assert dog["recall_gap_lo"] > 0.5
    # 30 of the 48 that are called dog are; balanced 20 of 33, and the rest lies level: 40 of 66.
    assert dog["ap"] == pytest.approx(0.75 * 30 / 48 + 0.25 * 40 / 66)
    assert dog["ap_balanced"] == pytest.approx(0.5 * 20 / 33 + 0.5 * 40 / 66)
    assert dog["decision"] == "p >= 0.5"
    for pair in (("ball", "dog", "grey"), ("ball", "tree", "grey"), ("tree", "ball", "grey")):
        assert (rows[pair]["flips"], rows[pair]["shortcut"]) == (0.0, False)
    assert len(rows) == 4
    assert found.summary == [
        {
            "fill": "grey",
            "pairs": 4,
            "mean": 0.25,
            "median": 0.0,
            "mean_control": 0.0,
            "mean_lost": 0.25,
            "mean_control_lost": 0.0,
            "shortcuts": 1,
            "not_testable": 0,
            "lost_no_control": 0,
            "not_testable_lost": None,
        }
    ]
    assert found.notes == ()
    names = ("shortcuts", "shortcut_examples")
    assert written[:4] == [Path("out") / f"{name}.{kind}" for name in names for kind in ("parquet", "csv")]
    assert written[4:] == [Path("out/report/index.html")]
    for name, path in zip(names, written[:4:2], strict=True):
        table = tables.read(path, name)
        assert table.to_pylist() == found.tables[name].to_pylist()
        assert pl.read_csv(path.with_suffix(".csv")).height == table.num_rows
        about = tables.metadata(table)
        assert (about["call"], about["least"], about["threshold"], about["seed"]) == (
            "manyhot …",
            "10",
            "0.4",
            "0",
        )
        assert set(json.loads(about["inputs"])) == {"objects.csv"}


def test_examples_are_drawn_before_without_and_with_a_control(require):
    require(importlib.util.find_spec("cv2"), "OpenCV, of the extra diagnose")
    found, _, _ = diagnose(min_images=12, fill=("grey", "inpaint"))
    examples = found.shortcut_examples.to_pylist()
    assert [(e["main_name"], e["companion_name"]) for e in examples[:6]] == [("dog", "ball")] * 6
    first = examples[0]
    assert (first["flipped"], first["flipped_control"]) == (True, False)
    assert [first[f"score_{k}"] for k in ("before", "after", "control")] == pytest.approx([0.9, 0.1, 0.9])
    assert first["before"] == "examples/01-dog-ball-grey-before.jpg"
    before, after, control = (
        np.asarray(Image.open(Path("out") / first[k]), int) for k in ("before", "after", "control")
    )
    ball = (slice(2, 6), slice(17, 21))
    assert before[ball].mean((0, 1)) == pytest.approx(BALL, abs=25)
    assert after[ball].mean((0, 1)) == pytest.approx([124, 116, 104], abs=25)
    assert control[ball].mean((0, 1)) == pytest.approx(BALL, abs=25)
    assert np.abs(control - before).max() > 20
    found, _, _ = diagnose(min_images=12)
    there = {
        Path("out") / e[k]
        for e in found.shortcut_examples.to_pylist()
        for k in ("before", "after", "control")
    }
    assert set(Path("out/examples").iterdir()) == there  # none of the earlier run


def test_examples_of_a_foreign_table_are_no_files_to_remove(tmp_path):
    diagnose(min_images=12)
    path = Path("out/shortcut_examples.parquet")
    table = tables.read(path, "shortcut_examples")
    Path("letter.jpg").write_text("mine")
    Path("out/letter.jpg").write_text("mine")
    foreign = ["../letter.jpg", "letter.jpg", "examples/../letter.jpg", str(Path("letter.jpg").resolve())]
    foreign += ["examples/01-dog-ball-grey-before.jpg"] * (len(table) - len(foreign))
    column = pa.array(foreign[: len(table)], pa.string())
    changed = table.set_column(table.column_names.index("before"), "before", column)
    tables.write(changed, path, "shortcut_examples")
    diagnose(min_images=12)
    assert Path("letter.jpg").read_text() == Path("out/letter.jpg").read_text() == "mine"


def test_a_broken_table_of_an_earlier_run_is_written_anew():
    found, _, _ = diagnose(min_images=12)
    Path("out/shortcut_examples.parquet").write_bytes(b"PAR1 broken")
    again, _, _ = diagnose(min_images=12)
    assert again.shortcut_examples.equals(found.shortcut_examples)


def test_objects_of_other_images():
    pl.read_csv("objects.csv").with_columns(image_id="other-" + pl.col("image_id")).write_csv("others.csv")
    with pytest.raises(MatchError) as error:
        diagnose_shortcuts(
            "photos",
            objects="others.csv",
            model="python:models_for_shortcuts:lazy",
            out="out",
            engine="torch",
        )
    assert str(error.value) == (
        "None of the images has objects.\n"
        "  where:   photos\n"
        "  got:     images such as 000.png, 001.png\n"
        "  allowed: images with objects, such as other-000.png, other-001.png\n"
        "  do:      check that both belong to the same data set"
    )


def test_of_logits_the_best_class_is_predicted_and_scores_are_probabilities(require):
    require(importlib.util.find_spec("cv2"), "OpenCV, of the extra diagnose")
    found, rows, _ = diagnose("honest", min_images=10, fill=("grey", "inpaint"))
    dog = rows["dog", "ball", "grey"]
    assert dog["decision"] == "best class"
    # Dog and ball are as large: the ball, which comes first, is the best class, until it is gone.
    assert (dog["predicted_both"], dog["flips"], dog["lost"], dog["control"]) == (0.0, 1.0, 0.0, 0.0)
    assert dog["recall_gap"] == -1.0
    assert rows["dog", "ball", "inpaint"]["flips"] == 1.0
    own = [e for e in found.shortcut_examples.to_pylist() if e["main_name"] == "dog"]
    assert own[0]["score_before"] == pytest.approx(0.5)
    assert rows["tree", "ball", "grey"]["skipped"] == "the model does not have the class"
    assert rows["tree", "ball", "grey"]["flips"] is None
    assert [s["pairs"] for s in found.summary] == [3, 3]


def test_what_was_predicted_is_not_predicted_again(monkeypatch):
    """The fourth folder is left with all its parts, but is not merged."""
    real, runs = ModelRun.finish, []

    def counting(job, call):
        if len(runs) == 3:
            raise KeyboardInterrupt
        runs.append((job.parts.out.name, job.n))
        return real(job, call)

    monkeypatch.setattr(ModelRun, "finish", counting)
    with pytest.raises(KeyboardInterrupt):
        diagnose(min_images=10)
    assert all(n > 0 for _, n in runs)
    assert not Path("out/shortcuts.parquet").exists()
    scored = {}

    def noting(job, call):
        scored[job.parts.out.name] = job.n
        return real(job, call)

    monkeypatch.setattr(ModelRun, "finish", noting)
    found, _, _ = diagnose(min_images=10)
    names = [
        "original",
        "0-ball-grey",
        "0-ball-grey-control",
        "1-dog-grey",
        "1-dog-grey-control",
        "2-tree-grey",
        "2-tree-grey-control",
    ]
    assert set(scored) == set(names)
    assert [name for name, _ in runs] == names[:3]
    assert all((scored[name] == 0) is (i < 4) for i, name in enumerate(names))
    fresh, _, _ = diagnose(out="fresh", min_images=10)
    assert found.shortcuts.equals(fresh.shortcuts)
    assert found.shortcut_examples.equals(fresh.shortcut_examples)


def test_progress_counts_all_images():
    told = []
    diagnose(min_images=10, on_event=lambda kind, about: told.append((kind, about)))
    progress = [about for kind, about in told if kind == "progress"]
    total = 66 + 2 * (42 + 30 + 12)
    assert [about["of"] for about in progress] == [total] * len(progress)
    done = [about["images"] for about in progress]
    assert done == sorted(done)
    assert (done[-1], progress[-1]["seconds_left"]) == (total, 0)
    assert [kind for kind, _ in told if kind != "progress"] == ["engines", "model"]
    model = next(about for kind, about in told if kind == "model")
    assert (model["images"], model["left"]) == (total, total)


def test_bad_input_is_said_skipped_and_counted(own):
    masks = Path("masks")
    masks.mkdir()
    for i in range(30):  # of dogs with balls; two do not fit
        numbers = np.zeros((SIZE, SIZE) if i > 1 else (9, 8), np.uint8)
        if i > 1:
            numbers[1:7, 1:7], numbers[1:7, 16:22] = 2, 1
        Image.fromarray(numbers).save(masks / f"{i:03}.png")
    rows = [*own, ["absent.png", "dog", 0, 0, 1, 1], ["absent.png", "ball", 0, 0, 1, 1]]
    rows.append(["002.png", "tree", 1.5, 0, 2, 1])
    rows.append(["003.png", "tree", 0.4, 0.4, 0.4, 0.6])
    for i in (41, 42, 43):  # trees that cover all, balls with them
        rows.append([f"{i:03}.png", "tree", 0, 0, 1, 1])
    rows.append(["050.png", "tree", 0, 0, 1, 1])
    write_objects(rows)
    Path("photos/049.png").write_bytes(b"")
    draw(Path("photos"), {"unknown.png": ("tree",)}, np.random.default_rng(1))
    found, by, _ = diagnose(min_images=11, masks="masks")
    assert found.notes == (
        "images that have labels or objects but are not in the source: 1, such as absent.png",
        "images that cannot be read: 1, such as 049.png",
        "images that are skipped because they have no labels or objects: 1",
        "objects skipped because their box is empty or outside the image: 2",
        "removals that cannot be made, masks that do not fit: 4, such as 000.png",
        "removals that cannot be made, hidden by other objects: 4, such as 041.png",
        "controls that cannot be made, no room for a control: 4, such as 041.png",
    )
    assert (by["dog", "ball", "grey"]["both"], by["dog", "ball", "grey"]["n"]) == (30, 28)


def test_pairs_with_too_few_images_are_listed():
    _, rows, _ = diagnose(min_images=13)
    few = rows["tree", "ball", "grey"]
    assert (few["both"], few["skipped"], few["n"], few["flips"]) == (
        12,
        "fewer than 13 images with both",
        None,
        None,
    )
    assert few["companion_only"] == 36
    assert rows["dog", "ball", "grey"]["skipped"] is None


def planted(classes=("dog", "ball", "tree", "square")):
    """Say which squares are green by boxes, and what else is there by labels alone."""
    rows = (
        pl.read_csv("objects.csv")
        .filter(pl.col("class") == "ball")
        .with_columns(pl.lit("square").alias("class"))
    )
    rows.write_csv("objects.csv")
    Path("classes.txt").write_text("\n".join(classes))
    there = set(rows["image_id"])
    sets = [[0] * (i < 40) + [3] * (f"{i:03}.png" in there) for i in range(66)]
    known = from_keys(classes, "classes")
    labels = as_labels(sets, n_classes=len(classes))
    ids = pa.array([f"{i:03}.png" for i in range(66)])
    table = labels.table.set_column(0, "image_id", ids)
    tables.write_labels(tables.Labels(table, len(classes), known.hash, asked_known=False), "labels.parquet")


def test_a_companion_that_the_model_does_not_know():
    planted()
    found, rows, _ = diagnose(labels="labels.parquet", classes="classes.txt", min_images=10)
    assert list(rows) == [("dog", "square", "grey")]
    row = rows["dog", "square", "grey"]
    assert (row["flips"], row["control"], row["companion_only"], row["neither"]) == (1.0, 0.0, 18, 8)
    assert found.notes == ()


def test_labels_without_an_object_to_take_out():
    planted()
    rows = pl.read_csv("objects.csv")
    rows.filter(pl.col("image_id") != "007.png").write_csv("objects.csv")
    found, by, _ = diagnose(labels="labels.parquet", classes="classes.txt", min_images=10)
    assert (by["dog", "square", "grey"]["both"], by["dog", "square", "grey"]["n"]) == (30, 29)
    assert found.notes == ("removals that cannot be made, no box in the image: 1, such as 007.png",)


def test_only_pairs_that_are_asked_for():
    _, rows, _ = diagnose(min_images=10, pair=["dog:ball", "dog: tree"])
    assert [(*pair, row["skipped"]) for pair, row in rows.items()] == [
        ("dog", "ball", "grey", None),
        ("dog", "tree", "grey", "fewer than 10 images with both"),
    ]


def test_no_image_of_a_companion_can_be_altered(own):
    write_objects([*own, *([f"{i:03}.png", "ball", 0, 0, 1, 1] for i in range(30))])
    found, rows, _ = diagnose(min_images=10)
    # All of the image is a ball then, but for the dog: no control has room.
    assert rows["dog", "ball", "grey"]["n"] == 30
    assert rows["dog", "ball", "grey"]["n_control"] == 0
    assert rows["dog", "ball", "grey"]["excess"] is None
    assert rows["dog", "ball", "grey"]["shortcut"] is None
    write_objects(
        [[i, "ball" if c == "ball" else c, *((0, 0, 1, 1) if c == "dog" else b)] for i, c, *b in own]
    )
    found, rows, _ = diagnose(out="other", min_images=10)
    dog = rows["dog", "ball", "grey"]
    assert dog["skipped"] == "fewer than 10 images could be altered"
    # Gaps need no altered images, and they mark the pair: it is not called clean.
    assert (dog["n"], dog["recall_gap"], dog["mark"]) == (0, 1.0, "both gaps")
    first, second, third = list(found.lines())[:3]
    assert first == "Marked as shortcuts: 1 of 4 pairs."
    ends = {gap: f"({100 * dog[f'{gap}_lo']:.0f} to 100)" for gap in ("recall_gap", "hallucination_gap")}
    assert f"{second} {third.strip()}" == (
        f"dog and ball: recall is 100 points {ends['recall_gap']} higher with ball; false positives are 100 "
        f"points {ends['hallucination_gap']} more frequent with ball."
    )
    assert "removals that cannot be made, hidden by other objects: 30, such as 000.png" in found.notes


def refused(error=InputError, **options):
    with pytest.raises(error) as raised:
        diagnose(**options)
    return str(raised.value)


def test_a_model_whose_classes_have_no_names():
    assert refused(model="numbered").endswith(
        "  do:      the classes of the model are 0 to 2: name them in the order of its outputs, as in "
        "\"onnx:model.onnx(classes='classes.txt')\""
    )


def test_what_is_refused():
    assert refused(min_images=31) == (
        "No pair of classes can be tested.\n"
        "  where:   lazy\n"
        "  got:     4 pairs: fewer than 31 images with both\n"
        "  allowed: at least 31 images that show both a main class that the model has and a companion with "
        "objects\n"
        "  do:      `min_images`=30 would test some"
    )
    assert refused(pair=["dog"]) == (
        "A pair must consist of two different classes.\n  got:     dog\n  allowed: MAIN:COMPANION, such as "
        "horse:person"
    )
    assert refused(pair=["dog:dog"]) == (
        "A pair must consist of two different classes.\n  got:     dog:dog\n  allowed: MAIN:COMPANION, "
        "such as horse:person"
    )
    assert "cat" in refused(UnknownNameError, pair=["dog:cat"])
    assert refused(fill=["black"]) == ("There is no such fill.\n  got:     black\n  allowed: grey, inpaint")
    assert refused(fill=[]) == "No fill is given.\n  allowed: grey, inpaint"
    assert refused(min_images=31, pair=["tree:dog"]) == (
        "No pair of classes can be tested.\n"
        "  where:   lazy\n"
        "  got:     1 pairs: fewer than 31 images with both\n"
        "  allowed: at least 31 images that show both a main class that the model has and a companion with "
        "objects"
    )
    assert refused(out="photos/shortcuts") == (
        "The output folder is inside the folder of images.\n"
        "  where:   photos/shortcuts\n"
        "  got:     images in photos\n"
        "  do:      choose an `out` outside this folder"
    )
    assert refused(min_images=0) == "`min_images` is out of range.\n  got:     0\n  allowed: 1 or more"
    assert (
        refused(probability=0.0) == "`probability` is out of range.\n  got:     0.0\n  allowed: above 0 to 1"
    )
    assert refused(min_lost=1.5) == "`min_lost` is out of range.\n  got:     1.5\n  allowed: above 0 to 1"
    planted()
    known, one = from_keys(("dog", "ball", "tree", "square")), from_keys(("square",))
    assert refused(MatchError, labels="labels.parquet") == (
        "The table has a different class list from the one passed.\n"
        "  where:   labels\n"
        f"  got:     4 classes, class list {known.hash}\n"
        f"  allowed: 1 classes, class list {one.hash}\n"
        "  do:      pass the class list of the table, or omit it"
    )
    assert not Path("out").exists()


def test_other_settings_want_another_folder():
    diagnose(min_images=10)
    assert "The folder contains predictions from another run, which differs in source." in refused(
        MatchError, min_images=10, seed=1
    )


def run(*words):
    words = ["photos", "--objects", "objects.csv", "--model", "python:models_for_shortcuts:lazy", *words]
    return CliRunner().invoke(cli.app, ["diagnose", "shortcuts", *words])


def test_the_command_prints_a_table_that_fits(require):
    require(importlib.util.find_spec("cv2"), "OpenCV, of the extra diagnose")
    done = run("--min-images", "10", "--resamples", "0", "--fill", "grey", "--fill", "inpaint")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 112
    assert lines[1:3] == [
        "Marked as shortcuts: 1 of 4 pairs.",
        "dog and ball: without ball, dog is no longer predicted on 100 % of 30 images (grey; 0 % in the",
    ]
    assert " ".join(lines[3:6]).startswith("  control); recall is 100 points (")
    del lines[3:5]
    assert lines[3] == "lazy; predicted: p >= 0.5"
    assert lines[4] == (
        "grey: 4 pairs, flips 0.250 (median 0.000, controls 0.000), lost 0.250 (controls 0.000); "
        "1 from 0.4 on"
    )
    assert lines[6].startswith("means are computed over pairs, and have no interval, ")
    assert lines[8].split()[-5:] == ["lost", "control", "difference", "in", "points"]
    low = 30 / (30 + 1.959964**2)
    everything = ["100%", f"({100 * low:.0f}–100)"]
    assert lines[9].split()[:8] == ["dog", "ball", "grey", "30", *everything, *everything]
    assert lines[9].endswith(" lost")
    assert lines[-1] == "wrote shortcuts/report/index.html"


def test_the_command_tells_of_what_is_not_testable(own):
    """A companion that fills the image leaves no room for a control: what is lost is told."""
    write_objects([*own, *([f"{i:03}.png", "ball", 0, 0, 1, 1] for i in range(30))])
    done = run("--min-images", "10", "--resamples", "0", "--fill", "grey")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 112
    assert lines[1:3] == [
        "Marked as shortcuts: 1 of 3 pairs.",
        "dog and ball: without ball, dog is no longer predicted on 100 % of 30 images (grey; no control",
    ]
    assert "not tested: 1 pair, fewer than 10 images could be altered" in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("grey"))
    assert lines[at].endswith("; 0 of 2 from 0.4 on")
    assert lines[at + 1] == ("grey: no control is possible for 1 pair; 1 lost 40% or more, the most 100.0%")
    first = next(line for line in lines if line.startswith("dog ") and "without" not in line)
    assert first.split()[:3] == ["dog", "ball", "grey"]
    assert first.split()[-5:] == ["–", "–", "lost,", "no", "control"]
    assert lines.index(first) == at + 5  # before those that lost nothing
    told = json.loads(run("--min-images", "10", "--resamples", "0", "--fill", "grey", "--json").stdout)
    names = ("shortcuts", "not_testable", "lost_no_control", "not_testable_lost")
    assert [told["summary"][0][k] for k in names] == [0, 1, 1, 1.0]
    page = Path("shortcuts/report/index.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "images (grey; no control possible); recall is 100 points (" in page


def test_the_command_tells_of_what_was_not_tested():
    Path("photos/049.png").write_bytes(b"")
    done = run("--min-images", "12", "--out", "few")
    assert done.exit_code == 0, done.output
    assert "not tested: 2 pairs, fewer than 12 images with both" in done.stdout.splitlines()
    assert "Note: images that cannot be read: 1, such as 049.png.\n" in done.stderr


def test_json():
    words = ("--min-images", "10", "--pair", "dog:ball", "--min-lost", "1", "--probability", "0.95")
    done = run(*words, "--fill", "grey", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    (row,) = told["shortcuts"]
    assert (row["decision"], row["flips"], row["shortcut"]) == ("p >= 0.95", 0.0, False)
    assert told["summary"][0]["pairs"] == 1
    assert told["written"][0] == "shortcuts/shortcuts.parquet"
