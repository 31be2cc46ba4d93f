"""Each next step is a command that runs: on the data of the call, wherever its files were written."""

import html
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from manyhot import cli

N, CLASSES = 120, ["cat", "dog", "fox"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Photographs whose ids have no suffix in the labels, a softmax, sigmoids, and metadata."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    ids = [f"{i:03}" for i in range(N)]
    (tmp_path / "my photos").mkdir()
    for name in ids:
        pixels = rng.integers(255, size=(24, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "my photos" / f"{name}.png")
    valid = rng.random((N, 3)) < 0.4
    pl.DataFrame({"image_id": ids, **dict(zip(CLASSES, valid.T.astype(int), strict=True))}).write_csv("l.csv")
    label = [CLASSES[row.argmax()] for row in valid]
    pl.DataFrame({"image_id": ids, "label": label}).write_csv("one.csv")
    valid ^= rng.random((N, 3)) < 0.1
    pl.DataFrame({"image_id": ids, **dict(zip(CLASSES, valid.T.astype(int), strict=True))}).write_csv("m.csv")
    logits = rng.normal(size=(N, 3)) + 2 * valid
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for name, scores in (("softmax", softmax), ("sigmoid", 1 / (1 + np.exp(-logits)))):
        table = {"file": [f"my photos/{i}.png" for i in ids], **dict(zip(CLASSES, scores.T, strict=True))}
        pl.DataFrame(table).write_csv(f"{name} scores.csv")
    season, camera = rng.choice(["dry", "wet"], N), np.repeat(np.arange(N // 4), 4)
    pl.DataFrame({"image_id": ids, "season": season, "camera": camera}).write_csv("meta.csv")


def run(command):
    words = shlex.split(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["manyhot", *words])  # the page repeats it
        done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, f"{command}: {done.output}"
    return done


def steps_of(out):
    """Return the commands below the chapters of a page."""
    page = Path(out, "report", "index.html").read_text(encoding="utf-8")
    found = re.findall(r'<p class="next">.*?<code>(.*?)</code>', page, re.DOTALL)
    return [html.unescape(re.sub(r"</?span>", "", command)) for command in found]


CALLS = [
    f"diagnose {name} {labels} --predictions '{scores} scores.csv' --scores probability --images 'my photos'"
    for name in ("classes", "calibration", "groups", "errors", "companions --k 1", "labels", "sets")
    for labels in ("l.csv", "one.csv")
    for scores in ("softmax", "sigmoid")
    if (name, scores, labels) != ("sets", "softmax", "l.csv") and (name[:4], labels) != ("comp", "one.csv")
]
CALLS += [
    f"{CALLS[8]} --metadata meta.csv --clusters camera",
    "diagnose protocols l.csv m.csv",
]


@pytest.mark.parametrize("call", CALLS)
def test_the_next_command_runs(files, call):
    done = run(f"{call} --out 'a b'")
    printed = [line.rpartition(": ")[2] for line in done.stdout.splitlines() if line.startswith("next: ")]
    steps = [*steps_of("a b"), *printed]
    assert steps
    for step in steps:
        if "companions" in call:  # the boxes are not known
            assert step == "manyhot diagnose shortcuts 'my photos' --objects FILE --model NAME"
            continue
        assert not re.search(r" [A-Z]{2,}\b", step), step
        run(step.removeprefix("manyhot "))
