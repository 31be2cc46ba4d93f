"""Mistakes that people make with their own data, each with its whole message.

The messages are in `mistakes.txt`, as the terminal shows them.
"""

import os
import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forking import commands

CLASSES = ["car", "cat", "dog"]
IDS = [f"{i:02d}.jpg" for i in range(12)]
HOT = np.eye(3, dtype=int)[np.arange(12) % 3]
HOT[::4, 2] = 1
SCORES = (HOT + np.random.default_rng(0).normal(0, 0.6, HOT.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of good and bad files."""
    folder = tmp_path_factory.mktemp("mistakes")
    labels, scores = pd.DataFrame(HOT, IDS, CLASSES), pd.DataFrame(SCORES, IDS, CLASSES)
    names = [";".join(c for c, valid in zip(CLASSES, row, strict=True) if valid) for row in HOT]
    tables = {
        "labels": labels,
        "names": pd.DataFrame({"labels": names}, IDS),
        "counts": labels.replace({1: 2}),
        "twice": pd.concat([labels, labels[:1]]),
        "folders": pd.concat([labels.rename(lambda i: f"a/{i}"), labels.rename(lambda i: f"b/{i}")]),
        "scores": scores,
        "other_class": scores.rename(columns={"dog": "dogs"}),
        "published": pd.DataFrame(
            {"name": IDS, "pretrained": "web", "ImageNet 1k": 0.6, "ImageNet v2": [0.5] * 11 + [None]}
        ),
        "others": scores.rename(lambda i: i.replace(".jpg", ".png").replace("0", "x")),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index_label="filename")
    votes = [(image, "cat", rater, "yes") for image in IDS for rater in ("ann", "bob")]
    for name in ("old", "new"):
        table = pd.DataFrame(votes, columns=["image_id", "class_id", "rater_id", "answer"])
        table.to_csv(folder / f"{name}.csv", index=False)
    pd.DataFrame({"age": [40] * 12, "path": IDS}).to_csv(folder / "nolabels.csv", index=False)
    bad = SCORES.copy()
    bad[3, 1] = np.nan
    arrays = {
        "net": SCORES,
        "two/a": SCORES,
        "nan": bad,
        "short": SCORES[:11],
        "wide": SCORES[:, [0, 1, 2, 2]],
        "ids": np.arange(12).astype("datetime64[s]"),
    }
    for name in ("two", "empty"):
        (folder / name).mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "two" / "b.npy").write_bytes(b"junk")
    (folder / "obj.npy").write_bytes(pickle.dumps({"a": 1}))
    (folder / "nothing.csv").touch()
    (folder / "files.txt").write_text("\n".join(IDS))
    (folder / "few.txt").write_text("car\ncat")
    (folder / "dup.txt").write_text("car\ncat\ncat\n")
    (folder / "broken.json").write_text('{"a.jpg": ["car"], "b.jpg": ["do')
    (folder / "broken.parquet").write_bytes(b"PAR1" + b"\0" * 40)
    return folder


MISTAKES = re.findall(
    r"^\$ manyhot ([^\n]+)\n(.+?)\nexit code (\d+)$",
    (Path(__file__).parent / "mistakes.txt").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


def test_all_mistakes_are_read():
    assert len(MISTAKES) == (Path(__file__).parent / "mistakes.txt").read_text().count("$ manyhot")


@pytest.mark.parametrize(("line", "message", "code"), MISTAKES, ids=[line for line, *_ in MISTAKES])
def test_whole_message(folder, monkeypatch, line, message, code):
    monkeypatch.chdir(folder)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MANYHOT_")}
    shown = commands.run(*shlex.split(line), code=int(code), env=environment).stderr.strip()
    if "Usage" in shown:  # drawn in a box by the command-line library
        shown = " ".join(re.sub("[│╭╰─╮╯]", " ", shown.partition("Error")[2]).split())
    if "allowed: …" in message:  # all metrics
        shown = re.sub("allowed: .*", "allowed: …", shown)
    assert shown == message
