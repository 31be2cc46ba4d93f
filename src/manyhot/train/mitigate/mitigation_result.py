"""The tables, terminal output, chapter and pictures of ``manyhot mitigate``: whether a shortcut is gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.console import table_lines
from manyhot.diagnose.page import DiagnosisResult
from manyhot.diagnose.pixels.regions import write_picture
from manyhot.predict.sources.source import decoded_images
from manyhot.predict.weights import Head
from manyhot.registry import register
from manyhot.report.chapter import (
    Album,
    Chapter,
    NextStep,
    Strip,
    StripPicture,
    Tables,
    in_points,
    listing,
    percent,
    picture,
    rows_by,
    rows_of,
    with_ends,
)
from manyhot.report.listings import ColumnHead, Listing, text_heads
from manyhot.tables import Row, RowDict, schema
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, bounds, declare_table, interval
from manyhot.train.mitigate.features import Altered, ImageFeatures, file_slug
from manyhot.train.mitigate.fitting import NONE, TREATMENTS, base_of
from manyhot.train.mitigate.held_out import Pair
from manyhot.train.mitigate.verdict import (
    ABSENT,
    GONE,
    MIN_JUDGED,
    NONE_SHOWN,
    NOT_GONE,
    NOT_JUDGED,
    PARTLY,
    PRESENT,
    REMOVAL_VERDICTS,
    REPLACED,
)

METRIC_LABELS = {
    "lost": "Lost without the companion",
    "lost_fitted": "… by the fill fitted on",
    "flips": "Flip without the companion",
    "recall_gap": "Recall gap",
    "called_with": "Others called the class, companion",
    "called_without": "… without the companion",
    "hallucination_gap": "Hallucination gap",
    "pasted_gap": "Companion pasted, gap",
    "pasted_recall_gap": "Companion pasted on the class, gap",
    "called_pasted": "Others called the class, companion pasted",
    "called_patched": "… patch pasted",
    "patched_gap": "Gap between the two",
    "patched_recall_gap": "Recall gap, companion or patch",
    "copied_logit": "Logit, own minus pasted companion",
    "ap": "Average precision",
    "ap_balanced": "Average precision, balanced",
    "top1": "Top-1, original labels",
    "real1": "ReaL accuracy, label sets",
    "real1_others": "ReaL accuracy, classes other than the companion",
    "accuracy_without": "Accuracy without the companion",
    "accuracy_patched": "… or with a patch on it",
    "map": "Mean average precision",
}

declare_table(
    "mitigation",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the backbone, and whether its head is a softmax or sigmoids"),
        TEXT("treatment", "treatment with which the head was fitted", values=TREATMENTS),
        INT("main", "main class of the pair"),
        INT("companion", "companion of the pair"),
        TEXT("main_name", "name of main"),
        TEXT("companion_name", "name of companion"),
        TEXT.optional(
            "verdict",
            "whether the shortcut is gone, the same for all metrics of the head",
            values=REMOVAL_VERDICTS,
        ),
        TEXT.optional(
            "reason",
            "what decides the verdict: what is left or, if it is *not judged*, what is missing and what to "
            "do; null if the shortcut is gone or was not present",
        ),
        TEXT("metric", "what is measured", values=tuple(METRIC_LABELS)),
        REAL("value", "on images held out"),
        *bounds("lo", "hi", "95 % interval of the value, null without one"),
        *interval(
            "change",
            "value minus the value of the same model without treatment",
            f"{ITS} over images",
            value=REAL.optional,
            ends=REAL.optional,
        ),
        COUNT("n", "number of held-out images that the metric counts"),
        COUNT("n_skipped", "number of held-out images that the metric does not count"),
        TEXT("head", "file of the head, relative to the folder of the table"),
    ),
)


@dataclass(frozen=True, eq=False)
class Mitigation(DiagnosisResult):
    """Heads fitted with and without treatment of a shortcut.

    Attributes
    ----------
    mitigation, mitigation_examples : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES`.
    notes : tuple of str
        Notes about the altered images that were added for fitting, and about skipped images.
    metadata, inputs, written
        As in `Result`.
    """

    NAMES = ("mitigation", "mitigation_examples")

    mitigation: pa.Table
    mitigation_examples: pa.Table = field(default_factory=lambda: schema("mitigation_examples").empty_table())

    def lines(self) -> Iterator[str]:
        """Yield a table for each pair and model, with a column for each treatment."""
        yield from sentences(self.mitigation.to_pylist())
        yield ""
        models = rows_by(self.mitigation.to_pylist(), "main_name", "companion_name", "model")
        for (main, companion, model), rows in models.items():
            n = rows[0]["n"] + rows[0]["n_skipped"]
            yield f"{main}, with and without {companion}; {model}; {n:,} images held out"
            yield from _model_lines(rows)
            yield ""

    def to_json(self) -> dict[str, Any]:
        """Return the rows of the table, and the notes."""
        return {"mitigation": self.mitigation.to_pylist(), "notes": self.notes}


def _model_lines(rows: Sequence[Row]) -> Iterator[str]:
    treatments = list(dict.fromkeys(row["treatment"] for row in rows))
    cells = {(row["metric"], row["treatment"]): row for row in rows}
    table = []
    for metric, label in METRIC_LABELS.items():
        own = [cells[metric, t] for t in treatments if (metric, t) in cells]
        if own:
            values = (_cell(cells[metric, t]) if (metric, t) in cells else "–" for t in treatments)
            counts = list(dict.fromkeys(row["n"] for row in own))
            n = counts if len(counts) == 1 else [row["n"] for row in own]
            table.append((label, *values, " / ".join(f"{count:,}" for count in n)))
    yield from table_lines(("", *treatments, "images"), table)


def _cell(row: Row) -> str:
    if row["metric"].endswith("_logit"):
        return f"{row['value']:+.2f} ({row['lo']:+.2f} to {row['hi']:+.2f})"
    gap = row["metric"].endswith("_gap")
    value, lo, hi = (
        None if row[k] is None else f"{100 * row[k]:{'+' if gap else ''}.1f}" for k in ("value", "lo", "hi")
    )
    return f"{value}{'' if gap else '%'}" + ("" if lo is None else f" ({lo} to {hi})")


STEP_IF_NOT_GONE = NextStep(
    "collect images of each class without the other, and fit again.",
    "manyhot mitigate IMAGES --objects FILE --model NAME --pair CLASS:COMPANION",
)


@register(
    "chapter",
    "mitigation",
    tables=("mitigation", "mitigation_examples"),
    next=NextStep("predict with the new last layer.", "manyhot predict IMAGES --model head:FILE"),
)
def _mitigation(data: Tables, folder: Path, draw: bool) -> Chapter | None:
    rows = rows_of(data, "mitigation")
    if not rows:
        return None
    pairs = rows_by(rows, "main_name", "companion_name")
    lead = (
        *sentences(rows),
        "Treated heads were fitted so that the companion gives no information about the class. All heads "
        "are evaluated on the same held-out images, altered in ways that were not used for fitting. Brackets "
        "contain 95 % intervals. Weigh smaller gaps against the loss of accuracy.",
    )
    treated = tuple(_treated(i, pair, own) for i, (pair, own) in enumerate(pairs.items(), 1))
    return Chapter(
        "mitigation",
        "Mitigation",
        "Mitigation of shortcuts",
        lead,
        (),
        treated,
        albums(data, folder),
        None if all_gone(rows) else STEP_IF_NOT_GONE,
    )


def _treated(i: int, pair: tuple[Any, ...], rows: Sequence[Row]) -> Listing:
    """Return the table of a pair: a row for each metric and model, a column for each treatment."""
    treatments = list(dict.fromkeys(r["treatment"] for r in rows))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for r in rows:
        own = cells.setdefault((str(METRIC_LABELS.get(r["metric"], r["metric"])), r["model"]), {})
        own[r["treatment"]] = with_ends(r["value"], r["lo"], r["hi"], 1)
    heads = (*text_heads("", "Model"), *(ColumnHead(t.capitalize()) for t in treatments))
    lines = [(*key, *(own.get(t, "") for t in treatments)) for key, own in cells.items()]
    return listing(f"treated-{i}", f"{pair[0]} and {pair[1]}", heads, lines, tuple)


_ORDER = (GONE, NOT_JUDGED, PARTLY, REPLACED, NOT_GONE)  # of the last three, a part is surely left


def sentences(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence for each pair and model of a table ``mitigation``: whether its shortcut is gone.

    Heads fitted to label sets have their own sentences, because label sets alone may create or remove a
    shortcut.
    """
    for (main, companion, model), treatments in _by_head(rows).items():
        yield f"{main} and {companion}, {model}: {_sentence(main, companion, treatments)}"


def all_gone(rows: Sequence[Row]) -> bool:
    """Return whether each pair of a table ``mitigation`` has a head without the shortcut."""
    gone: dict[tuple[str, str], bool] = {}
    for (*pair, _), treatments in _by_head(rows).items():
        found = {_verdict(own) for own in treatments.values()}
        key = (pair[0], pair[1])
        gone[key] = gone.get(key, False) or bool(found & {GONE, ABSENT})
    return all(gone.values())


def _by_head(rows: Sequence[Row]) -> dict[tuple[str, str, str], dict[str, dict[str, Row]]]:
    """Return the rows of each pair and model by treatment and metric; heads of label sets are apart."""
    heads: dict[tuple[str, str, str], dict[str, dict[str, Row]]] = {}
    for row in rows:
        labels = "" if base_of(row["treatment"]) == NONE else " on label sets"
        pair = (row["main_name"], row["companion_name"], f"{row['model']}{labels}")
        heads.setdefault(pair, {}).setdefault(row["treatment"], {})[row["metric"]] = row
    return heads


def best_treatment(rows: Sequence[Row]) -> str:
    """Return the treatment with the best verdict among the rows of a pair and model; empty if there is none.

    Among treatments with the same verdict, the one with the smallest sum of gaps is returned. Only gaps with
    the sign of the untreated head's gaps are added, because only these are due to the shortcut. Ties are
    broken by the share of images with the companion that are predicted as the class.
    """
    by_treatment = rows_by(rows, "treatment")
    return _best({name: {row["metric"]: row for row in own} for (name,), own in by_treatment.items()})


def _best(treatments: Mapping[str, Mapping[str, Row]]) -> str:
    def gaps(own: Mapping[str, Row]) -> list[float]:
        few, recall = _few_with(own), "patched_recall_gap"
        others = (*(("patched_gap", "pasted_gap") if few else ()), "hallucination_gap")
        judges = [recall if recall in own else "recall_gap", *[gap for gap in others if gap in own][:1]]
        return [own[gap]["value"] for gap in judges if gap in own]

    # A companion may speak against the class. That it hides some images of the class is not enough.
    start = next(iter(treatments.values()), {})
    sign = -1 if start and _verdict(start) == PRESENT and sum(gaps(start)) < 0 else 1

    def place(name: str) -> tuple[int, float, float]:
        own = treatments[name]
        left = sum(max(sign * gap, 0) for gap in gaps(own))
        name = "called_pasted" if _few_with(own) and "called_pasted" in own else "called_with"
        called = own[name]["value"] if name in own else 0.0
        return _ORDER.index(_verdict(own)), left, sign * called

    treated = [n for n, own in treatments.items() if n != base_of(n) and _verdict(own) in _ORDER]
    return min(treated, key=place, default="")


def _few_with(own: Mapping[str, Row]) -> bool:
    """Return whether too few held-out images show the companion alone."""
    return "called_with" not in own or own["called_with"]["n"] < MIN_JUDGED


def _verdict(own: Mapping[str, Row]) -> str:
    return str(next(iter(own.values())).get("verdict"))


def _reason(own: Mapping[str, Row]) -> str:
    """Return what decides the verdict on a head, without the last full stop; earlier tables do not say it."""
    return (next(iter(own.values())).get("reason") or "").rstrip(".")


def _after(mark: str, reason: str) -> str:
    return f"{mark}{reason}." if reason else "."


def _sentence(main: str, companion: str, treatments: Mapping[str, Mapping[str, Row]]) -> str:
    """Return whether there was a shortcut, and whether it is gone with the best treatment."""
    best, start = _best(treatments), treatments[next(iter(treatments))]
    own = treatments.get(best, start)
    shown = _evidence(main, companion, own, start if best else None)
    if _verdict(start) == ABSENT:
        shown = _evidence(main, companion, start)
        return f"the head without treatment shows no shortcut. {shown}"
    if _verdict(start) == NOT_JUDGED:
        return f"{_perhaps(best, own, start)} {shown}".rstrip()
    if not best:
        return f"a shortcut was present, and it is not gone, because no treatment is possible. {shown}"
    perhaps = _reason(own).endswith(NONE_SHOWN)
    partly = "at least partly gone, but perhaps not fully," if perhaps else "not gone, but only partly gone"
    text = {
        GONE: f", and it is gone with {best}",
        PARTLY: f", and it is {partly} with {best}",
        REPLACED: f", and it is not gone, but replaced by the fill with {best}",
        NOT_GONE: f", and it is not gone with {best}",
        NOT_JUDGED: f". Whether it is gone with {best} is not judged",
    }[_verdict(own)]
    return f"a shortcut was present{text}{_after(': ', _reason(own))} {shown}".rstrip()


def _perhaps(best: str, own: Mapping[str, Row], start: Mapping[str, Row]) -> str:
    """Return what is said if the head without treatment is not judged."""
    if best and _verdict(own) == NOT_JUDGED:
        both = f"whether a shortcut was present, and whether it is gone with {best}"
        return f"{both}, is not judged{_after(': ', _reason(own))}"
    after = f"With {best}, " + ("there is none." if _verdict(own) == GONE else f"it is {_verdict(own)}")
    if best and _verdict(own) != GONE:
        after += _after(": ", _reason(own))
    after = after if best else "No treatment is possible."
    return f"whether a shortcut was present is not judged{_after(': ', _reason(start))} {after}"


def _evidence(
    main: str, companion: str, own: Mapping[str, Row], start: Mapping[str, Row] | None = None
) -> str:
    """Return how often other images are called the class, the recall gap, and the accuracy."""
    found = []
    if _few_with(own) and "patched_gap" in own:
        pasted, patched = own["called_pasted"], own["called_patched"]
        found.append(
            f"With {companion} of other held-out images pasted in, {percent(pasted['value'], 1)} of "
            f"{pasted['n']:,} images without {main} are called {main}{_before(start, 'called_pasted')}; with "
            f"a patch of other content, {percent(patched['value'], 1)}."
        )
    elif _few_with(own) and "pasted_gap" in own:
        gap, before = own["pasted_gap"], (start or {}).get("pasted_gap")
        earlier = f", before by {in_points(before['value'], before['lo'], before['hi'], 1)}" if before else ""
        found.append(
            f"If {companion} is pasted into {gap['n']:,} images without {main}, {main} is predicted more "
            f"often by {in_points(gap['value'], gap['lo'], gap['hi'], 1)} points{earlier}."
        )
    elif {"called_with", "called_without"} <= own.keys():
        with_it, without = own["called_with"], own["called_without"]
        found.append(
            f"Images without {main} are called {main} in {percent(with_it['value'], 1)} of "
            f"{with_it['n']:,} cases with {companion}{_before(start, 'called_with')}, and in "
            f"{percent(without['value'], 1)} of {without['n']:,} cases without {companion}."
        )
    if "patched_recall_gap" in own:
        gap = own["patched_recall_gap"]
        shown = in_points(gap["value"], gap["lo"], gap["hi"])
        found.append(
            f"If a patch covers {companion}, {main} is predicted less often on its images by {shown} points."
        )
    elif "recall_gap" in own:
        gap = own["recall_gap"]
        found.append(f"Recall gap {in_points(gap['value'], gap['lo'], gap['hi'])} points.")
    # An answer that names the companion is no evidence that other classes are recognised.
    name = "top1" if "top1" in own else "real1_others"
    if name in own:
        label = {"top1": "Top-1", "real1_others": f"ReaL accuracy of classes other than {companion}"}[name]
        found.append(f"{label} {percent(own[name]['value'], 1)}{_before(start, name)}.")
    name = "accuracy_without"
    if start and {name} <= own.keys() & start.keys() and own[name]["value"] < start[name]["value"]:
        shown = f"{percent(own[name]['value'], 1)}{_before(start, name)}"
        found.append(f"On images without {companion}, the accuracy is {shown}.")
    return " ".join(found)


def _before(start: Mapping[str, Row] | None, name: str) -> str:
    return f" ({percent(start[name]['value'], 1)} before)" if start and name in start else ""


PICTURES = 3
"""Images of each kind of alteration."""

HEAD_EXAMPLES_FOLDER = "examples"

declare_table(
    "mitigation_examples",
    (
        INT("main", "as in mitigation"),
        INT("companion", "as in mitigation"),
        TEXT("main_name", "name of main"),
        TEXT("companion_name", "name of companion"),
        TEXT("model", "as in mitigation"),
        TEXT("treatment", "treatment of the head that gives score_treated"),
        TEXT("image_id", "id of a held-out image"),
        TEXT("alteration", "how the companion was altered", values=("removed", "pasted")),
        REAL("score_untreated", "probability of main on the image, without treatment"),
        REAL("score_treated", "the same for the treated head"),
        REAL("altered_untreated", "probability of main on the altered image, without treatment"),
        REAL("altered_treated", "the same for the treated head"),
        TEXT.optional("before", "path of a picture of the image, relative to the folder of the table"),
        TEXT.optional("after", "path of a picture of the altered image"),
    ),
)


@dataclass(frozen=True)
class Compared:
    """Two heads whose scores for a pair are shown."""

    pair: Pair
    model: str
    treatment: str
    untreated: Head
    treated: Head


def write_examples(images: ImageFeatures, compared: Sequence[Compared], out: Path) -> list[RowDict]:
    """Return the held-out images whose score the companion changes most without treatment; write pictures."""
    examples = [example for one in compared for example in _examples(images, one)]
    by_image: dict[str, list[tuple[int, RowDict, Altered]]] = {}
    for number, (row, altered) in enumerate(examples, 1):
        by_image.setdefault(row["image_id"], []).append((number, row, altered))
    for image_id, pixels in decoded_images(images.predict.source, by_image):
        for number, row, altered in by_image[image_id]:
            for name, shown in (("before", pixels), ("after", altered.alteration(image_id, pixels))):
                if not isinstance(shown, str):
                    row[name] = (
                        f"{HEAD_EXAMPLES_FOLDER}/{number:02}-{file_slug(image_id)}-{row['alteration']}-{name}.jpg"
                    )
                    write_picture(out / row[name], shown)
    return [row for row, _ in examples]


def _examples(images: ImageFeatures, one: Compared) -> Iterator[tuple[RowDict, Altered]]:
    known, (main, companion) = images.labels, one.pair
    names = [known.classes.names[c] for c in one.pair]
    about: RowDict = {"main": main, "companion": companion, "main_name": names[0], "companion_name": names[1]}
    about |= {"model": one.model, "treatment": one.treatment}
    gone = images.removed(companion, known.held & known.both(one.pair), images.other_fill)
    for kind, altered in (("removed", gone), ("pasted", images.judged_by_pasting(one.pair))):
        scores = {
            f"{stem}_{end}": head.probabilities(x)[:, main]
            for stem, x in (("score", images.features[altered.rows]), ("altered", altered.features))
            for end, head in (("untreated", one.untreated), ("treated", one.treated))
        }
        change = np.abs(scores["altered_untreated"] - scores["score_untreated"])
        for i in np.argsort(-change, kind="stable")[:PICTURES].tolist():
            values = {name: float(own[i]) for name, own in scores.items()}
            row = about | {"alteration": kind, "image_id": known.names[altered.rows[i]]} | values
            yield row, altered


def albums(tables_by_name: Tables, folder: Path) -> tuple[Album, ...]:
    """Return the pictures of each pair and model."""
    rows = rows_of(tables_by_name, "mitigation_examples")
    groups = rows_by(rows, "main_name", "companion_name", "model")
    return tuple(
        Album(
            f"heads-{i}",
            f"{main} and {companion}, {model}",
            f"Below each held-out image are the probabilities of {main} without treatment and with "
            f"{own[0]['treatment']}. If the shortcut is gone, the second probability stays the same when "
            "the companion is removed or pasted in.",
            tuple(_strip(row, folder) for row in own),
        )
        for i, ((main, companion, model), own) in enumerate(groups.items(), 1)
    )


def _strip(row: Row, folder: Path) -> Strip:
    def shown(column: str, title: str, untreated: str, treated: str) -> StripPicture:
        text = f"{row['main_name']} {row[untreated]:.2f}, treated {row[treated]:.2f}"
        return picture(folder, row.get(column), title, text)

    companion = row["companion_name"]
    altered = f"without {companion}" if row["alteration"] == "removed" else f"{companion} pasted in"
    pictures = (
        shown("before", "as it is", "score_untreated", "score_treated"),
        shown("after", altered, "altered_untreated", "altered_treated"),
    )
    return Strip(row["image_id"], pictures)
