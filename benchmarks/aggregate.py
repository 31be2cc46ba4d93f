"""Votes: manyhot beside crowd-kit on ReaL's 924,810 votes, reading raters.npz, and all of agreement.

    python benchmarks/aggregate.py [--repeat 3] [--millions 2,20,100]

Each line is a fresh process with one thread; seconds are medians of CPU seconds, and MB the peak of resident
memory less what was there before, votes included. Dawid-Skene has a truth for each answer, and 20 iterations
in both; crowd-kit is made to do 20, for by default it stops after two. "apart" is the largest difference of
two posteriors. "10x" are the same votes ten times, on other questions and by raters renumbered at random.

With --millions, votes of 300 raters are simulated, five on each question: answers yes or no, and choices of
one class of ten. Each line is run once, for the default method, `auto`, and for `dawid-skene`. MB is then the
peak of resident memory, with the votes. --match runs only lines that contain a text.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import quiet

ITERATIONS = 20
ANSWERS = ("no", "maybe", "yes")


def votes_of(times: int) -> Any:
    """Return ReaL's votes as arrays, `times` times on other questions, by raters renumbered at random."""
    from manyhot import read_votes
    from manyhot.core.answers import Answers
    from manyhot.data import catalog

    votes = read_votes(catalog.fetch_file("imagenet-real", "raters.npz"))
    n, rng = votes.n_questions, np.random.default_rng(0)
    # Renumbered, or else the patterns of votes would be the same ones again.
    numbers = [np.arange(votes.n_raters), *(rng.permutation(votes.n_raters) for _ in range(times - 1))]
    return Answers(
        np.concatenate([votes.question + np.int32(i * n) for i in range(times)]),
        np.concatenate([each[votes.rater] for each in numbers]),
        np.tile(votes.answer, times),
        n * times,
        votes.n_raters,
    )


def prepare_manyhot(times: int) -> Callable[[], Any]:
    from manyhot.core.dawid_skene import dawid_skene

    answers = votes_of(times)
    options = {"truth": "answers", "smoothing": 0.0, "iterations": ITERATIONS, "tolerance": -1.0}

    def work() -> Any:
        done = dawid_skene(answers, **options)
        assert done.iterations == ITERATIONS
        return done.p

    return work


def prepare_crowd_kit(times: int) -> Callable[[], Any]:
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    answers = votes_of(times)
    frame = pd.DataFrame({"task": answers.question, "worker": answers.rater, "label": answers.answer})

    def work() -> Any:
        model = DawidSkene(n_iter=ITERATIONS, tol=-np.inf).fit(frame)
        assert len(model.loss_history_) == ITERATIONS
        return model.probas_.sort_index()[2].to_numpy()

    return work


def prepare_read(_: int) -> Callable[[], Any]:
    from manyhot import read_votes
    from manyhot.data import catalog

    path = catalog.fetch_file("imagenet-real", "raters.npz")
    return lambda: np.asarray([len(read_votes(path))])


def prepare_dense(_: int) -> Callable[[], Any]:
    from manyhot.data import catalog

    path = catalog.fetch_file("imagenet-real", "raters.npz")

    def work() -> Any:
        with np.load(path) as arrays:
            return np.stack([i.astype(np.int32) for i in np.nonzero(arrays["tensor"])]).shape

    return work


def prepare_agreement(_: int) -> Callable[[], Any]:
    from manyhot import agreement, read_golden, read_votes
    from manyhot.data import catalog

    files = catalog.fetch("imagenet-real")
    votes, golden = read_votes(files["raters.npz"]), read_golden(files["golden.npz"])
    return lambda: np.asarray([agreement(votes, golden).value("fleiss_kappa")])


RATERS, VOTES, CLASSES = 300, 5, 10


def simulated(millions: float, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return question, rater and class of votes: the truth with a probability of the rater, or another one.

    With two classes, the second is that of three questions in ten, and raters are better at the first.
    """
    rng = np.random.default_rng(0)
    n = int(millions * 1_000_000) // VOTES
    if classes == 2:
        truth = (rng.random(n) < 0.3).astype(np.int8)
        right = np.stack([rng.uniform(0.8, 0.99, RATERS), rng.uniform(0.5, 0.9, RATERS)], 1).astype(
            np.float32
        )
    else:
        truth = rng.integers(0, classes, n, dtype=np.int8)
        right = np.broadcast_to(rng.uniform(0.6, 0.95, (RATERS, 1)).astype(np.float32), (RATERS, classes))
    first, step = rng.integers(0, RATERS, n), rng.integers(1, RATERS // VOTES, n)
    rater = np.empty((n, VOTES), np.int32)
    given = np.empty((n, VOTES), np.int8)
    for i in range(VOTES):  # a column at a time needs less memory
        rater[:, i] = (first + i * step) % RATERS
        wrong = rng.random(n, np.float32) >= right[rater[:, i], truth]
        given[:, i] = (truth + wrong * rng.integers(1, classes, n, dtype=np.int8)) % classes
    return np.repeat(np.arange(n, dtype=np.int32), VOTES), rater.ravel(), given.ravel()


def prepare_yes_no(millions: int, method: str) -> Callable[[], Any]:
    from manyhot.core.answers import YES, Answers
    from manyhot.registry import get

    question, rater, given = simulated(millions)
    given *= YES
    aggregator = get("aggregator", method)
    return lambda: aggregator(Answers(question, rater, given, int(question[-1]) + 1, RATERS)).p


def prepare_choices(millions: int, method: str) -> Callable[[], Any]:
    from manyhot.core.choices import Choices
    from manyhot.registry import get

    question, rater, given = simulated(millions, CLASSES)
    aggregator, chosen = get("choice-aggregator", method), given.astype(np.int32)
    images = int(question[-1]) + 1
    return lambda: aggregator(Choices(question, rater, chosen, images, RATERS, CLASSES)).p


YES_NO, OF_TEN = "yes or no", "one class of ten"

LARGE = {
    f"{votes}, {method}": functools.partial(prepare, method=method)
    for votes, prepare in ((YES_NO, prepare_yes_no), (OF_TEN, prepare_choices))
    for method in ("auto", "dawid-skene")
}

PARTS = {
    **LARGE,
    "manyhot": prepare_manyhot,
    "crowd-kit": prepare_crowd_kit,
    "read": prepare_read,
    "dense": prepare_dense,
    "agreement": prepare_agreement,
}


def let_go() -> None:
    """Give back what loading left free, and forget its peak."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> float:
    """Return the peak of this process's resident memory since `let_go`, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def run_part(part: str, times: int, repeat: int, out: Path) -> None:
    """Do one part in this process and print its numbers."""
    import manyhot.core.aggregation  # noqa: F401  its import is no memory of the work

    work = PARTS[part](times)
    let_go()
    before = peak()
    spent = []
    for i in range(repeat):
        begun = time.process_time()
        found = work()
        spent.append(time.process_time() - begun)
        if not i:
            added = peak() - before
    np.save(out, found)
    print(json.dumps({"seconds": statistics.median(spent), "mb": added, "peak": before + added}))


def measure(part: str, times: int, repeat: int, out: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--part", part, "--times", str(times)]
    done = subprocess.run(
        [*command, "--repeat", str(repeat), "--to", str(out)], check=True, capture_output=True, text=True
    )
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def main(repeat: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for part, times in [("manyhot", 1), ("crowd-kit", 1), ("manyhot", 10), ("crowd-kit", 10)]:
            # crowd-kit takes a minute for ten times the votes.
            often = 1 if (part, times) == ("crowd-kit", 10) else repeat
            made[part, times] = measure(part, times, often, Path(folder) / f"{part}{times}.npy")
        for part in ("read", "dense", "agreement"):
            made[part, 1] = measure(part, 1, repeat, Path(folder) / f"{part}.npy")
        ours, theirs = (np.load(Path(folder) / f"{p}1.npy") for p in ("manyhot", "crowd-kit"))
    print(f"{'':34}{'CPU s':>9}{'MB':>8}")
    for (part, times), numbers in made.items():
        name = {"manyhot": "Dawid-Skene, manyhot", "crowd-kit": "Dawid-Skene, crowd-kit"}.get(part, part)
        print(f"{name + (' 10x' if times > 1 else ''):34}{numbers['seconds']:>9.3f}{numbers['mb']:>8.0f}")
    for times in (1, 10):
        ratio = made["crowd-kit", times]["seconds"] / made["manyhot", times]["seconds"]
        print(f"crowd-kit / manyhot at {times}x: {ratio:.1f}")
    for part in ("manyhot", "crowd-kit"):
        print(f"{part}, 10x / 1x: {made[part, 10]['seconds'] / made[part, 1]['seconds']:.1f}")
    print(f"apart: {np.abs(ours - theirs).max():.1e}")


def large(sizes: list[int], match: str) -> None:
    """Print the time and memory of simulated votes."""
    print(f"{'million votes':34}{'CPU s':>9}{'MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for millions in sizes:
            for part in (part for part in LARGE if match in part):
                numbers = measure(part, millions, 1, Path(folder) / "p.npy")
                name = f"{millions}, {part}"
                print(f"{name:34}{numbers['seconds']:>9.2f}{numbers['peak']:>8.0f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--millions", default="", help="sizes of simulated votes, instead of ReaL's")
    parser.add_argument("--match", default="", help="with --millions: a part of the lines to run")
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--to", type=Path)
    arguments = parser.parse_args()
    quiet()
    if arguments.part:
        run_part(arguments.part, arguments.times, arguments.repeat, arguments.to)
    elif arguments.millions:
        large([int(size) for size in arguments.millions.split(",")], arguments.match)
    else:
        main(arguments.repeat)
