"""How often is the sorting of errors right? Two lookings at photographs, the second blind.

The photographs are those of ``../shared/data/samples``, one of each class of ImageNet. First predict them::

    manyhot predict ../shared/data/samples/samples.tar --labels ../shared/data/samples/index.csv \
        --model efficientnet-lite0 --model efficientnet-lite1 --model efficientnet-lite2 --embeddings --out samples

Then ``python benchmarks/sorted_samples.py samples`` prints the tables of docs/sorting.md. Two draws of fifty
errors were looked at: ``first``, of EfficientNet-Lite0, and ``fresh``, of Lite0, 1 and 2 on other photographs.
``sorted_samples.csv`` has what was seen in the first draw by one who saw what the rules say;
``sorted_samples_blind.csv`` what was seen in both by one who did not, off sheets that ``--sheets FOLDER``
draws in an order of their own, with label and prediction and without the kind.

Who looks gives the first kind that fits: ``collapsed-pair``, the two names mean one thing; ``valid-label``, the
predicted class is there by its definition, or the right name of what is; ``fine-grained``, the label is right, and the prediction
another of its kind; ``out-of-vocabulary``, what is there has no class; ``co-occurrence``, the prediction is
company of what is there; ``non-prototypical``, an unusual view or specimen; ``model-failure``, none of these.
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
import textwrap
from collections import Counter
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

import manyhot  # noqa: E402
from manyhot import catalog  # noqa: E402
from manyhot.classes import class_list  # noqa: E402
from manyhot.core.sorting import ORDER  # noqa: E402
from manyhot.pipeline.similar import neighbours_of  # noqa: E402

VERDICTS = Path(__file__).with_suffix(".csv")
BLIND = VERDICTS.with_name("sorted_samples_blind.csv")
ASKED = VERDICTS.with_name("confident_samples.csv")
SAMPLES = common.REPO.parent / "shared" / "data" / "samples" / "samples.tar"
MODELS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
DRAWN = 50
ACROSS, DOWN, SIDE = 3, 2, 420


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sorted_errors(folder, asked=None, models=MODELS[:1]):
    """Return all errors on the photographs, sorted.

    `asked` tells whether the class that Lite0 predicts is in a photograph: yes, unclear or no by image id;
    without it only the original labels are known.
    """
    images = manyhot.read_images(folder / "images.parquet")
    predictions = [manyhot.read_predictions(folder / f"{model}.parquet") for model in models]
    ids, best = predictions[0].image_id.to_pylist(), predictions[0].classes[:, 0].tolist()
    best = dict(zip(ids, best, strict=True))
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
    similar, neighbours = neighbours_of(folder, None, model=MODELS[0])
    return manyhot.diagnose_errors(
        manyhot.Labels(table, 1000, class_list().hash, asked_known=True, name="samples"),
        predictions,
        together=manyhot.read_labels(catalog.fetch_file("imagenet-real", "real.json")),
        similar=similar,
        neighbours=neighbours,
    ).table.to_pylist()


def draws(folder):
    """Return the errors of both draws, each drawn at random."""
    first = pick(sorted_errors(folder), 0)
    seen = {error["image_id"] for error in first}
    others = [e for e in sorted_errors(folder, models=MODELS) if e["image_id"] not in seen]
    once = {(e["image_id"], e["class_b"]): e for e in others[::-1]}  # several models, one error
    return {"first": first, "fresh": pick(list(once.values())[::-1], 1)}


def pick(errors, seed):
    picked = np.random.default_rng(seed).choice(len(errors), DRAWN, replace=False)
    return [errors[i] for i in sorted(picked)]


def kappa(a, b):
    """Return Cohen's kappa of two lists of kinds."""
    agree = np.mean([x == y for x, y in zip(a, b, strict=True)])
    chance = sum(a.count(k) * b.count(k) for k in set(a)) / len(a) ** 2
    return (agree - chance) / (1 - chance)


def print_agreement(name, rows, columns, what):
    """Print the confusion of two lists of kinds, what is in columns the judge, and how far they agree."""
    kinds = [k for k in ORDER if k in {*rows, *columns}]
    print(f"\n{name}\n\n| {what} | n | {' | '.join(kinds)} |\n|{' --- |' * (len(kinds) + 2)}")
    count = Counter(zip(rows, columns, strict=True))
    for kind in (k for k in kinds if k in rows):
        cells = (count[kind, other] for other in kinds)
        print(f"| `{kind}` | {rows.count(kind)} | {' | '.join(str(n or '') for n in cells)} |")
    agree = sum(x == y for x, y in zip(rows, columns, strict=True))
    print(f"\n{agree} of {len(rows)} agree, kappa {kappa(rows, columns):.2f}.")


def with_sets(folder, errors, eyes):
    """Return the kinds of errors of Lite0 once somebody was asked whether the predicted classes are there."""
    asked = {row["image_id"]: row["there"] for row in read(ASKED)}
    kind = {error["image_id"]: error["kind"] for error in sorted_errors(folder, asked)}
    return [kind[error["image_id"]] for error in errors]


def compare(folder):
    """Print how far rules and lookings agree."""
    found, blind = draws(folder), {(r["image_id"], int(r["predicted"])): r["by_eye"] for r in read(BLIND)}
    rules, eyes = {}, {}
    for name, errors in found.items():
        rules[name] = [e["kind"] for e in errors]
        eyes[name] = [blind[e["image_id"], e["class_b"]] for e in errors]
    open_eyes = {r["image_id"]: r["by_eye"] for r in read(VERDICTS)}
    seen = [open_eyes[e["image_id"]] for e in found["first"]]
    print_agreement(
        "First fifty, the rules in rows, seen blind in columns:", rules["first"], eyes["first"], "rules"
    )
    print_agreement("Fresh fifty, the same:", rules["fresh"], eyes["fresh"], "rules")
    print_agreement("First fifty, seen openly in rows, blind in columns:", seen, eyes["first"], "seen openly")
    print(f"Rules and what was seen openly: kappa {kappa(rules['first'], seen):.2f}.")
    asked = with_sets(folder, found["first"], eyes["first"])
    print_agreement("First fifty, the rules with label sets:", asked, eyes["first"], "rules")


def draw_sheets(folder, out):
    """Write the photographs with label and prediction, six a sheet, and a table to fill in what is seen."""
    from PIL import Image, ImageDraw, ImageFont

    known, font = class_list(), ImageFont.load_default(15)
    out.mkdir(parents=True, exist_ok=True)
    errors = [(draw, error) for draw, found in draws(folder).items() for error in found]
    order = np.random.default_rng(2).permutation(len(errors))
    with tarfile.open(SAMPLES) as archive, (out / "seen.csv").open("w", newline="", encoding="utf-8") as file:
        members = {Path(m.name).name: m for m in archive.getmembers()}
        write = csv.writer(file, lineterminator="\n").writerow
        write(["number", "draw", "model", "image_id", "predicted", "by_eye"])
        for first in range(0, len(errors), ACROSS * DOWN):
            sheet = Image.new("RGB", ((SIDE + 10) * ACROSS, (SIDE + 80) * DOWN), "white")
            draw = ImageDraw.Draw(sheet)
            for place, at in enumerate(order[first : first + ACROSS * DOWN]):
                name, error = errors[at]
                number, x, y = (
                    first + place + 1,
                    place % ACROSS * (SIDE + 10) + 5,
                    place // ACROSS * (SIDE + 80),
                )
                write([number, name, error["model"], error["image_id"], error["class_b"], ""])
                picture = archive.extractfile(members[Path(error["image_id"]).name]).read()
                image = Image.open(io.BytesIO(picture)).convert("RGB")
                scale = SIDE / max(image.size)
                sheet.paste(image.resize([round(n * scale) for n in image.size], Image.LANCZOS), (x, y + 2))
                said = (
                    f"{number}. {known.names[error['label']]}: {known.definitions[error['label']]}",
                    f"PREDICTED {known.names[error['class_b']]}: {known.definitions[error['class_b']]}",
                )
                lines = [line for text in said for line in textwrap.wrap(text, 56, max_lines=2)]
                for i, line in enumerate(lines):
                    draw.text((x, y + SIDE + 4 + 18 * i), line, fill="black", font=font)
            sheet.save(out / f"sheet-{first // (ACROSS * DOWN) + 1:02d}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheets", type=Path)
    arguments = parser.parse_args()
    if arguments.sheets:
        draw_sheets(arguments.folder, arguments.sheets)
    else:
        compare(arguments.folder)


if __name__ == "__main__":
    main()
