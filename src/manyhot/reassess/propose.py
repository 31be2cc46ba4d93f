"""Propose classes to ask raters about, and estimate the cost: `manyhot propose`."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list_of
from manyhot.command import command
from manyhot.core.array_types import Floats32
from manyhot.core.ensembles import Ensemble, pair_probabilities
from manyhot.core.estimates import Ratio
from manyhot.core.proposal_coverage import Coverage, count_coverage, held_out
from manyhot.core.proposals import Proposed, apply_rule
from manyhot.core.ratio_intervals import IMAGES_FOR_PERCENTILES, ratio_interval, sampled_interval
from manyhot.core.resampling import Bootstrap
from manyhot.data.data_sets import Source
from manyhot.data.inputs import (
    READING,
    LabelsLike,
    PredictionsLike,
    Reading,
    open_inputs,
)
from manyhot.errors import InputError, UsageError
from manyhot.parameters import (
    RESAMPLES,
    Count,
    InCampaign,
    Positive,
    Resamples,
    Seed,
    Shown,
    Was,
    check_one_of,
)
from manyhot.reassess.additions import QUESTION, with_campaign_questions
from manyhot.reassess.ensemble import (
    ensemble_of,
    only_source,
    open_known_sets,
    order_check,
    source_images,
    source_predictions,
    with_listed_images,
    without_list,
)
from manyhot.reassess.finding_questions import (
    FINDINGS_RULE,
    input_of,
    named_questions,
    open_to_ask,
    questions_of_findings,
)
from manyhot.reassess.proposed import ONLY_WITHDRAWN, Expected, ShareInterval
from manyhot.reassess.proposed import RATERS as RATERS
from manyhot.reassess.proposed import SECONDS as SECONDS
from manyhot.reassess.proposed import Proposals as Proposals
from manyhot.reassess.shown_images import unshown_notes
from manyhot.reassess.withdrawal import (
    HISTORY,
    campaign_proposals,
    has_withdrawn,
    read_history,
    without_questions,
)
from manyhot.registry import Entry, get
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Predictions, metadata, one_chunk
from manyhot.tables.labels import keys_in_metadata
from manyhot.tables.own_classes import own_list

UNPROPOSED = "label"
"""The source of an original label that no rule proposed."""

LeaveOut = Literal["proposals", "models", "nothing"]
"""Images without questions."""


@command(
    "propose",
    examples=(
        "manyhot propose campaign --rule 'union(threshold=0.1)'",
        "manyhot propose campaign --rule real-search --known-labels labels.parquet",
        "manyhot propose campaign --findings label-issues",
        "manyhot propose campaign --rule all-classes",
        "manyhot propose campaign --without withdrawn.csv",
    ),
    out=InCampaign("labels", "proposals.parquet"),
)
def propose(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    rule: str = "union",
    *,
    findings: Annotated[Any, Shown("FOLDER")] = None,
    known_labels: Annotated[Any, Shown("FILE"), Was("--known")] = None,
    leave_out: LeaveOut = "proposals",
    add: bool = False,
    without: Annotated[Any, Shown("FILE")] = None,
    seconds: Positive = SECONDS,
    raters: Count = RATERS,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Proposals:
    """Propose the classes to ask raters about, and estimate cost and recall.

    Parameters
    ----------
    labels
        Images: a campaign, a folder of photographs, a folder written by manyhot predict, an images table, or
        a benchmark data set. Original labels, if there are any, are always proposed.
    predictions
        Files or folders of predictions, instead of those of the campaign, folder or benchmark. Each model
        must have predictions for all images.
    rule
        Name of a rule, or a call string such as 'union(threshold=0.1)'. The command 'manyhot proposers' lists
        the rules; all-classes needs no predictions.
    findings
        Findings of manyhot diagnose labels: their folder, or a Parquet or CSV file with some of them. The
        questions are then about the classes in the findings instead of those that a rule proposes, so no
        predictions are needed.
    known_labels
        Label sets of some images, or golden answers. Used to estimate recall and precision, and to fit rules
        that learn. Unrated images are left out. By default, golden.parquet of the campaign.
    leave_out
        Images not to ask about: those whose only proposal is the original label (proposals), those whose
        original label is the top class of every model (models), or none (nothing).
    add
        Keep the proposals of the campaign and add the new ones. The app asks about them after a restart.
    without
        Questions to withdraw from the campaign: a table with a column of images, of classes, or both, or a
        text file with an image per line. The other proposals are kept. No rule is applied, unless `add` is
        set. After a restart, the app no longer asks withdrawn questions, but keeps their answers.
    seconds
        Seconds per question, to compute the hours of work; the default is an assumption.
    raters
        Number of answers per question, to compute the hours of work.
    resamples
        Number of bootstrap resamples of the images with known label sets; 0 for no intervals.
    seed
        Seed for the bootstrap.

    Returns
    -------
    Proposals

    Raises
    ------
    UnknownNameError
        If there is no such rule.
    InputError
        If an original label is out of range, there are no predictions, or the rule cannot use them.
    MatchError
        If predictions have a different class list or lack images, or no label set belongs to these images.
    OrderError
        As in `manyhot.evaluate`, if there are labels.
    """
    if without is not None and not add:
        need = "Questions are withdrawn from the campaign's proposals without applying a rule."
        _check_alone(need, predictions=predictions, findings=findings, known_labels=known_labels)
        source, classes = open_to_ask(labels, reading, run)
        n_classes, class_hash = _class_list(classes, [], reading.n_classes, uses_models=False)
        about = _about_classes(n_classes, class_hash, classes)
        standing = campaign_proposals(source.campaign).replace_schema_metadata(None)
        made = Proposals(standing, ONLY_WITHDRAWN, len(source_images(source)), 0, metadata=about)
        return _finished(made, seconds, raters, source, _Without(without, classes, reading.match))
    if findings is not None:
        need = "Questions about findings need neither predictions nor known labels."
        _check_alone(need, predictions=predictions, known_labels=known_labels)
        source, classes, made = _of_findings(labels, findings, reading, run)
        withdrawn = _Without(without, classes, reading.match)
        return _finished(made, seconds, raters, source if add else None, withdrawn)
    entry = get("proposer", rule)
    check_one_of(leave_out, get_args(LeaveOut), "Images cannot be left out like this.", where="`leave_out`")
    if uses_models := entry.about.get("models", True):
        bare, some_images = without_list(labels, reading)
        opened = open_inputs(labels, predictions, unlabelled=True, reading=bare, run=run)
        source = only_source(opened, "Proposals can be made for")
        source = with_listed_images(source, some_images, reading.match)
        images, read, classes = source_images(source), source_predictions(source, run), source.classes
    else:
        _check_alone(f"The rule {entry.name} needs no predictions.", predictions=predictions)
        source, classes = open_to_ask(labels, reading, run)
        images, read = source_images(source), []
    n_classes, class_hash = _class_list(classes, read, reading.n_classes, uses_models=uses_models)
    known, inputs = open_known_sets(source, known_labels, n_classes, class_hash)
    check = order_check(source, reading, known)
    ensemble = ensemble_of(images, read, n_classes, class_hash, known, source.misfits, check=check)
    entry, is_of_classes = _with_class_ids(entry, classes)
    proposed = apply_rule(ensemble, entry, leave_out=leave_out, add_labels=not is_of_classes)
    coverage = None
    if known is not None and entry.about.get("learns"):
        coverage = held_out(ensemble, entry, leave_out=leave_out)
    elif known is not None:
        coverage = count_coverage(ensemble, proposed)
    listed = classes or class_list_of(class_hash)
    made = Proposals(
        _with_p(named_questions(proposals_table(images, proposed, entry.name), listed), ensemble, proposed),
        entry.name,
        len(ensemble),
        int(np.count_nonzero(proposed.left_out)),
        ensemble.names,
        expected=None if coverage is None else _expected(coverage, entry, resamples, seed),
        about=dict(proposed.pairs.about),
        notes=(
            *source.misfits.notes(),
            *_left_out_ranks(ensemble, entry),
            *unshown_notes(images.table),
        ),
        inputs=inputs | {k: v for k, v in source.inputs.items() if k != "labels.parquet"},
        metadata=_about_classes(n_classes, class_hash, listed),
    )
    return _finished(made, seconds, raters, source if add else None, _Without(without, listed, reading.match))


def _with_class_ids(entry: Entry, classes: ClassList | None) -> tuple[Entry, bool]:
    """Return a rule with the ids of the classes that it was given by name, and whether it was given any."""
    given = getattr(entry.function, "keywords", {}).get("classes")
    if given is None:
        return entry, False
    listed = [given] if isinstance(given, int | str) else list(given)
    ids = [c if classes is None or not isinstance(c, str) else classes.index(c) for c in listed]
    return dataclasses.replace(entry, function=functools.partial(entry.function, classes=ids)), True


def _left_out_ranks(ensemble: Ensemble, entry: Entry) -> list[str]:
    """Return a note if a search over ranks ends before the last rank of dense scores."""
    depth, models = max((top.shape[1] for top in ensemble.top), default=0), range(len(ensemble.names))
    deepest = max((ensemble.depth(m) for m in models), default=0)
    if getattr(entry.function, "keywords", {}).get("by") != "rank" or deepest <= depth:
        return []
    return [
        f"{entry.name} searches ranks 1 to {depth} of {deepest:,}; the other {deepest - depth:,} ranks of "
        "dense scores are left out"
    ]


def _check_alone(need: str, **inputs: Any) -> None:
    """Raise an error for inputs that are not used."""
    extra = [f"`{name}`" for name, value in inputs.items() if value is not None and len(value)]
    if extra:
        raise UsageError(need, got=" and ".join(extra), do="leave them out")


def _of_findings(
    labels: LabelsLike, findings: Any, reading: Reading, run: Run
) -> tuple[Source, ClassList | None, Proposals]:
    """Return questions about the findings of a diagnosis."""
    source, classes = open_to_ask(labels, reading, run)
    images = source_images(source)
    table, notes = questions_of_findings(images, findings, classes, reading.match)
    n_classes = len(classes) if classes else reading.n_classes or source.sets().n_classes
    made = Proposals(
        table,
        FINDINGS_RULE,
        len(images),
        len(images) - len(pc.unique(table["image_id"])),
        notes=(*source.misfits.notes(), *notes),
        inputs=source.inputs | input_of(findings),
        metadata=_about_classes(n_classes, classes.hash if classes else "", classes),
    )
    return source, classes, made


def _about_classes(n_classes: int, class_hash: str, classes: ClassList | None) -> dict[str, str]:
    """Return the metadata of proposals over a class list, with its keys and names unless it is built in."""
    own = None if classes is None else own_list(classes)
    return {"n_classes": str(n_classes), "classes": class_hash, **keys_in_metadata(own)}


def _class_list(
    classes: ClassList | None, models: list[Predictions], n_classes: int, *, uses_models: bool
) -> tuple[int, str]:
    if uses_models and not models:
        raise InputError(
            "There are no predictions from which to propose labels.",
            do="run manyhot predict with at least one model, or use the `rule` all-classes",
        )
    if classes is not None:
        return len(classes), classes.hash
    n_classes = n_classes or max((p.n_classes for p in models), default=0)
    if not n_classes:
        raise InputError("The number of classes is not known.", do="pass the class list")
    return n_classes, next((p.class_hash for p in models if p.class_hash), "")


def proposals_table(images: Images, proposed: Proposed, rule: str) -> pa.Table:
    """Return the questions about images as the table ``proposals``."""
    pairs = proposed.pairs
    is_label = pa.array(proposed.label_only.astype(np.int8))
    source = pa.DictionaryArray.from_arrays(is_label, pa.array([rule, UNPROPOSED]))
    return pa.table(
        {
            "image_id": images.image_id.take(pa.array(pairs.image)),
            "class_id": pa.array(pairs.class_id),
            "score": pa.array(pairs.score),
            "n_models": pa.array(pairs.n_models),
            "source": source.cast(pa.string()),
        }
    )


def _with_p(table: pa.Table, ensemble: Ensemble, proposed: Proposed) -> pa.Table:
    """Return proposals with the mean probabilities of the models, which scores of a rule need not be."""
    p = pair_probabilities(ensemble, proposed.pairs)
    return table if p is None else table.append_column("p", pa.array(p, pa.float32(), from_pandas=True))


def _expected(c: Coverage, rule: Entry, resamples: int, seed: int) -> Expected:
    num = np.stack([c.proposed, c.valid], axis=1).astype(np.float32)
    den = np.stack([c.labels, c.questions], axis=1).astype(np.float32)
    samples = np.full((2, 0), np.nan)
    if resamples:
        everything = np.ones((1, len(num)), bool)
        samples = Bootstrap(everything, resamples, seed).ratios(num, den, np.arange(2))[0].T
    recall, precision = (
        share_interval(of, among, drawn) for of, among, drawn in zip(num.T, den.T, samples, strict=True)
    )
    labels, questions, unasked = (int(v.sum()) for v in (c.labels, c.questions, c.unasked))
    learns = bool(rule.about.get("learns"))
    return Expected(recall, precision, len(num), labels, questions, unasked, held_out=learns)


def share_interval(num: Floats32, den: Floats32, samples: Floats32) -> ShareInterval:
    """Return a ratio of sums, and its interval from resamples or, for few images, by the jackknife."""
    ratio = Ratio(num.astype(np.float64), den.astype(np.float64), den > 0)
    value, n = ratio.value(), int(np.count_nonzero(den))
    if not len(samples):
        return ShareInterval(value, np.nan, np.nan)
    if n < IMAGES_FOR_PERCENTILES:
        return ShareInterval(value, *ratio_interval(ratio))
    return ShareInterval(value, *sampled_interval(value, samples, n))


@dataclass(frozen=True)
class _Without:
    """What is withdrawn, if anything, and how its classes and images are found."""

    table: Any
    classes: ClassList | None
    match: str


_WITHDRAWN = (
    "questions were withdrawn earlier, and are asked again if the rule proposes them; to leave them out, "
    "pass `without` again"
)


def _finished(
    made: Proposals, seconds: float, raters: int, source: Source | None, without: _Without
) -> Proposals:
    """Return proposals with their cost, and the metadata of their file; with a source, also what it has."""
    made = dataclasses.replace(made, seconds=seconds, raters=raters)
    about: dict[str, str] = {}
    steps = [{"rule": made.rule, "questions": len(made)}]
    if source is not None:
        add = made.rule != ONLY_WITHDRAWN
        standing = campaign_proposals(source.campaign, add=add)
        about = metadata(standing)
        steps = read_history(about)
        if add:
            table, note = with_campaign_questions(made.table, standing)
            steps.append({"rule": made.rule, "questions": len(table) - len(standing)})
            is_back = without.table is None and has_withdrawn(steps)
            notes = (*made.notes, *([_WITHDRAWN] if is_back else []), note)
            made = dataclasses.replace(made, table=table, notes=notes)
    if without.table is not None:
        table, notes, step = without_questions(made.table, without.table, without.classes, without.match)
        steps.append(step)
        made = dataclasses.replace(made, table=table, notes=(*made.notes, *notes), withdraws=True)
    if source is not None:
        is_asked = pc.is_in(source_images(source).image_id, one_chunk(made.table["image_id"]))
        kept = made.table.join(standing.select(QUESTION), QUESTION, join_type="left semi") if add else ()
        made = dataclasses.replace(made, n_left_out=pc.sum(pc.invert(is_asked)).as_py(), n_standing=len(kept))
    cost = {
        "images": made.n_images,
        "left_out": made.n_left_out,
        "seconds": made.seconds,
        "raters": made.raters,
        "hours": made.hours,
    }
    own = {
        "models": "\n".join(made.models),
        "rule": json.dumps({"rule": made.rule, **made.about}),
        "expected": json.dumps(None if made.expected is None else dataclasses.asdict(made.expected)),
    }
    if made.rule == ONLY_WITHDRAWN:  # those that remain were proposed by the same rule
        own = {key: about[key] for key in own if key in about}
    return dataclasses.replace(
        made, metadata={**made.metadata, **own, "cost": json.dumps(cost), HISTORY: json.dumps(steps)}
    )
