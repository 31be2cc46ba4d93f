"""Aggregation of choices of one class of K: CPU seconds and memory, and crowd-kit on the same votes.

python benchmarks/choices.py --images 4000000 --classes 10 --raters 300 --votes 5 --method dawid-skene
python benchmarks/choices.py --images 20000 --classes 10 --method dawid-skene --crowd-kit
python benchmarks/choices.py --images 4000000 --classes 10 --raters 300 --votes 5 --method one-coin --update
python benchmarks/choices.py --hard-questions

--update fits 99 % of the votes, and then all of them from that fit; or, if the others are on images without
earlier votes, these others alone, with the earlier fit as history. --hard-questions compares GLAD of
crowd-kit with the methods for yes and no answers (one minute).
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from manyhot.core.answers import NO, YES, Answers
from manyhot.core.choices import Choices, ChosenClasses, expected_choices
from manyhot.registry import get


def simulated(images: int, classes: int, raters: int, votes: int) -> tuple[np.ndarray, Choices]:
    """Return the right classes, and choices of raters who are right in 60 to 95 % of images."""
    rng = np.random.default_rng(0)
    truth, accuracy = rng.integers(0, classes, images), rng.uniform(0.6, 0.95, raters)
    image = np.repeat(np.arange(images, dtype=np.int32), votes)
    first = rng.integers(0, raters, images)[:, None]
    rater = ((first + np.arange(votes) * (raters // votes)) % raters).ravel().astype(np.int32)
    wrong = (truth[image] + rng.integers(1, classes, len(image))) % classes
    chosen = np.where(rng.random(len(image)) < accuracy[rater], truth[image], wrong).astype(np.int32)
    return truth, Choices(image, rater, chosen, images, raters, classes)


def part_of(choices: Choices, inside: np.ndarray) -> Choices:
    """Return some of the votes."""
    columns = (choices.image[inside], choices.rater[inside], choices.chosen[inside])
    return Choices(*columns, choices.n_images, choices.n_raters, choices.n_classes)


def update(choices: Choices, result: ChosenClasses, seconds: float, method: str) -> None:
    """Print what a fit to 99 % of the votes saves, if the others are on the same images, or on new ones."""
    entry, whole = get("choice-aggregator", method), dense(choices, result)
    for others in ("on any image", "on new images"):
        earlier = choices.image < 0.99 * choices.n_images
        if others == "on any image":
            earlier = np.random.default_rng(1).random(len(choices)) < 0.99
        before = part_of(choices, earlier)
        fitted = expected_choices(before, entry(before))
        begun = time.process_time()
        if others == "on any image":
            update, how = entry(choices, None, fitted), "all votes, from the earlier fit"
        else:
            update, how = entry(part_of(choices, ~earlier), fitted), "new votes, with history"
        spent = time.process_time() - begun
        change = dense(choices, update) - whole
        most = np.abs(change[np.unique(update.image)]).max()
        print(
            f"{len(choices) - len(before):,} new votes {others}: {spent:.1f} s CPU and {update.iterations} "
            f"iterations for {how}; from scratch {seconds:.1f} s and {result.iterations}; largest difference "
            f"of p {most:.4f}"
        )


def dense(choices: Choices, result: ChosenClasses) -> np.ndarray:
    """Return the probability of each class of each image."""
    p = np.zeros((choices.n_images, choices.n_classes), np.float32)
    p[result.image, result.class_id] = result.p
    return p


HARD_METHODS = ("majority", "one-coin", "dawid-skene", "dawid-skene(hard=True)", "auto")


def hard_questions(draws: int = 5) -> None:
    """Print accuracy and log loss on 400 yes/no questions, 40 % of them hard, as means over draws."""
    import pandas as pd
    from crowdkit.aggregation import GLAD

    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        truth, hard = rng.random(400) < 0.4, rng.random(400) < 0.4
        skill = rng.uniform(0.65, 0.95, 30)
        question = np.repeat(np.arange(400), 5)
        rater = np.concatenate([rng.choice(30, 5, replace=False) for _ in range(400)])
        right = rng.random(2_000) < np.where(hard[question], 0.55, skill[rater])
        yes = truth[question] == right
        answers = Answers(question, rater, np.where(yes, YES, NO).astype(np.int8), 400, 30)
        p = {m: get("aggregator", m)(answers).p for m in HARD_METHODS}
        frame = pd.DataFrame({"task": question, "worker": rater, "label": np.where(yes, "yes", "no")})
        p["GLAD (crowd-kit)"] = GLAD(n_iter=100).fit_predict_proba(frame).sort_index()["yes"].to_numpy()
        for name, value in p.items():
            sure = np.clip(value, 1e-6, 1 - 1e-6)
            loss = -np.mean(np.where(truth, np.log(sure), np.log(1 - sure)))
            found.setdefault(name, []).append((np.mean((value > 0.5) == truth), loss))
    print("| method | accuracy | log loss |\n| --- | --- | --- |")
    for name, numbers in found.items():
        accuracy, loss = np.mean(numbers, axis=0)
        print(f"| {name} | {accuracy:.3f} | {loss:.3f} |")


def main() -> None:
    """Print one line per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (("images", 20_000), ("classes", 1_000), ("raters", 100), ("votes", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--method", default="dawid-skene")
    for name in ("crowd-kit", "update", "hard-questions"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    if options.hard_questions:
        hard_questions()
        return
    truth, choices = simulated(options.images, options.classes, options.raters, options.votes)
    start = time.process_time()
    result = get("choice-aggregator", options.method)(choices)
    seconds = time.process_time() - start
    order = np.lexsort((result.p, result.image))
    best = np.zeros(len(truth), np.int64)
    best[result.image[order]] = result.class_id[order]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{options.method}: {len(choices):,} votes, {seconds:.1f} s CPU, {most:.2f} GB with the votes, ",
        end="",
    )
    print(f"{result.iterations} iterations, accuracy {(best == truth).mean():.4f}")
    if options.update:
        update(choices, result, seconds, options.method)
    if options.crowd_kit:
        import pandas as pd
        from crowdkit.aggregation import DawidSkene

        frame = pd.DataFrame({"task": choices.image, "worker": choices.rater, "label": choices.chosen})
        start = time.process_time()
        labels = DawidSkene(n_iter=100).fit_predict(frame).sort_index().to_numpy()
        print(f"crowd-kit: {time.process_time() - start:.1f} s CPU, accuracy {(labels == truth).mean():.4f}")


if __name__ == "__main__":
    main()
