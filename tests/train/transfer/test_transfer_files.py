"""Backbones on planted shapes, from images to numbers."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import shapes
from manyhot import cli, evaluate, predict_in_memory
from manyhot.core.sets import YES
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.predict.decode import decode
from manyhot.predict.models import find_backbone
from manyhot.predict.predict import predict
from manyhot.predict.weights import read_head
from manyhot.run import Run
from manyhot.train.transfer.request import TransferInputs
from manyhot.train.transfer.transfer import transfer

MODEL = "trained:resnet.safetensors"
GIVEN = {"labels": "labels.parquet", "classes": "classes.txt", "split": "split.csv", "engine": "torch"}
BOXES = {"objects": "boxes.csv", "split": "split.csv"}
MASKS = {"masks": "masks", "classes": "classes.txt", "split": "split.csv"}
TEST = np.arange(shapes.N) % 3 == 0

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    before, threads = Path.cwd(), torch.get_num_threads()
    torch.set_num_threads(1)
    os.chdir(tmp_path_factory.mktemp("shapes"))
    shapes.write()
    yield
    os.chdir(before)
    torch.set_num_threads(threads)


def judged(out, method, models=(MODEL,), resamples=50, **more):
    return transfer("photos", list(models), out=out, method=method, resamples=resamples, **{**GIVEN, **more})


def value(found, metric, slice="all", column="value"):
    rows = [r for r in found.results.to_pylist() if (r["metric"], r["slice"]) == (metric, slice)]
    assert len(rows) == 1
    return rows[0][column]


def samples(found, metric):
    return next(np.array(r["values"]) for r in found.samples.to_pylist() if r["metric"] == metric)


@pytest.fixture(scope="module")
def features():
    return predict_in_memory("photos", MODEL, embeddings=True, engine="torch").embeddings.astype(np.float32)


def test_a_probe_is_scikit_learns_regression(features):
    found = judged("probe", "probe", settings={"penalty": 0.05})
    label = np.arange(shapes.N) % 2
    scaled = StandardScaler().fit(features[~TEST])
    x = scaled.transform(features)
    head = LogisticRegression(C=1 / (0.05 * (~TEST).sum()), tol=1e-8, max_iter=5000).fit(
        x[~TEST], label[~TEST]
    )
    assert value(found, "probe/top1") == pytest.approx((head.predict(x[TEST]) == label[TEST]).mean())
    assert (value(found, "probe/top1", column="n"), value(found, "probe/top1", column="n_skipped")) == (20, 0)


def test_label_sets_are_judged_by_macro_average_precision(features):
    found = judged("multilabel", "multilabel", settings={"penalty": 0.05})
    there = np.array([[c in {f[0] for f in shapes.drawn(i)[1]} for c in range(2)] for i in range(shapes.N)])
    x = StandardScaler().fit(features[~TEST]).transform(features)
    expected = []
    for c in range(2):
        head = LogisticRegression(C=1 / (0.05 * (~TEST).sum()), tol=1e-8, max_iter=5000)
        score = head.fit(x[~TEST], there[~TEST, c]).decision_function(x[TEST])
        expected.append(average_precision_score(there[TEST, c], score))
    assert value(found, "multilabel/map_macro(masked=True)") == pytest.approx(np.mean(expected), abs=1e-3)
    by_objects = judged("by-objects", "multilabel", labels=None, settings={"penalty": 0.05}, **BOXES)
    metric = "multilabel/map_macro(masked=True)"
    assert value(by_objects, metric) == value(found, metric)


@pytest.mark.parametrize("method", ["probe", "multilabel"])
@pytest.mark.parametrize("seed", range(2))
def test_images_of_classes_that_would_all_be_held_out_are_used_for_fitting(method, seed):
    """Half of the classes of this long tail have one image."""
    names = [*shapes.KEYS] * (shapes.N // 2 - 10) + [f"rare{i}" for i in range(20)]
    pl.DataFrame({"image_id": [f"{i:02}.png" for i in range(shapes.N)], "label": names}).write_csv("tail.csv")
    options = {"labels": "tail.csv", "classes": None, "split": None, "seed": seed}
    found = judged(f"tail-{method}-{seed}", method, resamples=0, **options)
    rows = pl.read_csv(f"tail-{method}-{seed}/split.csv").rows(named=True)
    parts = {s: {names[int(r["image_id"][:2])] for r in rows if r["split"] == s} for s in ("test", "train")}
    assert parts == {"test": {*shapes.KEYS}, "train": {*names}}
    (note,) = (note for note in found.model_notes if note.kind == "rare_classes")
    assert f"{note.n} images of {note.n} classes (rare" in note.text


@pytest.mark.parametrize("method", ["probe", "multilabel"])
def test_the_head_is_a_model_with_the_classes_of_the_labels(method):
    """From a file of labels to a model, and to its accuracy on the images that were held out."""
    pl.DataFrame(
        {"image_id": [f"{i:02}.png" for i in range(shapes.N)], "label": [*shapes.KEYS] * 30}
    ).write_csv("named.csv")
    labels = "named.csv" if method == "probe" else "labels.parquet"
    found = judged(
        f"to-{method}", method, labels=labels, classes=None if method == "probe" else "classes.txt"
    )
    head = f"to-{method}/heads/trained--resnet.safetensors"
    assert found.heads == (f"'head:{head}(backbone=\"{MODEL}\")'",)
    assert (read_head(head).classes.keys, read_head(head).n) == (shapes.KEYS, (~TEST).sum())
    assert pl.read_csv(f"to-{method}/split.csv").equals(pl.read_csv("split.csv"))
    assert {Path(head), Path(f"to-{method}/split.csv")} < set(found.written)

    (spec,) = shlex.split(found.heads[0])
    predict("photos", spec, labels="named.csv", out=f"by-{method}", dense=True, engine="torch")
    if method == "probe":
        split = Reading(images=f"to-{method}/split.csv")
        results = evaluate(f"by-{method}", reading=split, slices=["split=test"])
        accuracy = results.value("top1", slice="split=test")
        assert accuracy == value(found, "probe/top1")
        shown = str(results)  # the slice that was asked for is on the terminal, with its images
        assert "by-probe: top1 on each slice\n" in shown
        (line,) = (line for line in shown.splitlines() if line.startswith("split=test "))
        assert line.split()[1:] == [f"{accuracy:.2%}", *line.split()[2:-1], str(TEST.sum())]
    else:
        (file,) = (path for path in Path("by-multilabel").glob("*.parquet") if path.name != "images.parquet")
        scores = np.stack(pl.read_parquet(file).sort("image_id")["scores"].to_list())[TEST]
        there = [[c in {f[0] for f in shapes.drawn(i)[1]} for c in range(2)] for i in np.flatnonzero(TEST)]
        precision = average_precision_score(np.array(there), scores, average="macro")
        assert value(found, "multilabel/map_macro(masked=True)") == pytest.approx(precision)
    assert [*found.lines()][-1] == f"the head is a model: manyhot predict IMAGES --model {found.heads[0]}"
    assert found.to_json()["heads"] == found.heads


def test_other_methods_write_no_head():
    assert judged("no-head", "knn").heads == ()
    assert not Path("no-head/heads").exists()
    assert not Path("no-head/split.csv").exists()


def test_neighbours_and_few_shots():
    assert value(judged("knn", "knn", settings={"k": 3}), "knn/real1") > 0.9
    few = judged("few", "few-shot", settings={"shots": [1, 5], "draws": 4})
    assert value(few, "few-shot/real1(shots=5)") > 0.9
    lo, hi = (value(few, "few-shot/top1(shots=1)", column=c) for c in ("lo", "hi"))
    assert lo < value(few, "few-shot/top1(shots=1)") < hi
    again = judged("few-again", "few-shot", settings={"shots": [1, 5], "draws": 4})
    assert again.results.equals(few.results)
    assert again.samples.equals(few.samples)


def test_a_class_with_few_images_is_taken_whole():
    found = judged("many-shots", "few-shot", settings={"shots": 30, "draws": 1})
    assert [*found.notes] == [
        "classes with fewer than 30 images to fit on, so all of their images are used: disc 20, square 20"
    ]


def test_fine_tuning_is_by_the_loop():
    settings = {"epochs": 12, "batch": 8, "augment": "mirror", "lr": 5e-3, "warmup": 0.0}
    found = judged("tuned", "fine-tune", settings=settings)
    assert value(found, "fine-tune/real1") > 0.8
    assert Path("tuned/fine-tune/trained--resnet/model.safetensors").is_file()
    sets = judged("tuned-sets", "fine-tune", settings={**settings, "teach": "sets", "epochs": 1})
    assert sets.results["metric"].to_pylist() == ["fine-tune/map_macro(masked=True)"]


def test_a_detector_finds_shapes():
    settings = {"epochs": 15, "batch": 8, "lr": 5e-3}
    found = judged("fcos", "detection", labels=None, settings=settings, **BOXES)
    assert value(found, "detection/ap50") > 0.6
    assert value(found, "detection/ap") == pytest.approx(
        np.mean([value(found, "detection/ap", f"class={key}") for key in shapes.KEYS])
    )
    assert [*found.notes] == [
        "trained/resnet: maps of layer2 (stride 8), layer3 (stride 16), layer4 (stride 32), 48 pixels"
    ]
    assert not Path("fcos", "maps").exists()


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["retinanet", "faster-rcnn"])
def test_other_detectors_learn(detector):
    losses = []

    def look(kind, told):
        losses.extend([told["loss"]] if kind == "epoch" else [])

    settings = {"detector": detector, "epochs": 4, "batch": 8, "lr": 5e-3}
    found = judged(detector, "detection", labels=None, settings=settings, run=Run(on_event=look), **BOXES)
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert 0 <= value(found, "detection/ap") < value(found, "detection/ap50")


def test_difficult_objects_are_neither_asked_for_nor_wrong():
    table = pl.read_csv("boxes.csv")
    more = table.with_columns(pl.lit(1, pl.Int64).alias("difficult"), pl.lit("square").alias("class"))
    pl.concat([table.filter(pl.col("class") == "disc"), more]).write_csv("difficult.csv")
    found = judged("difficult", "detection", **{**BOXES, "objects": "difficult.csv"}, settings=QUICK)
    slices = [s for s in found.results["slice"].to_pylist() if s != "all"]
    assert slices == ["class=disc"]


QUICK = {"epochs": 2, "batch": 8}


def test_a_head_segments_shapes_and_void_does_not_count():
    found = judged("masks-out", "segmentation", **MASKS, settings={"epochs": 15, "batch": 8, "lr": 5e-3})
    ious = [value(found, "segmentation/iou", f"class={k}") for k in ("background", *shapes.KEYS)]
    assert value(found, "segmentation/miou") == pytest.approx(np.mean(ious))
    assert min(ious) > 0.6
    table = [(f"{i:02}.png", Path(f"masks/{i:02}.png").read_bytes()) for i in range(shapes.N)]
    pl.DataFrame(table, ["image_id", "mask_png"], orient="row").write_parquet("masks.parquet")
    same = judged(
        "masks-table",
        "segmentation",
        **{**MASKS, "masks": "masks.parquet"},
        settings={"epochs": 15, "batch": 8, "lr": 5e-3},
    )
    assert same.results.equals(found.results)


@pytest.mark.parametrize(("method", "more"), [("detection", BOXES), ("segmentation", MASKS)])
def test_the_backbone_is_trained_where_asked_for(method, more):
    told = [
        judged(f"{method}-{i}", method, **more, settings=QUICK, train_backbone=trained)
        for i, trained in enumerate((True, True, False))
    ]
    assert told[0].results.equals(told[1].results)
    assert not told[0].results.equals(told[2].results)


def test_models_are_compared_by_the_same_resamples_in_one_call_or_in_several():
    shapes.network("other.safetensors", "test_efficientnet", ends="sigmoid")
    shapes.network("vit.safetensors", "test_vit", img_size=48)
    named = {"a": MODEL, "b": "trained:other.safetensors", "c": "trained:vit.safetensors"}
    both = transfer("photos", named, out="named", method="knn", settings={"k": 7}, resamples=50, **GIVEN)
    assert both.results["model"].to_pylist() == ["a", "a", "b", "b", "c", "c"]
    alone = judged("alone", "knn", ["trained:other.safetensors"], settings={"k": 7})
    together = [
        r["values"] for r in both.samples.to_pylist() if (r["model"], r["metric"]) == ("b", "knn/top1")
    ]
    np.testing.assert_array_equal(samples(alone, "knn/top1"), together[0])
    pair = both.pairs.to_pylist()[0]
    values = {r["model"]: r["value"] for r in both.results.to_pylist() if r["metric"] == "knn/top1"}
    assert pair["difference"] == pytest.approx(values["b"] - values["a"])
    maps = judged("vit", "segmentation", ["trained:vit.safetensors"], **MASKS, settings=QUICK)
    assert maps.notes[0] == "trained/vit: maps of blocks.5 (stride 16), 48 pixels"


def test_weights_without_classes():
    torch.manual_seed(0)
    module = timm.create_model("test_vit", num_classes=0, img_size=48)
    timm.models.save_for_hf(module, "self-supervised", model_args={"img_size": 48})
    spec = "timm/local-dir:self-supervised"
    found = judged("ssl", "knn", [spec], settings={"k": 5})
    with torch.inference_mode():
        module.eval()
        seen = find_backbone(spec).preprocessing
        pixels = torch.stack([seen(decode(Path(f"photos/{i:02}.png").read_bytes())) for i in range(shapes.N)])
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (seen.mean, seen.std))
        own = module((pixels / 255 - mean) / std).numpy()
    kept = np.load("ssl/features/embeddings/timm--self-supervised.npy")
    np.testing.assert_allclose(kept, own, atol=0.02)
    assert value(found, "knn/top1", column="n") == 20
    assert (
        judged("ssl-maps", "detection", [spec], **BOXES, settings=QUICK)
        .notes[0]
        .startswith("timm/self-supervised: maps of blocks.5")
    )


def test_the_command():
    command = ["transfer", "photos", "--method", "knn", "--model", MODEL, "--labels", "labels.parquet"]
    command += ["--classes", "classes.txt", "--split", "split.csv", "--set", "k=3", "--resamples", "20"]
    command += ["--engine", "torch", "--out", "command"]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    assert "command/results.parquet" in done.output
    told = json.loads(CliRunner().invoke(cli.app, [*command, "--json"]).stdout)
    assert [row["metric"] for row in told["results"]] == ["knn/top1", "knn/real1"]
    assert set(told) == {"results", "pairs", "notes", "written"}
    assert pl.read_csv("command/results.csv")["n"].to_list() == [20, 20]


def broken(**changes):
    """Write labels of other images, of a class that no image to fit on shows, or none."""
    table = pl.read_parquet("labels.parquet")
    for name, frame in {
        "others.parquet": table.with_columns(pl.col("image_id").str.replace(".png", "-x.png")),
        "unlabelled.parquet": table.with_columns(pl.lit(None, pl.Int32).alias("label")),
        "one-sided.parquet": table.filter((pl.col("label") == 0) | pl.Series(TEST)),
    }.items():
        frame.write_parquet(name)
    Path("small-masks").mkdir(exist_ok=True)
    Path("wild-masks").mkdir(exist_ok=True)
    Image.new("L", (48, 47)).save("small-masks/00.png")
    for i in range(shapes.N):
        Image.new("L", (48, 48), 7).save(f"wild-masks/{i:02}.png")


CASES = [
    (
        "knn",
        {"labels": None},
        InputError,
        "The method knn needs labels.\n  do:      pass them as `labels`",
    ),
    (
        "multilabel",
        {"labels": None},
        InputError,
        "The method multilabel needs labels or objects.\n  do:      pass `labels` or `objects`",
    ),
    (
        "detection",
        {},
        InputError,
        "Detection needs objects.\n  do:      pass a table of boxes as `objects`",
    ),
    (
        "segmentation",
        {},
        InputError,
        "Segmentation needs masks.\n  do:      pass a folder of PNGs, or a table with mask_png, as `masks`",
    ),
    (
        "segmentation",
        {"masks": "masks", "classes": None},
        InputError,
        "The classes of the masks are unknown.\n  do:      pass `classes` or `objects`",
    ),
    (
        "probe",
        {"train_backbone": True},
        InputError,
        "`train_backbone` is not an option of the method probe.\n"
        "  allowed: detection, segmentation\n"
        "  do:      use the method fine-tune",
    ),
    (
        "knn",
        {"model": ["head:some.safetensors"]},
        InputError,
        "A head cannot be used as a backbone.\n"
        "  got:     head:some.safetensors\n"
        "  do:      pass the backbone on which the head was fitted",
    ),
    (
        "knn",
        {"model": []},
        InputError,
        "No backbone was passed.\n  do:      pass at least one as `model`",
    ),
    (
        "knn",
        {"model": [MODEL, MODEL]},
        InputError,
        f"A backbone was passed twice.\n  got:     {MODEL}, {MODEL}",
    ),
    (
        "knn",
        {"labels": "others.parquet"},
        MatchError,
        "None of the images has labels, objects or masks.\n"
        "  where:   photos\n"
        "  got:     images such as 00.png\n"
        "  allowed: labels of images such as 00-x.png\n"
        "  do:      check that both belong to the same data set",
    ),
    (
        "probe",
        {"labels": "unlabelled.parquet"},
        InputError,
        "The labels contain no original label.\n"
        "  do:      evaluate label sets with the method multilabel, or fine-tune with teach=sets",
    ),
    (
        "probe",
        {"labels": "one-sided.parquet"},
        InputError,
        "Some classes of the test images are in none of the images to fit on.\n"
        "  got:     square\n"
        "  do:      remove them from the labels, or choose another split",
    ),
    (
        "segmentation",
        {"masks": "small-masks"},
        InputError,
        "A mask does not match the size of its image.\n"
        "  where:   small-masks: 00.png\n"
        "  got:     the mask has 48 × 47 pixels, the image 48 × 48",
    ),
    (
        "segmentation",
        {"masks": "wild-masks"},
        InputError,
        "A mask contains a value that is not a class.\n"
        "  where:   wild-masks: 00.png\n"
        "  got:     7\n"
        "  allowed: 0 for background, 1 to 2, 255 for void\n"
        "  do:      pass the class list of the masks as `classes`",
    ),
    (
        "knn",
        {"held_out": 0.5},
        UsageError,
        "`split` and `held_out` cannot be combined.\n"
        "  got:     split split.csv and held-out share 0.5\n"
        "  do:      omit `held_out`: the images of the split test are held out",
    ),
    (
        "knn",
        {"held_out": 1},
        InputError,
        "`held_out` is out of range.\n  got:     1\n  allowed: above 0 to below 1",
    ),
    (
        "knn",
        {"seed": -1},
        InputError,
        "`seed` is out of range.\n  got:     -1\n  allowed: 0 or more",
    ),
    (
        "knn",
        {"settings": {"k": 41}},
        InputError,
        "There are fewer images to fit on than neighbours.\n"
        "  got:     40 images\n"
        "  allowed: at least k=41\n"
        "  do:      choose a smaller `k`",
    ),
]


@pytest.mark.parametrize(("method", "changes", "error", "text"), CASES)
def test_bad_input(method, changes, error, text, tmp_path):
    if not Path("others.parquet").exists():
        broken()
    given = {"model": [MODEL], **GIVEN, **changes}
    with pytest.raises(error) as caught:
        transfer("photos", out=tmp_path, method=method, resamples=0, **given)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("method", "more"), [("knn", {"settings": {"k": 3}}), ("segmentation", {**MASKS, "settings": QUICK})]
)
def test_an_image_that_cannot_be_decoded_is_left_out_and_told(method, more):
    folder = Path(f"broken-{method}")
    folder.mkdir()
    for file in Path("photos").iterdir():
        (folder / file.name).write_bytes(file.read_bytes() if file.stem != "03" else b"no image")
    found = transfer(folder, MODEL, out=f"{folder}-out", method=method, resamples=0, **{**GIVEN, **more})
    assert found.results["n"].to_pylist()[0] == 19
    assert [*found.notes][:1] == ["skipped: 1, such as 03.png (not an image of a known format)"]


def test_backbones_of_one_name():
    Path("copy").mkdir()
    Path("copy/resnet.safetensors").write_bytes(Path("resnet.safetensors").read_bytes())
    found = judged("same-names", "knn", [MODEL, "trained:copy/resnet.safetensors"], settings={"k": 3})
    names = set(found.results["model"].to_pylist())
    assert len(names) == 2
    assert any("copy/resnet" in name for name in names)
    with pytest.raises(InputError) as caught:
        judged("one-name", "knn", [f"{MODEL}(name='a')", f"{MODEL}(name='a' )"], settings={"k": 3})
    assert str(caught.value) == (
        "Two models have the same name.\n"
        "  got:     a\n"
        "  do:      leave one out, or give it another name, as in trained:FILE(name='mine')"
    )


def test_images_that_nothing_is_known_of_and_empty_classes_are_no_error():
    pl.read_parquet("labels.parquet").head(50).write_parquet("some.parquet")
    Path("more.txt").write_text("disc\nsquare\nstar")
    found = judged("some", "knn", labels="some.parquet", classes="more.txt", settings={"k": 3})
    assert [*found.notes] == [
        "10 images of the source are skipped, because they have no labels, objects or masks"
    ]
    assert value(found, "knn/top1", column="n") == 17


def test_numbers_may_be_declared_as_probabilities(tmp_path):
    p = np.random.default_rng(0).random((40, 3)).round(2)
    ids = pl.DataFrame({"image_id": [f"{i}.jpg" for i in range(40)]})
    ids.hstack(pl.DataFrame(p, ["cat", "dog", "cup"])).write_csv(tmp_path / "p.csv")
    files = dict.fromkeys(("objects", "masks", "classes"))
    found = TransferInputs.read("multilabel", labels=tmp_path / "p.csv", **files, label_values="p")
    assert np.array_equal(found.states()[0].state == YES, p >= 0.5)
