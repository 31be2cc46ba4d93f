"""Printed tables of numbers carry n, and the interval where there is one."""

import numpy as np
import polars as pl
import pytest

from forking import commands
from manyhot.cli.calibrating import print_calibration
from manyhot.cli.mitigating import print_mitigation
from manyhot.evaluate.calibrate import Calibration
from manyhot.tables import schema
from manyhot.train.mitigate.held_out import Mitigation

IDS = [f"{i:02d}.jpg" for i in range(20)]
CLASSES = np.arange(20) % 5
HEAD = "dataset,model,metric,slice,value,lo,hi,n,n_skipped\n"


def predict(folder, name, images, right):
    """Write a model's ranks of some images, the first of which it has right."""
    rows = [
        f"{IDS[i]},{(CLASSES[i] + (place + (at >= right)) % 5) % 5},{place + 1}\n"
        for at, i in enumerate(images)
        for place in range(5)
    ]
    (folder / f"{name}.csv").write_text("image_id,class_id,rank\n" + "".join(rows))


@pytest.fixture
def folder(tmp_path):
    # Of four images the label set is empty.
    rows = [f"{i},{c},{'' if n >= 16 else c}\n" for n, (i, c) in enumerate(zip(IDS, CLASSES, strict=True))]
    (tmp_path / "labels.csv").write_text("image_id,label,classes\n" + "".join(rows))
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    (tmp_path / "models").mkdir()
    predict(tmp_path / "models", "good", range(20), 15)
    predict(tmp_path / "models", "bad", range(20), 5)
    return tmp_path


def test_calibration_of_events_that_are_not_of_the_same_images(capsys):
    row = {"dataset": "mine", "model": "net", "method": "none", "fitted_to": "", "n_fitted": 5}
    numbers = [("top1", 0.9, 0.85, 0.93, 40), ("ece", 0.1, 0.05, 0.2, 30), ("real1", 0.8, None, None, 40)]
    rows = [
        row | {"metric": m, "value": v, "lo": lo, "hi": hi, "n": n, "n_skipped": 40 - n, "temperature": None}
        for m, v, lo, hi, n in numbers
    ]
    frame = pl.DataFrame(rows, schema_overrides={"temperature": pl.Float64}, infer_schema_length=None)
    table = frame.select(schema("calibration").names).to_arrow().cast(schema("calibration"))
    print_calibration(Calibration(table, schema("prediction_sets").empty_table()), [], False)
    assert capsys.readouterr().out.splitlines() == [
        "mine, net: fitted on 5 images, judged on 40 others",
        "",
        "right if the best class is the original label",
        "               right  ECE                  NLL  Brier  images",
        "as it is  90.0% ±5.0  0.100 (0.050–0.200)    –      –  40 / 30",
        "",
        "right if the best class is in the label set: 40 images",
        "          right  ECE  NLL  Brier",
        "as it is  80.0%    –    –      –",
        "",
    ]


def test_heads_are_printed_with_the_images_of_each_number(capsys):
    numbers = [("lost", "none", 0.5, 20), ("lost", "sets", 0.25, 20), ("ap", "none", 0.75, 100)]
    row = {"dataset": "mine", "model": "net", "main": 0, "companion": 1, "main_name": "horse"}
    row |= {"companion_name": "person", "lo": None, "hi": None, "head": ""}
    row |= dict.fromkeys(("change", "change_lo", "change_hi"))
    rows = [
        row | {"metric": m, "treatment": t, "value": v, "n": n, "n_skipped": 100 - n}
        for m, t, v, n in numbers
    ]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    names = schema("mitigation").names
    print_mitigation(Mitigation(frame.select(names).to_arrow().cast(schema("mitigation"))), [], False)
    assert capsys.readouterr().out.splitlines() == [
        "horse, beside person or not; net; 100 images held out",
        "                             none   sets  images",
        "lost without the companion  50.0%  25.0%      20",
        "average precision           75.0%      –     100",
        "",
    ]


def test_raters_with_their_golden_answers(folder):
    names = {"votes": "rater_id", "golden": "expert_id"}
    votes = [
        (image, 0, rater, "yes" if (n % 2 == 0) ^ ((n + r) % 5 == 0) else "no")
        for n, image in enumerate(IDS)
        for r, rater in enumerate(("ann", "bob", "cyd"))
    ]
    golden = [(image, 0, "eve", "yes" if n % 2 == 0 else "no") for n, image in enumerate(IDS)]
    for name, rows in (("votes", votes), ("golden", golden)):
        frame = pl.DataFrame(rows, ["image_id", "class_id", names[name], "answer"], orient="row")
        frame.write_parquet(folder / f"{name}.parquet")
    shown = commands.run("agreement", "votes.parquet", "--golden", "golden.parquet", cwd=folder).stdout
    lines = [line for line in shown.splitlines() if line.startswith(("rater", "ann"))]
    assert lines[0].split("  ")[0] == "rater"
    assert "like others" in lines[0]
    assert "golden (yes)" in lines[0]
    assert " of 40 " in lines[1]
    assert " 20 (10) " in lines[1]
