"""What is wrong with the input of a training, in whole messages."""

import csv
import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import timm
import torch
from filelock import FileLock
from safetensors.torch import load_file
from typer.testing import CliRunner

import trainings
from manyhot import cli
from manyhot.classes import from_keys
from manyhot.cli import events
from manyhot.errors import InputError, ManyhotError, MatchError, OutputError, UnknownNameError
from manyhot.formats import read_labels
from manyhot.predict.weights import read_trained
from manyhot.run import Run
from manyhot.tables import Labels, write_labels
from manyhot.tables.arrays import label_sets
from manyhot.train import loop
from manyhot.train import train as train_module
from manyhot.train.checkpoints import Checkpoints
from manyhot.train.recipe import Recipe, recipe_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, label sets and a class list."""
    found = tmp_path_factory.mktemp("colours")
    trainings.data(found, 16)
    return found


@pytest.fixture
def train(folder, tmp_path):
    """Train with some settings; give the file, and what was told."""

    def train(
        labels="labels.parquet",
        source="images",
        out="out",
        save_every=60.0,
        val_labels=None,
        label_values=None,
        **settings,
    ):
        told = []
        path = train_module.train(
            folder / source,
            folder / labels,
            out=tmp_path / out,
            classes=folder / "classes.txt",
            settings={**trainings.TINY, "epochs": 1, **settings},
            save_every=save_every,
            label_values=label_values,
            run=Run(on_event=lambda kind, about: told.append(about["text"]) if kind == "note" else None),
        ).network
        return path, told

    return train


def message(error, train, *arguments, **options):
    """Return the text of what training raises."""
    with pytest.raises(error) as raised:
        train(*arguments, **options)
    assert isinstance(raised.value, ManyhotError)
    return str(raised.value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"epoch": 3},
            "A recipe has no setting 'epoch'.\n  got:     3\n  allowed: "
            + ", ".join(Recipe().to_dict())
            + "\n  do:      did you mean epochs or teach?",
        ),
        ({"epochs": 0}, "`epochs` of the recipe is out of range.\n  got:     0\n  allowed: 1 or more"),
        ({"lr": -0.1}, "`lr` of the recipe is out of range.\n  got:     -0.1\n  allowed: above 0"),
        ({"lr": float("nan")}, "`lr` of the recipe is out of range.\n  got:     nan\n  allowed: above 0"),
        ({"mixup": -1.0}, "`mixup` of the recipe is out of range.\n  got:     -1.0\n  allowed: 0 or more"),
        ({"ema": 1.0}, "`ema` of the recipe is out of range.\n  got:     1.0\n  allowed: 0 or more, below 1"),
        (
            {"least_area": 0.0},
            "`least_area` of the recipe is out of range.\n  got:     0.0\n  allowed: above 0, at most 1",
        ),
        ({"size": 4}, "`size` of the recipe is out of range.\n  got:     4\n  allowed: 8 to 4,096 pixels"),
        (
            {"batch": 4, "accumulate": 8},
            "A step has more parts than images.\n  got:     accumulate 8, batch 4\n"
            "  do:      lower `accumulate`",
        ),
        (
            {"schedule": "cosinus"},
            "`schedule` of the recipe is unknown.\n  got:     cosinus\n  allowed: cosine, constant, step\n"
            "  do:      did you mean cosine?",
        ),
        ({"batch": "64"}, "The setting 'batch' is of another type.\n  got:     '64'\n  allowed: int"),
    ],
)
def test_settings(settings, text):
    with pytest.raises(InputError) as error:
        recipe_of(settings)
    assert str(error.value) == text


def test_a_batch_larger_than_the_set(train):
    assert message(InputError, train, batch=17) == (
        "A batch has more images than the training set.\n"
        "  got:     batch 17, 16 images\n"
        "  do:      lower `batch` to 16 or less"
    )


def test_labels_of_other_images(train, folder):
    trainings.labels(folder / "others.parquet", 32, 20)
    assert message(MatchError, train, "others.parquet") == (
        "None of the images has labels.\n"
        f"  where:   {folder / 'images'}\n"
        "  got:     labels of other images, such as 020.png\n"
        "  do:      check that the images and the labels belong to the same data set, and that image ids are "
        "file names without a folder"
    )


def test_labels_of_some_other_images_are_counted(train, folder):
    trainings.labels(folder / "some.parquet", 20)
    _, told = train("some.parquet")
    assert told == ["4 of 20 images with labels are not in the source"]


def test_class_folders_are_labels(folder, tmp_path):
    """As where people keep single labels: one folder per class for training, and one for validation."""
    for i, path in enumerate(sorted((folder / "images").iterdir())):
        split = tmp_path / ("val" if i % 4 == 0 else "train") / "abc"[i % 3]
        split.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, split)
    settings = {**trainings.TINY, "epochs": 1, "batch": 4, "teach": "label", "loss": "softmax"}
    words = {"val": tmp_path / "val", "val_labels": tmp_path / "val", "settings": settings}
    made = [
        train_module.train(tmp_path / "train", tmp_path / "train", out=tmp_path / out, **words)
        for out in ("one", "two")
    ]
    assert [*read_trained(made[0].network).classes.keys] == ["a", "b", "c"]
    rows = list(csv.DictReader((tmp_path / "one/log.csv").read_text().splitlines()))
    assert 0 <= float(rows[0]["val_top1"]) <= 1
    # Other labels are another run, also in a folder.
    moved = next((tmp_path / "train/a").iterdir())
    moved.rename(tmp_path / "train/b" / moved.name)
    with pytest.raises(InputError, match="another run"):
        train_module.train(tmp_path / "train", tmp_path / "train", out=tmp_path / "one", **words)


def test_training_starts_from_an_own_checkpoint(train, tmp_path):
    """As timm's train.py writes it; a head of as many classes is kept, and one of others begins anew."""
    torch.manual_seed(5)
    own = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save({"state_dict": own, "epoch": 3}, tmp_path / "own.pth.tar")
    torch.save(timm.create_model("test_resnet", num_classes=9).state_dict(), tmp_path / "nine.pth")
    settings = {"lr": 1e-12, "schedule": "constant", "weight_decay": 0.0}
    path, told = train(weights=str(tmp_path / "own.pth.tar"), out="own", **settings)
    assert told == []
    made = load_file(path)
    for name in ("conv1.0.weight", "fc.weight"):  # a step this small changes nothing that float32 shows
        torch.testing.assert_close(made[name], own[name], atol=1e-6, rtol=0)
    _, told = train(weights=str(tmp_path / "nine.pth"), out="nine", **settings)
    assert told == ["nine.pth has a different number of classes, so the head is reinitialised"]


def test_a_checkpoint_of_another_network(train, tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), tmp_path / "vit.pth")
    text = message(InputError, train, weights=str(tmp_path / "vit.pth"))
    assert text.startswith("The weights cannot be loaded into the network.\n")
    assert "allowed: a file of an earlier run, or a state dict of test_resnet" in text


def test_pairs_that_nobody_was_asked_about_are_counted(train, folder):
    rows = [["yes", "no"] if i % 2 else ["no", "yes"] for i in range(16)]
    asked = pa.array([[0, 1]] * 16, pa.list_(pa.int32()))
    trainings.labels(folder / "asked.parquet", 16, classes=asked, state=rows)
    _, told = train("asked.parquet", out="asked", loss="bce")
    assert told == [
        "16 of 48 (image, class) pairs, which no rater was asked about, are trained as absent; set "
        "`not_asked` "
        "to 'mask' to leave them out"
    ]
    assert train("asked.parquet", out="masked", loss="bce", not_asked="mask")[1] == []


def test_images_with_only_answers_of_no(train, folder):
    """Under a sigmoid, images without a valid class teach what was answered: all or some of the classes."""
    state = [["no"] if i < 3 else ["no", "no", "no"] if i < 5 else ["yes", "no"] for i in range(16)]
    asked = pa.array(
        [[1] if i < 3 else [0, 1, 2] if i < 5 else [0, 1] for i in range(16)], pa.list_(pa.int32())
    )
    trainings.labels(folder / "no.parquet", 16, classes=asked, state=state)
    sets = label_sets(read_labels(folder / "no.parquet"))

    def taught(**settings):
        rows, notes = train_module.selected(sets, recipe_of({"teach": "sets", **settings}), "sigmoid")
        return rows.tolist(), notes

    assert taught(not_asked="mask") == (list(range(16)), [])
    # Where unanswered classes count as absent, the first three images would teach mostly that.
    assert taught() == (
        list(range(3, 16)),
        [
            "3 images are left out, because no class was answered yes, and not all were answered no; set "
            "`not_asked` to 'mask' to train on their answers",
            "11 of 39 (image, class) pairs, which no rater was asked about, are trained as absent; set "
            "`not_asked` to 'mask' to leave them out",
        ],
    )
    assert taught(empty="no")[0] == list(range(16))
    full = replace(sets, complete=True)
    assert train_module.selected(full, recipe_of({"teach": "sets"}), "sigmoid")[0].size == 16
    rows, notes = train_module.selected(sets, recipe_of({"teach": "sets"}), "softmax")
    assert (rows.tolist(), notes) == (list(range(5, 16)), ["5 images without a class are left out"])
    _, told = train("no.parquet", out="only-no", loss="bce", not_asked="mask")
    assert told == []


def test_single_positives_say_what_is_trained_as_absent(train, folder):
    rows = [f"{i:03d}.png,{'1,' if i % 2 else ',1'}" for i in range(16)]
    (folder / "single.csv").write_text("\n".join(["image_id,a,b", *rows]))
    labels = read_labels(folder / "single.csv")
    plan = recipe_of({"teach": "sets"})
    expected = (
        "16 of 32 (image, class) pairs, which no rater was asked about, are trained as absent; the labels "
        "contain no negatives, so 'mask' would leave no class absent: set `loss` to one that expects further "
        "classes, such as epr, role or em"
    )
    notes = train_module.selected(label_sets(labels), plan, "sigmoid", positives_only=labels.positives_only)[
        1
    ]
    assert notes == [expected]
    lists = replace(labels, positives_only=False)
    assert train_module.selected(label_sets(lists), plan, "sigmoid")[1] == []


def test_original_labels_are_asked_for(train, folder):
    trainings.labels(folder / "sets.parquet", 16, label=pa.array([None] * 16, pa.int32()))
    assert message(InputError, train, "sets.parquet", teach="label", loss="softmax") == (
        "There are no original labels to train on.\n"
        "  got:     label sets alone\n"
        "  do:      pass labels that contain the original labels, such as the folder with one folder per "
        "class, or set `teach` to 'sets'"
    )


def test_a_metric_without_labels_is_not_printed():
    values = {"epoch": 3, "loss": 0.5, "val_top1": float("nan"), "val_real1": 0.25}
    assert list(events._lines("epoch", values)) == ["epoch 3: loss 0.5000, real1 0.250"]


def test_empty_sets(train, folder):
    # Without answers: images whose classes were all answered no teach that under a sigmoid (above).
    state = [[] if i < 3 else ["yes", "no", "no"] for i in range(16)]
    classes = pa.array([[] if i < 3 else [0, 1, 2] for i in range(16)], pa.list_(pa.int32()))
    usable = [i != 9 for i in range(16)]
    trainings.labels(folder / "empty.parquet", 16, classes=classes, state=state, usable=usable)
    _, told = train("empty.parquet")
    assert told == [
        "1 images that are not usable are left out",
        "3 images without a class are left out",
    ]
    _, told = train("empty.parquet", out="no", empty="no")
    assert told[1] == "3 images without a class count as without any"
    assert message(InputError, train, "empty.parquet", out="softmax", empty="no", loss="softmax") == (
        "A softmax cannot learn that an image has no class.\n"
        "  got:     3 images without one\n"
        "  do:      set `empty` to 'skip', or use a loss that ends in a sigmoid, such as bce"
    )
    nothing = pa.array([[]] * 16, pa.list_(pa.int32()))
    trainings.labels(folder / "nothing.parquet", 16, classes=nothing, state=[[]] * 16)
    assert message(InputError, train, "nothing.parquet", out="nothing") == (
        "No images are left to train on.\n"
        "  got:     16 images without a class are left out\n"
        "  do:      set `empty` to 'no' to train on images without a class"
    )


def test_other_classes(train, folder):
    lines = "image_id,label,usable,classes,state\n000.png,0,true,0 7,yes no\n"
    (folder / "seven.csv").write_text(lines)
    text = message(InputError, train, "seven.csv")
    assert "7" in text


@pytest.mark.parametrize("more", [{}, {"trained_from": "layer4", "augment": "mirror"}])
def test_unreadable_images_are_left_out_and_listed(train, folder, tmp_path, more):
    if not (folder / "broken").is_dir():
        trainings.images(folder / "broken", 16)
        (folder / "broken" / "003.png").write_bytes(b"no image")
        (folder / "broken" / "004.png").write_bytes(b"")
    path, _ = train(source="broken", **more)
    assert path.is_file()
    assert (tmp_path / "out" / "skipped.csv").read_text() == (
        "image_id,reason\n003.png,not an image of a known format\n004.png,the file is empty\n"
    )


def test_no_image_can_be_read(train, folder):
    (folder / "bad").mkdir()
    for i in range(16):
        (folder / "bad" / f"{i:03}.png").write_bytes(b"no image")
    text = message(InputError, train, source="bad", trained_from="layer4", augment="none")
    assert text == (
        "None of the images can be decoded.\n"
        "  got:     000.png: not an image of a known format\n"
        "  do:      check that the source contains images"
    )
    text = message(InputError, train, source="bad", out="again")
    first, got, do = text.splitlines()
    assert first == "None of the images in a lane of a batch can be decoded."
    assert got.startswith("  got:     0")
    assert got.endswith(".png: not an image of a known format")
    assert do == "  do:      check that the source contains images"


def test_a_loss_that_is_no_number(train, tmp_path, monkeypatch):
    def lost(self, fed, epoch):
        return torch.tensor(float("nan") if self.step == 1 else 1.0)

    monkeypatch.setattr(loop._Run, "_step", lost)
    text = message(InputError, train, precision="bf16-mixed", lr=0.001, schedule="constant")
    bad = tmp_path / "out" / "bad-batch.npz"
    assert text == (
        "The loss is not finite.\n"
        "  where:   step 1, learning rate 0.001\n"
        "  got:     nan\n"
        f"  do:      inspect the batch in {bad}; then start again in another folder with a lower lr, more "
        "warmup, clip=1, or precision 32-true"
    )
    with np.load(bad) as batch:
        assert batch["images"].shape == (8, 3, 32, 32)
        assert len(set(batch["image_id"])) == 8
        assert int(batch["step"]) == 1


def test_no_checkpoint_is_of_weights_after_such_a_loss(train, tmp_path, monkeypatch):
    """Though a loss is read late."""

    def lost(self, fed, epoch):
        return torch.tensor(float("nan") if self.step == 1 else 1.0)

    monkeypatch.setattr(loop._Run, "_step", lost)
    message(InputError, train, save_every=0.0)
    state, _ = Checkpoints(tmp_path / "out").read()
    assert (state["step"], state["total"]) == (1, 1)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
        MemoryError(),
    ],
)
def test_out_of_memory(train, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(loop._Run, "_step", full)
    assert message(InputError, train) == (
        "A step does not fit into memory.\n"
        "  where:   batch 8, accumulate 1\n"
        f"  got:     {str(error) or 'MemoryError'}\n"
        "  do:      raise `accumulate` to compute the batch in more parts, lower `batch` or `size`, or "
        "set `precision` to bf16-mixed"
    )


def test_damaged_checkpoints(train, tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    def stop(self, *_):
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(loop._Run, "_end_epoch", lambda self, *_: self.step == 4 and stop(self))
        with pytest.raises(Stop):
            train(epochs=3, save_every=0)
    last, before = (tmp_path / "out" / "checkpoints" / f"{name}.pt" for name in ("last", "before"))
    last.write_bytes(b"damaged")
    kept = before.read_bytes()
    before.write_bytes(b"damaged, too")
    assert message(InputError, train, epochs=3) == (
        "No checkpoint of the run can be read.\n"
        f"  where:   {last.parent}\n"
        "  got:     damaged files\n"
        "  do:      delete the folder to start again, or choose another `out`"
    )
    before.write_bytes(kept)
    _, told = train(epochs=3)
    assert told[0].startswith(f"{last} cannot be read (")
    assert told[0].endswith("), so the run resumes from the previous checkpoint")


def test_another_run_in_the_folder(train, tmp_path, monkeypatch):
    path, _ = train()
    written = path.stat().st_mtime_ns
    monkeypatch.setattr("manyhot.train.loop.started", None)
    train()  # finished: returns without Fabric
    assert path.stat().st_mtime_ns == written
    monkeypatch.setattr("manyhot.train.train.open_source", None)  # settings are compared before
    assert message(MatchError, train, lr=0.5) == (
        "The folder contains another run, which differs in setting lr.\n"
        f"  where:   {tmp_path / 'out' / 'run.json'}\n"
        "  got:     0.001\n"
        "  allowed: 0.5\n"
        "  do:      choose another `out`, or delete the folder; to train this network further, set "
        f"weights={path}"
    )


def test_two_runs_at_once(train, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        assert message(OutputError, train) == (
            "Another run is using this folder.\n"
            f"  where:   {tmp_path / 'out'}\n"
            "  do:      wait until it ends, or choose another `out`"
        )


def test_a_full_disk(train, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert message(OutputError, train, save_every=0) == (
        "The disk is full; this file was not written.\n"
        f"  where:   {tmp_path / 'out' / 'checkpoints' / 'last.pt'}\n"
        "  do:      free some space or choose another `out`"
    )


def test_networks_that_are_none(train, tmp_path):
    assert message(UnknownNameError, train, model="timm/test_resne") == (
        "timm has no network 'test_resne'.\n"
        "  allowed: a name listed by manyhot models 'timm/*'\n"
        "  do:      did you mean test_resnet or test_nfnet or test_vit_relpos?"
    )
    assert message(InputError, train, model="squeezenet") == (
        "This is not a network of timm.\n"
        "  got:     squeezenet\n"
        "  allowed: timm/NAME, or efficientnet-lite0 to efficientnet-lite2\n"
        "  do:      list the names with manyhot models 'timm/*'"
    )
    assert message(InputError, train, trained_from="layer5") == (
        "The network does not have this layer.\n"
        "  where:   `trained_from` of the recipe\n"
        "  got:     layer5\n"
        "  allowed: conv1, bn1, act1, maxpool, layer1, layer2, layer3, layer4, global_pool, fc, and "
        "their layers\n"
        "  do:      did you mean layer4 or layer3 or layer2?"
    )
    assert message(UnknownNameError, train, optimiser="adamv").endswith("?")


def test_a_head_of_other_classes_begins_anew(train, folder, tmp_path):
    path, _ = train()
    (folder / "two.txt").write_text("warm\ncold\n")
    lines = "".join(f"{i:03}.png,{i % 2},true,0 1,yes {'yes' if i % 2 else 'no'}\n" for i in range(16))
    (folder / "two.csv").write_text("image_id,label,usable,classes,state\n" + lines)
    told = []
    other = train_module.train(
        folder / "images",
        folder / "two.csv",
        out=tmp_path / "two",
        classes=folder / "two.txt",
        settings={**trainings.TINY, "epochs": 1, "lr": 1e-12, "weights": str(path)},
        run=Run(on_event=lambda kind, about: told.append(about["text"]) if kind == "note" else None),
    ).network
    assert told == ["model.safetensors has different classes, so the head is reinitialised"]
    old, new = load_file(path), load_file(other)
    assert new["fc.weight"].shape[0] == 2
    trunk = [name for name in old if name.endswith("weight") and not name.startswith("fc.")]
    for name in trunk:  # the rate is nearly 0
        torch.testing.assert_close(old[name], new[name])
    assert message(InputError, train, out="third", model="timm/test_convnext", weights=str(path)) == (
        "The weights belong to another network.\n"
        f"  where:   {path}\n"
        "  got:     test_resnet\n"
        "  allowed: test_convnext\n"
        "  do:      set `model` to timm/test_resnet"
    )


def test_numbers_may_be_declared_as_probabilities(train, folder, tmp_path):
    """A class of at least 0.5 is in the label set, as in the same table with 0 and 1."""
    sets = label_sets(read_labels(folder / "labels.parquet"))
    ids, yes = read_labels(folder / "labels.parquet").image_id.to_pylist(), sets.yes_matrix()
    keys = (folder / "classes.txt").read_text().split()
    for name, values in (("sets.csv", yes * 1), ("p.csv", np.where(yes, 0.75, 0.25))):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(
                [["image_id", *keys], *([i, *row] for i, row in zip(ids, values.tolist(), strict=True))]
            )
    with pytest.raises(InputError, match="`label_values`"):
        train("p.csv")
    with_sets, with_p = train("sets.csv")[0], train("p.csv", out="p", label_values="p")[0]
    expected, found = load_file(with_sets), load_file(with_p)
    assert all((found[name] == values).all() for name, values in expected.items())
    with pytest.raises(ManyhotError):
        train("p.csv", out="p", label_values="shares")


@pytest.mark.parametrize("several", [False, True])
def test_a_class_list_selects_some_of_the_classes(folder, tmp_path, several):
    """It was refused: "A class is not in the class list"."""
    names = (folder / "classes.txt").read_text().split()
    some, other = names[:2], names[2]
    (folder / "some.txt").write_text("\n".join(some))
    both = [[some[i % 2], other] for i in range(15)] + [[other]]
    text = "".join(f"{i:03}.png,{';'.join(own) if several else own[0]}\n" for i, own in enumerate(both))
    (folder / "all.csv").write_text(f"image_id,{'labels' if several else 'label'}\n" + text)
    told = []
    found = train_module.train(
        folder / "images",
        folder / "all.csv",
        out=tmp_path / "some",
        classes=folder / "some.txt",
        settings={**trainings.TINY, "epochs": 1, "teach": "sets", "loss": "bce" if several else "softmax"},
        run=Run(on_event=lambda kind, about: told.append(about["text"]) if kind == "note" else None),
    ).network
    assert read_trained(found).classes.keys == tuple(some)
    assert [
        note for note in told if "1 class of the labels is not in the class list, and is left out" in note
    ]
    assert f": {other}; 1 of 16 images with valid classes keep none" in told[0]


def test_the_best_epoch_needs_images_to_judge_by(train):
    assert message(InputError, train, best="real1") == (
        "There are no validation labels by which to choose the best epoch.\n"
        "  got:     best 'real1'\n"
        "  do:      pass `val_labels`, or set `best` to '' to write the weights of the last epoch"
    )


def test_labels_to_judge_by_of_other_classes(folder, tmp_path):
    other = from_keys(["warm", "cold"], "two")
    row = {"image_id": ["000.png"], "usable": [True], "classes": [[0]], "state": [["yes"]]}
    row["classes"] = pa.array(row["classes"], pa.list_(pa.int32()))
    write_labels(Labels(pa.table(row), 2, other.hash, True), tmp_path / "val.parquet")
    with pytest.raises(MatchError) as error:
        train_module.train(
            folder / "images",
            folder / "labels.parquet",
            out=tmp_path / "out",
            val_labels=tmp_path / "val.parquet",
            settings=trainings.TINY,
        )
    assert str(error.value) == (
        "The labels for evaluation and for training have different classes.\n"
        f"  where:   {tmp_path / 'val.parquet'}\n"
        f"  got:     2 classes: class list {other.hash}\n"
        f"  allowed: 3 classes: class list {trainings.CLASSES.hash}\n"
        "  do:      use the same class list for both: pass it as `classes`"
    )


def _named(path, classes, first, last):
    """Write names of classes, as people do, of images `first` to `last`."""
    rows = [f"{i:03d}.png,{classes[i % len(classes)]}" for i in range(first, last)]
    path.write_text("\n".join(["image,label", *rows, ""]))
    return path


def test_images_of_several_splits_are_not_trained_on_together(folder, tmp_path):
    """The shards of a folder as on the hub were all trained on, those of the test split, too."""
    hub = tmp_path / "hub/data"
    hub.mkdir(parents=True)
    names = sorted(path.name for path in (folder / "images").iterdir())
    for split, own in (("test", names[:6]), ("train", names[6:])):
        data = [(folder / "images" / name).read_bytes() for name in own]
        pq.write_table(pa.table({"image_id": own, "image": data}), hub / f"{split}-00000-of-00001.parquet")

    def train(source, labels=folder / "labels.parquet", **options):
        path = train_module.train(
            source,
            labels,
            out=tmp_path / "out",
            classes=folder / "classes.txt",
            settings={**trainings.TINY, "epochs": 1},
            **options,
        ).network
        with path.with_name("log.csv").open() as file:
            rows = next(csv.DictReader(file))
        shutil.rmtree(tmp_path / "out")
        return int(rows["images"])

    assert message(InputError, train, hub.parent) == (
        f"The images to train on belong to several splits.\n  where:   {hub.parent}\n"
        "  got:     labels of images in test, train\n"
        "  allowed: one split, so that the others remain for evaluation\n"
        f"  do:      pass the files of one split as `images`, such as '{hub}/train-00000-of-00001.parquet', "
        "or, to train on all, a pattern of all files"
    )
    table = pq.read_table(folder / "labels.parquet")
    for name, own in (("test", names[:6]), ("train", names[6:])):
        is_own = pc.is_in(table["image_id"], pa.array(own))
        pq.write_table(table.filter(is_own), tmp_path / f"{name}.parquet")
    batch = trainings.TINY["batch"]
    for source, options in (
        (hub.parent, {"labels": tmp_path / "train.parquet"}),
        (hub.parent, {"val_labels": tmp_path / "test.parquet"}),
        (hub / "train-*.parquet", {}),
    ):
        assert train(source, **options) == len(names[6:]) // batch * batch
    assert train(hub / "*.parquet") == len(names) // batch * batch


def test_images_to_judge_by_are_not_trained_on(folder, tmp_path):
    """All labels, and a table of those to judge by, whose classes are in another order."""
    named = _named(tmp_path / "all.csv", "bac", 0, 12)
    every = write_labels(read_labels(named, classes=["c", "b", "a"]), tmp_path / "all.parquet")
    some = _named(tmp_path / "val.csv", "cab", 8, 12)
    assert read_labels(every).class_hash != read_labels(some).class_hash
    told = []
    run = Run(on_event=lambda kind, about: told.append(about["text"]) if kind == "note" else None)
    settings = {**trainings.TINY, "epochs": 1, "batch": 4, "teach": "label", "loss": "softmax"}
    words = {"val_labels": some, "settings": settings, "run": run}
    train_module.train(folder / "images", every, out=tmp_path / "out", **words)
    assert told == ["4 images with labels are used for evaluation, so they are not trained on"]
    assert [row["images"] for row in csv.DictReader((tmp_path / "out/log.csv").read_text().splitlines())] == [
        "8"
    ]
    for val_labels in (None, _named(tmp_path / "other.csv", "cab", 6, 12)):  # these would be other images
        with pytest.raises(MatchError, match="differs in held_out"):
            train_module.train(
                folder / "images", every, out=tmp_path / "out", **{**words, "val_labels": val_labels}
            )
    with pytest.raises(InputError, match="All images to train on are also images to evaluate on"):
        train_module.train(folder / "images", every, out=tmp_path / "o", **{**words, "val_labels": every})


def test_the_command_streams_events(folder, tmp_path):
    """Settings by NAME=VALUE; the last event names the files, and text ends with them."""
    words = [
        "train",
        str(folder / "images"),
        "--labels",
        str(folder / "labels.parquet"),
        "--out",
        str(tmp_path),
    ]
    words += ["--classes", str(folder / "classes.txt"), "--save-every", "5"]
    words += [w for name, v in {**trainings.TINY, "epochs": 1}.items() for w in ("--set", f"{name}={v}")]
    lines = CliRunner().invoke(cli.app, [*words, "--json"]).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    files = [str(tmp_path / "model.safetensors"), str(tmp_path / "log.csv")]
    assert events[-1] == {"event": "result", "model": trainings.TINY["model"], "written": files}
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [1]
    again = CliRunner().invoke(cli.app, words)
    assert (again.exit_code, again.stdout.splitlines()) == (0, [f"wrote {file}" for file in files])
    done = CliRunner().invoke(cli.app, [*words, "--set", "epochs"])
    assert (done.exit_code, "--set is NAME=VALUE; got epochs" in done.stderr) == (2, True)
