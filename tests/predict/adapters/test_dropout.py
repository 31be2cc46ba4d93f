"""Monte Carlo dropout against the mean over all masks."""

import itertools
import sys

import numpy as np
import pytest
from scipy.special import softmax

torch = pytest.importorskip("torch")

from manyhot.classes import from_keys  # noqa: E402
from manyhot.errors import InputError  # noqa: E402
from manyhot.predict.adapters.dropout import dropout_network, switch_on  # noqa: E402
from manyhot.predict.engines import EngineOptions, build_engine  # noqa: E402
from manyhot.predict.models import find_model  # noqa: E402
from manyhot.predict.network import Network, Preprocessing  # noqa: E402

CLASSES = from_keys(("cat", "dog"), "pets")
SIZE = (4, 4)
RATE = 0.5


class Means(torch.nn.Module):
    """Means of the channels, dropped, and a linear layer; the batch norm would change in training."""

    def __init__(self, dropping):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.dropping = torch.nn.BatchNorm1d(3), dropping
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(self.dropping(self.norm(x.mean((2, 3)))))


class Calls(torch.nn.Module):
    """Drop as the networks of timm do."""

    drop_rate = RATE

    def forward(self, x):
        return torch.nn.functional.dropout(x, p=self.drop_rate, training=self.training)


class Maps(torch.nn.Module):
    """Drop whole channels."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = torch.nn.Dropout2d(RATE), torch.nn.Linear(3, 2)

    def forward(self, x):
        dropped = self.drop(x)
        # A channel is dropped as a whole.
        gone = (dropped == 0).flatten(2).float().mean(2)
        assert ((gone == 0) | (gone == 1)).all()
        return self.linear(dropped.mean((2, 3)))


def network(module, kind="logit"):
    return Network("own", CLASSES, Preprocessing(SIZE, SIZE), module.eval(), score_kind=kind)


@pytest.fixture
def made(monkeypatch):
    """Return a function that averages passes of a network."""

    def build(net, **options):
        monkeypatch.setattr(sys.modules[find_model.__module__], "find_model", lambda *_: net)
        return dropout_network("own", **options)

    return build


def images(n=5):
    return np.random.default_rng(0).integers(1, 256, (n, 3, *SIZE), np.uint8)


def seen(module, pixels):
    """Return the normalised means of the channels."""
    p = Preprocessing(SIZE, SIZE)
    mean, std = (np.array(v)[:, None, None] for v in (p.mean, p.std))
    x = torch.from_numpy((pixels / 255 - mean) / std).float().mean((2, 3))
    with torch.no_grad():
        return module.norm(x).double().numpy() if hasattr(module, "norm") else x.double().numpy()


def expected(module, pixels):
    """Return the mean probabilities over all masks of three units."""
    x = seen(module, pixels)
    w, b = (v.detach().double().numpy() for v in (module.linear.weight, module.linear.bias))
    total = 0.0
    for mask in itertools.product([0, 1], repeat=3):
        total = total + softmax((x * np.array(mask) / (1 - RATE)) @ w.T + b, axis=1) / 8
    return total


@pytest.mark.parametrize("kind", ["layer", "call", "maps"])
def test_mean_over_many_passes_is_that_over_all_masks(made, kind):
    module = Maps() if kind == "maps" else Means(torch.nn.Dropout(RATE) if kind == "layer" else Calls())
    net = made(network(module), passes=3000)
    assert (net.name, net.score_kind, net.classes) == ("dropout/own", "probability", CLASSES)
    assert net.about["dropout"] == "3000 passes, seed 0"
    found = net.forward(images())
    assert found == pytest.approx(expected(module, images()), abs=0.02)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_probabilities_are_averaged_as_they_are(made):
    module = Means(torch.nn.Dropout(RATE))
    ends = torch.nn.Sequential(module, torch.nn.Softmax(1))
    pixels = images()
    same = made(network(module), passes=7).forward(pixels)
    assert made(network(ends, "probability"), passes=7).forward(pixels) == pytest.approx(same, abs=1e-6)


def test_batches_do_not_matter_and_seeds_do(made):
    net, pixels = made(network(Means(torch.nn.Dropout(RATE))), passes=3), images(9)
    whole = build_engine("auto", net, EngineOptions(batch=9))(pixels)[0]
    parts = np.concatenate(
        [build_engine("auto", net, EngineOptions(batch=2))(pixels[i : i + 2])[0] for i in range(0, 9, 2)]
    )
    assert parts == pytest.approx(whole, abs=1e-6)
    state = torch.get_rng_state()
    net.forward(pixels)
    assert torch.equal(torch.get_rng_state(), state)
    other = made(network(Means(torch.nn.Dropout(RATE))), passes=3, seed=1).forward(pixels)
    assert np.abs(other - whole).max() > 1e-3


def test_only_dropout_is_switched_on():
    module = torch.nn.Sequential(
        torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.1), torch.nn.Dropout(0.0), Calls()
    )
    assert switch_on(module.train()) == 2
    assert [m.training for m in module] == [False, True, False, True]
    assert not module.training


def refused(make):
    with pytest.raises(InputError) as error:
        make()
    return str(error.value)


def test_what_has_no_dropout(made):
    assert refused(lambda: made(network(Means(torch.nn.Dropout(0.0))))) == (
        "This model has no dropout, so all passes would be equal.\n"
        "  where:   own\n"
        "  got:     no layer of dropout above 0\n"
        "  allowed: a network with dropout layers, such as one trained with drop=0.2"
    )
    files = Network("own", CLASSES, Preprocessing(SIZE, SIZE), file="net.onnx")
    assert "  got:     no module of PyTorch\n" in refused(lambda: made(files))
    cosine = network(Means(torch.nn.Dropout(RATE)), "cosine")
    assert refused(lambda: made(cosine)) == (
        "Passes with dropout are averaged as probabilities, but this model has none.\n"
        "  where:   own\n"
        "  got:     scores of kind cosine\n"
        "  allowed: logits or probabilities"
    )
    assert refused(lambda: made(files, passes=0)) == (
        "This is not a number of passes.\n  got:     passes=0\n  allowed: 1 or more"
    )
    assert refused(lambda: made(files, seed=-1)) == (
        "This is not a seed.\n  got:     seed=-1\n  allowed: 0 or more"
    )


def test_a_network_of_timm_with_options_in_its_own_brackets(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    module = timm.create_model("test_efficientnet", num_classes=5)
    torch.save(module.state_dict(), tmp_path / "x.pth")
    name = f"timm/test_efficientnet(checkpoint={str(tmp_path / 'x.pth')!r}, num_classes=5)"
    assert refused(lambda: find_model(f"dropout:{name}(passes=2)")).startswith("This model has no dropout")
    assert refused(lambda: find_model(f"dropout:{name}")).startswith(
        "The model 'dropout' has no option 'checkpoint'."
    )
