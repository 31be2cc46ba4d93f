"""What metrics need of predictions and labels: which are computed by default, and which cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Ints
from manyhot.core.distributions import voted_pairs
from manyhot.core.jackknife import Scale
from manyhot.core.score_threshold import link_of, linked, sigmoids_are_unlikely, sum_of_sigmoids
from manyhot.core.sets import Case
from manyhot.core.softmax import ROWS, SLACK, least_probability
from manyhot.errors import InputError, first_names
from manyhot.registry import Entry, get, missing_options, options_of
from manyhot.report.text import counted
from manyhot.tables import Predictions
from manyhot.tables.lacking_classes import OTHER_OF_TWO
from manyhot.tables.result_tables import ORIGINAL_LABELS, default_metrics, vote_metrics

NEEDS = {
    "scores": "scores over all classes",
    "confidence": "the probability of the top class",
    "probabilities": "probabilities or logits of all classes",
}
"""What a metric may need besides ranks, as `needs` at its registration, and the words for it in a note."""


_OF_LOGARITHMS = ("nll", "cross_entropy_votes", "kl_votes")
_ZERO = "it was replaced by"


def _kind_of_scores(predictions: Predictions) -> str:
    """Return what the predictions are, in words."""
    if predictions.scores is None:
        return "ranks"
    if predictions.score_kind not in ("logit", "probability"):
        return {"score": "scores of unknown kind", "cosine": "cosines"}.get(
            predictions.score_kind, "scores that only rank classes"
        )
    if predictions.is_dense:
        return "dense scores"
    if predictions.lacking:
        return f"scores of classes other than {first_names(predictions.lacking)}"
    known = predictions.score_kind == "probability" or predictions.logsumexp is not None
    return "lists of top classes" if known else "lists of logits without logsumexp"


COSINES_AS_LOGITS = "pass cosines, such as those of CLIP, multiplied by 100 as logits, with `links` softmax"

_IF_SETS = (
    "if the predicted classes of an image are a set, write them as one column of 0 and 1 per class, or "
    "convert the file with manyhot convert and --format 'tag-lists(sets=True)'"
)

DECLARE_KIND = f"declare the kind of the scores with `scores`; {COSINES_AS_LOGITS}"
"""What to do if scores cannot become probabilities."""


@dataclass(frozen=True)
class Unmet:
    """Metrics that cannot be computed for a model, and why.

    Attributes
    ----------
    kind : str
        The kind of the note.
    names : tuple of str
        The metrics.
    why : str
        The reason, as a clause.
    do : str
        What the user can do; empty if nothing helps.
    """

    kind: str
    names: tuple[str, ...]
    why: str
    do: str = ""

    def note(self, *, undefined: bool = False) -> str:
        """Return the text of a note that says why metrics are skipped or, with `undefined`, undefined."""
        do = f"; {self.do}" if self.do else ""
        return f"{', '.join(self.names)} {'undefined' if undefined else 'skipped'}: {self.why}{do}"

    def error(self, where: str) -> InputError:
        """Return the error to raise if no model has values of these metrics."""
        names = f"{', '.join(self.names)} cannot be computed"
        return InputError(f"{names}: {self.why}.", where=where, do=self.do or None)


def unmet(metrics: Sequence[Entry], case: Case, predictions: Predictions) -> Iterator[Unmet]:
    """Yield the metrics that cannot be computed, grouped by what is missing."""
    has = {
        "scores": case.scores is not None,
        "confidence": case.listed is not None or case.has_probabilities,
        "probabilities": case.has_probabilities,
    }
    kind = _kind_of_scores(predictions)
    do = "declare their kind with `scores`" if kind == "scores of unknown kind" else ""
    if predictions.lacking:
        do = "pass the list of the classes that the model predicts as `classes`, or predict the others, too"
    if kind == "cosines" or "only rank" in kind:
        do = "use link='identity' for a threshold on the scores as they are stored"
    chosen = by_class_thresholds(metrics, case)
    needs = [(m, "scores" if m in chosen else _need(m)) for m in metrics]
    for need, text in NEEDS.items():
        names = tuple(m.name for m, own in needs if own == need and not has[need])
        if names:
            has_link = any(m.name in names and _has_link(m) for m in metrics)
            told = has_link or predictions.lacking or "unknown" in kind
            shown = do if told else COSINES_AS_LOGITS * (kind == "cosines")
            if kind == "ranks" and any("threshold" in options_of(m) for m in metrics if m.name in names):
                shown = _IF_SETS
            yield Unmet(f"needs_{need}", names, f"the predictions are {kind}, without {text}", shown)
    if case.labels.n_classes == 1 and (case.top[:, 0] >= 0).all():  # an empty list is a wrong answer
        ranked = {*default_metrics(dense=False), "map_image"}
        if names := tuple(m.name for m in metrics if m.name in ranked):
            yield Unmet("needs_classes", names, _ONE_CLASS, OTHER_OF_TWO)
    if has["probabilities"] and link_of(case) == "sigmoid":
        names = tuple(m.name for m in metrics if m.about.get("exclusive"))
        if names:
            yield Unmet("needs_exclusive", names, _INDEPENDENT, _IF_EXCLUSIVE)
    if case.labels.p is None:
        names = tuple(m.name for m, own in needs if m.about.get("votes") and has.get(own or "", True))
        if names:
            why = "the labels have no shares of votes or probabilities (column p)"
            yield Unmet("needs_votes", names, why, "pass counts of votes, or labels from manyhot aggregate")
    if not case.labels.asked_known:
        names = tuple(m.name for m, own in needs if option_of(m, "masked") and has.get(own or "", True))
        if names:
            yield Unmet("needs_answers", names, "the labels do not record which classes were answered no")


_INDEPENDENT = (
    "the probability of a class is the sigmoid of its logit, and the probabilities of an image do not add up "
    "to 1"
)
_ONE_CLASS = "there is only one class, so it is always the top class"
_IF_EXCLUSIVE = "if the network was trained with a softmax, pass `links`, such as softmax"


def depends_on_sets(metric: Entry) -> bool:
    """Return whether a metric uses label sets rather than only original labels."""
    about = metric.about
    return about.get("judged_on") != ORIGINAL_LABELS and not about.get("original_only", False)


def case_for(metric: Entry, case: Case) -> Case:
    """Return the case with the probabilities that a metric needs, such as those of independent classes.

    A metric with the option `link` makes this choice itself. If its call string sets a threshold or a link,
    thresholds of classes do not apply to it.
    """
    if case.thresholds is not None and _sets_threshold(metric):
        case = replace(case, thresholds=None)
    is_confidence = metric.about.get("needs") in ("confidence", "probabilities") and not _has_link(metric)
    return linked(case) if is_confidence else case


def metric_notes(metrics: Sequence[Entry], case: Case) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of notes on how metrics treat the scores or lists of a model."""
    yield from (("link", text) for text in _link_notes(metrics, case))
    yield from (("short_lists", text) for text in _short_list_notes(metrics, case))
    yield from (("zeros", text) for text in _zero_notes(metrics, case))
    yield from (("sums", text) for text in _sum_notes(metrics, case))


def _zero_notes(metrics: Sequence[Entry], case: Case) -> Iterator[str]:
    """Yield how many labels have a probability of 0, and what they make up of means of logarithms."""
    for metric in metrics:
        if case.scores is None or case.kind != "probability" or metric.name not in _OF_LOGARITHMS:
            continue
        if metric.name == "nll":
            image: Ints = np.flatnonzero(case.labels.labelled)
            classes: Ints = case.labels.label[image]
            p = np.ones(len(image))
        else:
            image, classes, p = voted_pairs(case)
        least = least_probability(case.scores)
        is_zero = case.scores[image, classes] < least
        try:
            value = metric(case).value() if is_zero.any() else 0
        except InputError:
            continue  # the judge notes or raises it
        if is_zero.any():
            lost = -np.log(least) * p[is_zero].sum() / len(np.unique(image))
            n, n_zero = len(np.unique(image)), len(np.unique(image[is_zero]))
            yield (
                f"{metric.name}: {counted(n_zero, 'image')} of {n:,} {'has' if n_zero == 1 else 'have'} a "
                "label with a probability of 0, whose logarithm is infinite; "
                f"{_ZERO} {least:.1g}, which makes up {lost:.3g} of the {value:.3g} nats"
            )


_MISSED = 0.005
"""Mean difference of sums of probabilities from 1 that rounding does not explain, as in half precision."""


def _sum_notes(metrics: Sequence[Entry], case: Case) -> Iterator[str]:
    """Yield by how much probabilities that do not quite add up to 1 change means of logarithms."""
    names = [metric.name for metric in metrics if metric.name in _OF_LOGARITHMS]
    if not names or case.scores is None or case.kind != "probability" or not _add_up(case):
        return
    mean = float(case.scores[:ROWS].sum(axis=1, dtype=np.float64).mean())
    if abs(mean - 1) > _MISSED:
        yield (
            f"the probabilities of an image add up to {mean:.3f} on average, not to 1, which "
            f"{'lowers' if mean > 1 else 'raises'} {', '.join(names)} by {abs(np.log(mean)):.2g} nats; "
            "divide the probabilities of each image by their sum"
        )


def _link_notes(metrics: Sequence[Entry], case: Case) -> Iterator[str]:
    """Yield notes on how logits were converted into probabilities, if the conversion depends on the data."""
    if case.kind != "logit":
        return
    chosen = by_class_thresholds(metrics, case)
    metrics = [m for m in metrics if m not in chosen]
    thresholds = [m for m in metrics if _has_link(m) and _need(m) == "probabilities"]
    by_link: dict[str, list[str]] = {}
    for metric in thresholds:
        by_link.setdefault(link_of(case, option_of(metric, "link") or "auto"), []).append(metric.name)
    own = link_of(case)
    if link_note(case):
        needs = ("confidence", "probabilities")
        names = [m.name for m in metrics if m not in thresholds and _need(m) in needs]
        by_link[own] = by_link.get(own, []) + names
    for link, names in by_link.items():
        if names:
            yield f"{', '.join(names)}: {_link_text(case, link)}"


def link_note(case: Case) -> str:
    """Return how logits are converted into probabilities, and why; empty if only a softmax makes sense."""
    link = link_of(case) if case.kind == "logit" else ""
    return _link_text(case, link) if link and (_is_open(case) or link == "sigmoid") else ""


def _link_text(case: Case, link: str) -> str:
    return f"the probability of a class is the {link} of its logit{_why_link(case, link)}"


def _is_open(case: Case) -> bool:
    """Return whether several classes can be valid together."""
    return not case.labels.exclusive and bool((case.labels.size > 1).any())


def _short_list_notes(metrics: Sequence[Entry], case: Case) -> Iterator[str]:
    """Yield how many images metrics of ranks skip because lists of different lengths are too short for them.

    An image is skipped for this reason if it would count with more predicted classes, whatever they are.
    Shares of misses, which are fewer than the images, are left out.
    """
    if case.scores is not None or case.length is None:
        return
    width = max(depth_of(metrics), case.top.shape[1], int(case.labels.size.max(initial=1)))
    top = np.zeros((len(case.top), width), case.top.dtype)
    top[:, : case.top.shape[1]] = np.maximum(case.top, 0)
    filled = replace(case, top=np.asfortranarray(top), listed=None)
    by_counts: dict[tuple[int, int], list[str]] = {}
    for metric in metrics:
        if not metric.about.get("needs") and not metric.name.endswith("_unasked"):
            try:
                scored, of_filled = metric(case).scored, metric(filled).scored
            except InputError:
                continue  # the judge notes or raises it
            counts = int(scored.sum()), int((of_filled & ~scored).sum())
            by_counts.setdefault(counts, []).append(metric.name)
    for (n, n_short), names in by_counts.items():
        if n_short:
            yield (
                f"{', '.join(names)}: {n:,} of {n + n_short:,} images count, because the lists of the other "
                f"{n_short:,} contain too few predicted classes; scores of all classes include these images"
            )


def _why_link(case: Case, link: str) -> str:
    """Return why logits are converted in this way, or why this cannot be right; empty for declared links."""
    if case.link or not case.labels.labelled.any():
        return doubtful_sigmoids(case, link)
    return _WHY_LINK.get(link, "") if _is_open(case) else ""


def doubtful_sigmoids(case: Case, link: str) -> str:
    """Return why logits that are converted by sigmoids look like those of a softmax; empty otherwise."""
    sets = case.labels
    if case.link or sets.labelled.any() or link != "sigmoid" or not case.once(sigmoids_are_unlikely):
        return ""
    return (
        f", although the sigmoids of an image add up to {case.once(sum_of_sigmoids):,.0f} of the "
        f"{case.labels.n_classes:,} classes, as they do if the network was trained with a softmax; in this "
        "case, pass `links` softmax"
    )


_WHY_LINK = {
    "sigmoid": ", because the sigmoids of an image add up to about its number of valid classes; if the "
    "network was trained with a softmax, pass `links`",
    "softmax": ", because the sigmoids of an image do not add up to about its number of valid classes; if "
    "the network was trained with sigmoids, pass `links`",
}
"""Why logits are converted in this way if label sets have several classes and there are original labels."""


def what_differs(results: pa.Table, notes: Iterable[tuple[str, str]], *, is_default: bool) -> Iterator[str]:
    """Yield notes if models differ in their default metrics or in how logits become probabilities.

    `notes` are the models and texts of the notes on links and zeros; `is_default` is false if metrics were
    selected.
    """
    if is_default and (text := _different_defaults(results)):
        yield text
    notes = list(notes)
    models: dict[str, dict[str, None]] = {"sigmoid": {}, "softmax": {}}
    for model, text in notes:
        for link, names in models.items():
            if f"is the {link} of its logit" in text:
                names[model] = None
    if len({text.partition(_ZERO)[2].partition(",")[0] for _, text in notes if _ZERO in text}) > 1:
        yield (
            "metrics of log probabilities are not comparable: a probability of 0 is replaced by a larger "
            "number in the models stored in half precision; store the probabilities of all models in the "
            "same precision"
        )
    if all(models.values()) and models["sigmoid"] != models["softmax"]:
        yield (
            "metrics based on probabilities are not comparable across links: the probabilities of "
            f"{counted(len(models['sigmoid']), 'model')} are sigmoids, and those of "
            f"{len(models['softmax']):,} a softmax; to declare how networks were trained, pass `links`"
        )


def _need(metric: Entry) -> str | None:
    """Return which of `NEEDS` a metric has: one of probabilities for a threshold on probabilities."""
    is_on_scores = option_of(metric, "link") == "identity"
    return "probabilities" if _has_link(metric) and not is_on_scores else metric.about.get("needs")


def uses_top_class(metric: Entry) -> bool:
    """Return whether a metric depends on which classes of an image have the highest scores, in order."""
    return _need(metric) in (None, "confidence")


def _sets_threshold(metric: Entry) -> bool:
    return any(option_of(metric, name) is not None for name in ("threshold", "link"))


def by_class_thresholds(metrics: Sequence[Entry], case: Case) -> list[Entry]:
    """Return the metrics that use the class thresholds of a case."""
    has = case.thresholds is not None
    return [m for m in metrics if has and _has_link(m) and not _sets_threshold(m)]


def _has_link(metric: Entry) -> bool:
    return "link" in options_of(metric)


def option_of(metric: Entry, name: str) -> Any:
    """Return the value of an option in the metric's call string; None if it is not set."""
    return getattr(metric.function, "keywords", {}).get(name)


def entries_of(specs: Sequence[str]) -> list[Entry]:
    """Return the metrics for names and call strings, without repeats.

    Raises
    ------
    InputError
        If `specs` is empty, or if a required option of a metric is not set.
    UnknownNameError
        If a metric is not registered.
    """
    if not specs:
        raise InputError("No metric is selected.", do="leave out `metrics` to use the default metrics")
    listed = [specs] if isinstance(specs, str) else specs
    entries = list({(entry := get("metric", spec)).name: entry for spec in listed}.values())
    for entry in entries:
        needed = missing_options(entry)
        if needed:
            example = (
                f"{entry.name.removesuffix('k')}5" if needed == ["k"] else f"{entry.name}({needed[0]}=0.5)"
            )
            raise InputError(
                f"The metric {entry.name!r} needs its option {needed[0]!r}.",
                got=entry.name,
                do=f"such as {example}",
            )
    return entries


def masks_classes(metrics: Sequence[str] | None) -> bool:
    """Return whether tables of classes leave out pairs without a clear answer.

    The tables follow the first requested metric that has this option. This metric also decides which model is
    better.
    """
    return next(iter(_masks(metrics).values()), False)


def mixed_masks(metrics: Sequence[str] | None) -> str:
    """Return a text that says whether tables of classes are masked; empty if all metrics agree."""
    masks = _masks(metrics)
    if len(set(masks.values())) < 2:
        return ""
    first = next(iter(masks))
    does = "leave out unclear and unanswered pairs"
    if not masks[first]:
        does = "count unclear and unanswered pairs as not valid"
    return f"tables of classes {does}, as does {first}, the first of these metrics"


def _masks(metrics: Sequence[str] | None) -> dict[str, bool]:
    """Return whether each of the metrics that can be masked is."""
    entries = () if metrics is None else entries_of(metrics)
    return {m.name: bool(option_of(m, "masked")) for m in entries if "masked" in options_of(m)}


def depth_of(metrics: Sequence[Entry]) -> int:
    """Return the number of top classes that the metrics need; large label sets may need more."""
    return max([5, *(int(option_of(m, "k") or 0) for m in metrics)])


def default_entries(case: Case) -> list[Entry]:
    """Return the metrics that are computed by default.

    If predictions are dense scores and there are no original labels, the metrics are those of multi-label
    classification; with a single class, every ranking of the classes of an image is right, so that the mAP of
    images is left out. In all other cases, rank metrics are computed and, for dense scores, also score
    metrics. If raters chose one class per image, probabilities are also compared with the shares of their
    votes.
    """
    dense, labels = case.scores is not None, case.labels
    if dense and (labels.n_classes == 1 or not (labels.exclusive or labels.labelled.any())):
        names = default_metrics(dense=True, labelled=False)
        return entries_of([name for name in names if labels.n_classes > 1 or name != "map_image"])
    votes = vote_metrics() if labels.exclusive and _add_up(case) else []
    return entries_of(default_metrics(dense=False) + (default_metrics(dense=True) if dense else []) + votes)


def _different_defaults(results: pa.Table) -> str:
    """Return why models have different metrics by default, as a note; empty if they have the same ones."""
    has_ranks = pc.equal(results["metric"], "real1")
    ranks = set(results["model"].filter(has_ranks).to_pylist())
    n_dense = len(set(results["model"].to_pylist()) - ranks)
    if not (ranks and n_dense):
        return ""
    return (
        "because there are no original labels, the default metrics of models with scores of all classes "
        f"({n_dense:,}) are mAP and F1, and those of the others ({len(ranks):,}) are rank metrics; to "
        "compare all of them, pass `metrics`, such as real1"
    )


def _add_up(case: Case) -> bool:
    """Return whether there are probabilities that add up to 1, as far as the first images show."""
    if case.kind == "logit" or not case.has_probabilities:
        return case.has_probabilities
    assert case.scores is not None  # for the type checker
    first = case.scores[:ROWS].sum(axis=1, dtype=np.float64)
    return bool((np.abs(first - 1) <= SLACK).all())


def scale_of(metric: Entry, other: Scale) -> Scale:
    """Return the scale of the intervals of a metric: the logit scale for a share."""
    if metric.about.get("interval") == "correlation":
        return "correlation"
    return "logit" if metric.about.get("unit", "share") == "share" else other
