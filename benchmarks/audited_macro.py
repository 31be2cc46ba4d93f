"""Macro average precision from a few answers about photographs of VOC, and the whole way to it as a user.

First the features, a few minutes::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 --model efficientnet-lite2 \
        --embeddings --out features

``python benchmarks/audited_macro.py coverage features [--draws 500] [--sizes 250 412 1000]`` judges two
models, which are logistic regressions on the features, fitted to the other 2,479 photographs. Each draw is an
audit by a design: ``classes`` (4.4 questions an image, drawn), ``classes, all`` (all 20 questions),
``uniform`` (all 20 questions of a uniform sample), and ``rule`` (uniform, and the top class of each model is
asked about, others count as absent). It prints the bias and the standard deviation of the estimates, the
coverage and half the median width of the intervals, and how often there is one, for both models and their
difference, in points.

``python benchmarks/audited_macro.py walk features FOLDER`` goes the whole way as a user without labels: it
draws an audit, lets two raters, who know VOC's truth and err on 5 % of the questions, answer in the running
app, aggregates, and evaluates. It prints the sentence that the terminal says, and the hours.
"""

from __future__ import annotations

import argparse
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
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from scipy.special import stdtrit  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from manyhot import tables, write_predictions  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.core.audit_average_precision import audited_average_precision, doubt_of_classes  # noqa: E402
from manyhot.core.audit_class_designs import ClassDesign, class_design  # noqa: E402
from manyhot.core.audit_samples import uniform_design  # noqa: E402
from manyhot.core.audited import estimate, side_by_side  # noqa: E402
from manyhot.evaluate.audit_proposals import standard_odds  # noqa: E402
from manyhot.tables import Predictions  # noqa: E402

VOC = common.REPO.parent / "shared" / "data" / "voc" / "images.parquet"
KEYS = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
MODELS = ("efficientnet-lite0", "efficientnet-lite2")
N_IMAGES = 3000
STRENGTH = 1e-3
SECONDS, RATERS, WRONG = 5.0, 2, 0.05


@dataclass
class World:
    """The photographs, VOC's truth, shape (N, C), and the probabilities of each model."""

    rows: np.ndarray
    image_id: list[str]
    truth: np.ndarray
    scores: list[np.ndarray]

    @property
    def certain(self) -> np.ndarray:
        """Which classes are the top class of a model."""
        return sum(np.arange(len(KEYS)) == s.argmax(1)[:, None] for s in self.scores) > 0

    def values(self, truth: np.ndarray) -> np.ndarray:
        """Return macro average precision of the models over classes with positives, and the difference."""
        some = truth.any(axis=0)
        a, b = (average_precision_score(truth[:, some], s[:, some], average="macro") for s in self.scores)
        return np.array([a, b, a - b])


def world(features: Path, models: Sequence[str]) -> World:
    """Fit the models on the photographs that are not audited."""
    table = pq.read_table(VOC, columns=["image_id", "labels"])
    truth = np.array([[k in labels for k in KEYS] for labels in table["labels"].to_pylist()])
    order = np.random.default_rng(0).permutation(len(truth))
    rows, rest = np.sort(order[:N_IMAGES]), np.sort(order[N_IMAGES:])
    scores = []
    for name in models:
        x = np.load(features / "embeddings" / f"{name}.npy").astype(np.float32)
        x = StandardScaler().fit(x[rest]).transform(x)
        heads = [
            LogisticRegression(C=STRENGTH, max_iter=300, tol=1e-3).fit(x[rest], y) for y in truth[rest].T
        ]
        scores.append(np.stack([h.predict_proba(x[rows])[:, 1] for h in heads], 1).astype(np.float32))
    return World(rows, [table["image_id"][int(i)].as_py() for i in rows], truth[rows], scores)


# ── How often intervals hold ──


def designs(w: World, n: int) -> dict[str, ClassDesign]:
    """Return the designs that are compared."""
    p = np.mean(w.scores, axis=0)
    drawn = class_design(w.scores, n, certain=w.certain, probability=p)
    every, same = np.ones_like(drawn.asked), uniform_design(N_IMAGES, n)
    return {
        "classes": drawn,
        "classes, all": ClassDesign(drawn.design, every),
        "uniform": ClassDesign(same, every),
        "rule": ClassDesign(same, w.certain.astype(np.float32)),
    }


def audit(w: World, how: ClassDesign, name: str, odds: list[np.ndarray], rng: np.random.Generator) -> Any:
    """Return estimates, errors and degrees of freedom of one audit, and whether there are intervals."""
    sample = how.design.draw(rng)
    chance = how.asked[sample.images]
    asked = rng.random(chance.shape) < chance
    answers = w.truth[sample.images] & asked
    values = [
        audited_average_precision(
            answers,
            s >= 0.5,
            s,
            sample,
            features=[own, other],
            asked=None if name == "rule" else asked * chance,
        )
        for s, own, other in zip(w.scores, odds, odds[::-1], strict=True)
    ]
    both = side_by_side(values)
    found = estimate(side_by_side([both, both.differences(np.array([0]), np.array([1]))]), sample, power=1.0)
    doubt = name == "rule" or any(doubt_of_classes(answers, s, sample) for s in w.scores)
    return (found.value, found.error, found.df), not doubt, asked.sum()


def coverage(w: World, sizes: list[int], draws: int, only: list[str]) -> None:
    """Print how estimates and intervals do."""
    true, odds = w.values(w.truth), [standard_odds(s, "probability") for s in w.scores]
    print("map_macro of A, of B and the difference:", *(f"{100 * v:.2f}" for v in true))
    print("positives of the classes:", *w.truth.sum(0))
    for name, probable in (("the top class", 2.0), ("probabilities of 0.05", 0.05)):
        asked = w.certain | (np.max(w.scores, axis=0) >= probable)
        off = 100 * (w.values(w.truth & asked) - true)
        print(f"asked about {name}, {asked.sum(1).mean():.2f} an image, off by", *(f"{x:.2f}" for x in off))
    for n in sizes:
        for name, how in designs(w, n).items():
            if only and name not in only:
                continue
            rng = np.random.default_rng(n)
            drawn = [audit(w, how, name, odds, rng) for _ in range(draws)]
            found = np.array([d[0] for d in drawn])
            off, half = found[:, 0] - true, stdtrit(found[:, 2], 0.975) * found[:, 1]
            held, some = np.abs(off) <= half, np.array([d[1] for d in drawn])
            columns = {
                "bias": 100 * off.mean(0),
                "deviation": 100 * off.std(0),
                "error": 100 * found[:, 1].mean(0),
                "coverage %": 100 * held.mean(0),
                "±": 100 * np.median(half, axis=0),
            }
            if 0 < some.sum() < draws:
                columns["coverage if there is one %"] = 100 * held[some].mean(0)
            told = "; ".join(f"{k} {' '.join(f'{x:.2f}' for x in v)}" for k, v in columns.items())
            questions = np.mean([d[2] for d in drawn]) / n
            print(f"{n} {name}: {told}; interval {some.mean():.0%}; questions {questions:.2f}", flush=True)


# ── The whole way ──


def photographs(w: World, models: Sequence[str], folder: Path) -> None:
    """Write the photographs, and what two models predict, without any label."""
    (folder / "photos").mkdir(parents=True)
    pictures = pq.read_table(VOC, columns=["jpeg"])["jpeg"].take(pa.array(w.rows))
    places = [folder / "photos" / f"{name}.jpg" for name in w.image_id]
    for place, picture in zip(places, pictures, strict=True):
        place.write_bytes(picture.as_py())
    classes = from_keys(KEYS, "voc")
    about = {"n_classes": str(len(KEYS)), "classes": classes.hash}
    images = pa.table({"image_id": w.image_id, "uri": [str(p.resolve()) for p in places]})
    (folder / "predictions").mkdir()
    tables.write(images, folder / "predictions" / "images.parquet", "images", about=about)
    (folder / "classes.txt").write_text("\n".join(KEYS) + "\n", encoding="utf-8")
    for name, s in zip(models, w.scores, strict=True):
        own = Predictions(
            pa.array(w.image_id),
            name,
            scores=s,
            score_kind="probability",
            n_classes=len(KEYS),
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
        name: {KEYS[c] for c in np.flatnonzero(row)} for name, row in zip(w.image_id, w.truth, strict=True)
    }
    with sqlite3.connect(folder / "audit" / "annotation.sqlite") as store:
        return {str(number): truth[name] for number, name in store.execute("SELECT id, name FROM images")}


class Rater:
    """A rater's browser, who knows the truth of each picture and errs at random."""

    def __init__(self, link: str, truth: dict[str, set[str]], seed: int) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self._address, self._truth, self._rng = link.partition("/join/")[0], truth, random.Random(seed)
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
        valid = KEYS[shown["class_id"]] in self._truth[page["image"].split("/")[3]]
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
        raters = [Rater(link, truth, seed) for seed, link in enumerate(links)]
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
    one.add_argument("--draws", type=int, default=500)
    one.add_argument("--sizes", type=int, nargs="+", default=[250, 412, 1000])
    one.add_argument("--only", nargs="*", default=[])
    other = commands.add_parser("walk")
    other.add_argument("features", type=Path)
    other.add_argument("folder", type=Path)
    other.add_argument("--models", nargs=2, default=MODELS)
    other.add_argument("--size", type=int, default=412)
    a = parser.parse_args()
    w = world(a.features, a.models)
    if a.command == "walk":
        walk(w, a.models, a.folder, a.size)
    else:
        coverage(w, a.sizes, a.draws, a.only)


if __name__ == "__main__":
    main()
