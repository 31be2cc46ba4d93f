"""Simulated raters of the measured quality of ReaL's, and a campaign that they answer.

``real_raters.csv`` holds what each of ReaL's 78 raters answered to golden questions, from the released votes
(Beyer et al. 2020; Apache 2.0)::

    manyhot agreement imagenet-real --out agreement
    python studies/raters.py agreement/confusion.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from manyhot import Labels, aggregate, init_campaign, propose, read_labels, tables
from manyhot.core.sets import UNCLEAR, YES
from manyhot.tables.arrays import label_sets

MEASURED = Path(__file__).with_name("real_raters.csv")

TRUTHS, ANSWERS = ("no", "yes"), ("no", "maybe", "yes")

POOL = 30
"""Raters of a campaign, drawn from the 78."""

VOTES = 5
"""Answers to a question, as in ReaL."""

GOLDEN = 150
"""Images of which experts answer all questions, and all raters, too; ReaL has 155."""

RULE = "union(threshold=0.001)"
"""A class is proposed if a network of the ensemble gives it this probability, or thinks it best.

ReaL wanted a recall of 97 %. Two pairs of Lite0 have 96 % with it on training images of voc9, and 5.2 of nine
classes an image; with 0.05 they have 88 %, but 41 % of the classes that are not the label: a softmax that
learnt single labels gives them little.
"""


def measured() -> npt.NDArray[np.float64]:
    """Return how often each of ReaL's raters gives each answer under both truths, shape (78, 2, 3).

    Half an answer is added to each count: nobody never says yes.
    """
    table = pl.read_csv(MEASURED)
    counts = table.select([f"{t}_{a}" for t in TRUTHS for a in ANSWERS]).to_numpy().reshape(-1, 2, 3) + 0.5
    shares: npt.NDArray[np.float64] = counts / counts.sum(2, keepdims=True)
    return shares


def answers(
    there: npt.NDArray[np.bool_],
    rater: npt.NDArray[np.intp],
    quality: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> npt.NDArray[np.intp]:
    """Draw an answer (0 no, 1 maybe, 2 yes) for each vote.

    Parameters
    ----------
    there : ndarray of bool, shape (v,)
        Whether the class is in the image that the vote is about.
    rater : ndarray of int, shape (v,)
    quality : ndarray of float, shape (R, 2, 3)
    rng : Generator
    """
    up_to = np.cumsum(quality[rater, there.astype(np.intp)], axis=1)
    drawn: npt.NDArray[np.intp] = (rng.random(len(rater))[:, None] > up_to[:, :2]).sum(1)
    return drawn


def reassess(folder: Path, truth: Path, classes: Path, predictions: list[Path], seed: int) -> Path:
    """Propose, ask simulated raters, aggregate; return the label sets.

    Parameters
    ----------
    folder : Path
        The campaign is made here.
    truth : Path
        True label sets of its images. Only raters and experts know them.
    classes : Path
    predictions : list of Path
        Of models that were not trained on the images that they predict.
    seed : int
        Of the raters, what they are asked and how they answer.
    """
    labels = read_labels(truth)
    images = labels.table.select(["image_id", "label"])
    folder.mkdir(parents=True, exist_ok=True)
    about = {"n_classes": str(labels.n_classes), "classes": labels.class_hash}
    tables.write(images, folder / "images.parquet", "images", about=about)
    campaign = folder / "campaign"
    init_campaign(campaign, images=folder / "images.parquet", classes=classes, predictions=predictions)
    found = propose(campaign, rule=RULE, resamples=0)
    found.write(campaign / "proposals.parquet")
    rng = np.random.default_rng([seed, 78])
    _ask(campaign, found.table, labels, about, rng)
    aggregate(campaign, method="golden-bayes", resamples=0, seed=seed).write(campaign)
    return campaign / "labels.parquet"


def _ask(
    campaign: Path, proposals: pa.Table, labels: Labels, about: dict[str, str], rng: np.random.Generator
) -> None:
    """Write the votes of simulated raters, and what experts say of some images."""
    sets = label_sets(labels)
    image = pc.index_in(proposals["image_id"], labels.image_id).to_numpy()
    state = sets.take(image).state_of(proposals["class_id"].to_numpy()[:, None])[:, 0]
    quality = measured()
    quality = quality[rng.choice(len(quality), POOL)]
    golden = np.isin(
        image, rng.choice(np.unique(image), min(GOLDEN, len(np.unique(image)) // 2), replace=False)
    )
    order = rng.random((len(image), POOL)).argsort(1)
    asked = np.where(golden[:, None], POOL, VOTES) > np.arange(POOL)
    question, place = np.nonzero(asked)
    rater = order[question, place]
    # What VOC calls difficult is there, and raters are to find it.
    said = answers((state >= UNCLEAR)[question], rater, quality, rng)
    votes = proposals.select(["image_id", "class_id"]).take(question)
    votes = votes.append_column("rater_id", pa.array([f"rater-{r:02}" for r in rater]))
    votes = votes.append_column("answer", pa.array(np.array(ANSWERS)[said]))
    tables.write(votes, campaign / "votes.parquet", "votes", about=about)
    certain = np.flatnonzero(golden & (state != UNCLEAR))
    experts = proposals.select(["image_id", "class_id"]).take(certain)
    experts = experts.append_column("expert_id", pa.array(["expert"] * len(certain)))
    told = pa.array(np.where(state[certain] == YES, "yes", "no"))
    tables.write(experts.append_column("answer", told), campaign / "golden.parquet", "golden", about=about)


def main(confusion: Path) -> None:
    """Write `MEASURED` from the table ``confusion`` of ``manyhot agreement``."""
    table = pl.read_csv(confusion).filter(pl.col("rater_id").is_not_null())
    table = table.with_columns(cell=pl.concat_str("truth", "answer", separator="_"))
    wide = table.pivot("cell", index="rater_id", values="n").sort("rater_id")
    wide.select("rater_id", *(f"{t}_{a}" for t in TRUTHS for a in ANSWERS)).write_csv(MEASURED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("confusion", type=Path)
    main(parser.parse_args().confusion)
