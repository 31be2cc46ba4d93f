"""Proposal rules on probabilities: the mean over calibrated models, and suspected label errors."""

from __future__ import annotations

import numpy as np

from manyhot.core.array_types import Floats, Ints, Ints32, Ints64
from manyhot.core.calibration import fit_in_blocks, fit_temperature, set_target
from manyhot.core.ensembles import Ensemble, Pairs, at_pairs, count_reaching, listed_means, mean_probabilities
from manyhot.core.proposals import RECALL, check_known, label_is_valid
from manyhot.core.sets import NO_LABEL, YES, LabelSets
from manyhot.errors import InputError
from manyhot.parameters import check_share
from manyhot.registry import register


@register("proposer", "mean-probability", learns=True)
def mean_probability(ensemble: Ensemble, *, threshold: float | None = None, recall: float = RECALL) -> Pairs:
    """Classes whose mean probability over calibrated models is at least a threshold.

    The temperature of each model is fitted to the known label sets. If there are no known label sets, it is
    fitted to the original labels.

    Parameters
    ----------
    threshold : float, optional
        Minimum mean probability of a proposed class. By default, the highest value that reaches `recall` on
        the known label sets.
    recall : float

    Raises
    ------
    InputError
        If a model has no probabilities, if there is neither a threshold nor a known label set, or if no
        threshold reaches the recall.

    Notes
    -----
    Only classes listed by at least one model are proposed; dense scores list all classes. `n_models` is the
    number of models that give the class a probability of at least the threshold.
    """
    check_share(recall, "The recall is not a share.", allowed="above 0, at most 1")
    temperatures = _temperatures(ensemble)
    if threshold is None:
        check_known(ensemble, "mean-probability", "pass a threshold: mean-probability(threshold=0.05)")
        threshold = _threshold_for(ensemble.take(ensemble.known_images), temperatures, recall)
    parts = []
    for start, mean in listed_means(ensemble, temperatures):
        rows, classes = np.nonzero(mean >= max(threshold, 0))
        alone = count_reaching(ensemble, temperatures, threshold, slice(start, start + len(mean)))
        parts.append((start + rows, classes.astype(np.int32), mean[rows, classes], alone[rows, classes]))
    image, class_id, score, n_models = (np.concatenate(column) for column in zip(*parts, strict=True))
    about = {
        "threshold": threshold,
        "temperatures": dict(zip(ensemble.names, map(float, temperatures), strict=True)),
    }
    return Pairs(image, class_id, score, n_models, about)


@register("proposer", "label-errors")
def suspected_errors(ensemble: Ensemble) -> Pairs:
    """The probable class of each image whose original label is wrong according to confident learning.

    A class j is a candidate for an image if its probability on this image is at least its mean probability
    over the images labelled j. The most probable candidate is proposed unless it is the original label.

    Raises
    ------
    InputError
        If a model has no probabilities, or no image has an original label.

    Notes
    -----
    Probabilities are averaged over models, which should not have been trained on these images. The proposals
    are the off-diagonal cells of the confident joint (the paper's method C_confusion with thresholds). The
    score is the margin: the probability of j minus the probability of the original label. `n_models` is the
    number of models whose top class is j.

    References
    ----------
    Northcutt, Jiang & Chuang 2021, Confident Learning, doi 10.1613/jair.1.12125, equations 1 and 2.
    """
    label = ensemble.label
    labelled = label != NO_LABEL
    own, limits = _label_thresholds(ensemble)
    likely, p = np.full(len(ensemble), NO_LABEL, np.int32), np.zeros(len(ensemble))
    for start, mean in mean_probabilities(ensemble, np.ones(len(ensemble.names))):
        best, value = confident_classes(mean, limits)
        likely[start : start + len(mean)], p[start : start + len(mean)] = best, value
    image = np.flatnonzero(labelled & (likely != NO_LABEL) & (likely != label))
    agreeing = sum((top[image, 0] == likely[image]).astype(np.int32) for top in ensemble.top)
    return Pairs(image, likely[image], p[image] - own[image], np.asarray(agreeing, np.int32))


def cleanlab_classes(ensemble: Ensemble) -> Ints32:
    """Return replacements for the labels that cleanlab's ``filter_by="confident_learning"`` suspects.

    Returns
    -------
    classes : ndarray of int32, shape (n,)
        `NO_LABEL` if the label is not suspected, or if there is none.

    Raises
    ------
    InputError
        If a model has no probabilities.

    Notes
    -----
    The result differs from `suspected_errors` in two ways. If several classes reach their thresholds, the
    most probable of all classes is chosen, even if it does not reach its own threshold. Images are dropped if
    their label is the most probable class, or if its probability is within 1e-6 of the highest.

    References
    ----------
    cleanlab 2.9, ``cleanlab.filter.find_label_issues``, which adds the second step to Northcutt, Jiang &
    Chuang 2021, doi 10.1613/jair.1.12125.
    """
    _, limits = _label_thresholds(ensemble)
    limits = np.maximum(limits, 2 * CLOSE)
    classes = np.full(len(ensemble), NO_LABEL, np.int32)
    for start, mean in mean_probabilities(ensemble, np.ones(len(ensemble.names))):
        part = slice(start, start + len(mean))
        classes[part] = confident_not_given(mean, limits, ensemble.label[part])
    return classes


CLOSE = 1e-6
"""Difference between probabilities that cleanlab treats as a tie."""


def confident_not_given(probability: Floats, limits: Floats, label: Ints) -> Ints32:
    """Return the class by which cleanlab's confident learning replaces each label, or `NO_LABEL`.

    Parameters
    ----------
    probability : ndarray of float64, shape (b, C)
    limits : ndarray of float64, shape (C,)
        Thresholds of the classes; inf for classes without images.
    label : ndarray of int, shape (b,)
        `NO_LABEL` if there is none.
    """
    reached = probability >= limits - CLOSE
    several = reached.sum(1) > 1
    guess = np.where(several, probability.argmax(1), reached.argmax(1))
    rows = np.flatnonzero(label != NO_LABEL)
    raised = probability[rows]
    raised[np.arange(len(rows)), label[rows]] += CLOSE
    is_likeliest = np.ones(len(label), bool)
    is_likeliest[rows] = raised.argmax(1) == label[rows]
    suspected = reached.any(1) & (guess != label) & ~is_likeliest
    return np.where(suspected, guess, NO_LABEL).astype(np.int32)


def _label_thresholds(ensemble: Ensemble) -> tuple[Floats, Floats]:
    """Return the probability of each image's label, NaN without one, and each class's threshold."""
    label, labelled = ensemble.label, ensemble.label != NO_LABEL
    own = np.full(len(ensemble), np.nan)
    for start, mean in mean_probabilities(ensemble, np.ones(len(ensemble.names))):
        rows = np.flatnonzero(labelled[start : start + len(mean)])
        own[start + rows] = mean[rows, label[start + rows]]
    return own, class_thresholds(own[labelled], label[labelled], ensemble.n_classes)


def class_thresholds(own: Floats, label: Ints, n_classes: int) -> Floats:
    """Return each class's mean probability over images with this label, shape (C,); inf if there are none.

    Parameters
    ----------
    own : ndarray of float64, shape (n,)
        The probability of each image's label.
    label : ndarray of int, shape (n,)
    """
    count = np.bincount(label, minlength=n_classes)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, np.bincount(label, own, n_classes) / np.maximum(count, 1), np.inf)


def confident_classes(probability: Floats, limits: Floats) -> tuple[Ints64, Floats]:
    """Return the most probable class that reaches its threshold, or `NO_LABEL`, and its probability.

    Parameters
    ----------
    probability : ndarray of float64, shape (b, C)
    limits : ndarray of float64, shape (C,)
    """
    # By rounding, the mean of equal numbers may be slightly above them.
    confident = np.where(probability >= limits - 1e-9, probability, -1.0)
    best = confident.argmax(1)
    value = confident[np.arange(len(best)), best]
    return np.where(value < 0, NO_LABEL, best), np.maximum(value, 0)


def _temperatures(ensemble: Ensemble) -> Floats:
    all_sets, labelled = ensemble.label_sets, np.flatnonzero(ensemble.label != NO_LABEL)
    if all_sets is not None and all_sets.scored.any():
        part = ensemble.take(np.flatnonzero(all_sets.scored))
        assert part.label_sets is not None
        sets = part.label_sets
    elif len(labelled):
        part = ensemble.take(labelled)
        sets = _single(part.label, ensemble.n_classes)
    else:
        raise InputError(
            "There are no labels for fitting temperatures.",
            got="no known label set and no original label",
            allowed="known label sets or original labels for some of the images",
        )
    return np.array([_temperature(part, m, sets) for m in range(len(part.names))])


def _temperature(part: Ensemble, m: int, sets: LabelSets) -> float:
    target = []
    for images, top, tail in part.tails(m):
        those = np.arange(images.start, images.stop)
        target.append(set_target(tail, top, sets.take(those)))
        if len(tail) == len(sets):  # the only block
            return fit_temperature(tail, target[0])
    return fit_in_blocks(lambda: (tail for *_, tail in part.tails(m)), np.concatenate(target))


def _threshold_for(sub: Ensemble, temperatures: Floats, recall: float) -> float:
    """Return the highest threshold that reaches the recall on images with known label sets."""
    assert sub.label_sets is not None
    sets = sub.label_sets
    other = (sets.state == YES) & (sets.classes != sub.label[sets.rows])
    score = at_pairs(listed_means(sub, temperatures), sets.rows[other], sets.classes[other])
    n_labels, n_original = int(sets.size.sum()), int(label_is_valid(sub).sum())
    ranked = np.sort(score[score >= 0])[::-1]
    needed = int(np.ceil(recall * n_labels - 1e-9)) - n_original
    if needed > len(ranked):
        raise InputError(
            "No threshold reaches this recall on the known label sets.",
            got=f"recall {recall:g}",
            allowed=f"up to {(n_original + len(ranked)) / max(n_labels, 1):.4f}, the recall of all listed "
            "classes",
            do="lower the recall, add models, or predict longer lists",
        )
    # Sums over all images and over these may differ by rounding.
    return float(ranked[needed - 1]) * (1 - 1e-9) if needed > 0 else 1.0


def _single(label: Ints32, n_classes: int) -> LabelSets:
    """Return label sets with only the original label."""
    n = len(label)
    yes, usable = np.full(n, YES, np.uint8), np.ones(n, bool)
    return LabelSets(n_classes, np.arange(n + 1), label, yes, label, usable)
