"""The loop: what it trains, what it leaves alone, and what does not depend on how it is computed."""

import csv
import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.modules import module as module_hooks

import trainings
from manyhot import predict_in_memory, read_labels
from manyhot.classes import from_keys
from manyhot.errors import InputError
from manyhot.predict.weights import read_trained
from manyhot.run import Run
from manyhot.tables.arrays import label_sets
from manyhot.train import loop, networks
from manyhot.train import train as train_module
from manyhot.train.networks import stages_of, start_of
from manyhot.train.recipe import Recipe
from manyhot.train.targets import teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("colours")
    trainings.data(found, 32)
    trainings.labels(found / "val.parquet", 32, 20)
    return found


@pytest.fixture
def train(folder, tmp_path):
    def train(out, source="images", val=False, on_event=None, **settings):
        return train_module.train(
            source if not isinstance(source, str) else folder / source,
            folder / "labels.parquet",
            out=tmp_path / out,
            classes=folder / "classes.txt",
            val_labels=folder / "val.parquet" if val else None,
            settings={**trainings.TINY, **settings},
            run=Run(on_event=on_event),
        ).network

    return train


def log(path):
    with path.with_name("log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same(one, other, **tolerance):
    own, others = load_file(one), load_file(other)
    assert own.keys() == others.keys()
    for name in own:
        torch.testing.assert_close(own[name], others[name], msg=name, **tolerance)


def test_a_loop_written_out_gives_the_same_weights(train, folder, monkeypatch):
    """Whole images in the order that NumPy draws: everything else is PyTorch's, timm's and a formula."""
    monkeypatch.setattr(loop, "EVERY_STEPS", 1)
    settings = {"augment": "none", "optimiser": "sgd", "lr": 0.01, "weight_decay": 0.01, "warmup": 0.5}
    path = train("out", **settings)
    torch.manual_seed(0)
    module = timm.create_model("test_resnet", num_classes=3).to(memory_format=torch.channels_last).train()
    spared = [p for p in module.parameters() if p.ndim <= 1]
    decayed = [p for p in module.parameters() if p.ndim > 1]
    groups = [{"params": spared, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.01}]
    optimiser = torch.optim.SGD(groups, 0.01, momentum=0.9, nesterov=True)
    preprocessing = start_of(Recipe(**{**trainings.TINY}), from_keys(["a", "b", "c"])).preprocessing
    pixels = torch.stack([preprocessing(torch.from_numpy(p).permute(2, 0, 1)) for p in read(folder)])
    x = pixels.float() / 255
    x = (x - torch.tensor(preprocessing.mean).view(3, 1, 1)) / torch.tensor(preprocessing.std).view(3, 1, 1)
    y = torch.tensor([[float(c in trainings.classes_of(i)) for c in range(3)] for i in range(32)])
    losses, rates = [], []
    for step in range(8):
        epoch, at = divmod(step, 4)
        rows = np.random.default_rng([0, epoch]).permutation(32)[at * 8 :][:8]
        done = step / 4
        lr = 0.01 * (max(done, 1e-3) / 0.5 if done < 0.5 else (1 + np.cos(np.pi * (done - 0.5) / 1.5)) / 2)
        for group in optimiser.param_groups:
            group["lr"] = lr
        logits = module(x[rows].contiguous(memory_format=torch.channels_last))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        rates.append(lr)
    board = EventAccumulator(str(path.with_name("tensorboard"))).Reload()
    for name, values in {"train/loss": losses, "train/lr": rates}.items():
        points = board.Scalars(name)
        assert [point.step for point in points] == [*range(1, 9)]
        np.testing.assert_allclose([point.value for point in points], values, rtol=1e-3)
    found = load_file(path)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def read(folder):
    return [np.array(Image.open(path)) for path in sorted((folder / "images").iterdir())]


def test_what_is_written_predicts(train, folder):
    path = train("out", epochs=8, lr=3e-3, val=True, best="real1")
    rows = log(path)
    assert [row["epoch"] for row in rows] == [str(i) for i in range(1, 9)]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) * 0.8
    best = max(float(row["val_real1"]) for row in rows)
    predicted = predict_in_memory(folder / "images", f"trained:{path}").predictions
    at = [predicted.image_id.to_pylist().index(f"{i:03}.png") for i in range(20, 32)]
    scores = predicted.scores if predicted.is_dense else None
    top = predicted.classes[at, 0] if scores is None else scores[at].argmax(1)
    hit = np.mean([top[i] in trainings.classes_of(20 + i) for i in range(12)])
    assert hit == pytest.approx(best)
    last = path.with_name("last.safetensors")
    assert last.is_file()
    assert not (path.parent / "checkpoints").exists()
    assert read_trained(path).about["recipe"]["epochs"] == 8


@pytest.mark.parametrize("model", ["timm/test_resnet", "timm/test_vit"])
def test_features_computed_once_train_as_images_do(train, monkeypatch, model):
    layer = "layer4" if "resnet" in model else "blocks.3"
    settings = {"model": model, "trained_from": layer, "augment": "none", "val": True, "lr": 1e-2}
    cached = train("cached", **settings)
    monkeypatch.setattr(networks.Stages, "rest", lambda self: None)
    whole = train("whole", **settings)
    same(cached, whole, rtol=1e-3, atol=1e-5)
    for a, b in zip(log(cached), log(whole), strict=True):
        assert {k: float(v) for k, v in a.items()} == pytest.approx({k: float(v) for k, v in b.items()}, 1e-3)


def test_what_comes_before_keeps_its_weights(train):
    begun = train("begun", epochs=1)
    settings = {"weights": str(begun), "trained_from": "layer3", "lr": 0.1}
    for name, more in {"mirrored": {"augment": "mirror"}, "cropped": {"ema": 0.5}}.items():
        own, after = load_file(begun), load_file(train(name, **settings, **more))
        kept = {key for key in own if torch.equal(own[key], after[key])}
        before = {key for key in own if not key.startswith(("layer3", "layer4", "fc"))}
        assert before <= kept
        # Ones and zeros of norms apart, which a small rate may leave as they are.
        assert not {k for k in kept - before if k.endswith("weight") and own[k].ndim > 1}


def test_a_network_is_cut_where_a_layer_begins():
    module = timm.create_model("test_resnet", num_classes=3)
    stages = stages_of(module, "layer4")
    stages.freeze()
    stages.train()
    assert not module.layer3.training
    assert module.layer4.training
    assert module.training  # in which timm drops features
    assert {n.partition(".")[0] for n, p in module.named_parameters() if p.requires_grad} == {"layer4", "fc"}
    module.eval()
    x = torch.randn(2, 3, 32, 32)
    rest = stages.rest().eval()
    torch.testing.assert_close(rest(stages.features(x)), module(x))
    assert all(k.partition(".")[0] in ("conv1", "bn1", "layer1", "layer2", "layer3") for k in stages.before())


def test_a_loss_of_whole_batches_is_told_to_see_parts(train):
    told = []
    settings = {"teach": "label", "loss": "epr", "epochs": 1}
    for name, parts in (("whole", 1), ("parts", 2)):
        train(
            name,
            on_event=lambda kind, about: kind == "note" and told.append(about["text"]),
            accumulate=parts,
            **settings,
        )
    assert told == ["epr is defined on whole batches, but is computed here on each part of a batch"]


def test_a_batch_in_parts_gives_what_it_gives_whole(train):
    settings = {**trainings.NO_NORM, "optimiser": "sgd", "lr": 0.05, "mixup": 0.3}
    whole, sizes = train("whole", **settings), set()
    with module_hooks.register_module_forward_pre_hook(lambda module, x: sizes.add(len(x[0]))):
        parts = train("parts", **settings, accumulate=3)
    same(whole, parts, rtol=1e-3, atol=1e-5)
    assert max(sizes) == 3  # of 8, which fits where the whole batch does not


def test_bf16_is_near(train):
    settings = {**trainings.NO_NORM, "optimiser": "sgd", "lr": 0.01}
    one, other = log(train("f32", **settings)), log(train("bf16", **settings, precision="bf16-mixed"))
    for a, b in zip(one, other, strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=0.02)


def test_every_source_gives_the_same_weights(train, folder, tmp_path):
    images = train("folder")
    same(images, train("of tars", trainings.shards(tmp_path / "tars", folder / "images", 3)), rtol=0, atol=0)
    blobs = [p.read_bytes() for p in sorted((folder / "images").iterdir())]
    names = [f"{i:03}.png" for i in range(32)]
    pq.write_table(pa.table({"image_id": names, "png": blobs}), tmp_path / "all.parquet")
    same(images, train("of parquet", tmp_path / "all.parquet"), rtol=0, atol=0)


def test_the_average_of_weights_is_what_is_written(train, monkeypatch):
    """Its decay is at most (1 + n) / (10 + n): two steps, written out."""
    seen = []
    step = loop._Run._step

    def watched(self, fed, epoch):
        value = step(self, fed, epoch)
        seen.append(self.start.module.state_dict()["fc.weight"].clone())
        return value

    monkeypatch.setattr(loop._Run, "_step", watched)
    found = load_file(train("out", ema=0.99, batch=16, epochs=1))["fc.weight"]
    own = 1 - 2 / 11
    torch.testing.assert_close(found, seen[0] + own * (seen[1] - seen[0]))


def test_published_weights_without_a_classifier(tmp_path):
    """Self-supervised ones come so."""
    module = timm.create_model("test_resnet", num_classes=0)
    timm.models.save_for_hf(module, tmp_path, model_config={"num_classes": 0}, safe_serialization=True)
    recipe = dataclasses.replace(Recipe(), model=f"timm/local-dir:{tmp_path}")
    start = start_of(recipe, from_keys(["a", "b", "c"]))
    assert start.architecture == "test_resnet"
    assert start.module.fc.weight.shape[0] == 3
    torch.testing.assert_close(
        start.module.state_dict()["layer4.0.conv1.weight"], module.state_dict()["layer4.0.conv1.weight"]
    )


def test_losses_that_remember_run_alone(train, monkeypatch):
    class Two:
        world_size, global_rank, is_global_zero = 2, 0, True
        device = torch.device("cpu")

    monkeypatch.setattr(loop, "started", lambda _: Two())
    with pytest.raises(InputError) as error:
        train("out", loss="role")
    assert str(error.value) == (
        "The loss keeps a state for each image, which processes cannot share.\n"
        "  got:     role, 2 processes\n"
        "  do:      train in one process, or use another loss"
    )


def test_labels_are_taught_by_row(folder):
    sets = label_sets(read_labels(folder / "labels.parquet", classes=trainings.CLASSES))
    taught = teacher(sets, "sets")
    assert taught.batch(torch.tensor([1, 4])).p.tolist() == [[0, 1, 1], [0, 1, 0]]
