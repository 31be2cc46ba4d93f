"""How often is the kind of an error true by eye, on photographs with all their labels? Two blind judges.

First the features of VOC, as for heads.py, by three networks; then the sheets, and what the judges answered::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 \
        --model efficientnet-lite2 --model squeezenet --embeddings --out features/voc
    python benchmarks/sorted_voc.py sheets features --out judges
    python benchmarks/sorted_voc.py verdicts sorted_voc_first.csv sorted_voc_second.csv
    python benchmarks/sorted_voc.py clusters features

The photographs are split into halves. The rules were looked at on the *tuning* half, which has all
photographs of earlier lookings (``--half tuning``: heads fitted on one half of that half, their errors on the
other). The *reporting* half has errors of six heads, a softmax and sigmoids on three networks, fitted on the
tuning half, with a confidence above 0.5. They are sorted by the label sets; classes that occur together are
counted on the tuning half; superclasses are WordNet's, by the names of the classes. Of each kind, up to 50
pairs of a photograph and a prediction are drawn at random. After these were judged, 150 more model failures
were drawn, for two more judges::

    python benchmarks/sorted_voc.py sheets features --out more --seed 2 --number 150 --kind model-failure \
        --without sorted_voc.csv --key sorted_voc_more.csv
    python benchmarks/sorted_voc.py verdicts sorted_voc_more_first.csv sorted_voc_more_second.csv \
        --key sorted_voc_more.csv

A judge sees the photograph, its label set without the predicted class (which would tell the answer), the
prediction, and the question of ``QUESTIONS`` that is true if the kind is. One row in five is a *control*: the
question of another kind, which the label sets answer with no. A judge writes ``number,answer`` with the
answers true, false and can't tell. An error counts as true if both judges say so: can't tell is not true.

``sheets`` writes the drawn rows to ``sorted_voc.csv``, away from the sheets; ``verdicts`` needs nothing else.
``clusters`` prints which superclasses confusions give if the names of the classes say nothing.
Time: 40 s, and 25 sheets to look at.
"""

from __future__ import annotations

import argparse
import csv
import io
import textwrap
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import common

common.quiet()

import heads  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from manyhot import diagnose_errors  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.core.share_intervals import wilson_interval  # noqa: E402
from manyhot.tables import Predictions  # noqa: E402
from manyhot.train.heads import fit_sigmoid, fit_softmax  # noqa: E402

KEY = Path(__file__).with_suffix(".csv")
PHOTOGRAPHS = common.REPO.parent / "shared" / "data" / "voc" / "images.parquet"
DRAWN, MIN_CONFIDENCE, PENALTY = 50, 0.5, 3e-3
ACROSS, DOWN, SIDE, LINES = 4, 3, 364, 10
REACH = {"co-occurrence": 0.65}
OTHERS = 0.80
NETWORKS = ("efficientnet-lite0", "efficientnet-lite2", "squeezenet")
ANSWERS = ("true", "false", "can't tell")
COLUMNS = ("number", "kind", "control", "image_id", "labels", "companion", "predicted", "question")

INSTRUCTION = """Each sheet has up to twelve photographs. Below each are its number, its labels, a prediction
and a question. Answer every question by what you see in the photograph. The labels are those of a data set:
they are mostly right, but small things can be missing, and the predicted class is never listed, even if it is
a label. Write a CSV file with the columns number,answer and one row for each number of questions.csv. An
answer is: true, if the whole sentence is right; false, if any part of it is wrong; can't tell, if the
photograph does not show it. Judge alone: look at no other file, and at no other judge's answers."""

QUESTIONS = {
    "valid-label": "Is a {x} in the picture? Any size counts, also one that is cut off, partly hidden or in "
    "the background.",
    "unclear": "Is it a matter of opinion whether to label the picture {x}: is there something that is, or "
    "could well be, a {x}, of which only a part or little is seen (small, cut off, hidden, dark), or that "
    "some would call otherwise? (False if a whole {x} is plainly in view, or nothing that could be one.)",
    "fine-grained": "Is this right: there is a {a} but no {x}, and both are sorts of one thing (two "
    "vehicles, two hoofed farm animals, two seats)?",
    "co-occurrence": "Is this right: there is a {a} but no {x}; a {x} is often seen together with a {a}, "
    "more often than in most photographs, and the scene is one in which a {x} would not surprise?",
    "model-failure": "Is this right: there is no {x}, not even a small or hidden one; nothing that is of the "
    "same sort as a {x} (a bus and a car are of one sort, so are a sheep and a cow; a cat and a dog are "
    "not); and no more reason to expect a {x} here than in most photographs?",
}
"""What is true if the kind is; {x} is the predicted class, {a} the class that the rule names."""

ANIMALS = {"bird", "cat", "cow", "dog", "horse", "sheep"}
VEHICLES = {"aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"}
PLAIN, LARGE = 0.05, 0.25
"""Areas of an object, as shares of the photograph, from which on one sees it, and cannot doubt it."""


def halves(data, half):
    """Return pairs of photographs to fit on and photographs to judge, of a half."""
    rest = np.flatnonzero(~data.held_out)  # earlier lookings were at the held-out ones
    n = len(data.label)
    reporting = np.zeros(n, bool)
    reporting[np.random.default_rng(0).permutation(rest)[: n // 2]] = True
    tuning = np.flatnonzero(~reporting)
    if half == "reporting":
        return [(tuning, np.flatnonzero(reporting))]
    mixed = np.random.default_rng(1).permutation(tuning)
    one, other = np.sort(mixed[: len(mixed) // 2]), np.sort(mixed[len(mixed) // 2 :])
    return [(one, other), (other, one)]


def predictions(data, features, fit, judged):
    """Yield the predictions of two heads on each network."""
    ids = data.images["image_id"].take(judged)
    for network in NETWORKS:
        vectors = np.load(features / "voc" / "embeddings" / f"{network}.npy")
        softmax = fit_softmax(vectors[fit], data.label[fit], data.classes, "-", penalty=PENALTY)
        # In core.sets, 0 stands for a class that was not asked about.
        sigmoid = fit_sigmoid(vectors[fit], data.state[fit] + 1, data.classes, "-", penalty=PENALTY)
        for kind, scores in (
            ("logit", softmax.logits(vectors[judged])),
            ("probability", sigmoid.probabilities(vectors[judged]).astype(np.float32)),
        ):
            yield Predictions(
                pa.array(ids.to_pylist()),
                f"{network}-{kind}",
                scores=scores,
                score_kind=kind,
                n_classes=len(data.classes),
                class_hash=data.classes.hash,
                class_list=data.classes,
            )


def sorted_errors(features, half):
    """Return the errors, one for each pair of a photograph and a prediction, by kind."""
    data = heads.voc(features / "voc")
    kinds = {kind: {} for kind in QUESTIONS}
    for fit, judged in halves(data, half):
        labels = replace(data.labels(judged.tolist()), class_list=data.classes)
        models = [*predictions(data, features, fit, judged)]
        found = diagnose_errors(
            labels,
            models,
            min_confidence=MIN_CONFIDENCE,
            cooccurrence_labels=data.labels(fit.tolist()),
        )
        for error in found.table.to_pylist():
            kinds[error["kind"]][error["image_id"], error["name_b"]] = error
    return {kind: [errors[pair] for pair in sorted(errors)] for kind, errors in kinds.items()}


def print_clusters(features):
    """Print the superclasses of the reporting half if the names of the classes say nothing."""
    data = heads.voc(features / "voc")
    data = replace(data, classes=from_keys([f"{name} of VOC" for name in data.classes.names], "voc"))
    for fit, judged in halves(data, "reporting"):
        models = [*predictions(data, features, fit, judged)]
        found = diagnose_errors(replace(data.labels(judged.tolist()), class_list=data.classes), models)
        print(found.superclasses, *(note for note in found.notes if "clusters" in note), sep="\n")


def apart(error):
    """Return whether one of label and prediction is an animal, and the other a vehicle."""
    pair = {error["label_name"], error["name_b"]}
    return bool(pair & ANIMALS) and bool(pair & VEHICLES)


def controls(errors):
    """Return for each kind errors of other kinds, of which its question is false by the label sets."""
    area = areas()
    failures = [e for e in errors["model-failure"] if apart(e)]
    there = {
        least: [e for e in errors["valid-label"] if area[e["image_id"], e["name_b"]] >= least]
        for least in (PLAIN, LARGE)
    }
    return {
        "valid-label": failures,
        "unclear": [*there[LARGE], *failures],
        "fine-grained": failures,
        "co-occurrence": failures,
        "model-failure": [*there[PLAIN], *errors["fine-grained"]],
    }


def areas():
    """Return the area of the largest object of each class that VOC does not call difficult."""
    area = defaultdict(float)
    objects = pq.read_table(PHOTOGRAPHS.with_name("annotations.parquet")).to_pylist()
    for thing in (one for one in objects if not one["difficult"]):
        pair = thing["image_id"], thing["class"]
        area[pair] = max(area[pair], thing["area"])
    return area


def photographs():
    columns = ["image_id", "jpeg", "labels", "label_largest"]
    return {row["image_id"]: row for row in pq.read_table(PHOTOGRAPHS, columns=columns).to_pylist()}


def draws(features, half, seed, most, kinds, before):
    """Return the rows that judges see, shuffled: up to `most` errors a kind, a control for each four."""
    rng, errors, rows = np.random.default_rng(seed), sorted_errors(features, half), []
    print({kind: len(found) for kind, found in errors.items()})
    images, others = photographs(), controls(errors)
    used = {(row["image_id"], row["predicted"]) for path in before for row in read(path)}
    for kind in kinds:
        found = [e for e in errors[kind] if (e["image_id"], e["name_b"]) not in used]
        drawn = [found[i] for i in rng.permutation(len(found))[:most]]
        used |= {(e["image_id"], e["name_b"]) for e in drawn}
        rows += [(kind, "", e) for e in drawn]
    for kind, found in ((kind, others[kind]) for kind in kinds):
        n = -(-sum(own == kind for own, control, _ in rows if not control) // 4)
        fresh = [e for e in found if (e["image_id"], e["name_b"]) not in used]
        chosen = [fresh[i] for i in rng.permutation(len(fresh))[:n]]
        used |= {(e["image_id"], e["name_b"]) for e in chosen}
        rows += [(kind, e["kind"], e) for e in chosen]
    order = rng.permutation(len(rows))
    return [row_of(number, *rows[i], images) for number, i in enumerate(order, 1)]


def row_of(number, kind, control, error, images):
    x = error["name_b"]
    a = (not control and error["name_a"]) or error["label_name"]
    labels = [name for name in images[error["image_id"]]["labels"] if name != x]
    question = QUESTIONS[kind].format(x=x, a=a)
    cells = (number, kind, control, error["image_id"], " ".join(labels), a, x, question)
    return dict(zip(COLUMNS, cells, strict=True))


def draw_sheets(rows, out):
    """Write the photographs with their questions, and a table of these to fill in."""
    from PIL import Image, ImageDraw, ImageFont

    images, font = photographs(), ImageFont.load_default(15)
    out.mkdir(parents=True, exist_ok=True)
    shown = ("number", "labels", "predicted", "question", "answer")
    (out / "instruction.txt").write_text(INSTRUCTION + "\n", encoding="utf-8")
    write(out / "questions.csv", shown, [row | {"answer": ""} for row in rows])
    height = SIDE + 18 * LINES
    for first in range(0, len(rows), ACROSS * DOWN):
        sheet = Image.new("RGB", ((SIDE + 8) * ACROSS, height * DOWN), "white")
        draw = ImageDraw.Draw(sheet)
        for place, row in enumerate(rows[first : first + ACROSS * DOWN]):
            x, y = place % ACROSS * (SIDE + 8), place // ACROSS * height
            picture = Image.open(io.BytesIO(images[row["image_id"]]["jpeg"])).convert("RGB")
            scale = SIDE / max(picture.size)
            size = [round(n * scale) for n in picture.size]
            sheet.paste(picture.resize(size, Image.LANCZOS), (x, y))
            labels = row["labels"].replace(" ", ", ") or "nothing else"
            head = f"{row['number']}. labelled {labels}; predicted {row['predicted']}"
            lines = [*textwrap.wrap(head, 50), *textwrap.wrap(row["question"], 50)]
            for i, line in enumerate(lines):
                draw.text((x, y + size[1] + 4 + 17 * i), line, fill="black" if i else "darkred", font=font)
        sheet.save(out / f"sheet-{first // (ACROSS * DOWN) + 1:02d}.png")


def write(path, columns, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def answers_of(path, rows):
    """Return the answers of a judge by number, and stop if one is missing or no answer."""
    answers = {row["number"]: row["answer"].strip().lower() for row in read(path)}
    odd = [row["number"] for row in rows if answers.get(row["number"]) not in ANSWERS]
    if odd:
        raise SystemExit(f"{path}: no answer, or none of {', '.join(ANSWERS)}, to {', '.join(odd)}")
    return answers


def kappa(a, b):
    """Return Cohen's kappa of two lists of answers; NaN if both are always the same one."""
    agree = np.mean([x == y for x, y in zip(a, b, strict=True)])
    chance = sum(a.count(k) * b.count(k) for k in set(a)) / len(a) ** 2
    return (agree - chance) / (1 - chance) if chance < 1 else float("nan")


def print_verdicts(rows, judges):
    """Print how many errors of each kind are true, and how many controls were found out."""
    heads = ("kind", "n", "true by both", "95 % interval", "lower end to reach", "true by each", "kappa")
    heads += ("controls found out",)
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    there = {row["kind"] for row in rows}
    for kind in (*(kind for kind in QUESTIONS if kind in there), None):
        own = [row for row in rows if kind in (row["kind"], None)]
        real, fake = ([r["number"] for r in own if bool(r["control"]) == c] for c in (False, True))
        said = [[judge[number] == "true" for number in real] for judge in judges]
        both, n = sum(map(all, zip(*said, strict=True))), len(real)
        (lo,), (hi,) = wilson_interval([both], [n])
        least = REACH.get(kind, OTHERS)
        reach = f"{least:.0%}, {'reached' if lo >= least else 'missed'}" if kind else ""
        each = ", ".join(str(sum(one)) for one in said)
        agree = kappa(*([judge[r["number"]] for r in own] for judge in judges))
        caught = ", ".join(str(sum(judge[i] == "false" for i in fake)) for judge in judges)
        print(
            f"| {f'`{kind}`' if kind else 'all'} | {n} | {both} | {lo:.0%} to {hi:.0%} | {reach} "
            f"| {each} | {agree:.2f} | {caught} of {len(fake)} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sheets = commands.add_parser("sheets")
    sheets.add_argument("features", type=Path)
    sheets.add_argument("--out", type=Path, required=True)
    sheets.add_argument("--half", choices=("reporting", "tuning"), default="reporting")
    sheets.add_argument("--seed", type=int, default=0)
    sheets.add_argument("--key", type=Path, default=KEY)
    sheets.add_argument("--number", type=int, default=DRAWN, help="of each kind, at most")
    sheets.add_argument("--kind", action="append", choices=QUESTIONS)
    sheets.add_argument(
        "--without", type=Path, nargs="*", default=[], help="keys of rows that were drawn before"
    )
    verdicts = commands.add_parser("verdicts")
    verdicts.add_argument("judges", type=Path, nargs=2)
    verdicts.add_argument("--key", type=Path, default=KEY)
    clusters = commands.add_parser("clusters")
    clusters.add_argument("features", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "clusters":
        print_clusters(arguments.features)
    elif arguments.command == "sheets":
        kinds = arguments.kind or list(QUESTIONS)
        rows = draws(
            arguments.features, arguments.half, arguments.seed, arguments.number, kinds, arguments.without
        )
        write(arguments.key, COLUMNS, rows)
        draw_sheets(rows, arguments.out)
    else:
        rows = read(arguments.key)
        print_verdicts(rows, [answers_of(path, rows) for path in arguments.judges])


if __name__ == "__main__":
    main()
