"""Rules that propose labels, and what they cost and find.

A rule is a registered function from an `Ensemble` to `Pairs`: the classes that it proposes for each image.
Whatever the rule, `propose` adds the original label, for people are to judge it like any other class, and
leaves out images that need no question. `coverage` counts, image by image, what of the known label sets that
finds; recall, precision and their intervals are ratios of these counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manyhot.core.ensembles import Ensemble, Pairs
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, YES, LabelSets
from manyhot.errors import InputError

LEFT_OUT = ("proposals", "models", "nothing")
"""Images that need no question: those whose only proposal is the original label; those for which it is every
model's best class; none."""

FOLDS = 5
"""Parts of the known images: a rule that learns from four is judged on the fifth."""

Rule = Callable[[Ensemble], Pairs]


@dataclass(frozen=True)
class Proposed:
    """What is to be asked about n images.

    Attributes
    ----------
    pairs : Pairs
        The questions. An original label that the rule did not propose has score 0 and no model.
    given : ndarray of bool, shape (m,)
        Whether a question is there as the original label alone.
    left_out : ndarray of bool, shape (n,)
        Images without questions, whose original label stands.
    """

    pairs: Pairs
    given: npt.NDArray[np.bool_]
    left_out: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Coverage:
    """Of each image with a known label set: labels, labels found, questions, and those answered with yes.

    All are ndarray of int64, shape (q,); `unasked` counts questions that the known sets do not answer, which
    count as answered with no.
    """

    labels: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    questions: npt.NDArray[np.int64]
    valid: npt.NDArray[np.int64]
    unasked: npt.NDArray[np.int64]


def propose(ensemble: Ensemble, rule: Rule, *, leave_out: str = "proposals") -> Proposed:
    """Apply a rule, add the original labels, and leave out images that need no question.

    Parameters
    ----------
    ensemble : Ensemble
    rule : callable
        A registered proposer, options bound.
    leave_out : str
        One of `LEFT_OUT`.

    Raises
    ------
    InputError
        If `leave_out` is none of these, or as the rule.
    """
    if leave_out not in LEFT_OUT:
        raise InputError(
            "This is no kind of images to leave out.", got=leave_out, allowed=", ".join(LEFT_OUT)
        )
    pairs, given = _with_labels(ensemble, rule(ensemble))
    others = pairs.class_id != ensemble.label[pairs.image]
    if leave_out == "proposals":
        left_out = np.bincount(pairs.image[others], minlength=len(ensemble)) == 0
    elif leave_out == "models":
        best = np.stack([top[:, 0] for top in ensemble.top])
        left_out = (best == np.where(ensemble.label == NO_LABEL, -2, ensemble.label)).all(0)
    else:
        left_out = np.bincount(pairs.image, minlength=len(ensemble)) == 0
    keep = ~left_out[pairs.image]
    return Proposed(pairs.where(keep), given[keep], left_out)


def coverage(
    ensemble: Ensemble, proposed: Proposed, images: npt.NDArray[np.integer] | None = None
) -> Coverage:
    """Count what of the known label sets was proposed; of all images that have one, or of the given ones.

    A class that is in the set of an image that was left out is found if it is the original label, which
    stands without a question.
    """
    images = ensemble.known_images if images is None else images
    assert ensemble.known is not None
    keys = proposed.pairs.keys(ensemble.n_classes)
    state = states(ensemble.known, keys)
    sums = [
        np.bincount(proposed.pairs.image, weights, len(ensemble)).astype(np.int64)[images]
        for weights in (None, state == YES, state == NOT_ASKED)
    ]
    questions, valid, unasked = sums
    label_found = proposed.left_out & label_is_valid(ensemble)
    return Coverage(ensemble.known.size[images], valid + label_found[images], questions, valid, unasked)


def held_out(ensemble: Ensemble, rule: Rule, *, leave_out: str = "proposals", folds: int = FOLDS) -> Coverage:
    """Count as `coverage` does, each known image under a rule that has not seen its label set.

    A rule that was chosen for its precision on some images is less precise on others. The known images are
    dealt out in turn into `folds` parts.
    """
    images = ensemble.known_images
    folds = min(folds, len(images))
    if folds < 2:
        return coverage(ensemble, propose(ensemble, rule, leave_out=leave_out))
    counts = np.zeros((5, len(images)), np.int64)
    for fold in range(folds):
        held = np.arange(len(images)) % folds == fold
        proposed = propose(ensemble.knowing(images[~held]), rule, leave_out=leave_out)
        c = coverage(ensemble, proposed, images[held])
        counts[:, held] = (c.labels, c.found, c.questions, c.valid, c.unasked)
    return Coverage(*counts)


def _with_labels(ensemble: Ensemble, pairs: Pairs) -> tuple[Pairs, npt.NDArray[np.bool_]]:
    """Add the original labels that are not among the pairs; returns the pairs and which were added."""
    images = np.flatnonzero(ensemble.label != NO_LABEL)
    wanted = images * ensemble.n_classes + ensemble.label[images]
    keys = pairs.keys(ensemble.n_classes)
    more = images[~among(wanted, keys)]
    nothing = np.zeros(len(more))
    image = np.concatenate([pairs.image, more])
    class_id = np.concatenate([pairs.class_id, ensemble.label[more]]).astype(np.int32)
    order = np.argsort(image * ensemble.n_classes + class_id, kind="stable")
    joined = Pairs(
        image[order],
        class_id[order],
        np.concatenate([pairs.score, nothing])[order],
        np.concatenate([pairs.n_models, nothing]).astype(np.int32)[order],
        pairs.about,
    )
    return joined, order >= len(pairs)


def among(wanted: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which numbers are among ascending ones."""
    if not len(keys):
        return np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.asarray(keys[at] == wanted)


def states(known: LabelSets, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return what is known about each pair, given as ascending numbers; `NOT_ASKED` where nothing is."""
    # Where noes are not recorded, a class that is not listed may have been answered with no.
    listed = np.full(len(keys), NOT_ASKED if known.asked_known else NO, np.uint8)
    theirs = known.rows * known.n_classes + known.classes
    there = among(theirs, keys)
    listed[np.searchsorted(keys, theirs[there])] = known.state[there]
    return listed


def label_is_valid(ensemble: Ensemble) -> npt.NDArray[np.bool_]:
    """Return whether the original label is in the known label set of each image, shape (n,)."""
    assert ensemble.known is not None
    label = ensemble.label
    return np.asarray(ensemble.known.hits(np.where(label == NO_LABEL, -3, label)[:, None])[:, 0])


def check_share(name: str, value: float) -> None:
    """Refuse what is no share."""
    if not 0 < value <= 1:
        raise InputError(f"The {name} is a share.", got=value, allowed="over 0, up to 1")


def check_known(ensemble: Ensemble, rule: str, do: str = "") -> None:
    """Refuse an ensemble without known label sets."""
    if not len(ensemble.known_images):
        raise InputError(
            f"The rule {rule} needs known label sets.",
            got="none",
            allowed="label sets or golden answers of some of the images",
            do=do or "give them with --known",
        )
