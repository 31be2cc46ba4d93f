"""Pictures of what heads are judged by: with and without the companion, before and after treatment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manyhot.core.array_types import Floats
from manyhot.diagnose.pixels.regions import write_picture
from manyhot.predict.sources.source import decoded_images
from manyhot.predict.weights import Head
from manyhot.report.chapter import Album, Strip, StripPicture, picture, rows_of
from manyhot.report.chapter import Tables as Chapters
from manyhot.tables import Row, RowDict
from manyhot.tables.definitions import INT, REAL, TEXT, declare_table
from manyhot.train.mitigate.features import Altered, ImageFeatures, file_slug
from manyhot.train.mitigate.held_out import Pair

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
    """Two heads whose scores of a pair are shown."""

    pair: Pair
    model: str
    treatment: str
    untreated: Head
    treated: Head


def write_examples(images: ImageFeatures, compared: Sequence[Compared], out: Path) -> list[RowDict]:
    """Return the held-out images whose untreated score the companion changes most, and write pictures."""
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
        scores = _scores(images, altered, one)
        change = np.abs(scores[2] - scores[0])
        for i in np.argsort(-change, kind="stable")[:PICTURES].tolist():
            values = dict(zip(_SCORES, (float(s[i]) for s in scores), strict=True))
            row = about | {"alteration": kind, "image_id": known.names[altered.rows[i]]} | values
            yield row, altered


_SCORES = ("score_untreated", "score_treated", "altered_untreated", "altered_treated")


def _scores(images: ImageFeatures, altered: Altered, one: Compared) -> list[Floats]:
    main, before = one.pair[0], images.features[altered.rows]
    return [
        head.probabilities(x)[:, main]
        for x in (before, altered.features)
        for head in (one.untreated, one.treated)
    ]


def albums(tables_by_name: Chapters, folder: Path) -> tuple[Album, ...]:
    """Return the pictures of each pair and model."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows_of(tables_by_name, "mitigation_examples"):
        groups.setdefault((row["main_name"], row["companion_name"], row["model"]), []).append(row)
    return tuple(
        Album(
            f"heads-{i}",
            f"{main} and {companion}, {model}",
            f"Below each held-out image are the probabilities of {main} without treatment and with "
            f"{rows[0]['treatment']}. If the shortcut is gone, the second probability stays the same when "
            "the companion is removed or pasted in.",
            tuple(_strip(row, folder) for row in rows),
        )
        for i, ((main, companion, model), rows) in enumerate(groups.items(), 1)
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
