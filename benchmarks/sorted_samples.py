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

import manyhot  # noqa: E402
from manyhot import api, catalog  # noqa: E402
from manyhot.classes import class_list  # noqa: E402
from manyhot.pipeline.similar import neighbours_of  # noqa: E402

VERDICTS = Path(__file__).with_suffix(".csv")
SAMPLES = common.REPO.parent / "shared" / "data" / "samples" / "samples.tar"
DRAWN, SEED, ACROSS, DOWN = 50, 0, 6, 3


def drawn_errors(folder):
    """Return fifty findings on the photographs, drawn at random from all errors, and how many there are."""
    images = manyhot.read_images(folder / "images.parquet")
    label = images.label.to_pylist()
    table = api.as_labels([[x] for x in label], n_classes=1000, label=label).table
    table = table.set_column(0, "image_id", images.image_id)
    labels = manyhot.Labels(table, 1000, class_list().hash, name="samples")
    similar, neighbours = neighbours_of(folder, None)
    found = manyhot.diagnose_errors(
        labels,
        manyhot.read_predictions(folder / "efficientnet-lite0.parquet"),
        together=manyhot.read_labels(catalog.fetch_file("imagenet-real", "real.json")),
        similar=similar,
        neighbours=neighbours,
    )
    rows = found.table.to_pylist()
    picked = np.random.default_rng(SEED).choice(len(rows), DRAWN, replace=False)
    return [rows[i] for i in sorted(picked)], len(rows)


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
    errors, n = drawn_errors(arguments.folder)
    print(f"{len(errors)} of {n} errors\n")
    if arguments.sheets:
        draw_sheets(errors, arguments.sheets)
    print_verdicts(errors)


if __name__ == "__main__":
    main()
