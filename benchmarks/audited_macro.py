"""Macro average precision from a few answers about photographs of VOC, and the whole way to it as a user.

First the features, a few minutes::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 --model efficientnet-lite2 \
        --embeddings --out features

``python benchmarks/audited_macro.py coverage features [--data voc ranked unranked some] [--draws 1000]
[--sizes 250 412 1000] [--seed 1] [--only classes]`` judges two models again and again. On VOC, they are
logistic regressions on the features, fitted to the other 2,479 photographs, which the seed chooses. The other
data are simulated, 3,000 images of 20 classes with 1 to 20 % positives: in ``ranked``, positives of a class
score higher by 2.5 deviations; in ``unranked``, five classes with ten positives have random scores; in
``some``, two with thirty. Each draw is an audit by a design: ``classes`` (4.4 questions an image, drawn),
``classes, all`` (all 20 questions), ``uniform`` (all 20 questions of a uniform sample), ``rule`` (uniform,
and the top class of each model is asked about, others count as absent). It prints, for both models and their
difference, in points: the bias and the standard deviation of the estimates, their mean standard error, the
coverage and half the median width of the intervals, how often there is one, and the coverage of these. With
``--out FILE.csv``, rows are added to this file, and ``table FILE.csv`` shows them. The committed results,
``audited_macro.csv``, are of seed 202. Choices were made on the seeds below 60.

``python benchmarks/audited_macro.py walk features FOLDER`` goes the whole way as a user without labels: it
draws an audit, lets two raters, who know VOC's truth and err on 5 % of the questions, answer in the running
app, aggregates, and evaluates. It prints the sentence that the terminal says, and the hours.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import secrets
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from scipy.special import expit  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from manyhot import tables, write_predictions  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.core.audit_average_precision import audited_average_precision, doubt_of_classes  # noqa: E402
from manyhot.core.audit_designs import ClassDesign, class_design  # noqa: E402
from manyhot.core.audit_samples import uniform_design  # noqa: E402
from manyhot.core.audited import estimate, side_by_side  # noqa: E402
from manyhot.evaluate.audit_proposals import standard_odds  # noqa: E402
from manyhot.tables import Predictions  # noqa: E402

VOC = common.REPO.parent / "shared" / "data" / "voc" / "images.parquet"
MODELS = ("efficientnet-lite0", "squeezenet")
N_IMAGES = 3000
STRENGTH = 1e-3
SECONDS, RATERS, WRONG = 5.0, 2, 0.05
UNRANKED = {"ranked": (0, 0), "unranked": (5, 10), "some": (2, 30)}
"""Simulated data: number of classes with random scores, and of positives of each."""
OF = ("A", "B", "difference")


@dataclass
class World:
    """Images, their truth, shape (N, C), the scores of each model, and the models' probabilities."""

    keys: list[str]
    rows: np.ndarray
    image_id: list[str]
    truth: np.ndarray
    scores: list[np.ndarray]
    kind: str = "probability"

    @property
    def certain(self) -> np.ndarray:
        """Which classes are the top class of a model."""
        return sum(np.arange(len(self.keys)) == s.argmax(1)[:, None] for s in self.scores) > 0

    @property
    def probability(self) -> np.ndarray:
        """The mean of the models' probabilities."""
        return np.mean([s if self.kind == "probability" else expit(s) for s in self.scores], axis=0)

    def values(self, truth: np.ndarray) -> np.ndarray:
        """Return macro average precision of the models over classes with positives, and the difference."""
        some = truth.any(axis=0)
        a, b = (average_precision_score(truth[:, some], s[:, some], average="macro") for s in self.scores)
        return np.array([a, b, a - b])


def world(features: Path, models: Sequence[str], seed: int = 0) -> World:
    """Fit the models on the photographs that are not audited."""
    table = pq.read_table(VOC, columns=["image_id", "labels"])
    labels = table["labels"].to_pylist()
    keys = sorted({key for own in labels for key in own})
    truth = np.array([[k in own for k in keys] for own in labels])
    order = np.random.default_rng(seed).permutation(len(truth))
    rows, rest = np.sort(order[:N_IMAGES]), np.sort(order[N_IMAGES:])
    scores = []
    for name in models:
        x = np.load(features / "embeddings" / f"{name}.npy").astype(np.float32)
        x = StandardScaler().fit(x[rest]).transform(x)
        heads = [
            LogisticRegression(C=STRENGTH, max_iter=300, tol=1e-3).fit(x[rest], y) for y in truth[rest].T
        ]
        scores.append(np.stack([h.predict_proba(x[rows])[:, 1] for h in heads], 1).astype(np.float32))
    ids = [table["image_id"][int(i)].as_py() for i in rows]
    return World(keys, rows, ids, truth[rows], scores)


def simulated(data: str, seed: int) -> World:
    """Return images of 20 classes, some of which models cannot rank."""
    rng, n_classes = np.random.default_rng(seed), 20
    share, apart = np.geomspace(0.01, 0.2, n_classes), np.full(n_classes, 2.5)
    truth = rng.random((N_IMAGES, n_classes)) < share
    n_random, n_positives = UNRANKED[data]
    for c in range(n_random):
        truth[:, c], apart[c] = False, 0
        truth[rng.choice(N_IMAGES, n_positives, replace=False), c] = True
    first = rng.normal(size=truth.shape) + apart * truth + np.log(share) - 0.3
    scores = [x.astype(np.float32) for x in (first, first + rng.normal(0, 0.7, truth.shape))]
    return World([f"class {c}" for c in range(n_classes)], np.arange(N_IMAGES), [], truth, scores, "logit")


# ── How often intervals hold ──


def designs(w: World, n: int) -> dict[str, ClassDesign]:
    """Return the designs that are compared."""
    drawn = class_design(w.scores, n, certain=w.certain, probability=w.probability)
    every, same = np.ones_like(drawn.asked), uniform_design(N_IMAGES, n)
    return {
        "classes": drawn,
        "classes, all": ClassDesign(drawn.design, every),
        "uniform": ClassDesign(same, every),
        "rule": ClassDesign(same, w.certain.astype(np.float32)),
    }


def audit(w: World, how: ClassDesign, name: str, odds: list[np.ndarray], rng: np.random.Generator) -> Any:
    """Return the estimates of both values and of the difference, if there are intervals, and the questions.

    They are estimated apart, as `evaluate` does: the interval of a difference has more degrees of freedom.
    """
    sample = how.design.draw(rng)
    chance = how.asked[sample.images]
    asked = rng.random(chance.shape) < chance
    answers = w.truth[sample.images] & asked
    values = [
        audited_average_precision(
            answers,
            s >= (0.5 if w.kind == "probability" else 0),
            s,
            sample,
            features=[own, other],
            asked=asked * chance if name.startswith("classes") and how.asked.min() < 1 else None,
        )
        for s, own, other in zip(w.scores, odds, odds[::-1], strict=True)
    ]
    both = side_by_side(values)
    pair = both.differences(np.array([0]), np.array([1]))
    found = [replace(estimate(v, sample, power=1.0), checked=False) for v in (both, pair)]
    doubt = name == "rule" or any(doubt_of_classes(answers, s, sample) for s in w.scores)
    return found, not doubt, asked.sum()


def summary(true: np.ndarray, drawn: list[Any]) -> dict[str, np.ndarray]:
    """Return how both values and their difference do, in points and shares."""
    found, some = [d[0] for d in drawn], np.array([d[1] for d in drawn])
    value, error = (
        np.array([np.append(*(getattr(f, name) for f in both)) for both in found])
        for name in ("value", "error")
    )
    # on the scales on which `evaluate` reports values and pairs
    ends = np.array([np.hstack([v.interval("logit"), pair.interval("plain")]) for v, pair in found])
    held = (ends[:, 0] <= true) & (true <= ends[:, 1])
    return {
        "true": 100 * true,
        "bias": 100 * (value.mean(0) - true),
        "deviation": 100 * value.std(0),
        "error": 100 * error.mean(0),
        "coverage": held.mean(0),
        "half": 50 * np.median(ends[:, 1] - ends[:, 0], axis=0),
        "with": np.full(3, some.mean()),
        "coverage_with": held[some].mean(0) if some.any() else np.full(3, np.nan),
    }


def coverage(w: World, data: str, a: argparse.Namespace) -> None:
    """Print how estimates and intervals do, and add them to a file."""
    true, odds = w.values(w.truth), [standard_odds(s, w.kind) for s in w.scores]
    print(f"{data}: map_macro of A, of B and the difference:", *(f"{100 * v:.2f}" for v in true))
    print("positives of the classes:", *w.truth.sum(0), flush=True)
    for n in a.sizes:
        for name, how in designs(w, n).items():
            if a.only and name not in a.only:
                continue
            rng = np.random.default_rng([a.seed, n])
            drawn = [audit(w, how, name, odds, rng) for _ in range(a.draws)]
            columns = summary(true, drawn)
            print(
                n, name, *(f"{k} {' '.join(f'{x:.3f}' for x in v)};" for k, v in columns.items()), flush=True
            )
            about = {"data": data, "images": n, "design": name, "draws": a.draws, "seed": a.seed}
            about["questions"] = np.mean([d[2] for d in drawn]) / n
            rows = [about | {"of": of} | {k: v[j] for k, v in columns.items()} for j, of in enumerate(OF)]
            if a.out:
                add_rows(a.out, rows)


def add_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    old = list(csv.DictReader(path.open())) if path.exists() else []
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(
            old + [{k: f"{v:.4f}" if isinstance(v, float) else v for k, v in r.items()} for r in rows]
        )


def table(path: Path) -> None:
    """Print a table of the results, in Markdown."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in csv.DictReader(path.open()):
        groups.setdefault((row["data"], row["images"], row["design"], row["questions"]), []).append(row)
    print("| data | images | design | questions an image | bias | ± (median) | coverage | with an interval |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (data, n, design, questions), rows in groups.items():
        bias = ", ".join(f"{float(r['bias']):+.1f}".replace("-", "−") for r in rows)
        half = ", ".join(f"{float(r['half']):.1f}" for r in rows)
        held = ", ".join(f"{100 * float(r['coverage_with']):.1f}" for r in rows)
        share = f"{100 * float(rows[0]['with']):.0f} %"
        about = f"{data} | {int(n):,} | `{design}` | {float(questions):.1f}"
        print(f"| {about} | {bias} | {half} | {held} % | {share} |")


# ── The whole way ──


def photographs(w: World, models: Sequence[str], folder: Path) -> None:
    """Write the photographs, and what two models predict, without any label."""
    (folder / "photos").mkdir(parents=True)
    pictures = pq.read_table(VOC, columns=["jpeg"])["jpeg"].take(pa.array(w.rows))
    places = [folder / "photos" / f"{name}.jpg" for name in w.image_id]
    for place, picture in zip(places, pictures, strict=True):
        place.write_bytes(picture.as_py())
    classes = from_keys(w.keys, "voc")
    about = {"n_classes": str(len(w.keys)), "classes": classes.hash}
    images = pa.table({"image_id": w.image_id, "uri": [str(p.resolve()) for p in places]})
    (folder / "predictions").mkdir()
    tables.write(images, folder / "predictions" / "images.parquet", "images", about=about)
    (folder / "classes.txt").write_text("\n".join(w.keys) + "\n", encoding="utf-8")
    for name, s in zip(models, w.scores, strict=True):
        own = Predictions(
            pa.array(w.image_id),
            name,
            scores=s,
            score_kind="probability",
            n_classes=len(w.keys),
            class_hash=classes.hash,
        )
        write_predictions(own, folder / "predictions" / f"{name}.parquet")


def manyhot(folder: Path, *arguments: str) -> str:
    """Run a command, print it and what it says, and return that."""
    print("$ manyhot", *arguments, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "manyhot", *arguments], cwd=folder, capture_output=True, text=True
    )
    print(done.stdout, done.stderr if done.returncode else "", flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def seen(folder: Path, w: World) -> dict[str, set[str]]:
    """Return which classes a rater sees on each picture, by the picture's number in the app."""
    truth = {
        name: {w.keys[c] for c in np.flatnonzero(row)} for name, row in zip(w.image_id, w.truth, strict=True)
    }
    with sqlite3.connect(folder / "audit" / "annotation.sqlite") as store:
        return {str(number): truth[name] for number, name in store.execute("SELECT id, name FROM images")}


class Rater:
    """A rater's browser, who knows the truth of each picture and errs at random."""

    def __init__(self, link: str, truth: dict[str, set[str]], keys: list[str], seed: int) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self._address, self._truth, self._rng = link.partition("/join/")[0], truth, random.Random(seed)
        self._keys = keys
        self._opener.open(urllib.request.Request(link, method="POST")).read()
        page = self._opener.open(f"{self._address}/").read().decode()
        self._csrf = re.search(r'name="csrf" content="(\w+)"', page)[1]
        self.answers = 0

    def _call(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"X-CSRF": self._csrf, "Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, json.dumps(body).encode(), headers)
        return json.loads(self._opener.open(request).read())

    def work(self) -> None:
        """Answer all pages."""
        while pages := self._call("/api/queue", {})["pages"]:
            for page in pages:
                items = [self._vote(page, shown) for shown in page["classes"]]
                told = self._call("/api/answers", {"items": items})
                assert len(told["kept"]) == len(items), told
                self.answers += len(items)

    def _vote(self, page: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
        valid = self._keys[shown["class_id"]] in self._truth[page["image"].split("/")[3]]
        wrong = self._rng.random() < WRONG
        return {
            "key": secrets.token_hex(12),
            "page": page["page"],
            "class_id": shown["class_id"],
            "answer": "yes" if valid != wrong else "no",
            "main": False,
        }


def answer(folder: Path, w: World) -> int:
    """Let raters answer in the running app; return the number of answers."""
    command = [sys.executable, "-m", "manyhot", "annotate", "audit", "--raters", str(RATERS), "--port", "0"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://[\d.]+:\d+", server.stdout.readline())[0]
        names = [f"rater-{k + 1}" for k in range(RATERS)]
        links = re.findall(
            r"http\S+/join/\S+", manyhot(folder, "invite", "audit", *names, "--address", address)
        )
        truth = seen(folder, w)
        raters = [Rater(link, truth, w.keys, seed) for seed, link in enumerate(links)]
        for rater in raters:
            rater.work()
        return sum(rater.answers for rater in raters)
    finally:
        server.terminate()
        server.wait()


def answered_by_all(w: World, share: float) -> np.ndarray:
    """Return the values if both raters answered about all classes of all images, and had to agree."""
    rng, found = np.random.default_rng(0), []
    for _ in range(10):
        wrong = rng.random((RATERS, *w.truth.shape)) < share
        found.append(w.values((w.truth ^ wrong).all(axis=0)))
    return np.mean(found, axis=0)


def walk(w: World, models: Sequence[str], folder: Path, size: int) -> None:
    """Go the whole way."""
    photographs(w, models, folder)
    began = time.monotonic()
    options = f"--classes classes.txt --design classes --size {size} --raters {RATERS} --out audit"
    manyhot(folder, "audit", "predictions", *options.split())
    n = answer(folder, w)
    manyhot(folder, "export", "audit")
    manyhot(folder, "aggregate", "audit")
    evaluate = "evaluate predictions --classes classes.txt --audited audit --metric map_macro --out results"
    told = manyhot(folder, *evaluate.split())
    true = 100 * w.values(w.truth)
    print(f"{n:,} answers, {n * SECONDS / 3600:.1f} hours at {SECONDS:g} seconds an answer")
    print(f"the computer took {time.monotonic() - began:.0f} seconds")
    print(f"on VOC's truth: {true[0]:.2f} and {true[1]:.2f}, difference {true[2]:.2f} points")
    for share in (WRONG, 0.01):
        a, b, apart = 100 * answered_by_all(w, share)
        print(
            f"if both must agree, and err on {share:.0%}: {a:.2f} and {b:.2f}, difference {apart:.2f} points"
        )
    print(*(line for line in told.splitlines() if "points" in line), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("coverage")
    one.add_argument("features", type=Path)
    one.add_argument("--models", nargs=2, default=MODELS)
    one.add_argument("--data", nargs="+", choices=["voc", *UNRANKED], default=["voc", *UNRANKED])
    one.add_argument("--draws", type=int, default=1000)
    one.add_argument("--sizes", type=int, nargs="+", default=[250, 412, 1000])
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--only", nargs="*", default=["classes"])
    one.add_argument("--out", type=Path)
    shown = commands.add_parser("table")
    shown.add_argument("file", type=Path)
    other = commands.add_parser("walk")
    other.add_argument("features", type=Path)
    other.add_argument("folder", type=Path)
    other.add_argument("--models", nargs=2, default=MODELS)
    other.add_argument("--size", type=int, default=412)
    a = parser.parse_args()
    if a.command == "table":
        table(a.file)
    elif a.command == "walk":
        walk(world(a.features, a.models), a.models, a.folder, a.size)
    else:
        for data in a.data:
            w = world(a.features, a.models, a.seed) if data == "voc" else simulated(data, a.seed)
            coverage(w, data, a)


if __name__ == "__main__":
    main()
