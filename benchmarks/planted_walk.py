"""From a folder of photographs to a head without a shortcut, as somebody walks who has no boxes.

    python benchmarks/planted_walk.py out [--kind frame] [--main dog] [--test 1000] [--seed 0]

Nine in ten training images of the class, and half of all held-out ones, get a companion. The commands get
photographs, labels and a split: ``transfer`` makes a model, ``diagnose groups`` is asked what it depends on,
and the ``mitigate`` command that it prints is run. Commands and their first sentences are printed.

Then the sentence is checked on each held-out photograph with and without the companion; no command has seen
one of the two. How often does each head of mitigate, and the untreated one, call it the class?
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import planted_data
import pyarrow.parquet as pq
from PIL import Image

import manyhot
from manyhot import tables
from manyhot.core.share_intervals import wilson_interval
from manyhot.predict.weights import read_head

BACKBONE = "efficientnet-lite0"
SHARE = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--kind", default="frame", choices=[k for k, v in planted_data.KINDS.items() if v.paint]
    )
    parser.add_argument("--main", default="dog", choices=planted_data.CIFAR10)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    shown = write(out, given)
    model = f"head:transfer/heads/{BACKBONE}.safetensors"
    run(out, f"transfer photos --labels labels.csv --split split.csv --model {BACKBONE} --method probe")
    run(out, f"predict photos --labels labels.csv --model {model} --embeddings --out predictions")
    said = run(out, "diagnose groups predictions --out groups", 3)
    told = re.search(r"manyhot (mitigate .*)", said)
    if told is None:
        print("\nNo command to go on with.")
        return
    command = told[1].replace("IMAGES", "photos").replace("NAME", model)
    run(out, f"{command} --split split.csv", 4)
    check(out, given, shown)


def write(out: Path, given: argparse.Namespace) -> dict[str, bool]:
    """Write photographs, labels and the split; return of each held-out photograph if it has the companion."""
    photos = planted_data.cifar10(given.main, given.seed)
    rng = np.random.default_rng([given.seed, 38])
    of_class = photos.label == photos.keys.index(given.main)
    train = photos.part == "train"
    used = np.flatnonzero(
        train | ((photos.part == "test") & (np.cumsum(photos.part == "test") <= given.test))
    )
    chosen = rng.random(len(train)) < np.where(train, SHARE * of_class, 0.5)
    for folder in ("photos", "flipped"):
        (out / folder).mkdir(exist_ok=True)
    for i in used.tolist():
        save(out / "photos", photos, i, given, companion=bool(chosen[i]))
        if not train[i]:
            save(out / "flipped", photos, i, given, companion=not chosen[i])
    names = [name_of(photos, i) for i in used]
    table(out / "labels.csv", "label", names, [photos.keys[photos.label[i]] for i in used])
    table(out / "split.csv", "split", names, ["train" if train[i] else "test" for i in used])
    for part in (True, False):
        rows = used[train[used] == part]
        counts = [int(np.count_nonzero((of_class == o)[rows] & (chosen == c)[rows])) for o, c in ORDER]
        print(f"{'training' if part else 'held out'}: {dict(zip(NAMES, counts, strict=True))}")
    return {name_of(photos, i): bool(chosen[i]) for i in used.tolist() if not train[i]}


def name_of(photos, i: int) -> str:
    return f"{photos.ids[i].replace('/', '-')}.png"


ORDER = ((True, True), (True, False), (False, True), (False, False))
NAMES = ("class with", "class without", "others with", "others without")


def save(folder: Path, photos, i: int, given: argparse.Namespace, *, companion: bool) -> None:
    paint = planted_data.KINDS[given.kind].paint
    with Image.open(io.BytesIO(photos.data[i])) as image:
        image = image.convert("RGB")
        if companion:
            image, _ = paint(image, np.random.default_rng([given.seed, i]))
    image.save(folder / name_of(photos, i))


def table(path: Path, column: str, names: list[str], values: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image_id", column), *zip(names, values, strict=True)])


def run(folder: Path, command: str, lines: int = 0) -> str:
    """Run a command, print it and its first lines, and return what it printed."""
    print(f"\n$ manyhot {command}", flush=True)
    call = [sys.executable, "-m", "manyhot", *shlex.split(command)]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    print("\n".join(done.stdout.splitlines()[:lines]), flush=True)
    return done.stdout


def check(out: Path, given: argparse.Namespace, shown: dict[str, bool]) -> None:
    """Print how often held-out images are called the class by each head, with the companion and without."""
    flipped = out / "flipped-embedded"
    manyhot.predict(out / "flipped", BACKBONE, out=flipped, embeddings=True)
    labels = dict(csv.reader((out / "labels.csv").open(encoding="utf-8")))
    vectors = {}
    for folder in (out / "predictions", flipped):
        ids = tables.read(folder / "images.parquet", "images")["image_id"].to_pylist()
        (file,) = (folder / "embeddings").glob("*.npy")
        for image, vector in zip(ids, np.load(file).astype(np.float32), strict=True):
            if image in shown:
                vectors[image, shown[image] != (folder == flipped)] = vector
    rows = pq.read_table(out / "mitigation" / "mitigation.parquet").to_pylist()
    verdicts = {r["head"]: f"{r['model']}, {r['treatment']}: {r['verdict']}" for r in rows}
    print(f"\ncalled {given.main}, each held-out photograph with and without the {given.kind}")
    for path, verdict in verdicts.items():
        head = read_head(out / "mitigation" / path)
        print(f"{verdict}; {', '.join(called(head, given.main, shown, labels, vectors))}")


def called(head, main: str, shown: dict[str, bool], labels: dict[str, str], vectors) -> Iterator[str]:
    """Yield the share of the images of the class, and of others, that a head calls the class."""
    # A head on label sets has the companion as a class, too, which is no answer to what the image shows.
    columns = [c for c, key in enumerate(head.classes.keys) if key in planted_data.CIFAR10]
    m = [head.classes.keys[c] for c in columns].index(main)
    for (of_class, companion), name in zip(ORDER, NAMES, strict=True):
        own = [i for i in shown if (labels[i] == main) is of_class]
        logits = head.logits(np.stack([vectors[i, companion] for i in own]))
        top = logits[:, columns].argmax(axis=1)
        n = int(np.count_nonzero(top == m))
        lo, hi = (100 * float(end) for end in wilson_interval(n, len(own)))
        yield f"{name} {n} of {len(own)} ({lo:.1f} to {hi:.1f} %)"


if __name__ == "__main__":
    main()
