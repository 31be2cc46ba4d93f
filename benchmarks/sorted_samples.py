"""Fifty sorted errors to look at: contact sheets, and what was seen, as a Markdown table.

The photographs are those of ``../shared/data/samples``, one of each class of ImageNet. First predict them::

    manyhot predict ../shared/data/samples/samples.tar --labels ../shared/data/samples/index.csv \
        --model efficientnet-lite0 --embeddings --out samples

Then ``python benchmarks/sorted_samples.py samples``. Verdicts stand in ``sorted_samples.csv``: of each image
the kind that the rules gave, and the one that somebody gave who looked at it. With ``--sheets FOLDER`` the
sheets are drawn, to look again.
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
from collections import Counter
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

import manyhot  # noqa: E402
from manyhot import catalog  # noqa: E402
from manyhot.classes import class_list  # noqa: E402
from manyhot.pipeline.similar import neighbours_of  # noqa: E402

VERDICTS = Path(__file__).with_suffix(".csv")
ASKED = VERDICTS.with_name("confident_samples.csv")
SAMPLES = common.REPO.parent / "shared" / "data" / "samples" / "samples.tar"
DRAWN, SEED, ACROSS, DOWN = 50, 0, 6, 3


def sorted_errors(folder, asked=None):
    """Return all errors on the photographs, sorted.

    `asked` tells whether the predicted class is in a photograph: yes, unclear or no by image id; without it
    only the original labels are known.
    """
    images = manyhot.read_images(folder / "images.parquet")
    predictions = manyhot.read_predictions(folder / "efficientnet-lite0.parquet")
    best = dict(zip(predictions.image_id.to_pylist(), predictions.classes[:, 0].tolist(), strict=True))
    asked = asked or {}
    pairs = list(zip(images.image_id.to_pylist(), images.label.to_pylist(), strict=True))
    table = pa.table(
        {
            "image_id": images.image_id,
            "label": images.label,
            "usable": [True] * len(pairs),
            "classes": [[label, best[i]] if i in asked else [label] for i, label in pairs],
            "state": [["yes", asked[i]] if i in asked else ["yes"] for i, _ in pairs],
        }
    )
    similar, neighbours = neighbours_of(folder, None)
    return manyhot.diagnose_errors(
        manyhot.Labels(table, 1000, class_list().hash, asked_known=True, name="samples"),
        predictions,
        together=manyhot.read_labels(catalog.fetch_file("imagenet-real", "real.json")),
        similar=similar,
        neighbours=neighbours,
    ).table.to_pylist()


def drawn(errors):
    """Return fifty errors, drawn at random."""
    picked = np.random.default_rng(SEED).choice(len(errors), DRAWN, replace=False)
    return [errors[i] for i in sorted(picked)]


def print_with_sets(folder):
    """Print what becomes of the kinds once somebody was asked whether the predicted classes are there."""
    with ASKED.open(newline="", encoding="utf-8") as file:
        asked = {row["image_id"]: row["there"] for row in csv.DictReader(file)}
    with VERDICTS.open(newline="", encoding="utf-8") as file:
        seen = {row["image_id"]: row["by_eye"] for row in csv.DictReader(file)}
    errors = sorted_errors(folder, asked)
    right = sum(seen.get(error["image_id"]) == error["kind"] for error in errors)
    counts = Counter(error["kind"] for error in errors)
    print(f"\nWith label sets: {right} of {len(seen)} right; {dict(counts.most_common())}")


def print_verdicts(errors):
    """Print how many kinds were right, and what the others are, from the verdicts written down."""
    with VERDICTS.open(newline="", encoding="utf-8") as file:
        seen = {row["image_id"]: row for row in csv.DictReader(file)}
    for error in errors:
        row = seen.get(error["image_id"])
        if row is None or row["kind"] != error["kind"]:
            raise SystemExit(
                f"{error['image_id']} is {error['kind']} now: look at the sheets, and write it down"
            )
    print("| kind | errors | right | what the others are |\n| --- | --- | --- | --- |")
    for kind in dict.fromkeys(sorted(row["kind"] for row in seen.values())):
        eyes = Counter(row["by_eye"] for row in seen.values() if row["kind"] == kind)
        others = ", ".join(f"{n} {other}" for other, n in eyes.most_common() if other != kind)
        print(f"| `{kind}` | {eyes.total()} | {eyes[kind]} | {others} |")
    right = sum(row["kind"] == row["by_eye"] for row in seen.values())
    print(f"| all | {len(seen)} | {right} | |")


def draw_sheets(errors, folder):
    """Write the photographs with label, prediction and kind, eighteen a sheet."""
    from PIL import Image, ImageDraw, ImageFont

    names, font = class_list().names, ImageFont.load_default(13)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(SAMPLES) as archive:
        members = {Path(m.name).name: m for m in archive.getmembers()}
        for start in range(0, len(errors), ACROSS * DOWN):
            sheet = Image.new("RGB", (310 * ACROSS, 300 * DOWN), "white")
            draw = ImageDraw.Draw(sheet)
            for i, error in enumerate(errors[start : start + ACROSS * DOWN]):
                x, y = i % ACROSS * 310, i // ACROSS * 300
                picture = archive.extractfile(members[Path(error["image_id"]).name]).read()
                image = Image.open(io.BytesIO(picture)).convert("RGB")
                image.thumbnail((300, 225))
                sheet.paste(image, (x + 5, y + 2))
                said = f"{names[error['class_b']]} ({error['confidence']:.0%})"
                for j, text in enumerate((f"{start + i + 1}. {names[error['label']]}", said, error["kind"])):
                    draw.text((x + 5, y + 230 + 16 * j), text, fill="black", font=font)
            sheet.save(folder / f"sheet-{start // (ACROSS * DOWN) + 1}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheets", type=Path)
    arguments = parser.parse_args()
    found = sorted_errors(arguments.folder)
    errors = drawn(found)
    print(f"{len(errors)} of {len(found)} errors\n")
    if arguments.sheets:
        draw_sheets(errors, arguments.sheets)
    print_verdicts(errors)
    if ASKED.is_file():
        print_with_sets(arguments.folder)


if __name__ == "__main__":
    main()
