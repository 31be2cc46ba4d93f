"""Losses, held against the formulas of their papers written out as loops over cells."""

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from manyhot import registry  # noqa: E402
from manyhot.errors import InputError, UnknownNameError  # noqa: E402
from manyhot.registry import Entry  # noqa: E402
from manyhot.testing.losses import check_loss  # noqa: E402
from manyhot.train import losses  # noqa: E402
from manyhot.train.losses import loss_of, made_memory  # noqa: E402
from manyhot.train.targets import Targets, Teacher  # noqa: E402

N, C = 7, 4
OPTIONS = {
    "softmax": ("", "(smoothing=0.1)"),
    "an": ("", "(smoothing=0.1)"),
    "asl": ("", "(gamma_neg=1.5, gamma_pos=1.0, shift=0.0)", "(gamma_neg=0.5)"),
    "epr": ("(k=2)",),
    "ll_r": ("(delta=0.1)",),
    "ll_ct": ("(delta=0.1)",),
    "ll_cp": ("(delta=0.1)",),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Of some cells each; threads would wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["sets", "soft", "masked"])
def case(request):
    """Logits, p and weights, as arrays: sets with an empty one; shares; and cells that are not known."""
    rng = np.random.default_rng(3)
    p = (rng.random((N, C)) < 0.4).astype(float)
    p[2] = 0
    if request.param == "soft":
        p = np.where(rng.random((N, C)) < 0.5, rng.random((N, C)), 0)
    weight = (rng.random((N, C)) < 0.6).astype(float) if request.param == "masked" else np.ones((N, C))
    return 2 * rng.normal(size=(N, C)), p, weight, request.param == "masked"


def targets_of(p, weight, masked, epoch=0, memory=None):
    return Targets(
        torch.tensor(p), torch.tensor(weight) if masked else None, torch.arange(len(p)), epoch, memory or {}
    )


def loss_value(spec, case, epoch=0, memory=None):
    z, p, weight, masked = case
    logits = torch.tensor(z, requires_grad=True)
    value = loss_of(spec)(logits, targets_of(p, weight, masked, epoch, memory))
    value.backward()
    return value.item(), logits.grad.numpy()


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def cell(q, p):
    """The binary cross-entropy of a probability."""
    return -p * math.log(q) - (1 - p) * math.log(1 - q)


def entropy(q):
    return cell(q, q)


def mean_of_cells(case, each):
    """The mean of a function of logit, p and place over all cells, those of weight 0 as 0."""
    z, p, weight, _ = case
    n, c = z.shape
    return sum(weight[i, j] * each(z[i, j], p[i, j], (i, j)) for i in range(n) for j in range(c)) / (n * c)


def surplus(q, weight, k):
    n, c = q.shape
    return (sum(q[i, j] * weight[i, j] for i in range(n) for j in range(c)) / n - k) ** 2 / c**2


# Against the formulas.


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax(case, smoothing):
    z, p, weight, _ = case
    total = 0.0
    for i in range(N):
        log_sum = math.log(sum(math.exp(v) for v in z[i]))
        known = p[i] * weight[i]
        for j in range(C):
            share = (1 - smoothing) * known[j] + smoothing * known.sum() / C
            total -= share * (z[i, j] - log_sum)
    value, _ = loss_value(f"softmax(smoothing={smoothing})", case)
    assert value == pytest.approx(total / N, rel=1e-12)


def test_softmax_of_single_labels_is_cross_entropy():
    z, label = torch.randn(9, C), torch.randint(C, (9,))
    targets = Targets(torch.eye(C)[label], None, torch.arange(9))
    for smoothing in (0.0, 0.2):
        expected = torch.nn.functional.cross_entropy(z, label, label_smoothing=smoothing)
        assert torch.allclose(loss_of(f"softmax(smoothing={smoothing})")(z, targets), expected)


@pytest.mark.parametrize("spec", ["bce", "an"])
def test_binary_cross_entropy(case, spec):
    value, gradient = loss_value(spec, case)
    assert value == pytest.approx(mean_of_cells(case, lambda z, p, _: cell(sigmoid(z), p)), rel=1e-12)
    z, p, weight, _ = case
    assert np.allclose(gradient, weight * (1 / (1 + np.exp(-z)) - p) / (N * C))


def test_smoothed_assume_negative(case):
    expected = mean_of_cells(case, lambda z, p, _: 0.9 * cell(sigmoid(z), p) + 0.1 * cell(sigmoid(z), 1 - p))
    assert loss_value("an(smoothing=0.1)", case)[0] == pytest.approx(expected, rel=1e-12)


def test_weak_assume_negative(case):
    expected = mean_of_cells(
        case, lambda z, p, _: -p * math.log(sigmoid(z)) - (1 - p) * math.log(1 - sigmoid(z)) / (C - 1)
    )
    assert loss_value("wan", case)[0] == pytest.approx(expected, rel=1e-12)


def test_expected_positives(case):
    z, _, weight, _ = case
    expected = mean_of_cells(case, lambda z, p, _: -p * math.log(sigmoid(z)))
    expected += surplus(1 / (1 + np.exp(-z)), weight, 2.5)
    assert loss_value("epr(k=2.5)", case)[0] == pytest.approx(expected, rel=1e-12)


def test_role_plays_two_players(case):
    """Its gradients are those of two losses, each with the other's probabilities as constants."""
    z, p, weight, _ = case
    e = np.random.default_rng(5).normal(size=(N, C))
    f, g = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(-e))
    memory = torch.tensor(e, requires_grad=True)
    value, gradient = loss_value("role(k=2)", case, memory={"estimates": memory})

    def each(_, p, at):
        both = -p * math.log(f[at]) - p * math.log(g[at])
        return 0.5 * (both + cell(f[at], g[at]) + cell(g[at], f[at]))

    expected = mean_of_cells(case, each) + 0.5 * (surplus(f, weight, 2) + surplus(g, weight, 2))
    assert value == pytest.approx(expected, rel=1e-12)
    for own, other, found in ((f, g, gradient), (g, f, memory.grad.numpy())):
        over = (own * weight).sum() / N - 2
        slope = weight * (p * (own - 1) + own - other) / (N * C) + 2 * over * weight * own * (1 - own) / (
            N * C**2
        )
        assert np.allclose(found, slope / 2)


def test_role_begins_with_what_is_known():
    taught = Teacher(
        4,
        torch.tensor([0, 2, 3]),
        torch.tensor([0, 2, 3]),
        torch.tensor([1.0, 0.0, 1.0]),
        torch.tensor([1.0, 1.0, 0.0]),
        1.0,
    )
    memory = made_memory(loss_of("role"), taught, seed=0)["estimates"]
    q = memory.detach().sigmoid().numpy()
    assert q[0, 0] == pytest.approx(0.995)
    assert q[0, 2] == pytest.approx(0.005)
    others = np.array([q[0, 1], q[0, 3], *q[1]])
    assert ((others > 0.4) & (others < 0.6)).all()
    assert len(set(others)) == 6
    assert memory.requires_grad
    assert torch.equal(memory, made_memory(loss_of("role"), taught, seed=0)["estimates"])


def test_entropy_maximisation(case):
    def each(z, p, _):
        return -p * math.log(sigmoid(z)) - 0.3 * (1 - p) * entropy(sigmoid(z))

    assert loss_value("em(alpha=0.3)", case)[0] == pytest.approx(mean_of_cells(case, each), rel=1e-12)


def test_pseudo_labels_are_learnt_softly(case):
    pseudo = np.where(np.random.default_rng(6).random((N, C)) < 0.4, 0.25, -1.0)

    def each(z, p, at):
        q = sigmoid(z)
        unseen = 0.5 * cell(q, 0.25) if pseudo[at] >= 0 else -0.3 * entropy(q)
        return -p * math.log(q) + (1 - p) * unseen

    memory = {"pseudo": torch.tensor(pseudo, dtype=torch.float16)}
    value, _ = loss_value("em_apl(alpha=0.3, beta=0.5)", case, memory=memory)
    assert value == pytest.approx(mean_of_cells(case, each), rel=1e-12)
    assert np.array_equal(memory["pseudo"], pseudo)


def test_pseudo_labels_go_to_the_least_probable():
    """Of ten images, two of which have the class: a quarter of the eight in epoch 2, then half of them."""
    z = np.array([3.0, 2.5, 2, 1, 0, -1, -2, -3, -4, -5])[:, None]
    p = np.array([1.0] + 8 * [0] + [1])[:, None]
    memory = made_memory(loss_of("em_apl"), Teacher(1, *4 * [torch.zeros(11).long()], 1.0), 0)
    case = z, p, np.ones((10, 1)), False
    spec = "em_apl(rate=0.25, most=0.5, start=2)"
    for epoch, given in ((1, 0), (2, 2), (2, 2), (3, 4), (9, 4)):
        loss_value(spec, case, epoch, memory)
        assert (memory["pseudo"][:, 0] >= 0).tolist() == (9 - given) * [False] + given * [True] + [False]
    assert memory["pseudo"][8, 0].item() == pytest.approx(sigmoid(-4), abs=1e-3)


def large(case, rate):
    """The cells with a p of 0 that lose most, as pairs: `rate` of all cells, rounded up."""
    z, p, weight, _ = case
    cells = [(i, j) for i in range(N) for j in range(C) if p[i, j] == 0 and weight[i, j] > 0]
    return sorted(cells, key=lambda at: -z[at])[: math.ceil(rate * N * C - 1e-9)]


@pytest.mark.parametrize("epoch", [0, 1, 3, 99])
def test_large_losses_are_rejected_or_corrected(case, epoch):
    chosen = large(case, min(0.1 * epoch, 1))
    for spec, other in (
        ("ll_r(delta=0.1)", lambda q: 0),
        ("ll_ct(delta=0.1)", lambda q: -math.log(q)),
    ):
        expected = mean_of_cells(
            case, lambda z, p, at, o=other: o(sigmoid(z)) if at in chosen else cell(sigmoid(z), p)
        )
        assert loss_value(spec, case, epoch)[0] == pytest.approx(expected, rel=1e-12)


def test_large_losses_are_flipped_for_good(case):
    z, p, weight, masked = case
    memory = {"flipped": torch.zeros(N, C, dtype=torch.bool)}
    flipped = p.copy()
    for epoch in range(4):
        chosen = large((z, flipped, weight, masked), 0.1) if epoch else []
        for at in chosen:
            flipped[at] = 1
        expected = mean_of_cells(case, lambda z, _, at: cell(sigmoid(z), flipped[at]))
        value, _ = loss_value("ll_cp(delta=0.1)", case, epoch, memory)
        assert value == pytest.approx(expected, rel=1e-12)
        assert np.array_equal(memory["flipped"], flipped != p)


@pytest.mark.parametrize(("neg", "pos", "shift"), [(4.0, 0.0, 0.05), (2.0, 1.0, 0.0), (0.0, 0.0, 0.0)])
def test_asymmetric(case, neg, pos, shift):
    def each(z, p, _):
        q = sigmoid(z)
        shifted = max(q - shift, 0)
        absent = -(shifted**neg) * math.log(1 - shifted)
        return p * -((1 - q) ** pos) * math.log(q) + (1 - p) * absent

    value, _ = loss_value(f"asl(gamma_neg={neg}, gamma_pos={pos}, shift={shift})", case)
    assert value == pytest.approx(mean_of_cells(case, each), rel=1e-9, abs=1e-15)


def test_memory_is_of_the_rows_of_a_batch():
    """Images 4 and 1 of five: the others are not remembered anything of."""
    memory = {"flipped": torch.zeros(5, 2, dtype=torch.bool)}
    targets = Targets(torch.zeros(2, 2), None, torch.tensor([4, 1]), 1, memory)
    loss_of("ll_cp(delta=0.25)")(torch.tensor([[0.0, 3.0], [1.0, 0.0]]), targets)
    assert memory["flipped"].nonzero().tolist() == [[4, 1]]


def test_half_precision_is_left_before_sums():
    z = torch.randn(4, 1000)
    p = (torch.rand(4, 1000) < 0.01).float()
    for name in registry.names("loss"):
        taught = Teacher(1000, torch.zeros(5).long(), *3 * [torch.zeros(0).long()], 1.0)
        targets = Targets(p, None, torch.arange(4), 0, made_memory(loss_of(name), taught, 0))
        value = loss_of(name)(z.bfloat16(), targets)
        assert value.dtype == torch.float32
        assert torch.equal(value, loss_of(name)(z.bfloat16().float(), targets))


# Properties of all.


@pytest.mark.parametrize(
    "spec", [name + options for name in registry.names("loss") for options in OPTIONS.get(name, ("",))]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_holds_for_all_losses(spec, seed):
    check_loss(spec, seed=seed)


def odd(function, **about):
    return Entry("loss", "odd", function, {"ends": "sigmoid", **about})


@pytest.mark.parametrize(
    ("function", "breach"),
    [
        (lambda z, w: z.mean(1), "odd is not one number"),
        (lambda z, w: z.log().mean(), "odd is nan for logits times 1"),
        (lambda z, w: (z**2)[0].sum(), "odd: the order of images matters"),
        (
            lambda z, w: (z.detach() * z).sum(),
            "odd: its gradient differs from the numerical gradient of its value",
        ),
        (lambda z, w: (z**2).mean() / (w.epoch < 3), "odd is inf in epoch 3"),
        (lambda z, w: (z**2).sum(), "odd: the mean loss of the two halves is not the loss of the batch"),
        (
            lambda z, w: (w.p**2 * z.sigmoid()).mean(),
            "odd: the loss of a mixed image is not the mean of the losses of both images",
        ),
        (lambda z, w: (w.p * z).mean(), "odd: .* is less than perfect"),
        (lambda z, w: loss_of("bce")(z, replace(w, weight=None)), "cells of weight 0 count"),
        (lambda z, w: loss_of("bce")(z, replace(w, p=w.p.zero_())), "inputs were changed"),
    ],
)
def test_breaches_are_named(function, breach):
    with pytest.raises(AssertionError, match=breach), np.errstate(all="ignore"):
        check_loss(odd(function))


def test_ends_are_registered():
    with pytest.raises(AssertionError, match=r"^odd does not register `ends`$"):
        check_loss(Entry("loss", "odd", lambda z, w: z.mean(), {}))


# Bad options.


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "softmax(smoothing=1.5)",
            "The option 'smoothing' of the loss 'softmax' is out of range.\n"
            "  got:     1.5\n  allowed: 0 to 1",
        ),
        (
            "asl(gamma_neg=-1)",
            "The option 'gamma_neg' of the loss 'asl' is out of range.\n  got:     -1\n  allowed: 0 or more",
        ),
        (
            "ll_cp(delta=2)",
            "The option 'delta' of the loss 'll_cp' is out of range.\n  got:     2\n  allowed: 0 to 1",
        ),
        (
            "em_apl(start='soon')",
            "The option 'start' needs a number.\n  got:     em_apl(start='soon')\n  allowed: start=1",
        ),
        (
            "wan(gamma=1)",
            "The loss 'wan' has no option 'gamma'.\n  got:     wan(gamma=1)\n  allowed: no options",
        ),
    ],
)
def test_options_out_of_range(spec, message):
    with pytest.raises(InputError) as raised:
        loss_of(spec)
    assert str(raised.value) == message


def test_a_needed_option_is_asked_for(monkeypatch):
    def needy(logits, targets, *, rate):
        """A loss."""
        return logits.mean() * rate

    entry = Entry("loss", "needy", needy, {"ends": "sigmoid"})
    monkeypatch.setitem(registry._entries, ("loss", "needy"), entry)
    with pytest.raises(InputError) as raised:
        loss_of("needy")
    assert str(raised.value) == "The loss 'needy' lacks an option.\n  allowed: needy(rate=…)"


def test_near_misses_are_named():
    with pytest.raises(UnknownNameError, match="did you mean 'softmax'"):
        loss_of("sofmax")


@pytest.mark.parametrize(("loss", "bytes_of_a_cell"), [("role", 4), ("em_apl", 2), ("ll_cp(delta=0.1)", 1)])
@pytest.mark.parametrize("lacking", [0, 1])
def test_what_a_loss_keeps_of_images_must_fit_in_memory(monkeypatch, loss, bytes_of_a_cell, lacking):
    entry, n, classes = loss_of(loss), 5, 7
    size = n * classes * bytes_of_a_cell
    lists = torch.arange(n + 1), torch.zeros(n, dtype=torch.int64), torch.ones(n), torch.ones(n)
    taught = Teacher(classes, *lists, 1.0)
    monkeypatch.setattr(losses, "free_memory", lambda: size - lacking)
    if not lacking:
        assert sum(values.nbytes for values in made_memory(entry, taught, 0).values()) == size
        return
    with pytest.raises(InputError, match="more memory than is free"):
        made_memory(entry, taught, 0)
