"""Choices by three raters of different quality, and how many labels made from them are right."""

import numpy as np
import pandas as pd


def campaign(n, seed=0):
    """Return the right classes, and a frame of choices by three raters of different quality."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(["cat", "dog", "owl"], n)
    frame = pd.DataFrame(
        {"task": np.repeat([f"{i}.jpg" for i in range(n)], 3), "worker": ["ann", "bob", "eve"] * n}
    )
    right = rng.random(3 * n) < np.tile([0.95, 0.5, 0.5], n)
    return truth, frame.assign(
        label=np.where(right, np.repeat(truth, 3), rng.choice(["cat", "dog", "owl"], 3 * n))
    )


def right(result, truth):
    """Return the share of images whose most probable class is the right one."""
    rows = {r["image_id"]: r for r in result.labels.table.to_pylist()}
    keys = result.labels.class_list.keys
    best = [keys[rows[f"{i}.jpg"]["classes"][np.argmax(rows[f"{i}.jpg"]["p"])]] for i in range(len(truth))]
    return (np.array(best) == truth).mean()
