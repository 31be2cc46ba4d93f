"""Zero-shot models of open_clip on small random weights: equal to open_clip's own, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from manyhot import predict, similar
from manyhot.classes import class_list, from_keys
from manyhot.data.inputs import open_inputs
from manyhot.errors import InputError, UnknownNameError, UsageError
from manyhot.predict.adapters import open_clip as adapter
from manyhot.predict.decode import decode
from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.models import find_backbone, find_model
from skipping import missing

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "patch_size": 16, "width": 24, "head_width": 12, "layers": 1}
POOLED = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
CONFIGS = {
    "manyhot-clip": {"embed_dim": 12, "vision_cfg": VISION, "text_cfg": TEXT},
    "manyhot-sigmoid": {
        **{"embed_dim": 12, "init_logit_scale": 1.5, "init_logit_bias": -3.0, "custom_text": True},
        **{"vision_cfg": VISION, "text_cfg": TEXT},
    },
    "manyhot-coca": {
        **{
            "embed_dim": 12,
            "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        },
        **{"text_cfg": {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True}},
        **{"multimodal_cfg": {**TEXT, "context_length": 76, "width": 12}, "custom_text": True},
    },
}
TEMPLATES = ("a photo of a {}.", "the {}.", "art of {}")


@pytest.fixture(scope="module")
def clip():
    try:
        import open_clip
    except ImportError:
        missing("open_clip, the extra clip")
    return open_clip


@pytest.fixture(scope="module")
def folder(clip, tmp_path_factory):
    """Configurations that open_clip knows under their names, and random weights of each."""
    folder = tmp_path_factory.mktemp("clip")
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    clip.add_model_config(folder)
    for name in CONFIGS:
        torch.manual_seed(0)
        model = clip.create_model(name, pretrained=None)
        with torch.no_grad():
            for value in model.parameters():
                if value.ndim > 1:
                    value.normal_(0, 0.3)
        torch.save(model.state_dict(), folder / f"{name}.pt")
    yield folder
    clip.factory._MODEL_CONFIG_PATHS.remove(folder)
    for name in CONFIGS:
        del clip.factory._MODEL_CONFIGS[name]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MANYHOT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40 + i, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    return tmp_path / "photos"


def spec(folder, arch, options=""):
    return f"open_clip/{arch}/{folder / arch}.pt{options}"


def of_open_clip(clip, folder, arch, network, photos, names, templates):
    """Return logits by open_clip's functions alone, for the crops of the network, and image features."""
    model, _, _ = clip.create_model_and_transforms(arch, pretrained=str(folder / f"{arch}.pt"))
    model = model.eval()
    files = sorted(photos.rglob("*.png"))
    crops = torch.stack([network.preprocessing(decode(p.read_bytes())) for p in files])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (clip.OPENAI_DATASET_MEAN, clip.OPENAI_DATASET_STD))
    texts = clip.build_zero_shot_classifier(model, clip.get_tokenizer(arch), names, templates)
    bias = getattr(model, "logit_bias", None)
    with torch.no_grad():
        seen = model.encode_image((crops / 255 - mean) / std, normalize=True)
        logits = model.logit_scale.exp() * seen @ texts + (0 if bias is None else bias)
    return logits.numpy(), seen.numpy()


@pytest.mark.parametrize("arch", CONFIGS)
def test_scores_are_those_of_open_clip(clip, folder, photos, arch):
    classes = from_keys(("cat", "dog", "tree"), "three")
    network = find_model(spec(folder, arch), classes, templates=TEMPLATES)
    found = predict_in_memory(photos, network, top=None, engine="torch", embeddings=True)
    logits, seen = of_open_clip(clip, folder, arch, network, photos, classes.names, TEMPLATES)
    assert np.ptp(logits) > 0.5  # random weights tell images and classes apart
    scale = 4.5 if arch == "manyhot-sigmoid" else 14.3  # of cosines, whose rounding is 1e-7
    np.testing.assert_allclose(found.predictions.scores / scale, logits / scale, atol=1e-5)
    np.testing.assert_allclose(found.embeddings, seen, atol=1e-3)  # float16
    assert (found.predictions.class_hash, found.predictions.score_kind) == (classes.hash, "logit")


def test_crops_are_those_of_open_clip(clip, folder, photos):
    """Pillow resizes for open_clip and torchvision for manyhot: they differ by two of 255 at most."""
    network = find_backbone(spec(folder, "manyhot-clip"))
    _, _, transform = clip.create_model_and_transforms("manyhot-clip", pretrained=None)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (network.preprocessing.mean, network.preprocessing.std)
    )
    for path in sorted(photos.rglob("*.png")):
        ours = (network.preprocessing(decode(path.read_bytes())) / 255 - mean) / std
        theirs = transform(Image.open(path))
        apart = ((ours - theirs) * std * 255).abs()
        assert float(apart.max()) <= 2.01
        assert float(apart.mean()) <= 0.1


def test_imagenet_has_the_templates_and_names_of_its_authors(clip, folder, monkeypatch):
    asked = []

    def build(model, tokenizer, names, templates, **options):
        asked.append((names, templates))
        return torch.zeros(12, len(names))

    monkeypatch.setattr(clip, "build_zero_shot_classifier", build)
    # The keys alone have the same names, so that the texts are those of the first call, in the cache.
    for classes in (None, class_list("imagenet-a"), from_keys(class_list().keys)):
        find_model(spec(folder, "manyhot-clip"), classes)
    names = tuple(clip.IMAGENET_CLASSNAMES)
    a = class_list("imagenet-a")
    place = {key: i for i, key in enumerate(class_list().keys)}
    assert [n for n, _ in asked] == [names, tuple(names[place[key]] for key in a.keys)]
    assert len(asked[0][1]) == 80
    assert [t.format("cat") for t in asked[0][1]] == [t("cat") for t in clip.OPENAI_IMAGENET_TEMPLATES]
    network = find_model(spec(folder, "manyhot-clip", "(templates='simple', names='classes')"))
    assert (asked[-1][0], len(asked[-1][1])) == (class_list().names, 7)
    assert network.notes == ()


def test_classes_with_the_same_name_are_noted(clip, folder):
    classes = replace(from_keys(("a", "b", "c")), names=("bank", "bank", "tree"))
    network = find_model(spec(folder, "manyhot-clip"), classes, templates=["a {}"])
    assert network.notes == ("classes with the same name get the same scores (1 name: bank)",)


def test_text_embeddings_are_computed_once(clip, folder, tmp_path, monkeypatch):
    classes = from_keys(("cat", "dog"))
    first = find_model(spec(folder, "manyhot-clip"), classes, templates=["a {}"])
    assert len(list((tmp_path / "cache" / "zero-shot").iterdir())) == 1
    build, calls = clip.build_zero_shot_classifier, []
    monkeypatch.setattr(clip, "build_zero_shot_classifier", lambda *a, **k: calls.append(1) or build(*a, **k))
    again = find_model(spec(folder, "manyhot-clip"), classes, templates=["a {}"])
    assert torch.equal(first.module.head.weight, again.module.head.weight)
    assert first.about == again.about
    assert calls == []
    other = find_model(spec(folder, "manyhot-clip"), classes, templates=["the {}"])
    assert calls == [1]
    assert other.about["weights"] != first.about["weights"]


def test_the_option_of_the_command(clip, folder, photos, tmp_path):
    """Templates of a file, and names of the class list; the classes and embeddings are written."""
    file = tmp_path / "templates.txt"
    file.write_text("\n".join(TEMPLATES) + "\n\n", encoding="utf-8")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    out, name = tmp_path / "out", spec(folder, "manyhot-sigmoid")
    options = {"classes": tmp_path / "classes.txt", "templates": file, "embeddings": True, "engine": "torch"}
    predict(photos, name, out=out, dense=True, **options)
    (written,) = (p for p in out.glob("*.parquet") if p.name != "images.parquet")
    frame = pl.read_parquet(written).sort("image_id")
    network = find_model(name, from_keys(("cat", "dog")), templates=TEMPLATES)
    logits, seen = of_open_clip(clip, folder, "manyhot-sigmoid", network, photos, ("cat", "dog"), TEMPLATES)
    np.testing.assert_allclose(np.stack(frame["scores"]), logits, atol=1e-5)
    (source,) = open_inputs(out, unlabelled=True)
    assert source.classes.names == ("cat", "dog")  # later commands are not told them

    found = similar(out, among="any", neighbours=1).table.to_pylist()
    cosine = seen @ seen.T - 2 * np.eye(len(seen))
    ids = frame["image_id"].to_list()
    assert {r["image_id"]: r["neighbours"][0] for r in found} == {
        image: ids[cosine[i].argmax()] for i, image in enumerate(ids)
    }


def test_a_backbone_needs_no_texts(clip, folder, photos, monkeypatch):
    monkeypatch.setattr(clip, "build_zero_shot_classifier", None)
    network = find_backbone(spec(folder, "manyhot-clip"))
    found = predict_in_memory(photos, network, top=None, engine="torch", embeddings=True)
    assert found.embeddings.shape == (6, 12)
    assert network.classes.keys == ("none",)


def test_weights_of_openai_have_quick_gelu_under_any_name(clip, folder, monkeypatch):
    """open_clip only warns if weights were trained with QuickGELU and the architecture's name lacks it."""
    asked, create = [], clip.create_model
    monkeypatch.setattr(clip, "list_pretrained_tags_by_model", lambda arch: ["openai", "laion"])
    monkeypatch.setattr(
        clip, "get_pretrained_cfg", lambda a, tag: {"quick_gelu": True} if tag == "openai" else {}
    )
    monkeypatch.setattr(adapter, "hub_or_cache", lambda name: __import__("contextlib").nullcontext())

    def created(arch, *, pretrained, force_quick_gelu):
        asked.append((pretrained, force_quick_gelu))
        return create(arch, pretrained=None)

    monkeypatch.setattr(clip, "create_model", created)
    for tag in ("openai", "laion"):
        find_model(f"open_clip/manyhot-clip/{tag}", from_keys(("cat",)), templates=["a {}"])
    assert asked == [("openai", True), ("laion", False)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "(templates=['a cat'])",
            "A template has no placeholder for the class name.\n  got:     a cat\n"
            "  allowed: a string with one {}, such as 'a photo of a {}.'",
        ),
        (
            "(templates=['a {} and {size}'])",
            "A template has no placeholder for the class name.\n  got:     a {} and {size}\n"
            "  allowed: a string with one {}, such as 'a photo of a {}.'",
        ),
        (
            "(templates=[])",
            "There are no templates.\n  allowed: a string with one {}, such as 'a photo of a {}.'",
        ),
        (
            "(templates='nowhere.txt')",
            "The templates cannot be read.\n  where:   nowhere.txt\n"
            "  got:     [Errno 2] No such file or directory: 'nowhere.txt'\n"
            "  allowed: a text file with one template per line, or openai or simple",
        ),
        ("(names='mine')", "There are no such class names.\n  got:     mine\n  allowed: openai or classes"),
        (
            "(names='openai')",
            "OpenAI's class names exist only for ImageNet's classes.\n"
            "  where:   own classes\n  got:     cat\n"
            "  do:      leave out names='openai', to use the names of the class list",
        ),
    ],
)
def test_templates_and_names_that_do_not_fit(clip, folder, options, message):
    with pytest.raises(InputError) as error:
        find_model(spec(folder, "manyhot-clip", options), from_keys(("cat", "dog")))
    assert str(error.value) == message


def test_a_class_without_a_name(clip, folder):
    with pytest.raises(InputError) as error:
        find_model(spec(folder, "manyhot-clip"), replace(from_keys(("a", "b")), names=("cat", " ")))
    assert str(error.value) == "A class has no name.\n  where:   own classes\n  got:     b"


def test_templates_for_other_models(photos):
    with pytest.raises(UsageError) as error:
        predict(photos, "efficientnet-lite0", templates="simple")
    assert str(error.value) == (
        "None of the models compares images with text.\n  got:     efficientnet-lite0\n"
        "  allowed: `templates` for models named open_clip/ARCH/PRETRAINED"
    )


def test_weights_without_a_text_tower(clip, folder, tmp_path):
    weights = torch.load(folder / "manyhot-clip.pt")
    path = tmp_path / "visual.pt"
    torch.save({k: v for k, v in weights.items() if k.startswith("visual.")}, path)
    with pytest.raises(InputError) as error:
        find_model(f"open_clip/manyhot-clip/{path}")
    assert str(error.value) == (
        f"The weights have no text tower.\n  where:   manyhot-clip/{path}\n  got:     an image tower only\n"
        "  allowed: weights of both towers, as open_clip saves them"
    )


def test_weights_of_another_architecture(clip, folder):
    path = folder / "manyhot-coca.pt"
    with pytest.raises(InputError) as error:
        find_model(f"open_clip/manyhot-clip/{path}")
    assert str(error.value).startswith(
        f"The weights cannot be loaded into the network.\n  where:   manyhot-clip/{path}\n  got:     "
    )


def test_names_that_open_clip_does_not_have(clip):
    with pytest.raises(UnknownNameError) as error:
        find_model("open_clip/ViT-B-33/openai")
    assert str(error.value).startswith("open_clip has no architecture 'ViT-B-33'.\n  allowed: the ")
    with pytest.raises(UnknownNameError) as error:
        find_model("open_clip/RN50/nobody")
    assert str(error.value) == (
        "open_clip has no weights 'nobody' for RN50.\n  allowed: openai, yfcc15m, cc12m"
    )
    assert not Path("nobody").exists()
