"""From groups and outcomes to findings: what is worse where, by how much, and with which marks."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, from_keys
from manyhot.core.array_types import Bools, Bytes, Floats, Ints
from manyhot.core.group_search import FAMILY_WISE, Groups, GroupSearch, explain_away, search_groups
from manyhot.core.sets import NO, NOT_ASKED, YES, LabelSets
from manyhot.core.share_intervals import difference_of_shares, wilson_interval
from manyhot.diagnose.groups_attributes import LACKING, OVERLAYS, ImageGroup, Mark
from manyhot.diagnose.groups_outcomes import NamedOutcome
from manyhot.parameters import AtLeast, Count, Flattened, Probability, Seed, Share
from manyhot.run import Run
from manyhot.tables import Labels, Objects, Row, RowDict, schema, write_labels
from manyhot.tables.arrays import label_sets
from manyhot.tables.objects import write_objects
from manyhot.tables.state_lists import state_lists

PHOTOGRAPHS_EACH = 9
"""Photographs of a finding."""

COVERAGE = 0.25
"""Share of the events that a mark (a frame, tag, band, text or pasted object) must hold to be reported."""

_PREFERRED = {
    **dict.fromkeys(OVERLAYS, 1.15),
    "label": 1.1,
    "object": 1.1,
    "metadata": 1.1,
    "file": 0.9,
    "cluster": 0.8,
}
"""Factors of the statistic when explanations are ordered: a telling one comes before one that is slightly
better."""

_MOST_CANDIDATES = 60  # groups of an outcome that are compared with each other


@dataclass(frozen=True, repr=False)
class GroupSettings(Flattened):
    """Settings that determine which groups are found.

    Attributes
    ----------
    min_images
        Minimum number of images inside a group, and also outside it.
    min_difference
        Minimum difference between the shares that are compared, such as the error rates inside and outside a
        group.
    min_confidence
        Minimum confidence of a high-confidence error.
    permutations
        Number of permutations of the outcomes, to compute p-values.
    seed
        Seed for the permutations, the clusters, and the choice of the half of the images that is searched for
        patterns.
    unmasked
        Count classes that no rater was asked about as not valid. By default, an image of multi-label data
        does not count for such a class if the label sets record which classes were answered no.
    """

    min_images: Count = 25
    min_difference: Share = 0.05
    min_confidence: Probability = 0.9
    permutations: Annotated[int, AtLeast(100)] = 1000
    seed: Seed = 0
    unmasked: bool = False


GROUP_SETTINGS = GroupSettings()

Tested = Mapping[str, Counter[str]]
"""For each kind of outcome, in how many outcomes of this kind (one for each class) a group was tested."""


@dataclass(frozen=True, eq=False)
class GroupFinding:
    """A group in which an outcome is more frequent than elsewhere.

    Attributes
    ----------
    row : dict
        The row of the group in the table ``groups``, without data set and model.
    inside : ndarray of bool, shape (n,)
        The images of the group.
    examples : ndarray of int
        Images to show, those with the event first.
    n_events : int
        Number of examples with the event.
    mark : Mark, optional
        As in `ImageGroup`.
    """

    row: RowDict
    inside: Bools
    examples: Ints
    n_events: int
    mark: Mark | None = None


def find_groups(
    groups: Sequence[ImageGroup],
    seen: Bools,
    outcomes: Sequence[NamedOutcome],
    names: Sequence[str],
    settings: GroupSettings,
    cluster: Ints | None = None,
) -> tuple[list[GroupFinding], Tested, dict[str, float]]:
    """Return the groups in which an outcome is more frequent, clearest difference first, and what was tested.

    A group is tested for an outcome if it is large enough. Groups with a smaller difference than the settings
    require are returned by name, with the largest of these differences that is beyond chance.

    Parameters
    ----------
    seen : ndarray of bool, shape (n,)
        Images that were searched for groups.
    names : sequence of str
        Names of the classes.
    cluster : ndarray of int, shape (n,), optional
        The cluster of each image, if images depend on each other.
    """
    tested = dict[str, Counter[str]]()
    if not groups or not outcomes:
        return [], tested, {}
    inside = np.stack([group.inside for group in groups])
    searched = np.array([group.is_searched for group in groups])
    compared = Groups(inside, searched, seen, cluster, [group.among for group in groups])
    rng = np.random.default_rng(settings.seed)
    search = search_groups(
        compared,
        [o.outcome for o in outcomes],
        rng,
        permutations=settings.permutations,
        min_images=settings.min_images,
    )
    findings, small = [], dict[str, float]()
    for at, outcome in enumerate(outcomes):
        table = _Table(groups, search, at, outcome)
        for name, difference in table.smaller(settings.min_difference).items():
            small[name] = max(difference, small.get(name, 0.0))
        candidates = table.candidates(settings.min_difference)
        pairs = explain_away(compared, outcome.outcome, candidates, search.critical)
        for group, also in _explained([g.name for g in groups], pairs):
            findings.append(_finding(table, group, also, names, settings, seen))
    for outcome, large in zip(outcomes, search.tested, strict=True):
        if outcome.kind == "no_prediction":
            continue  # a value without any prediction was not tested for errors
        names_of_large = {groups[at].name for at in np.flatnonzero(large).tolist()}
        tested.setdefault(outcome.kind, Counter()).update(names_of_large)
    found = list(_without_opposites(findings))
    return found, tested, {name: d for name, d in small.items() if all(f.row["name"] != name for f in found)}


def _without_opposites(findings: Sequence[GroupFinding]) -> Iterator[GroupFinding]:
    """Yield the findings, but not that images of other labels lack what images of a label have.

    If images of each of two labels lack the other label, only the larger difference is a finding.
    """
    of_labels = {f.row["name"] for f in findings if f.row["outcome"] == "label"}
    pairs = set[frozenset[str]]()
    for finding in sorted(findings, key=lambda f: -f.row["difference_lo"]):
        name, bare = finding.row["name"], finding.row["name"].removeprefix("no ")
        if lacks_a_label(finding.row):
            pair = frozenset({finding.row["class_name"], name.removeprefix(LACKING)})
            yield from () if pair in pairs else (finding,)
            pairs.add(pair)
        elif finding.row["outcome"] != "label" or bare == name or bare not in of_labels:
            yield finding


def lacks_a_label(row: Row) -> bool:
    """Return whether a finding is that images of a label do not show another label."""
    return row["outcome"] == "label" and bool(row["name"].startswith(LACKING))


def _explained(names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the groups that are findings, each with the names of others that it explains.

    Only the best of several ranges of one measurement is a finding.
    """
    best: dict[str, int] = {}
    for group, by in pairs:
        if by < 0:
            best.setdefault(_measurement(names[group]), group)
    for first in best.values():
        also = (names[g] for g, by in pairs if by == first)
        others = dict.fromkeys(n for n in also if _measurement(n) != _measurement(names[first]))
        distinct = {_measurement(name): name for name in reversed(others)}
        yield first, list(distinct.values())[::-1][:5]


def _measurement(name: str) -> str:
    return name.partition(" ≤")[0].partition(" ≥")[0]


@dataclass(frozen=True, eq=False)
class _Table:
    """The groups of one outcome."""

    groups: Sequence[ImageGroup]
    search: GroupSearch
    at: int
    outcome: NamedOutcome

    @property
    def of_labels(self) -> bool:
        return self.outcome.kind == "label"

    def counts(self) -> npt.NDArray[np.int64]:
        """Return two pairs of counts for each group, shape (2, 2, m). A pair is a total and a part of it.

        For a label, the share of the class's images that are in the group is compared with the share of the
        other images that are in it. A property that identifies a class thus makes a large difference even if
        the class is rare. For other outcomes, the share of images with the event is compared inside and
        outside the group.
        """
        c = self.search.counts[self.at]
        if self.of_labels:
            own, every = c.events + c.events_outside, c.n + c.n_outside
            return np.array([[own, c.events], [every - own, c.n - c.events]])
        return np.array([[c.n, c.events], [c.n_outside, c.events_outside]])

    def smaller(self, min_difference: float) -> dict[str, float]:
        """Return the differences beyond chance that are smaller than the minimum, by group."""
        difference, able = self._differences()
        small = np.flatnonzero(able & (difference > 0) & (difference < min_difference))
        return {self.groups[g].name: float(difference[g]) for g in small.tolist()}

    def candidates(self, min_difference: float) -> Ints:
        """Return the groups in which the outcome is more frequent, starting with the best explanation.

        What images of a label lack comes last, so that it does not explain which labels are together.
        """
        (n, _), (n_outside, _) = self.counts()
        statistic, kinds = self.search.statistic[self.at], [group.kind for group in self.groups]
        difference, able = self._differences()
        able &= difference >= min_difference
        preferred = statistic * np.array([_PREFERRED.get(kind, 1.0) for kind in kinds])
        # A mark is tested only on images that were not searched for it, and the statistic grows with the root
        # of their number, so what the mark does to the contrast of all images would come first. This holds
        # for marks only: frames are measured on all images, and patches may be part of a scene.
        n_each = n + n_outside
        is_tag = np.array([kind == "mark" for kind in kinds])
        preferred *= np.sqrt(np.where(is_tag, n_each.max() / np.maximum(n_each, 1), 1.0))
        order = np.argsort(-np.where(able, preferred, -np.inf), kind="stable")[: int(able.sum())]
        lacks = self.of_labels & np.array([self.groups[g].name.startswith(LACKING) for g in order], bool)
        return np.concatenate([order[~lacks][:_MOST_CANDIDATES], order[lacks][:_MOST_CANDIDATES]])

    def _differences(self) -> tuple[Floats, Bools]:
        """Return the differences of the shares, and which groups can be findings and differ beyond chance."""
        c, p = self.search.counts[self.at], self.search.p[self.at]
        (n, events), (n_outside, events_outside) = self.counts()
        difference = events / np.maximum(n, 1) - events_outside / np.maximum(n_outside, 1)
        kinds = [group.kind for group in self.groups]
        held = c.events / np.maximum(c.events + c.events_outside, 1)
        is_mark = np.array([kind in OVERLAYS for kind in kinds])
        able = (p <= FAMILY_WISE) & (~is_mark | (held >= COVERAGE))
        if self.of_labels:
            # A cluster is a class, more or less. In single-label data, all images of X are "not also X".
            able &= np.array(
                [
                    g.kind != "cluster"
                    and (self.outcome.multi_label or not g.name.startswith(LACKING))
                    and g.class_id != self.outcome.class_id
                    for g in self.groups
                ]
            )
        return difference, able


def _finding(
    table: _Table,
    group: int,
    also: list[str],
    names: Sequence[str],
    settings: GroupSettings,
    seen: Bools,
) -> GroupFinding:
    of, outcome = table.groups[group], table.outcome
    c = table.search.counts[table.at]
    (n, events), (n_outside, events_outside) = table.counts()[:, :, group].tolist()
    (lo, lo_outside), (hi, hi_outside) = wilson_interval([events, events_outside], [n, n_outside])
    difference, *ends = difference_of_shares(
        np.array([[events], [events_outside]]), np.array([[n], [n_outside]])
    )
    class_name = None if outcome.class_id < 0 else names[outcome.class_id]
    row: RowDict = {
        "outcome": outcome.kind,
        "class_id": None if outcome.class_id < 0 else outcome.class_id,
        "class_name": class_name,
        "kind": of.kind,
        "name": of.name,
        "n_images": int(of.inside.sum()),
        "n_other": _n_other(table, of) if outcome.class_id >= 0 else None,
        **{"n": n, "events": events, "share": events / n, "lo": lo, "hi": hi},
        **{
            "n_outside": n_outside,
            "events_outside": events_outside,
            "share_outside": events_outside / n_outside,
        },
        **{"lo_outside": lo_outside, "hi_outside": hi_outside},
        "expected": None if table.of_labels else float(c.expected[group] / n),
        **{"difference": float(difference[0])},
        **{name: float(end[0]) for name, end in zip(("difference_lo", "difference_hi"), ends, strict=True)},
        "p": float(table.search.p[table.at, group]),
        "also": also,
    }
    row["sentence"] = group_sentence(row, outcome, of.phrase, settings.min_confidence)
    counted = outcome.outcome.counts & of.inside & ~(seen & of.is_searched)
    examples, n_events = _examples(counted, outcome.outcome.event, settings.seed)
    return GroupFinding(row, of.inside, examples, n_events, of.mark)


def _n_other(table: _Table, group: ImageGroup) -> int:
    """Return the number of images of other classes in a group."""
    of = table.outcome.outcome
    if table.of_labels:
        other = ~of.event
    elif table.outcome.multi_label:
        other = np.full(len(of.event), table.outcome.kind == "called")
    else:
        other = of.stratum != table.outcome.class_id
    return int((group.inside & of.counts & other).sum())


def _examples(counted: Bools, event: Bools, seed: int) -> tuple[Ints, int]:
    """Return images of a group to show, drawn at random, with the event first."""
    rng = np.random.default_rng(seed)
    with_event, rest = (
        rng.permutation(np.flatnonzero(counted & (event == flag)))[:PHOTOGRAPHS_EACH]
        for flag in (True, False)
    )
    return np.concatenate([with_event, rest])[:PHOTOGRAPHS_EACH], len(with_event)


def may_be_the_class(row: Row) -> bool:
    """Return whether a mark is only on images of the class, so that it may be part of the class itself."""
    return row["kind"] == "mark" and row["outcome"] == "label" and row.get("events_outside") == 0


def group_sentence(row: RowDict, outcome: NamedOutcome, phrase: str, min_confidence: float) -> str:
    """Return what was found, in one sentence."""
    n, name = f"{row['n']:,}", row["class_name"]
    inside, outside = (_percent(row[share]) for share in ("share", "share_outside"))
    right, right_outside = (_percent(1 - row[share]) for share in ("share", "share_outside"))
    predicted = f"predicted as {name}{' (at its F1 threshold)' if outcome.has_thresholds else ''}"
    which = f"Images {phrase.replace('also show', 'show') if outcome.multi_label else phrase}"
    if row["outcome"] == "error":
        return f"{which}: {right} of {n} are right, compared with {right_outside} of other images."
    if row["outcome"] == "sure_error":
        wrong = f"wrong with a confidence of {min_confidence:g} or more"
        return f"{which}: {inside} of {n} are {wrong}, compared with {outside} of other images."
    if row["outcome"] == "no_prediction":
        return f"{which}: {inside} of {n} have no predicted class, compared with {outside} of other images."
    if row["outcome"] == "called":
        where = f"Images {f'without {name}' if outcome.multi_label else 'of other classes'} {phrase}"
        return f"{where}: {inside} of {n} are {predicted}, compared with {outside} of the rest."
    if row["outcome"] == "missed":
        own, are = f"images of {name}", predicted if outcome.has_thresholds else "right"
        return f"I{own[1:]} {phrase}: {right} of {n} are {are}, compared with {right_outside} of other {own}."
    without = f"without {name}{' (answered no)' if outcome.masked else ''}"
    others = f"{outside} of images {without if outcome.multi_label else 'with other labels'}"
    if row["kind"] in ("mark", "patch") and not row["name"].startswith("no "):
        mark = phrase.removeprefix("with ")
        found = f"{mark[0].upper()}{mark[1:]} was found on {row['events']:,} of the {n} images of {name}"
        itself = "the class itself, or be " if row["kind"] == "patch" or may_be_the_class(row) else ""
        return (
            f"{found} that were counted ({inside}), compared with {others}. It may be {itself}missed where "
            "it is rotated or shifted."
        )
    are = phrase.replace("that do not also", "do not") if lacks_a_label(row) else f"are images {phrase}"
    return f"{inside} of {n} images of {name} {are}, compared with {others}."


def _percent(share: float) -> str:
    """Return a share in percent, with decimals if it would be rounded to 0 or 100 % otherwise."""
    texts = (f"{100 * share:.{decimals}f}" for decimals in range(5))
    return f"{next((text for text in texts if float(text) not in (0, 100)), f'{100 * share:.0f}')} %"


def unseen_half(n: int, seed: int, cluster: Ints | None = None) -> Bools:
    """Return whether each image is in the half that is searched for patterns; clusters are not divided."""
    of = np.arange(n) if cluster is None else cluster
    size = np.bincount(of)
    order = np.random.default_rng([seed, 1]).permutation(len(size))
    seen = np.zeros(len(size), bool)
    seen[order[np.cumsum(size[order]) <= n // 2]] = True
    return seen[of]


def of_model(findings: Sequence[GroupFinding], dataset: str, model: str | None) -> list[GroupFinding]:
    """Return findings with data set and model."""
    return [replace(f, row={"dataset": dataset, "model": model, **f.row}) for f in findings]


def with_models_in_sentences(findings: Sequence[GroupFinding]) -> list[GroupFinding]:
    """Return the findings, with the model's name prefixed to the sentence of each that is about a model."""
    named = ({**f.row, "sentence": f"{f.row['model']}: {f.row['sentence']}"} for f in findings)
    return [
        f if f.row["model"] is None else replace(f, row=row) for f, row in zip(findings, named, strict=True)
    ]


OBJECTS, LABELS = "objects.parquet", "labels.parquet"
"""The files, in the folder of the output."""

_BOXES = pa.schema(
    [schema("objects").field(name) for name in ("image_id", "class_id", "x1", "y1", "x2", "y2", "ignore")]
)


@dataclass(frozen=True, eq=False)
class MarkedImages:
    """The marks that findings are about, as objects and as further classes of the label sets."""

    objects: Objects
    labels: Labels

    def write(self, folder: Path, run: Run) -> list[Path]:
        """Write both files."""
        objects = write_objects(self.objects, folder / OBJECTS, call=run.call)
        return [objects, write_labels(self.labels, folder / LABELS, call=run.call)]


def marked_images(
    findings: Sequence[GroupFinding], labels: Labels, classes: ClassList | None, measured: Sequence[bool]
) -> MarkedImages | None:
    """Return the frames, tags and bands of findings with the images that have them; None if there are none.

    Parameters
    ----------
    classes : ClassList, optional
    measured : sequence of bool, length n
        Whether each photograph was measured; the marks of a photograph that was not measured are unknown.
    """
    marks = list({f.mark.name: f.mark for f in findings if f.mark is not None}.values())
    if not marks:
        return None
    own = classes or from_keys([str(i) for i in range(labels.n_classes)])
    both = from_keys([*own.keys, *(mark.name for mark in marks)], own.name)
    both = replace(both, names=(*own.names, *(mark.name for mark in marks)))
    mains = sorted({f.row["class_id"] for f in findings if f.mark and f.row["class_id"] is not None})
    sets = label_sets(labels)
    states = _states(sets, labels.are_original, mains, marks, np.asarray(measured, bool))
    images, listed = np.nonzero(states)
    columns = {
        "image_id": labels.image_id,
        "label": pa.array(sets.label, pa.int32(), mask=sets.label < 0),
        "rated": [not labels.are_original] * len(sets),
        "usable": pa.array(sets.usable),
        **state_lists(np.bincount(images, minlength=len(sets)), listed, states[images, listed] - NO),
    }
    found = Labels(pa.table(columns), len(both), both.hash, True, labels.name, both)
    ids = labels.image_id.to_pylist()
    rows = list(itertools.chain(*(_rows(mark, len(own) + i, ids) for i, mark in enumerate(marks))))
    table = pa.Table.from_pylist(rows).cast(_BOXES)
    objects = Objects(table, both.keys, both.hash, name=labels.name)
    return MarkedImages(objects, found)


def _rows(mark: Mark, class_id: int, ids: Sequence[str]) -> Iterator[Row]:
    for row in np.flatnonzero(mark.inside).tolist():
        for x1, y1, x2, y2 in mark.boxes(row).tolist():
            box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            yield {"image_id": ids[row], "class_id": class_id, **box, "ignore": False}


def _states(
    sets: LabelSets,
    are_original: bool,
    mains: Sequence[int],
    marks: Sequence[Mark],
    measured: Bools,
) -> Bytes:
    """Return the state of each class and mark on each image.

    An original label is the only valid one of the classes of findings. Label sets stay as they are; their
    unlisted classes are *no* explicitly where they count as *no*, because the marks of photographs that were
    not measured are the only classes that nobody was asked about.
    """
    unlisted = NOT_ASKED if are_original else sets.unlisted
    states = np.full((len(sets), sets.n_classes + len(marks)), unlisted, np.uint8)
    if are_original:
        states[np.ix_(sets.label >= 0, np.array(mains, np.intp))] = NO
    states[sets.rows, sets.classes] = sets.state
    for i, mark in enumerate(marks, sets.n_classes):
        states[:, i] = np.where(measured, np.where(mark.inside, YES, NO), NOT_ASKED)
    return states
