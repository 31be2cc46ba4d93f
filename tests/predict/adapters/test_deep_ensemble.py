"""Ensembles against brute force over their members' own predictions."""

import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.special import expit, softmax
from scipy.stats import entropy

torch = pytest.importorskip("torch")

from manyhot import predict, predict_in_memory, read_predictions  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.core.sets import NO, YES  # noqa: E402
from manyhot.errors import InputError  # noqa: E402
from manyhot.predict.adapters.deep_ensemble import ensemble_network  # noqa: E402
from manyhot.predict.adapters.dropout import dropout_network, pass_masks, switch_on  # noqa: E402
from manyhot.predict.engines import EngineOptions, build_engine  # noqa: E402
from manyhot.predict.models import find_model  # noqa: E402
from manyhot.predict.network import Network, Preprocessing, normalised  # noqa: E402
from manyhot.predict.weights import Head, write_head  # noqa: E402
from manyhot.train.heads import fit_sigmoid, fit_softmax  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_trials")

CLASSES = from_keys(("cat", "dog", "cow", "hen"), "animals")
SIZE = (4, 4)
C, N = len(CLASSES), 9

MODULE = """
import torch
from manyhot.classes import from_keys
from manyhot.predict.network import Network, Preprocessing

CLASSES = from_keys(("cat", "dog", "cow", "hen"), "animals")


def net(seed, multilabel, drop=0.0):
    torch.manual_seed(seed)
    layers = [torch.nn.Flatten(), torch.nn.Dropout(drop), torch.nn.Linear(48, 4)]
    if multilabel:
        layers.append(torch.nn.Sigmoid())
    kind = "probability" if multilabel else "logit"
    return Network(f"net{seed}", CLASSES, Preprocessing((4, 4), (4, 4)), torch.nn.Sequential(*layers).eval(),
                   score_kind=kind, multilabel=multilabel)


def s0(): return net(0, False)
def s1(): return net(1, False)
def s2(): return net(2, False)
def m0(): return net(0, True)
def m1(): return net(1, True)
def m2(): return net(2, True)
def d0(): return net(0, False, 0.5)
def d1(): return net(0, True, 0.5)


def backbone():
    made = net(0, False)
    return Network("bones", CLASSES, made.preprocessing, made.module, "2")


class Counted(torch.nn.Module):
    calls = 0

    def __init__(self, seed, drop):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.drop = torch.nn.Conv2d(3, 32, 3), torch.nn.Dropout(drop)
        self.linear = torch.nn.Linear(32, 4)

    def forward(self, x):
        Counted.calls += 1
        return self.linear(self.drop(self.conv(x).relu()).mean((2, 3)))


def counted(seed=0, drop=0.0):
    return Network("counted", CLASSES, Preprocessing((4, 4), (4, 4)), Counted(seed, drop).eval(), "linear")


def counted2(): return counted(2)
def dropping(): return counted(0, 0.3)
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Return a folder of noisy images, and make the module of networks importable."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "members_of_tests.py").write_text(MODULE)
    sys.modules.pop("members_of_tests", None)
    rng, folder = np.random.default_rng(0), tmp_path / "photos"
    folder.mkdir()
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"")
    return folder


def spec(*functions):
    return ",".join(f"python:members_of_tests:{f}" for f in functions)


def alone(photos, function):
    """Return the probabilities of a member by itself."""
    found = predict_in_memory(photos, spec(function), top=None).predictions
    scores = found.scores.astype(float)
    return softmax(scores, axis=1) if found.score_kind == "logit" else scores


def test_a_softmax_ensemble_in_files(photos, tmp_path):
    predict(photos, [f"ensemble:{spec('s0', 's1', 's2')}"], out=tmp_path / "out", top=3)
    path = tmp_path / "out" / "ensemble--net0+2.parquet"
    found = read_predictions(path)
    p = np.stack([alone(photos, f) for f in ("s0", "s1", "s2")])
    mean = p.mean(0)
    order = np.argsort(-mean, axis=1)[:, :3]
    assert found.classes.tolist() == order.tolist()
    assert found.scores == pytest.approx(np.take_along_axis(mean, order, 1), abs=1e-6)
    assert (found.model, found.score_kind, len(found)) == ("ensemble/net0+2", "probability", N)
    of = found.uncertainty
    assert of.entropy == pytest.approx(entropy(mean, axis=1), abs=1e-5)
    assert of.mutual_information == pytest.approx(
        entropy(mean, axis=1) - entropy(p, axis=2).mean(0), abs=1e-5
    )
    assert (of.mutual_information > 0.01).any()
    assert of.by_class is None
    assert pq.read_schema(path).names == ["image_id", "classes", "scores", "entropy", "mutual_information"]
    assert found.to_table().column_names == pq.read_schema(path).names
    whole = predict_in_memory(photos, f"ensemble:{spec('s0', 's1', 's2')}", top=3).predictions
    assert whole.uncertainty.mutual_information.tolist() == of.mutual_information.tolist()


@pytest.mark.parametrize("top", [2, None])
def test_a_sigmoid_ensemble_by_class(photos, tmp_path, top):
    predict(
        photos,
        [f"ensemble:{spec('m0', 'm1', 'm2')}(name='three')"],
        out=tmp_path / "out",
        top=top,
        dense=not top,
    )
    found = read_predictions(tmp_path / "out" / "ensemble--three.parquet")
    p = np.stack([alone(photos, f) for f in ("m0", "m1", "m2")])
    mean = p.mean(0)

    def binary(q):
        return entropy(np.stack([q, 1 - q]), axis=0)

    by_class = binary(mean) - binary(p).mean(0)
    order = np.argsort(-mean, axis=1)[:, :top] if top else np.tile(np.arange(C), (N, 1))
    of = found.uncertainty
    assert found.scores == pytest.approx(np.take_along_axis(mean, order, 1), abs=1e-6)
    assert of.by_class == pytest.approx(np.take_along_axis(by_class, order, 1), abs=1e-5)
    assert of.mutual_information == pytest.approx(by_class.sum(1), abs=1e-5)
    assert of.entropy == pytest.approx(binary(mean).sum(1), abs=1e-5)
    short = replace(of, by_class=of.by_class[:, :1])
    k = top or C
    assert refused(lambda: replace(found, uncertainty=short)) == (
        "The mutual information of classes and the scores differ in shape.\n"
        f"  where:   {found.source}\n"
        "  got:     shape (9, 1)\n"
        f"  allowed: shape (9, {k})"
    )


def test_logits_of_independent_classes_and_a_part_of_the_classes(photos):
    some = from_keys(("hen", "cat"), "two")
    name = f"ensemble:{spec('s0', 's1')}(multilabel=True)"
    found = predict_in_memory(photos, name, top=None, classes=some).predictions
    logits = np.stack(
        [
            predict_in_memory(photos, spec(f), top=None).predictions.scores[:, [3, 0]].astype(float)
            for f in ("s0", "s1")
        ]
    )
    p = expit(logits)
    assert found.scores == pytest.approx(p.mean(0), abs=1e-6)
    both = np.stack([p, 1 - p])
    expected = (both * np.log(both / both.mean(1, keepdims=True))).sum(0).mean(0)
    assert found.uncertainty.by_class == pytest.approx(expected, abs=1e-5)
    assert found.uncertainty.mutual_information == pytest.approx(expected.sum(1), abs=1e-5)


@pytest.mark.parametrize(("function", "multilabel"), [("d0", False), ("d1", True)])
def test_passes_with_dropout(photos, function, multilabel):
    found = predict_in_memory(photos, f"dropout:{spec(function)}(passes=6)", top=None).predictions
    network = dropout_network(spec(function), passes=6)
    pixels = np.stack([np.array(Image.open(photos / f"{i}.png")).transpose(2, 0, 1) for i in range(N)])
    p = np.stack(list(network.members(pixels)))
    assert network.multilabel is multilabel
    assert found.scores == pytest.approx(p.mean(0), abs=1e-6)
    both = np.stack([p, 1 - p]) if multilabel else p[None]
    expected = (both * np.log(both / both.mean(1, keepdims=True))).sum((0, 3)).mean(0)
    assert found.uncertainty.mutual_information == pytest.approx(expected, abs=1e-5)
    assert (expected > 0.01).all()


def test_batches_and_resumed_runs_do_not_matter(photos, tmp_path):
    name = f"ensemble:{spec('m0', 'm1')}"
    parts = [predict_in_memory(photos, name, batch=batch).predictions for batch in (1, 4, 64)]
    for part in parts[1:]:
        assert part.uncertainty.by_class == pytest.approx(parts[0].uncertainty.by_class, abs=1e-6)
    for _ in range(2):
        predict(photos, [name], out=tmp_path / "out")
    changed = f"ensemble:{spec('m0', 'm2')}(name='net0+1')"
    with pytest.raises(Exception, match="differs in weights"):
        predict(photos, [changed], out=tmp_path / "out")


def test_heads_in_files_that_match_a_pattern(photos, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 48)), rng.integers(0, C, 60)
    targets = rng.choice([NO, YES], (60, C))
    (tmp_path / "heads").mkdir()
    for seed in range(3):
        weights = rng.multinomial(60, np.full(60, 1 / 60))
        for kind, fit, of in (("one", fit_softmax, y), ("several", fit_sigmoid, targets)):
            head = fit(x, of, CLASSES, "bones", weights=weights, penalty=1.0)
            write_head(head, tmp_path / "heads" / f"{kind}{seed}.safetensors")
    bones = "(backbone='python:members_of_tests:backbone')"
    for kind in ("one", "several"):
        pattern = f"head:{tmp_path}/heads/{kind}*.safetensors"
        found = predict_in_memory(photos, f"ensemble:{pattern}{bones}()", top=None).predictions
        p = []
        for seed in range(3):
            own = f"head:{tmp_path}/heads/{kind}{seed}.safetensors{bones}"
            scores = predict_in_memory(photos, own, top=None).predictions.scores.astype(float)
            p.append(softmax(scores, axis=1) if kind == "one" else scores)
        assert found.model == f"ensemble/head/{kind}0+2"
        assert found.scores == pytest.approx(np.mean(p, axis=0), abs=1e-6)
        assert (found.uncertainty.by_class is None) == (kind == "one")
        assert (found.uncertainty.mutual_information > 0).all()
    nothing = f"head:{tmp_path}/heads/other*.safetensors"
    assert refused(lambda: find_model(f"ensemble:{nothing}")) == (
        f"No model file matches the pattern.\n  got:     {nothing}\n  allowed: a pattern that matches files"
    )


@pytest.fixture
def heads(photos, tmp_path):
    """Return the names of heads on a backbone that counts its calls, the counter, and pixels."""
    from members_of_tests import Counted

    def made(backbone="counted", kind="softmax", dropout=0.0, n=3):
        rng, specs = np.random.default_rng(0), []
        for i in range(n):
            weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((C, 32), (C,)))
            head = Head("counted", CLASSES, kind, weight, bias, 1.0, 60, dropout)
            path = write_head(head, tmp_path / f"{backbone}-{kind}{i}.safetensors")
            specs.append(f"head:{path}(backbone='python:members_of_tests:{backbone}')")
        return specs

    pixels = np.random.default_rng(1).integers(0, 256, (11, 3, *SIZE), np.uint8)
    return made, Counted, pixels


def member_by_member(specs, pixels):
    """Return the probabilities of each model, which runs all of its own network in batches of four."""
    for name in specs:
        found = find_model(name)
        engine = build_engine("torch", found, EngineOptions(workers=1))
        scores = np.concatenate([engine(pixels[i : i + 4])[0] for i in range(0, len(pixels), 4)])
        exact = scores.astype(np.float64)
        yield softmax(exact, axis=1) if found.score_kind == "logit" else exact


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_heads_on_one_backbone_run_it_once(heads, kind):
    """Equal to the last digit, in the order of the names, although one member has another backbone."""
    made, counted, pixels = heads
    one, two, three = made(kind=kind)
    names = [one, *made("counted2", kind, n=1), two, three]
    found = find_model(f"ensemble:{','.join(names)}()")
    counted.calls = 0
    members = [p.tolist() for p in found.members(pixels)]
    assert counted.calls == 2 * 3  # backbones, and batches of at most four images
    expected = list(member_by_member(names, pixels))
    assert members == [p.tolist() for p in expected]
    assert found.forward(pixels).tolist() == (sum(expected) / len(names)).astype(np.float32).tolist()


def test_backbones_of_other_weights_or_preprocessing_are_not_shared(heads, build):
    made, counted, pixels = heads
    first, second = (find_model(name) for name in made(n=2))
    other = replace(second, name="other", preprocessing=Preprocessing(SIZE, SIZE, mean=(0.1, 0.2, 0.3)))
    names = made(n=1) + made("counted2", n=1)
    for found in (find_model(f"ensemble:{','.join(names)}()"), build(first, other)):
        counted.calls = 0
        a, b = found.members(pixels)
        assert counted.calls == 2 * 3
        assert (a != b).all()


@pytest.mark.parametrize(("backbone", "n_calls"), [("counted", 1), ("dropping", 7)])
def test_passes_of_a_head_run_the_backbone_once_unless_it_drops_units(heads, backbone, n_calls):
    made, counted, pixels = heads
    (name,) = made(backbone, dropout=0.5, n=1)
    found = find_model(f"dropout:{name}(passes=7, seed=3)")
    counted.calls = 0
    passes = list(found.members(pixels))
    assert counted.calls == n_calls
    alone = find_model(name)
    module = normalised(alone.module, alone.preprocessing)
    assert switch_on(alone.module) == (1 if backbone == "counted" else 2)
    for number, p in enumerate(passes):
        with torch.inference_mode(), pass_masks(3, number):
            logits = module(torch.from_numpy(pixels)).double().numpy()
        assert p.tolist() == softmax(logits, axis=1).tolist()


@pytest.fixture
def build(monkeypatch):
    """Return a function that makes an ensemble of networks."""

    def made(*networks, **options):
        by_name = {network.name: network for network in networks}
        monkeypatch.setattr(sys.modules[find_model.__module__], "find_model", lambda name, *_: by_name[name])
        return ensemble_network(",".join(by_name), **options)

    return made


def network(name, **fields):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, C))
    return Network(name, CLASSES, Preprocessing(SIZE, SIZE), module.eval(), **fields)


def refused(make):
    with pytest.raises(InputError) as error:
        make()
    return str(error.value)


def test_members_must_be_alike(build):
    a = network("a")
    assert refused(lambda: build(a)) == (
        "An ensemble needs several models.\n"
        "  got:     ensemble:a\n"
        "  allowed: two or more different models, such as "
        "ensemble:head:a.safetensors,head:b.safetensors"
    )
    pets = from_keys(("cat", "dog"), "pets")
    assert refused(lambda: build(a, replace(network("b"), classes=pets))) == (
        "Two models of an ensemble have different class lists.\n"
        "  where:   b\n"
        f"  got:     2 classes, class list {pets.hash}\n"
        f"  allowed: 4 classes, class list {CLASSES.hash}, as a"
    )
    large = replace(network("b"), preprocessing=Preprocessing((8, 8), (9, 9)))
    assert refused(lambda: build(a, large)) == (
        "Two models of an ensemble have different sizes or crops of their input.\n"
        "  where:   b\n"
        "  got:     8 × 8 pixels of 9 × 9, center, bicubic\n"
        "  allowed: 4 × 4 pixels of 4 × 4, center, bicubic, as a"
    )
    several = network("b", score_kind="probability", multilabel=True)
    assert refused(lambda: build(a, several)) == (
        "Two models of an ensemble have different kinds of classes.\n"
        "  where:   b\n"
        "  got:     several classes valid together\n"
        "  allowed: one valid class, as a"
    )
    assert refused(lambda: build(a, network("b", score_kind="cosine"))) == (
        "Models of an ensemble are averaged as probabilities, but this model has none.\n"
        "  where:   b\n"
        "  got:     scores of kind cosine\n"
        "  allowed: logits or probabilities"
    )
    assert refused(lambda: build(a, build(network("c"), network("d")))) == (
        "An average cannot be averaged again.\n"
        "  where:   ensemble/c+1\n"
        "  allowed: single models, without ensemble: or dropout:"
    )


def test_means_and_stds_of_members_may_differ_and_equal_weights_are_noted(build):
    a = network("a", about={"weights": "a.onnx 0123"}, notes=("assumed",))
    b = replace(a, name="b", preprocessing=Preprocessing(SIZE, SIZE, mean=(0.5,) * 3))
    found = build(a, b)
    assert found.notes == ("assumed", "b and a have the same weights")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, *SIZE), np.uint8)
    ends = []
    for n in (a, b):
        p = n.preprocessing
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (p.mean, p.std))
        with torch.no_grad():
            logits = n.module(torch.from_numpy((pixels / np.float32(255) - mean) / std)).double()
        ends.append(softmax(logits.numpy(), axis=1))
    assert found.forward(pixels) == pytest.approx(np.mean(ends, axis=0), abs=1e-5)


def test_options_of_members(photos):
    first, second = "python:members_of_tests:s0(size=4)", "python:members_of_tests:s1(size=4)"
    found = find_model(f"ensemble:{first},{second}()")
    assert (found.name, found.about["weights"].partition(" ")[0]) == ("ensemble/net0+1", "2")
    assert refused(lambda: find_model(f"ensemble:{first},{second}")) == (
        "The model 'ensemble' has no option 'size'.\n"
        f"  got:     ensemble:{first},{second}\n"
        "  allowed: classes, name, multilabel"
    )
