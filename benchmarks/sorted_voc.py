"""How often is the kind of an error true by eye, on photographs with all their labels? A blind looking.

First the features of VOC, as for heads.py, by two networks::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 --model squeezenet \
        --embeddings --out features/voc
    python benchmarks/sorted_voc.py features

Three heads, fitted on all photographs but the 1,095 held out: a softmax and sigmoids on EfficientNet-Lite0,
and a softmax on SqueezeNet. Their errors on the held-out photographs are sorted by the label sets; classes
that occur together are counted on the others; superclasses are WordNet's, by the names of the classes. Of
each kind, up to 50 pairs of a photograph and a prediction were drawn at random.

``--sheets FOLDER`` draws them in two orders, with label and prediction, without the kind and the label set,
and ``sorted_voc.csv`` has what was seen: who looks gives the first of these that fits. ``valid-label``: the
predicted class is there. ``unclear``: one cannot tell whether it is. ``fine-grained``: it is not, but
another of its kind is, such as a van for a car. ``co-occurrence``: neither is there, and the predicted class
is often beside what is there, or in such a place. ``model-failure``: none of these.

Who looked is a language model that sees pictures, twice, in two orders; nobody else looked, so that the kappa
of both lookings is of one judge with itself. Neither the lift nor the size of groups of related classes was
chosen on these photographs, but on the errors of heads fitted on half of the others. Time: 20 s, and 14
sheets to look at.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import common

common.quiet()

import heads  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from manyhot import diagnose_errors  # noqa: E402
from manyhot.core.share_intervals import wilson_interval  # noqa: E402
from manyhot.tables import Predictions  # noqa: E402
from manyhot.train.heads import fit_sigmoid, fit_softmax  # noqa: E402

SEEN = Path(__file__).with_suffix(".csv")
PHOTOGRAPHS = common.REPO.parent / "shared" / "data" / "voc" / "images.parquet"
KINDS = ("valid-label", "unclear", "fine-grained", "co-occurrence", "model-failure")
DRAWN, SURE = 50, 0.9
PENALTY = 3e-3
ACROSS, DOWN, SIDE, TEXT = 6, 5, 230, 40
REACH = {"co-occurrence": 0.65}
OTHERS = 0.80


def predictions(features, held_out):
    """Yield the predictions of three heads on the held-out photographs."""
    data = heads.voc(features / "voc")
    other = np.load(features / "voc" / "embeddings" / "squeezenet.npy")
    fit = ~data.held_out
    state = data.state[fit] + 1  # of core.sets, 0 stands for a class that was not asked about
    for name, vectors, head in (
        (
            "softmax",
            data.vectors,
            fit_softmax(data.vectors[fit], data.label[fit], data.classes, "-", penalty=PENALTY),
        ),
        ("sigmoid", data.vectors, fit_sigmoid(data.vectors[fit], state, data.classes, "-", penalty=PENALTY)),
        ("squeezenet", other, fit_softmax(other[fit], data.label[fit], data.classes, "-", penalty=PENALTY)),
    ):
        yield Predictions(
            pa.array([data.images["image_id"][int(i)].as_py() for i in held_out]),
            name,
            scores=head.logits(vectors[held_out])
            if head.loss == "softmax"
            else head.probabilities(vectors[held_out]).astype(np.float32),
            score_kind="logit" if head.loss == "softmax" else "probability",
            n_classes=len(data.classes),
            class_hash=data.classes.hash,
            class_list=data.classes,
        )


def sorted_errors(features):
    data = heads.voc(features / "voc")
    held_out = np.flatnonzero(data.held_out)
    labels = replace(data.labels(held_out.tolist()), class_list=data.classes)
    others = data.labels(np.flatnonzero(~data.held_out).tolist())
    return diagnose_errors(labels, [*predictions(features, held_out)], cooccurrence_labels=others)


def draws(features):
    """Return the drawn pairs of a photograph and a prediction with their kinds, and the number of all."""
    found, rng = sorted_errors(features), np.random.default_rng(0)
    kinds = {(e["image_id"], e["name_b"]): e["kind"] for e in found.table.to_pylist()}
    drawn, n = {}, {}
    for kind in KINDS:
        pairs = sorted(pair for pair, own in kinds.items() if own == kind)
        n[kind] = len(pairs)
        some = rng.permutation(len(pairs))[:DRAWN]
        drawn |= {pairs[i]: kind for i in sorted(some)}
    return drawn, n, found


def draw_sheets(features, out):
    """Write the photographs with label and prediction, and a table to fill in what is seen."""
    from PIL import Image, ImageDraw, ImageFont

    drawn, _, _ = draws(features)
    rows = pq.read_table(PHOTOGRAPHS, columns=["image_id", "jpeg", "label_largest"]).to_pylist()
    rows = {row["image_id"]: row for row in rows}
    font = ImageFont.load_default(14)
    out.mkdir(parents=True, exist_ok=True)
    for turn in (1, 2):
        pairs = [sorted(drawn)[i] for i in np.random.default_rng(turn).permutation(len(drawn))]
        with (out / f"seen-{turn}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["number", "image_id", "predicted", "by_eye"])
            writer.writerows([i, *pair, ""] for i, pair in enumerate(pairs, 1))
        for first in range(0, len(pairs), ACROSS * DOWN):
            sheet = Image.new("RGB", ((SIDE + 6) * ACROSS, (SIDE + TEXT) * DOWN), "white")
            draw = ImageDraw.Draw(sheet)
            for place, (image_id, predicted) in enumerate(pairs[first : first + ACROSS * DOWN]):
                x, y = place % ACROSS * (SIDE + 6), place // ACROSS * (SIDE + TEXT)
                image = Image.open(io.BytesIO(rows[image_id]["jpeg"])).convert("RGB")
                scale = SIDE / max(image.size)
                sheet.paste(image.resize([round(n * scale) for n in image.size], Image.LANCZOS), (x, y))
                draw.text(
                    (x, y + SIDE),
                    f"{first + place + 1}. {rows[image_id]['label_largest']}",
                    fill="black",
                    font=font,
                )
                draw.text((x, y + SIDE + 17), f"PREDICTED {predicted}", fill="red", font=font)
            sheet.save(out / f"sheet-{turn}-{first // (ACROSS * DOWN) + 1:02d}.png")


def kappa(a, b):
    """Return Cohen's kappa of two lists of kinds."""
    agree = np.mean([x == y for x, y in zip(a, b, strict=True)])
    chance = sum(a.count(k) * b.count(k) for k in set(a)) / len(a) ** 2
    return (agree - chance) / (1 - chance)


def print_sure(found):
    """Print how many errors of a confidence above 0.9 are valid labels."""
    errors = found.table.to_pylist()
    for model in found.models:
        kinds = [e["kind"] for e in errors if e["model"] == model.model and e["confidence"] > SURE]
        valid = kinds.count("valid-label")
        lo, hi = (end[0] for end in wilson_interval([valid], [len(kinds)]))
        of = f"{valid} of {len(kinds)} errors above {SURE}"
        print(f"- {model.model}: {of} are valid labels ({lo:.0%} to {hi:.0%})")


def compare(features):
    drawn, n, found = draws(features)
    with SEEN.open(newline="", encoding="utf-8") as file:
        seen = {(r["image_id"], r["predicted"]): (r["first"], r["second"]) for r in csv.DictReader(file)}
    for note in found.notes:
        print(f"- {note}")
    print_sure(found)
    print(
        "\n| kind | errors | looked at | true | 95 % interval | lower end to reach | what was seen instead |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    pairs = [pair for pair in drawn if pair in seen]
    for kind in KINDS:
        own = [seen[pair] for pair in pairs if drawn[pair] == kind]
        # A kind is true if it was seen both times.
        true = sum(verdicts == (kind, kind) for verdicts in own)
        (lo,), (hi,) = wilson_interval([true], [len(own)])
        instead = Counter(v for verdicts in own for v in verdicts if v != kind)
        least = REACH.get(kind, OTHERS)
        said = ", ".join(f"{name} {count / 2:g}" for name, count in instead.most_common())
        print(
            f"| `{kind}` | {n[kind]} | {len(own)} | {true} | {lo:.0%} to {hi:.0%} "
            f"| {least:.0%}, {'reached' if lo >= least else 'missed'} | {said} |"
        )
    first, second = (list(turn) for turn in zip(*(seen[pair] for pair in pairs), strict=True))
    rules = [drawn[pair] for pair in pairs]
    print(
        f"\nCohen's kappa: both lookings {kappa(first, second):.2f}, "
        f"rules and first {kappa(rules, first):.2f}, "
        f"rules and second {kappa(rules, second):.2f}; {len(pairs)} errors."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--sheets", type=Path)
    arguments = parser.parse_args()
    if arguments.sheets:
        draw_sheets(arguments.features, arguments.sheets)
    else:
        compare(arguments.features)


if __name__ == "__main__":
    main()
