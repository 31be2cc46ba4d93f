"""How well models of choices predict images: against fits without them, and whatever the names are."""

import numpy as np
import pytest

from manyhot.core import choices as methods
from manyhot.core.choice_candidates import predicts_better
from manyhot.core.choices import Choices
from manyhot.core.choices import choice_auto as auto
from manyhot.core.choices import choice_dawid_skene as dawid_skene
from manyhot.core.choices import choice_one_coin as one_coin


def confused(seed, images=120, raters=6, k=4, votes=4, bias=0.3):
    """Return choices of raters who are right in 70 %, and, with this probability, take k for k - 1."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, images)
    image = np.repeat(np.arange(images), votes)
    rater = np.concatenate([rng.choice(raters, votes, replace=False) for _ in range(images)])
    wrong = np.where(
        rng.random(len(image)) < bias, truth[image] - 1, truth[image] + rng.integers(1, k, len(image))
    )
    chosen = np.where(rng.random(len(image)) < 0.7, truth[image], wrong % k)
    return Choices(image, rater, chosen, images, raters, k)


def compared(choices, model):
    """Return a fit with the log-likelihood of the choices on each image, as if it had not been seen."""
    fitting = methods._Fitting(None, None, None, 1000, 1e-9, compare=True)
    if model == "each":
        return methods._of_matrices(choices, fitting)
    return methods._of_candidates(choices, choices.candidates(), fitting, pooled=model == "pooled")


def predicted(fit, votes, k):
    """Return the log-likelihood of the choices on an image by a fit to others; votes are (rater, class)."""
    joint = fit.prior.copy()
    for rater, chosen in votes:
        if fit.matrices is not None:
            joint *= fit.matrices[rater, :, chosen]
        else:
            right = fit.accuracy[rater]
            joint *= np.where(np.arange(k) == chosen, right, (1 - right) / (k - 1))
    return np.log(joint.sum())


@pytest.mark.parametrize(
    ("method", "model"), [(one_coin, "coin"), (dawid_skene, "each")], ids=["one-coin", "dawid-skene"]
)
def test_the_closed_form_is_close_to_fits_without_an_image(method, model):
    """Only what its choices contributed to the posteriors of other images remains."""
    choices, found = confused(0), []
    closed, whole = compared(choices, model).held_out, method(choices, tolerance=1e-9)
    for i in range(0, 120, 4):
        votes = list(zip(choices.rater[choices.image == i], choices.chosen[choices.image == i], strict=True))
        others = choices.image != i
        columns = (choices.image[others], choices.rater[others], choices.chosen[others])
        without = method(Choices(*columns, 120, 6, 4), tolerance=1e-9)
        found.append((closed[i], predicted(without, votes, 4), predicted(whole, votes, 4)))
    closed, without, whole = np.transpose(found)
    assert np.corrcoef(closed, without)[0, 1] > 0.99
    # At least three quarters of what an image adds to its own likelihood are taken out.
    assert abs(np.mean(closed - without)) < np.mean(whole - without) / 4


@pytest.mark.parametrize("seed", range(3))
def test_errors_without_structure_are_predicted_by_one_coin(seed):
    choices, biased = (confused(seed, images=2000, raters=10, bias=bias) for bias in (0, 0.8))
    coin = compared(choices, "coin").held_out
    assert not predicts_better(compared(choices, "pooled").held_out, coin)
    # 120 cells of matrices, without which the data were made, gain less than 0.001 nats a vote.
    assert compared(choices, "each").held_out.sum() < coin.sum() + len(choices) / 1000
    for model in ("each", "pooled"):
        assert predicts_better(compared(biased, model).held_out, compared(biased, "coin").held_out)
    assert auto(biased).method == "dawid-skene"


def test_better_means_by_more_than_a_standard_error():
    simple = np.array([-1.0, -2.0, -3.0, -4.0])
    gain = np.array([1.0, -1.0, 1.0, 1.0])  # 2 in all, with a standard error of 4 ** 0.5 * 0.75 ** 0.5
    assert predicts_better(simple + gain, simple)
    gain = np.array([2.0, -2.0, 2.0, -1.0])  # 1 in all
    assert not predicts_better(simple + gain, simple)
    assert not predicts_better(simple + 1e-13, simple)  # rounding


@pytest.mark.parametrize("most", [methods.MOST_CELLS, 0], ids=["matrices", "pooled"])
@pytest.mark.parametrize("bias", [0.0, 0.1, 0.2, 0.3])
def test_the_method_does_not_depend_on_names_or_order(bias, most, monkeypatch):
    """Images, raters and classes are renamed, and votes shuffled, also where both models are nearly alike."""
    monkeypatch.setattr(methods, "MOST_CELLS", most)
    for seed in range(5):
        choices = confused(seed, bias=bias)
        first, rng = auto(choices), np.random.default_rng(seed)
        for _ in range(3):
            image, rater, classes = (rng.permutation(n) for n in (120, 6, 4))
            order = rng.permutation(len(choices))
            renamed = Choices(
                image[choices.image[order]],
                rater[choices.rater[order]],
                classes[choices.chosen[order]],
                120,
                6,
                4,
            )
            again = auto(renamed)
            assert again.weights == first.weights
            assert again.held_out.sum() == pytest.approx(first.held_out.sum(), abs=1e-2)


def test_where_both_predict_alike_the_simpler_model_is_taken():
    # One image, on which all raters agree.
    choices = Choices(np.zeros(3, int), np.arange(3), np.zeros(3, int), 1, 3, 2)
    assert auto(choices).method in ("one-coin", "dawid-skene")
    # With two classes that are confused equally often, nothing is gained by a matrix.
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 300)
    image, rater = np.repeat(np.arange(300), 5), np.tile(np.arange(5), 300)
    chosen = np.where(rng.random(1500) < 0.8, truth[image], 1 - truth[image])
    assert auto(Choices(image, rater, chosen, 300, 5, 2)).weights == {"dawid-skene": 0.0, "one-coin": 1.0}
