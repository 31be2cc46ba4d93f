"""Rules that propose labels for raters to judge, their cost and their recall.

A rule is a registered function from an `Ensemble` to `Pairs`, the classes that it proposes for each image.
Built-in rules are the union of several models, one model's list, and ReaL's search. For any rule,
`apply_rule` adds the original label, which raters judge like all other classes, and leaves out images that
need no question. `count_coverage` counts the labels of known label sets that are proposed, for each image;
recall, precision and their intervals are ratios of these counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Bytes, Ints, Ints64, Positions
from manyhot.core.distinct import distinct_keys
from manyhot.core.ensembles import Ensemble, Pairs, count_models
from manyhot.core.real_search import ModelChoice, Proposing, search
from manyhot.core.sets import NO_LABEL, YES, LabelSets
from manyhot.errors import InputError
from manyhot.parameters import check_one_of, check_share
from manyhot.registry import register

LEFT_OUT = ("proposals", "models", "nothing")
"""Images that need no question.

``proposals``: images whose only proposal is the original label. ``models``: images whose original label is
the top class
of all models. ``nothing``: none."""

RECALL = 0.97
"""Recall of ReaL's search; not verified against the paper."""

_EXTRA = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Thresholds of `real_search`, as the mean number of classes per image that a model adds to its top class."""

Rule = Callable[[Ensemble], Pairs]


@dataclass(frozen=True)
class Proposed:
    """The questions about n images.

    Attributes
    ----------
    pairs : Pairs
        The questions. An original label that the rule did not propose has a score of 0, and its number of
        models is 0.
    label_only : ndarray of bool, shape (m,)
        Whether a question was added only because its class is the original label.
    left_out : ndarray of bool, shape (n,)
        Images without questions, whose original label remains.
    """

    pairs: Pairs
    label_only: Bools
    left_out: Bools


def apply_rule(
    ensemble: Ensemble, rule: Rule, *, leave_out: str = "proposals", add_labels: bool = True
) -> Proposed:
    """Apply a rule, add the original labels, and leave out images that need no questions.

    Parameters
    ----------
    rule : callable
        A registered proposer with bound options.
    leave_out : str
        One of `LEFT_OUT`.
    add_labels : bool
        Whether to add the original labels. If false, only images without proposals are left out.

    Raises
    ------
    InputError
        If `leave_out` is not one of `LEFT_OUT`, and as in the rule.
    """
    check_one_of(leave_out, LEFT_OUT, "Such images cannot be left out.")
    pairs = rule(ensemble)
    if not add_labels:
        left_out = np.bincount(pairs.image, minlength=len(ensemble)) == 0
        return Proposed(pairs, np.zeros(len(pairs), bool), left_out)
    images = np.flatnonzero(ensemble.label != NO_LABEL)
    labels = images * ensemble.n_classes + ensemble.label[images]
    n_own = len(pairs)
    pairs, _, order = _joined(pairs, labels, ensemble.n_classes)
    others = pairs.class_id != ensemble.label[pairs.image]
    if leave_out == "proposals":
        left_out = np.bincount(pairs.image[others], minlength=len(ensemble)) == 0
    elif leave_out == "models":
        best = np.stack([top[:, 0] for top in ensemble.top])
        left_out = (best == np.where(ensemble.label == NO_LABEL, -2, ensemble.label)).all(0)
    else:
        left_out = np.bincount(pairs.image, minlength=len(ensemble)) == 0
    keep = ~left_out[pairs.image]
    return Proposed(pairs.where(keep), (order >= n_own)[keep], left_out)


def _joined(pairs: Pairs, asked: Ints64, n_classes: int) -> tuple[Pairs, Ints64, Positions]:
    """Return the pairs with those of some keys, with a score of 0; the new keys, and the order."""
    keys = pairs.keys(n_classes)
    more = asked[~among(asked, keys)]
    order = np.argsort(np.concatenate([keys, more]), kind="stable")
    joined = Pairs(
        np.concatenate([pairs.image, more // n_classes])[order],
        np.concatenate([pairs.class_id, more % n_classes])[order].astype(np.int32),
        np.append(pairs.score, np.zeros(len(more)))[order],
        np.append(pairs.n_models, np.zeros(len(more)))[order].astype(np.int32),
        pairs.about,
    )
    return joined, more, order


def with_pairs(proposed: Proposed, image: Ints, class_id: Ints, n_classes: int) -> Proposed:
    """Return the questions, plus additional (image, class) pairs with a score of 0 and 0 models."""
    asked = distinct_keys(image.astype(np.int64) * n_classes + class_id)
    joined, more, order = _joined(proposed.pairs, asked, n_classes)
    label_only = np.append(proposed.label_only, np.zeros(len(more), bool))[order]
    left_out = proposed.left_out & (np.bincount(more // n_classes, minlength=len(proposed.left_out)) == 0)
    return Proposed(joined, label_only, left_out)


def among(values: Ints64, keys: Ints64) -> Bools:
    """Return whether each value is among the ascending keys."""
    if not len(keys):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    return np.asarray(keys[at] == values)


def states(label_sets: LabelSets, keys: Ints64) -> Bytes:
    """Return the state of each pair of the ascending keys; `NOT_ASKED` if it is unknown."""
    listed = np.full(len(keys), label_sets.unlisted, np.uint8)
    theirs = label_sets.rows * label_sets.n_classes + label_sets.classes
    there = among(theirs, keys)
    listed[np.searchsorted(keys, theirs[there])] = label_sets.state[there]
    return listed


def label_is_valid(ensemble: Ensemble) -> Bools:
    """Return whether the original label is in the known label set of each image, shape (n,)."""
    assert ensemble.label_sets is not None
    label = ensemble.label
    return np.asarray(ensemble.label_sets.hits(np.where(label == NO_LABEL, -3, label)[:, None])[:, 0])


def check_known(ensemble: Ensemble, rule: str, do: str = "") -> None:
    """Raise an error if an ensemble has no known label sets."""
    if not len(ensemble.known_images):
        raise InputError(
            f"The rule {rule} needs known label sets.",
            got="none",
            allowed="label sets or golden answers for some of the images",
            do=do or "pass them as `known_labels`",
        )


@register("proposer", "union", monotone=True)
def union(
    ensemble: Ensemble,
    *,
    k: int = 1,
    threshold: float | Mapping[str, float] | None = None,
    by: str = "probability",
) -> Pairs:
    """The top k classes of each model, and all classes with a probability or score of at least a threshold.

    Parameters
    ----------
    k : int
    threshold : float or dict of str to float, optional
        One threshold for all models, or a threshold for each model by name. By default, there is none.
    by : {"probability", "score"}
        The quantity that is compared with the threshold.

    Raises
    ------
    InputError
        If a list has fewer than `k` classes, or if a model lacks the quantity or a threshold.
    """
    _check_depth(ensemble, range(len(ensemble.names)), k)
    if threshold is None:
        tops = (ensemble.deeper(m, k).top[m] for m in range(len(ensemble.names)))
        return count_models([top[:, :k] for top in tops], ensemble.n_classes)
    chosen = []
    for m, limit in enumerate(_thresholds(ensemble, threshold)):
        chosen.append(_from(ensemble, m, k, by, limit))
    return count_models(chosen, ensemble.n_classes)


@register("proposer", "all-classes", models=False)
def propose_all(ensemble: Ensemble, *, classes: int | str | Sequence[int | str] | None = None) -> Pairs:
    """All classes for all images, without predictions; for short class lists that no model was trained on.

    Parameters
    ----------
    classes : int, str or sequence of these, optional
        Class ids; in `manyhot.propose`, also names. Raters are asked only about these classes, on all images,
        and original labels are not added. By default, all classes.

    Raises
    ------
    InputError
        If a class id does not exist.
    """
    n, count = len(ensemble), ensemble.n_classes
    asked = np.arange(count) if classes is None else _class_ids(classes, count)
    image, at = np.divmod(np.arange(n * len(asked), dtype=np.int64), max(len(asked), 1))
    class_id, c = asked[at], len(asked)
    return Pairs(image, class_id.astype(np.int32), np.zeros(n * c), np.zeros(n * c, np.int32))


def _class_ids(classes: int | str | Sequence[int | str], n_classes: int) -> Ints64:
    listed = [classes] if isinstance(classes, int | str) else list(classes)
    unknown = [c for c in listed if not isinstance(c, int) or not 0 <= c < n_classes]
    if unknown or not listed:
        raise InputError(
            "The rule all-classes cannot ask about these classes.",
            got=repr(unknown[0]) if unknown else "none",
            allowed=f"class ids from 0 to {n_classes - 1}",
        )
    return np.unique(np.array(listed, np.int64))


@register("proposer", "top-k")
def propose_top_k(ensemble: Ensemble, *, k: int = 20, model: str = "") -> Pairs:
    """The top k classes of one model, such as the top 20 of EVA-02, which Multilabelfy shows to raters.

    Parameters
    ----------
    k : int
    model : str
        The name of the model; may be omitted if there is only one.

    Raises
    ------
    InputError
        If the model is unknown or ambiguous, or if its lists have fewer than `k` classes.

    Notes
    -----
    The score of a proposal is the probability, if known. Otherwise, it is the model's score or, without
    scores, 1 / rank.

    References
    ----------
    Anzaku et al. 2024, arXiv 2401.17736.
    """
    m = _one_model(ensemble, model)
    _check_depth(ensemble, [m], k)
    ensemble = ensemble.deeper(m, k)
    top = ensemble.top[m][:, :k]
    values = next((v for v in (ensemble.probabilities[m], ensemble.scores[m]) if v is not None), None)
    score = np.broadcast_to(1 / np.arange(1, k + 1), top.shape) if values is None else values[:, :k]
    rows, places = np.nonzero(top != NO_LABEL)
    order = np.lexsort((top[rows, places], rows))
    rows, places = rows[order], places[order]
    return Pairs(
        rows.astype(np.int64),
        top[rows, places].astype(np.int32),
        score[rows, places].astype(np.float64),
        np.ones(len(rows), np.int32),
        {"model": ensemble.names[m]},
    )


@register("proposer", "real-search", learns=True)
def real_search(ensemble: Ensemble, *, recall: float = RECALL, by: str = "probability") -> Pairs:
    """ReaL's search for the models and thresholds with the highest precision at a given recall on known sets.

    Each model proposes its top class and all classes above its threshold. With ranks, each model instead
    proposes its top classes up to a depth.

    Parameters
    ----------
    recall : float
        Minimum recall of the known labels.
    by : {"probability", "score", "rank"}
        The quantity that is compared with thresholds. With ranks, thresholds are depths from 1 to the length
        of the list, or to 20 for dense scores: with all classes, the search would be about every cell.

    Raises
    ------
    InputError
        If there are no known label sets, if no choice reaches the recall, or if a model lacks the quantity.

    Notes
    -----
    The search uses the thresholds at which a model adds 0, 1/8, 1/4, 1/2, 1, 2, 4 and 8 classes per image to
    its top class. `manyhot.core.real_search.search` describes when the search is exhaustive.
    `searched_recall` and `searched_precision` are the recall and precision on the searched images. Recall and
    precision on other images are lower.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159. The authors' code was not released, so details are unverified.
    """
    check_share(recall, "The recall is not a share.", allowed="above 0, at most 1")
    check_known(ensemble, "real-search")
    order = sorted(range(len(ensemble.names)), key=lambda m: ensemble.names[m])
    ranked = ensemble.only(order)
    sub = ranked.take(ranked.known_images)
    limits = _limits(sub, by)
    if by != "rank":  # the lists may end above the lowest thresholds, which then are higher with all scores
        for m, each in enumerate(limits):
            sub = sub.down_to(m, by, each[-1])
        limits = _limits(sub, by)
    proposing = _proposing(sub, limits, by)
    choice = search(proposing, recall)
    if choice is None:
        raise InputError(
            "No choice of models reaches this recall on the known label sets.",
            got=f"recall {recall:g}",
            allowed=f"up to {float(proposing.loosest().recall[0]):.4f}, the recall of all models together",
            do="lower the recall, add models, or predict longer lists",
        )
    about = _about(ranked, choice, limits)
    picked = [_up_to(ranked, m, by, limits[m][code - 1]) for m, code in enumerate(choice.codes) if code > 0]
    return replace(count_models(picked, ensemble.n_classes) if picked else _nothing(), about=about)


def _check_depth(ensemble: Ensemble, models: Iterable[int], k: int) -> None:
    if not isinstance(k, int) or k < 1:
        raise InputError("The number of classes k is invalid.", got=k, allowed="integers of at least 1")
    for m in models:
        depth = ensemble.depth(m)
        if depth < k:
            raise InputError(
                f"The lists of {ensemble.names[m]} are too short.",
                got=f"{depth} classes per image",
                allowed=f"{k} or more",
                do=f"predict again with manyhot predict --top {k}, or lower `k`",
            )


def _one_model(ensemble: Ensemble, model: str) -> int:
    if not model and len(ensemble.names) == 1:
        return 0
    if model not in ensemble.names:
        raise InputError(
            f"There are no predictions of {model!r}." if model else "The rule top-k needs a single model.",
            got=None if model else f"{len(ensemble.names)} models",
            allowed=", ".join(ensemble.names),
            do=f'choose one: top-k(model="{ensemble.names[0]}")',
        )
    return ensemble.names.index(model)


def _thresholds(ensemble: Ensemble, threshold: float | Mapping[str, float]) -> list[float]:
    if not isinstance(threshold, Mapping):
        return [float(threshold)] * len(ensemble.names)
    strange = sorted(set(threshold) ^ set(ensemble.names))
    if strange:
        raise InputError(
            f"The model {strange[0]!r} has no threshold."
            if strange[0] in ensemble.names
            else f"There is a threshold for {strange[0]!r}, but no predictions.",
            got=", ".join(threshold),
            allowed=", ".join(ensemble.names),
        )
    return [float(threshold[name]) for name in ensemble.names]


def _from(ensemble: Ensemble, m: int, k: int, by: str, limit: float) -> Ints:
    """Return the top k classes of a model and all others of at least the limit, shape (n, k or more)."""
    ensemble = ensemble.deeper(m, k).down_to(m, by, limit)
    top, values = ensemble.top[m], ensemble.values(by, m)
    keep = values >= limit
    keep[:, :k] = True
    # Values descend, so that only the first places are selected.
    width = max(int(keep.any(0).sum()), k)
    return np.where(keep, top, NO_LABEL)[:, :width]


def _limits(sub: Ensemble, by: str) -> list[list[float]]:
    """Return the thresholds of each model, the highest first, with the same number for each model."""
    if by == "rank":
        depth = max(top.shape[1] for top in sub.top)
        return [[min(d, top.shape[1]) for d in range(1, depth + 1)] for top in sub.top]
    limits = []
    for m in range(len(sub.names)):
        values = sub.values(by, m)[:, 1:]
        ranked = np.sort(values[sub.top[m][:, 1:] != NO_LABEL])[::-1]
        at = [int(extra * len(sub)) for extra in _EXTRA]
        tightest = float(np.nextafter(ranked[0], np.float32(np.inf))) if len(ranked) else 0.0
        limits.append([float(ranked[min(i, len(ranked)) - 1]) if i and len(ranked) else tightest for i in at])
    return limits


def _up_to(ensemble: Ensemble, m: int, by: str, limit: float) -> Ints:
    if by == "rank":
        return ensemble.top[m][:, : int(limit)]
    return _from(ensemble, m, 1, by, limit)


def _proposing(sub: Ensemble, limits: list[list[float]], by: str) -> Proposing:
    """Return the proposals of each model at each threshold, for images with known label sets."""
    assert sub.label_sets is not None
    loosest = [_up_to(sub, m, by, each[-1]) for m, each in enumerate(limits)]
    universe = count_models(loosest, sub.n_classes)
    universe = universe.where(universe.class_id != sub.label[universe.image])
    keys = universe.keys(sub.n_classes)
    right = states(sub.label_sets, keys) == YES
    valid, labelled = label_is_valid(sub), sub.label != NO_LABEL
    # Each has a bit, right ones first. Images without a label add no question.
    pair_at, image_at = _ranks(~right), _ranks(np.where(valid, 0, np.where(labelled, 1, 2)))
    n_right, n_valid, n_labelled = (int(np.count_nonzero(f)) for f in (right, valid, labelled))

    def flags(m: int) -> list[Bools]:
        rows, places = np.nonzero(loosest[m] != NO_LABEL)
        own = rows * sub.n_classes + loosest[m][rows, places].astype(np.int64)
        other = among(own, keys)
        rows, places, own = rows[other], places[other], own[other]
        first = _first_level(sub, m, by, limits[m], rows, places)
        pairs = np.zeros((len(limits[m]), len(keys)), bool)
        pairs[first, pair_at[np.searchsorted(keys, own)]] = True
        images = np.zeros((len(limits[m]), len(sub)), bool)
        images[first, image_at[rows]] = True
        for each in (pairs, images):  # proposals at a threshold are also proposals at lower ones
            for tighter, looser in itertools.pairwise(each):
                looser |= tighter
        return [pairs[:, :n_right], images[:, :n_valid], pairs[:, n_right:], images[:, n_valid:n_labelled]]

    models = map(flags, range(len(limits)))
    return Proposing.of(models, n_labels=int(sub.label_sets.size.sum()), n_given=n_valid)


def _ranks(groups: npt.NDArray[Any]) -> Positions:
    """Return the position of each element when sorted by group."""
    ranks = np.empty(len(groups), np.intp)
    ranks[np.argsort(groups, kind="stable")] = np.arange(len(groups))
    return ranks


def _first_level(
    sub: Ensemble, m: int, by: str, limits: list[float], rows: Positions, places: Positions
) -> Positions:
    """Return the highest threshold at which a model proposes the class at each place of its lists."""
    if by == "rank":
        return np.searchsorted(limits, places + 1)
    values = sub.values(by, m)[rows, places].astype(np.float64)
    return np.where(places == 0, 0, np.searchsorted(-np.array(limits), -values))


def _about(ensemble: Ensemble, choice: ModelChoice, limits: list[list[float]]) -> dict[str, Any]:
    chosen = {ensemble.names[m]: limits[m][c - 1] for m, c in enumerate(choice.codes) if c > 0}
    return {
        "models": chosen,
        "search": choice.how,
        "searched_recall": choice.recall,
        "searched_precision": choice.precision,
    }


def _nothing() -> Pairs:
    none = np.empty(0, np.int64)
    return Pairs(none, none.astype(np.int32), none.astype(np.float64), none.astype(np.int32))
