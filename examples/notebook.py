"""Judging models on label sets: runs as a script, and cell by cell in editors that know ``# %%``.

Data are made up: 400 images, of which many show several of 12 classes, and three models.
"""

# %%
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from manyhot import Evaluator, Images, evaluate, read_labels, read_predictions
from manyhot.classes import from_keys
from manyhot.data.inputs import Reading

N, C = 400, 12
rng = np.random.default_rng(7)
shown = rng.random((N, C)) < 0.12  # what is in each image
label = np.array([rng.choice(np.flatnonzero(row)) if row.any() else 0 for row in shown])
names = [f"photo_{i:03d}.jpg" for i in range(N)]


def scores(*, skill: float, seed: int) -> np.ndarray:
    """Return made-up scores of one model, shape (N, C); with more skill, what is shown scores higher."""
    noise = np.random.default_rng(seed).normal(size=(N, C))
    return (noise + skill * shown).astype(np.float32)


models = {
    "weak": scores(skill=1.0, seed=1),
    "good": scores(skill=3.0, seed=2),
    "best": scores(skill=4.0, seed=3),
}

# %% [markdown]
# ## From arrays
#
# `top1` counts against the one original label, `real1` against the label set. Images whose set is empty are
# skipped by `real1`, and counted: `n + n_skipped` is the number of images.

# %%
results = evaluate(shown, models, resamples=500, reading=Reading(label=label))
print(results.summary().select("model", "top1", "real1", "variable_topk", "map_macro"))
print(results.to_polars().filter(pl.col("slice") == "all", pl.col("metric").is_in(["top1", "real1"])))

# %% [markdown]
# ## Are the differences more than chance?
#
# Every pair, on the same resamples, with p adjusted for the number of pairs.

# %%
pairs = pl.from_arrow(results.pairs)
print(
    pairs.filter(pl.col("metric") == "real1").select(
        "model_a", "model_b", "difference", "lo", "hi", "p_adjusted"
    )
)

# %% [markdown]
# ## From files
#
# Rows of two files meet by image id, so the predictions may be in another order. The class list is our own.

# %%
with tempfile.TemporaryDirectory() as folder:
    classes = from_keys([f"thing {c}" for c in range(C)])
    sets = [np.flatnonzero(row).tolist() for row in shown]
    table = pl.DataFrame({"image_id": names, "label": label, "usable": [True] * N, "classes": sets})
    table.write_parquet(Path(folder) / "labels.parquet")
    order = rng.permutation(N)
    best = np.argsort(-models["good"][order], axis=1)[:, :5]
    ranks = pl.DataFrame({"image_id": [names[i] for i in order], "classes": best.tolist()})
    ranks.write_parquet(Path(folder) / "good.parquet")

    from_files = evaluate(
        read_labels(Path(folder) / "labels.parquet", classes=classes),
        read_predictions(Path(folder) / "good.parquet", classes=classes),
        slices=["light"],
        reading=Reading(
            images=Images(pl.DataFrame({"image_id": names, "light": ["day", "night"] * (N // 2)}).to_arrow()),
            dataset="made up",
        ),
    )

assert from_files.value("real1") == results.value("real1", model="good")
print(from_files.to_polars().filter(pl.col("metric") == "real1").select("slice", "value", "lo", "hi", "n"))

# %% [markdown]
# ## In a training loop

# %%
evaluator = Evaluator(n_classes=C, metrics=["top1", "real1", "map_macro"])
for start in range(0, N, 64):
    batch = slice(start, start + 64)
    evaluator.update(models["best"][batch], shown[batch], label[batch])
streamed = evaluator.compute()
assert streamed.value("real1") == results.value("real1", model="best")
print(streamed.summary())
