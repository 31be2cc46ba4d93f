"""Networks by name: of libraries, of files, of functions."""

import importlib
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image

from manyhot.classes import class_list, from_keys
from manyhot.errors import FetchError, InputError, MatchError, UnknownNameError
from manyhot.predict.adapters import timm as timm_adapter
from manyhot.predict.in_memory import predict_in_memory, predict_loader
from manyhot.predict.models import find_model, list_models
from manyhot.predict.predict import predict
from manyhot.run import Run
from manyhot.tables import metadata

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def photo(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


@pytest.fixture
def small():
    return new_small()


def new_small():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=7).eval()


def logits_of(module, network, folder):
    """What the module says of the images, its crops taken as given."""
    from manyhot.predict.decode import decode

    crops = torch.stack([network.preprocessing(decode(p.read_bytes())) for p in sorted(folder.iterdir())])
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (network.preprocessing.mean, network.preprocessing.std)
    )
    with torch.no_grad():
        return module((crops / 255 - mean) / std).numpy()


# timm.


def test_a_folder_in_the_hubs_format(tmp_path, photo, small):
    names = [f"n0000000{i}" for i in range(7)]
    timm.models.save_for_hf(
        small,
        tmp_path / "hub",
        model_config={"num_classes": 7, "label_names": names},
        safe_serialization=True,
    )
    network = find_model(f"timm/local-dir:{tmp_path / 'hub'}")
    assert network.notes == ()
    assert network.classes.keys == tuple(names)
    assert network.preprocessing.size == (160, 160)
    said = predict_in_memory(photo, network, top=None, embeddings=True)
    # Not random weights: timm gives these in silence where pretrained is not asked for.
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=1e-4)
    assert said.embeddings.shape == (3, 96)


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("within", [False, True])
def test_weights_that_would_run_code_are_refused(tmp_path, small, within, monkeypatch):
    """Also by versions of timm that unpickle unless told otherwise: what they are told is looked at."""
    told = []
    load = timm.models.load_checkpoint
    monkeypatch.setattr(timm.models, "load_checkpoint", lambda *a, **k: told.append(k) or load(*a, **k))
    spec = f"timm/test_resnet(checkpoint='{tmp_path / 'own.pth'}', num_classes=7)"
    if within:
        options = {"model_config": {"num_classes": 7}, "safe_serialization": False}
        timm.models.save_for_hf(small, tmp_path / "hub", **options)
        spec = f"timm/local-dir:{tmp_path / 'hub'}"
    file = tmp_path / ("hub/pytorch_model.bin" if within else "own.pth")
    torch.save({**small.state_dict(), "harm": Harm(tmp_path / "harmed")}, file)
    with pytest.raises(InputError, match="cannot be loaded"):
        find_model(spec)
    assert not (tmp_path / "harmed").exists()
    assert told == ([] if within else [{"weights_only": True}])


def test_a_checkpoint(tmp_path, photo, small):
    torch.save(small.state_dict(), tmp_path / "small.pth")
    network = find_model(f"timm/test_resnet(checkpoint={str(tmp_path / 'small.pth')!r}, num_classes=7)")
    said = predict_in_memory(photo, network, top=None)
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=1e-4)
    assert network.classes.name == "test_resnet"


def test_a_network_with_random_weights_is_the_same_each_time_and_says_so(photo, tmp_path):
    state = torch.random.get_rng_state()
    first, second = (find_model("timm/test_resnet(checkpoint='none')") for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.about["weights"] == second.about["weights"].strip()
    assert first.about["weights"].startswith("random ")
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b)
    found = predict(photo, "timm/test_resnet(checkpoint='none')", out=tmp_path / "out", engine="torch")
    assert "test_resnet has random weights: its predictions mean nothing" in found.notes


def test_a_network_that_timm_has_not():
    with pytest.raises(UnknownNameError) as error:
        find_model("timm/resnet5000")
    assert str(error.value) == (
        "timm has no network 'resnet5000'.\n  allowed: a name listed by manyhot models 'timm/*'\n"
        "  do:      did you mean resnet50 or resnet50t or resnet50s?"
    )


@pytest.fixture
def silent_hub(monkeypatch, tmp_path):
    """A hub at a port where nobody listens, and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return constants


@pytest.mark.parametrize(
    "name", ["timm/resnet50.a1_in1k", "timm/hf-hub:nobody/nothing", "open_clip/RN50/cc12m"]
)
def test_a_hub_that_does_not_answer(silent_hub, log_records, name):
    """One line at once: the hub's client would try for 23 s and log eleven lines a file."""
    if name.startswith("open_clip"):
        pytest.importorskip("open_clip")
    begun = time.monotonic()
    with pytest.raises(FetchError) as error:
        find_model(name)
    assert time.monotonic() - begun < 10
    assert str(error.value) == (
        f"The weights cannot be fetched.\n  where:   {name}\n"
        "  got:     http://127.0.0.1:9: [Errno 111] Connection refused\n"
        "  do:      check the internet connection, the name and the cache folder HF_HOME, or use "
        "local weights"
    )
    assert not log_records
    assert not silent_hub.HF_HUB_OFFLINE  # the next model may find it


def test_a_hub_that_does_not_answer_but_did(silent_hub, photo):
    """Weights in the hub's cache, laid out as its client does, are used at once."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    module = timm.create_model("test_resnet").eval()
    folder = Path(silent_hub.HF_HUB_CACHE) / "models--timm--test_resnet.r160_in1k"
    commit = "0" * 40
    for inside in ("refs", f"snapshots/{commit}"):
        (folder / inside).mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    save_file(module.state_dict(), folder / "snapshots" / commit / "model.safetensors")
    begun = time.monotonic()
    network = find_model("timm/test_resnet.r160_in1k")
    assert time.monotonic() - begun < 10
    said = predict_in_memory(photo, network, top=None, engine="torch").predictions
    np.testing.assert_allclose(said.scores, logits_of(module, network, photo), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("convnext_base.clip_laion2b", "an embedding of 640 numbers"),
        ("vit_small_patch14_dinov2.lvd142m", "no classes"),
    ],
)
def test_weights_that_are_no_classifiers(name, got):
    """Refused before they are fetched, and not listed."""
    with pytest.raises(InputError) as error:
        find_model(f"timm/{name}")
    assert str(error.value) == (
        f"The weights are not those of a classifier.\n  where:   timm/{name}\n  got:     {got}\n"
        "  allowed: a name listed by manyhot models 'timm/*'"
    )
    assert f"timm/{name}" not in [m.name for m in list_models(name).models]


def test_every_listed_class_list_is_one():
    """Nothing that is listed is an embedding: 1,000 classes, or more than any embedding is wide."""
    counts = {m.classes for m in list_models("timm/*").models} - {"imagenet1k"}
    assert all(int(n.replace(",", "")) > 10_000 for n in counts)


def test_a_tag_that_timm_has_not():
    with pytest.raises(UnknownNameError) as error:
        find_model("timm/test_vit.nope")
    assert str(error.value) == (
        "timm has no published weights 'test_vit.nope'.\n  allowed: test_vit.r160_in1k"
    )


def test_a_size_of_ones_own(tmp_path, small):
    torch.save(small.state_dict(), tmp_path / "small.pth")
    network = find_model(
        f"timm/test_resnet(checkpoint={str(tmp_path / 'small.pth')!r}, num_classes=7, size=96)"
    )
    assert network.preprocessing.size == (96, 96)


def test_folders_and_checkpoints_that_do_not_fit(tmp_path, small):
    for folder, got in ((tmp_path / "none", "no such folder"), (tmp_path, "no config.json")):
        with pytest.raises(InputError) as error:
            find_model(f"timm/local-dir:{folder}")
        assert str(error.value) == (
            f"The folder does not contain a timm network.\n  where:   {folder}\n  got:     {got}\n"
            "  allowed: a folder written by timm.models.save_for_hf"
        )
    path = tmp_path / "small.pth"
    torch.save(small.state_dict(), path)
    with pytest.raises(InputError) as error:
        find_model(f"timm/test_resnet(checkpoint={str(path)!r})")
    assert str(error.value) == (
        f"The weights cannot be loaded into the network.\n  where:   {path}\n"
        "  got:     size mismatch for fc.weight: copying a param with shape torch.Size([7, 96]) from "
        "checkpoint, the shape in current model is torch.Size([1000, 96]).\n"
        "  do:      pass the number of classes of the checkpoint: num_classes=N"
    )
    with pytest.raises(InputError) as error:
        find_model(f"torchvision/resnet18(checkpoint={str(path)!r})")
    assert str(error.value).startswith(
        f"The checkpoint cannot be loaded into the network.\n  where:   {path}\n"
        '  got:     Missing key(s) in state_dict: "conv1.weight"'
    )
    assert all(len(line) < 220 for line in str(error.value).splitlines())


def test_other_weights_under_one_name_are_told_apart(tmp_path, small):
    """A retrained checkpoint at the same path must not pass for the one of an earlier run."""
    path, told = tmp_path / "small.pth", []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_resnet", num_classes=7).state_dict(), path)
        told.append(find_model(f"timm/test_resnet(checkpoint={str(path)!r}, num_classes=7)").about["weights"])
    assert told[0] == told[1] != told[2]
    assert told[0].startswith(f"{path} ")


def test_21k_to_1k_by_key(tmp_path, photo):
    """A head over 21,842 classes, timm's own list of them; reference: the module's logits by NumPy."""
    from timm.data import ImageNetInfo

    torch.manual_seed(0)
    wide = timm.create_model("test_resnet", num_classes=21842).eval()
    torch.save(wide.state_dict(), tmp_path / "wide.pth")
    spec = f"timm/test_resnet(checkpoint={str(tmp_path / 'wide.pth')!r}, num_classes=21842)"
    network = find_model(spec)
    keys = ImageNetInfo("imagenet22k-ms").label_names()
    assert list(network.classes.keys) == keys
    said = predict_in_memory(photo, network, top=None, classes=class_list()).predictions
    wanted = logits_of(wide, network, photo)[:, [keys.index(key) for key in class_list().keys]]
    np.testing.assert_allclose(said.scores, wanted, atol=1e-4)
    assert said.class_hash == class_list().hash


def test_21k_that_lacks_a_class(photo):
    """The list of 21,841 has no n04399382 (teddy): it is refused, not guessed."""
    from manyhot.predict.network import Network

    wide = timm.create_model("test_resnet", num_classes=21841).eval()
    network = Network("wide", timm_adapter.timm_classes(wide, "wide"), module=wide)
    with pytest.raises(MatchError) as error:
        predict_in_memory(photo, network, classes=class_list())
    assert str(error.value) == (
        "The model lacks some classes of the data set.\n  where:   wide\n"
        "  got:     1 of 1,000 unknown, such as n04399382\n"
        "  allowed: the 21,841 keys of imagenet-22k, such as n00004475\n"
        "  do:      choose a model that has them, or pass a class list without it as `classes`"
    )


def test_a_checkpoint_that_does_not_exist(tmp_path):
    with pytest.raises(InputError) as error:
        find_model(f"timm/test_resnet(checkpoint={str(tmp_path / 'no.pth')!r})")
    assert str(error.value) == f"The weights do not exist.\n  where:   {tmp_path / 'no.pth'}"


def pixels_of(folder):
    images = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize("call", ["timm/test_resnet({}num_classes=7", "python:mine:net("])
@pytest.mark.usefixtures("module_of_ones_own")
def test_weights_of_ones_own_are_not_cropped_as_published_ones_without_a_note(tmp_path, photo, small, call):
    """Images of 96 × 96, on which a network without a crop was trained: what it says of all their pixels."""
    torch.save(small.state_dict(), tmp_path / "own.pth")
    for path in photo.iterdir():
        Image.open(path).resize((96, 96)).save(path)
    Path("seven.txt").write_text("".join(f"class {i}\n" for i in range(7)))
    call = call.format("checkpoint='own.pth', ").replace("(", "(classes='seven.txt', size=96, ")
    call = call.rstrip(" ,")
    assumed = find_model(f"{call})")
    told = timm.data.resolve_data_config({}, model=small)
    exact = (
        f"{call}, crop_pct={told['crop_pct']}, mode='center', "
        f"interpolation='{told['interpolation']}', mean={told['mean']}, std={told['std']})"
    )
    assert "does not specify crop_pct, mode, interpolation, mean and std. " in assumed.notes[0]
    assert assumed.notes[0].endswith(f"To set other values, or to confirm the assumed ones, use {exact}")
    assert find_model(exact).notes == ()
    assert find_model(exact).preprocessing == assumed.preprocessing
    own = find_model(f"{call}, crop_pct=1.0, mode='squash', interpolation='bicubic', mean=0.5, std=0.25)")
    assert own.notes == ()
    with torch.no_grad():
        wanted = small((pixels_of(photo) - 0.5) / 0.25).numpy()
    scores = predict_in_memory(photo, own, top=None).predictions.scores
    np.testing.assert_allclose(scores, wanted, atol=1e-4)
    assert np.abs(predict_in_memory(photo, assumed, top=None).predictions.scores - wanted).max() > 0.1


def test_the_size_of_a_vision_transformer_is_known_from_its_weights(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "own.pth")
    network = find_model(f"timm/test_vit(checkpoint={str(tmp_path / 'own.pth')!r}, mean=0.5, std=0.5)")
    assert network.about["preprocessing_assumed"] == "crop_pct, mode, interpolation"


def test_options_of_published_weights_are_those_of_timm():
    """Sides before the crop, rounded as timm rounds them: not from the rounded side of another size."""
    network = find_model("timm/test_resnet(checkpoint='none', crop_pct=0.9, size=300)")
    transform = timm.data.create_transform((3, 300, 300), crop_pct=0.9)
    assert network.preprocessing.scale == (transform.transforms[0].size,) * 2 == (333, 333)
    with pytest.raises(InputError, match=r"`crop_pct` must be the share of the resized side that is kept\."):
        find_model("timm/test_resnet(checkpoint='none', crop_pct=90)")


# torchvision.


def test_torchvision_with_a_checkpoint(tmp_path, photo):
    from torchvision import models

    torch.manual_seed(0)
    module = models.mobilenet_v3_small(num_classes=1000).eval()
    torch.save(module.state_dict(), tmp_path / "m.pth")
    call = f"torchvision/mobilenet_v3_small(checkpoint={str(tmp_path / 'm.pth')!r}"
    network = find_model(f"{call})")
    exact = f"{call}, size=224, crop_pct=0.875, mode='center', interpolation='bilinear', "
    assert exact in network.notes[0]
    confirmed = find_model(network.notes[0].rpartition(", use ")[2])
    assert (confirmed.notes, confirmed.preprocessing) == ((), network.preprocessing)
    assert (network.name, network.classes.hash) == (
        "torchvision/mobilenet_v3_small.IMAGENET1K_V1",
        class_list().hash,
    )
    assert (network.preprocessing.size, network.preprocessing.scale) == ((224, 224), (256, 256))
    said = predict_in_memory(photo, network, top=None, embeddings=True)
    np.testing.assert_allclose(said.predictions.scores, logits_of(module, network, photo), atol=1e-4)
    assert said.embeddings.shape == (3, 1024)


def test_torchvision_names(monkeypatch):
    with pytest.raises(UnknownNameError) as error:
        find_model("torchvision/resnet5")
    assert "do:      did you mean resnet50 or " in str(error.value)
    with pytest.raises(UnknownNameError) as error:
        find_model("torchvision/resnet50.V3")
    assert str(error.value) == (
        "torchvision has no weights 'V3' for resnet50.\n  allowed: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"
    )


# Files.


@pytest.fixture(scope="module")
def exported(tmp_path_factory, require):
    for name in ("onnx", "onnxruntime"):
        require(__import__("importlib").util.find_spec(name) is not None, name)
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    torch.onnx.export(
        new_small(),
        (torch.zeros(1, 3, 64, 64),),
        path,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )
    return path


@pytest.fixture
def onnx_file(exported, tmp_path):
    """Return a file that the test may change."""
    return Path(shutil.copy(exported, tmp_path))


def test_the_name_of_a_model_names_its_classes(onnx_file, tmp_path):
    names = list("gfedcba")
    (tmp_path / "classes.txt").write_text("\n".join(names))
    spec = f"onnx:{onnx_file}(classes={str(tmp_path / 'classes.txt')!r})"
    assert find_model(spec).classes.keys == tuple(names)
    # The class list of a call may be another, such as that of objects.
    assert find_model(spec, from_keys([*names, "h"])).classes.keys == tuple(names)


@pytest.mark.parametrize("engine", ["onnx", "openvino", "auto"])
def test_an_onnx_file(onnx_file, photo, small, engine):
    network = find_model(f"onnx:{onnx_file}(mean=0.5, std=0.25, crop_pct=1.0)")
    assert (network.preprocessing.size, network.preprocessing.scale) == ((64, 64), (64, 64))
    said = predict_in_memory(photo, network, top=None, engine=engine)
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=2e-4)
    assert said.trials[0].difference is None


ASSUMED = (
    "Images are resized to cover 73 × 73 pixels (bicubic), cropped to the central 64 × 64, and given as RGB "
    "values from 0 to 1, normalised with mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225). If the "
    "network was trained with other values, its predictions are wrong. To set other values, or "
    "to confirm the assumed ones, use "
)


@pytest.fixture(params=["onnx", "openvino"])
def file_call(request, onnx_file):
    """How a file is called, without options: the same network in both formats."""
    if request.param == "openvino":
        ov = pytest.importorskip("openvino")
        ov.save_model(ov.convert_model(onnx_file), onnx_file.with_suffix(".xml"))
        return f"openvino:{onnx_file.with_suffix('.xml')}"
    return f"onnx:{onnx_file}"


def test_what_a_file_does_not_say_is_assumed_and_said(file_call):
    network = find_model(file_call)
    exact = (
        f"{file_call}(crop_pct=0.875, mode='center', interpolation='bicubic', "
        "mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))"
    )
    assert network.notes == (
        f"{network.name}: the preprocessing is assumed, because the model does not specify crop_pct, "
        f"mode, interpolation, mean and std. {ASSUMED}{exact}",
    )
    assert network.about["preprocessing_assumed"] == "crop_pct, mode, interpolation, mean, std"
    confirmed = find_model(exact)
    assert confirmed.preprocessing == network.preprocessing
    assert (confirmed.notes, confirmed.about.keys()) == ((), {"weights", "scores_assumed"})


def test_what_is_given_is_not_assumed(file_call):
    given = "crop_pct=1, mode='squash', interpolation='nearest', mean=0.5, std=0.25"
    network = find_model(f"{file_call}({given}, scores='probability')")
    assert (network.notes, network.about.keys()) == ((), {"weights"})
    partly = find_model(f"{file_call}(mean=0.5, std=0.25, crop_pct=0.8, mode='border', scores='score')")
    exact = (
        f"{file_call}(mean=0.5, std=0.25, crop_pct=0.8, mode='border', scores='score', "
        "interpolation='bicubic')"
    )
    assert partly.notes == (
        f"{partly.name}: the preprocessing is assumed, because the model does not specify "
        "interpolation. Images are resized "
        "to fit into 80 × 80 pixels, padded (bicubic), cropped to the central 64 × 64, and given as RGB "
        "values from 0 to 1, normalised with mean (0.5, 0.5, 0.5) and std (0.25, 0.25, 0.25). If the network "
        "was trained with other values, its predictions are wrong. "
        f"To set other values, or to confirm the assumed ones, use {exact}",
    )
    confirmed = find_model(exact)
    assert (confirmed.preprocessing, confirmed.score_kind) == (partly.preprocessing, "score")
    assert confirmed.notes == ()


def test_the_size_of_a_file_that_takes_any_is_assumed(tmp_path, small, require):
    require(__import__("importlib").util.find_spec("onnx") is not None, "onnx")
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    path = tmp_path / "any.onnx"
    images = torch.zeros(1, 3, 64, 64)
    torch.onnx.export(small, (images,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    network = find_model(f"onnx:{path}(mean=0, std=1)")
    assert network.about["preprocessing_assumed"] == "size, crop_pct, mode, interpolation"
    exact = f"onnx:{path}(mean=0, std=1, size=224, crop_pct=0.875, mode='center', interpolation='bicubic')"
    assert network.notes[0].endswith(f", use {exact}")
    wide = find_model(f"onnx:{path}(size=(96, 64), mean=0, std=1)")
    exact = f"onnx:{path}(size=(96, 64), mean=0, std=1, crop_pct=0.875, mode='center', "
    assert wide.notes[0].endswith(f", use {exact}interpolation='bicubic')")
    assert "resized to cover 109 × 73 pixels (bicubic), cropped to the central 96 × 64," in wide.notes[0]


def test_assumed_preprocessing_is_in_results_and_metadata(onnx_file, photo, tmp_path):
    told = []
    spec = f"onnx:{onnx_file}(crop_pct=0.875, mode='center', interpolation='bicubic')"
    (note,) = find_model(spec).notes
    assert predict_in_memory(photo, spec).notes == (note,)
    options = {"engine": "onnx", "run": Run(on_event=lambda kind, about: told.append((kind, about)))}
    bare = "the images have no labels; manyhot audit draws a sample of them for people to label"
    noted = []
    for more in ((bare,), ()):  # also where all is predicted already
        assert predict(photo, spec, out=tmp_path / "out", **options).notes == (note, *more)
        noted += [note, *more]
        found = [about for kind, about in told if kind == "note"]
        assert found == [{"model": "onnx/small", "text": text} for text in noted]
    path = tmp_path / "out" / "onnx--small.parquet"
    assert metadata(pq.read_schema(path))["preprocessing_assumed"] == "mean, std"
    done = predict(photo, f"{spec[:-1]}, mean=0, std=1)", out=tmp_path / "known", **options)
    assert done.notes == (bare,)
    known = metadata(pq.read_schema(tmp_path / "known" / "onnx--small.parquet"))
    assert "preprocessing_assumed" not in known


def test_an_openvino_file(tmp_path, photo, small, require):
    ov = pytest.importorskip("openvino")
    graph = ov.convert_model(small, example_input=torch.zeros(1, 3, 64, 64), input=[-1, 3, 64, 64])
    ov.save_model(graph, tmp_path / "small.xml", compress_to_fp16=False)
    classes = from_keys([f"class {i}" for i in range(7)], "seven")
    network = find_model(f"openvino:{tmp_path / 'small.xml'}(interpolation='bilinear')", classes)
    assert (network.classes, network.preprocessing.interpolation) == (classes, "bilinear")
    said = predict_in_memory(photo, network, top=None)
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=2e-4)


def test_an_onnx_file_with_a_broken_name(onnx_file, capsys):
    """The runtime's error is no text, for which it would try again with another provider, and print that."""
    content = onnx_file.read_bytes()
    assert b"Conv" in content
    onnx_file.write_bytes(content.replace(b"Conv", b"Co\xffv"))
    with pytest.raises(InputError, match="The file is not an ONNX network"):
        find_model(f"onnx:{onnx_file}")
    assert capsys.readouterr() == ("", "")


def test_files_that_are_none(tmp_path):
    for spec, message in {
        f"onnx:{tmp_path / 'no.onnx'}": f"The file does not exist.\n  where:   {tmp_path / 'no.onnx'}",
        f"openvino:{tmp_path / 'x.onnx'}": "The file has the wrong extension.\n"
        f"  where:   {tmp_path / 'x.onnx'}\n  allowed: a file ending in .xml",
    }.items():
        (tmp_path / "x.onnx").write_bytes(b"no network")
        with pytest.raises(InputError) as error:
            find_model(spec)
        assert str(error.value) == message
    with pytest.raises(InputError) as error:
        find_model(f"onnx:{tmp_path / 'x.onnx'}")
    assert str(error.value).startswith(
        f"The file is not an ONNX network.\n  where:   {tmp_path / 'x.onnx'}\n"
    )


class Two(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, a, b):
        return self.inner(a) + b


class Bytes(Two):
    def forward(self, a):
        return self.inner(a.float() / 255)


@pytest.mark.parametrize(
    ("module", "inputs", "what", "got", "allowed"),
    [
        (
            Two,
            (torch.zeros(1, 3, 64, 64), torch.zeros(1, 7)),
            "The network does not take normalised images.",
            "input tensor(float) (1, 3, 64, 64) and tensor(float) (1, 7)",
            "one input of floats of shape (n, 3, height, width)",
        ),
        (
            Bytes,
            (torch.zeros(1, 3, 64, 64, dtype=torch.uint8),),
            "The network does not take normalised images.",
            "input tensor(uint8) (1, 3, 64, 64)",
            "one input of floats of shape (n, 3, height, width)",
        ),
        (
            lambda _: torch.nn.Linear(5, 7),
            (torch.zeros(1, 5),),
            "The network does not take normalised images.",
            "input tensor(float) (1, 5)",
            "one input of floats of shape (n, 3, height, width)",
        ),
        (
            lambda _: torch.nn.Conv2d(3, 7, 3),
            (torch.zeros(1, 3, 64, 64),),
            "The network does not return scores.",
            "output of shape (1, 7, 62, 62)",
            "shape (n, C)",
        ),
    ],
)
def test_onnx_files_that_are_no_classifiers(onnx_file, small, tmp_path, module, inputs, what, got, allowed):
    path = tmp_path / "other.onnx"
    torch.onnx.export(module(small), inputs, path, dynamo=False)
    with pytest.raises(InputError) as error:
        find_model(f"onnx:{path}")
    assert str(error.value) == f"{what}\n  where:   {path}\n  got:     {got}\n  allowed: {allowed}"


def test_a_size_that_a_file_does_not_take(onnx_file):
    with pytest.raises(InputError) as error:
        find_model(f"onnx:{onnx_file}(size=96)")
    assert str(error.value) == (
        f"The network takes images of a different size.\n  where:   {onnx_file}\n"
        "  got:     (96, 96)\n  allowed: (64, 64)"
    )


def test_a_graph_without_its_weights(tmp_path, small):
    ov = pytest.importorskip("openvino")
    graph = ov.convert_model(small, example_input=torch.zeros(1, 3, 64, 64), input=[-1, 3, 64, 64])
    ov.save_model(graph, tmp_path / "small.xml")
    (tmp_path / "small.bin").unlink()
    with pytest.raises(InputError) as error:
        find_model(f"openvino:{tmp_path / 'small.xml'}")
    assert str(error.value) == (
        f"The file is not an OpenVINO network.\n  where:   {tmp_path / 'small.xml'}\n"
        "  got:     Empty weights data in bin file or bin file cannot be found!"
    )


def test_a_file_that_ends_in_a_softmax(onnx_file, small, photo, tmp_path):
    path = tmp_path / "prob.onnx"
    torch.onnx.export(
        torch.nn.Sequential(small, torch.nn.Softmax(1)), (torch.zeros(1, 3, 64, 64),), path, dynamo=False
    )
    said = predict_in_memory(
        photo, f"onnx:{path}(scores='probability')", top=None, engine="openvino"
    ).predictions
    assert (said.score_kind, said.logsumexp) == ("probability", None)
    np.testing.assert_allclose(said.scores.sum(1), 1, rtol=1e-5)
    with pytest.raises(InputError) as error:
        find_model(f"onnx:{path}(scores='prob')")
    assert str(error.value) == (
        "There are no such scores.\n  got:     prob\n  allowed: logit, probability, score"
    )


@pytest.mark.parametrize(
    ("option", "what", "got"), [("std=0", "std", "0"), ("mean=(123, 117, 104)", "mean", "(123, 117, 104)")]
)
def test_pixels_are_between_0_and_1(onnx_file, option, what, got):
    with pytest.raises(InputError) as error:
        find_model(f"onnx:{onnx_file}({option})")
    assert str(error.value) == (
        f"`{what}` must be one number, or one number per channel, for pixel values between 0 and 1.\n"
        f"  got:     {got}\n  allowed: such as 0.5 or (0.5, 0.5, 0.5)"
    )


# Functions.


@pytest.fixture
def module_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import timm, torch\n"
        "def net():\n    torch.manual_seed(0)\n    return timm.create_model('test_resnet', num_classes=7)\n"
        "def plain():\n    return lambda x: x.reshape(len(x), -1)[:, :1000].astype('float32')\n"
        "def nothing():\n    return 3\n"
        "def fails():\n    raise RuntimeError('no weights')\n"
        "def fails_later():\n    return lambda x: 1 / 0\n"
        "def words():\n    return lambda x: 'hello'\n"
        "def maps():\n    return torch.nn.Conv2d(3, 7, 3)\n"
        "def two():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.GRU(12288, 7))\n"
        "def fixed():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12288, 7))\n"
        "def dropping():\n    return torch.nn.Sequential(fixed(), torch.nn.Dropout(0.9)).train()\n"
        "def load(name):\n    return net()\n"
        "def four():\n    return torch.nn.Sequential(torch.nn.Conv2d(4, 7, 3), torch.nn.Flatten(1))\n"
        "def published():\n    return timm.create_model('test_resnet')\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("mine", None)


@pytest.mark.usefixtures("module_of_ones_own")
def test_a_function_that_returns_a_module(photo, small):
    network = find_model("python:mine:net(size=96)")
    assert (network.name, network.preprocessing.size, network.head) == ("python/mine.net", (96, 96), "fc")
    said = predict_in_memory(photo, network, top=None)
    np.testing.assert_allclose(said.predictions.scores, logits_of(small, network, photo), atol=1e-4)


@pytest.mark.usefixtures("module_of_ones_own")
def test_a_function_that_returns_a_callable(photo):
    said = predict_in_memory(photo, "python:mine:plain", top=None).predictions
    assert (said.n_classes, said.scores.max() <= 255) == (1000, True)


@pytest.mark.usefixtures("module_of_ones_own")
def test_what_a_function_does_not_say_is_assumed_and_said():
    network = find_model("python:mine:fixed(size=64)")
    exact = (
        "python:mine:fixed(size=64, crop_pct=0.875, mode='center', interpolation='bicubic', "
        "mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))"
    )
    assert network.notes == (
        "python/mine.fixed: the preprocessing is assumed, because the model does not specify crop_pct, "
        f"mode, interpolation, mean and std. {ASSUMED}{exact}",
    )
    assert find_model(exact).preprocessing == network.preprocessing
    assert find_model(exact).notes == ()


TRANSFORMERS = """
import collections
import types

import torch

NAMES = {0: "road", 1: "haze", 2: "primary"}


class Like(torch.nn.Module):  # what networks of transformers have
    def __init__(self, **config):
        super().__init__()
        self.config = types.SimpleNamespace(**config)
        self.classifier = torch.nn.Linear(3, 3)

    def forward(self, pixel_values):
        assert pixel_values.shape[2:] == (24, 24)
        Output = collections.namedtuple("Output", "logits")
        return Output(self.classifier(pixel_values.mean((2, 3))))


def like(**config):
    torch.manual_seed(0)
    own = {"id2label": NAMES, "image_size": 24, "problem_type": "multi_label_classification"}
    return Like(**{**own, **config})


def unnamed():
    return like(id2label={i: f"LABEL_{i}" for i in range(3)}, problem_type=None)


def vit():
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.ViTConfig(image_size=24, patch_size=8, id2label=NAMES, **sizes)
    return transformers.ViTForImageClassification(config)
"""


@pytest.mark.parametrize("function", ["like", "vit"])
def test_networks_of_transformers(tmp_path, monkeypatch, photo, function):
    """Their outputs were refused; the order of their classes is that of their own names."""
    if function == "vit":
        pytest.importorskip("transformers")
    (tmp_path / "hugging.py").write_text(TRANSFORMERS)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("hugging")
    try:
        network = find_model(f"python:hugging:{function}")
        assert (network.classes.keys, network.preprocessing.size) == (("road", "haze", "primary"), (24, 24))
        assert (network.multilabel, network.head) == (function == "like", "classifier")
        assert "specify crop_pct, mode" in network.notes[0]  # and not the size
        own = getattr(module, function)().eval()
        expected = logits_of(lambda images: own(images).logits, network, photo)
        pixels = torch.rand(2, 3, 24, 24)
        loaded = predict_loader(own, [pixels], ids=["a", "b"], classes=["x", "y", "z"], top=None)
        np.testing.assert_allclose(loaded.predictions.scores, own(pixels).logits.detach().numpy(), atol=1e-6)
        for engine in ("torch", "onnx"):
            said = predict_in_memory(photo, network, top=None, engine=engine).predictions
            np.testing.assert_allclose(said.scores, expected, atol=1e-4)
        some = predict_in_memory(photo, network, top=None, classes=["primary", "road"]).predictions
        np.testing.assert_allclose(some.scores, expected[:, [2, 0]], atol=1e-4)  # by name
        assert find_model("python:hugging:unnamed", from_keys(("a", "b", "c"))).classes.keys == (
            "a",
            "b",
            "c",
        )
    finally:
        sys.modules.pop("hugging", None)


@pytest.mark.usefixtures("module_of_ones_own")
def test_a_callable_normalises_by_itself():
    network = find_model("python:mine:plain")
    exact = "python:mine:plain(size=224, crop_pct=0.875, mode='center', interpolation='bicubic')"
    assert network.notes == (
        "python/mine.plain: the preprocessing is assumed, because the model does not specify size, "
        "crop_pct, mode and "
        "interpolation. Images are resized to cover 256 × 256 pixels (bicubic), cropped to the central "
        "224 × 224, and given as RGB values from 0 to 255. If the network was trained with other values, its "
        f"predictions are wrong. To set other values, or to confirm the assumed ones, use {exact}",
    )
    assert find_model(exact).preprocessing == network.preprocessing
    assert find_model(exact).notes == ()


@pytest.mark.usefixtures("module_of_ones_own")
def test_a_network_of_other_channels_is_told_to_use_a_loader():
    with pytest.raises(InputError) as error:
        find_model("python:mine:four")
    assert str(error.value).endswith(
        "\n  do:      its first convolution takes 4 channels, but images are decoded to RGB: load them "
        "yourself, pass the loader to manyhot.predict_loader, and save its `predictions` with "
        "manyhot.write_predictions"
    )


@pytest.mark.usefixtures("module_of_ones_own")
def test_a_network_of_timm_knows_its_preprocessing():
    """Unless its number of classes says that it was trained by others."""
    assert find_model("python:mine:published").notes == ()
    assert find_model("python:mine:net").about["preprocessing_assumed"].startswith("size, crop_pct")


def test_a_module_that_needs_another_package_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needy.py").write_text("import nowhere_to_be_found.layers\n")
    with pytest.raises(InputError) as error:
        find_model("python:needy:net")
    assert str(error.value) == (
        "The module needy needs nowhere_to_be_found, which is not installed.\n"
        "  where:   python:needy:net\n"
        "  do:      pip install nowhere_to_be_found"
    )


@pytest.mark.usefixtures("module_of_ones_own")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "python:mine",
            "The name of the function is missing.\n  got:     python:mine\n  allowed: python:MODULE:FUNCTION",
        ),
        (
            "python:mine:no",
            "There is no such function.\n  got:     python:mine:no\n"
            "  allowed: module 'mine' has no attribute 'no'",
        ),
        (
            "python:elsewhere:net",
            "There is no such module.\n  got:     python:elsewhere:net\n"
            "  allowed: a file elsewhere.py in this folder or a folder of PYTHONPATH, "
            "or an installed package",
        ),
        (
            "python:mine:nothing",
            "This is not a model.\n  where:   python/mine.nothing\n  got:     int\n"
            "  allowed: a manyhot.predict.network.Network, a torch.nn.Module or a callable",
        ),
        (
            "python:mine:fails",
            "The function fails.\n  where:   python:mine:fails\n"
            "  got:     RuntimeError: no weights ({here}/mine.py, line 10)",
        ),
        (
            "python:mine:fails_later",
            "The model fails.\n  where:   python/mine.fails_later\n"
            "  got:     ZeroDivisionError: division by zero ({here}/mine.py, line 12)",
        ),
        (
            "python:mine:words",
            "The model fails.\n  where:   python/mine.words\n"
            "  got:     ValueError: could not convert string to float: 'hello'",
        ),
        (
            "python:mine:maps(size=64)",
            "The network does not return logits.\n  where:   python/mine.maps\n"
            "  got:     shape (1, 7, 62, 62) for one image\n  allowed: shape (1, C)\n"
            "  do:      return a module or a callable whose output is one tensor of logits, or has them as "
            ".logits",
        ),
        (
            "python:mine:two(size=64)",
            "The network does not return logits.\n  where:   python/mine.two\n"
            "  got:     tuple\n  allowed: shape (1, C)\n"
            "  do:      return a module or a callable whose output is one tensor of logits, or has them as "
            ".logits",
        ),
        (
            "python:mine:fixed",
            "The network fails on a black image of 224 × 224 pixels.\n  where:   python/mine.fixed\n"
            "  got:     RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x150528 and 12288x7)\n"
            "  do:      if it takes images of a different size, pass this size, such as …(size=224)",
        ),
        (
            "python:mine:net(sise=96)",
            "The model 'python' has no option 'sise'.\n  got:     python:mine:net(sise=96)\n"
            "  allowed: classes, scores, size, crop_pct, mode, interpolation, mean, std, name",
        ),
        (
            "python:mine:net(size)",
            "The options of the model cannot be read.\n  got:     python:mine:net(size)\n"
            "  allowed: NAME(option=literal, …)",
        ),
        (
            "python:mine:net(size=96, mode=squash)",
            "The options of the model cannot be read.\n"
            "  got:     mode=squash in python:mine:net(size=96, mode=squash)\n"
            "  allowed: NAME(option=literal, …)\n  do:      write strings in quotes, such as mode='squash'",
        ),
        (
            "python:mine:load",
            "The function requires arguments, but is called without any.\n  where:   python:mine:load\n"
            "  got:     name\n"
            "  do:      name a function without arguments, such as def large(): return load('large')",
        ),
        ("timm/", "The name of the model is incomplete.\n  got:     timm/\n  allowed: timm/NAME"),
    ],
)
def test_names_that_cannot_be(spec, message):
    with pytest.raises(InputError) as error:
        find_model(spec)
    assert str(error.value) == message.replace("{here}", str(Path.cwd()))


@pytest.mark.usefixtures("module_of_ones_own")
def test_a_module_in_training_mode_is_evaluated(photo):
    """Dropout would zero nine of ten logits, others each time."""
    said = [
        predict_in_memory(photo, "python:mine:dropping(size=64)", top=None, engine="torch") for _ in range(2)
    ]
    assert (said[0].predictions.scores != 0).all()


def test_a_name_without_its_family():
    with pytest.raises(UnknownNameError) as error:
        find_model("resnet50")
    assert str(error.value) == (
        "There is no model 'resnet50'.\n"
        "  allowed: efficientnet-lite0, efficientnet-lite1, efficientnet-lite2, squeezenet, timm/NAME, "
        "torchvision/NAME, open_clip/ARCH/PRETRAINED, onnx:FILE, openvino:FILE, python:MODULE:FUNCTION, "
        "head:FILE, trained:FILE, dropout:MODEL, ensemble:MODEL,MODEL\n"
        "  do:      for a timm model, use timm/resnet50; to search for a name, run manyhot "
        "models '*resnet50*'"
    )


# Lists.


def test_models_by_patterns():
    eva = list_models("eva02*").models
    assert len(eva) > 5
    assert all(m.name.startswith("timm/eva02") for m in eva)
    assert list_models("va02").models == eva
    assert [m.name for m in list_models("torchvision/resnet50.*").models] == [
        "torchvision/resnet50.IMAGENET1K_V1",
        "torchvision/resnet50.IMAGENET1K_V2",
    ]
    assert [(m.name, m.size) for m in list_models("efficientnet-lite?").models] == [
        ("efficientnet-lite0", 224),
        ("efficientnet-lite1", 240),
        ("efficientnet-lite2", 260),
    ]
