"""Printed tables of numbers carry n, and the interval where there is one."""

import numpy as np
import polars as pl

from forking import commands
from manyhot import agreement

IDS = [f"{i:02d}.jpg" for i in range(20)]


def test_raters_with_their_golden_answers(tmp_path):
    names = {"votes": "rater_id", "golden": "expert_id"}
    votes = [
        (image, 0, rater, "yes" if (n % 2 == 0) ^ ((n + r) % 5 == 0) else "no")
        for n, image in enumerate(IDS)
        for r, rater in enumerate(("ann", "bob", "cyd"))
    ]
    golden = [(image, 0, "eve", "yes" if n % 2 == 0 else "no") for n, image in enumerate(IDS)]
    for name, rows in (("votes", votes), ("golden", golden)):
        frame = pl.DataFrame(rows, ["image_id", "class_id", names[name], "answer"], orient="row")
        frame.write_parquet(tmp_path / f"{name}.parquet")
    shown = commands.run("agreement", "votes.parquet", "--golden", "golden.parquet", cwd=tmp_path).stdout
    lines = [line for line in shown.splitlines() if line.startswith(("rater", "ann"))]
    assert lines[0].split("  ")[0] == "rater"
    assert "like others" in lines[0]
    assert "golden (yes)" in lines[0]
    assert " of 40 " in lines[1]
    assert " 20 (10) " in lines[1]


def test_all_raters_are_shown_also_those_without_golden_answers():
    rng = np.random.default_rng(0)
    rows = [
        (f"{q}.jpg", 0, rater, "yes" if q % 2 ^ (rng.random() < 0.3) else "no")
        for q in range(30)
        for rater in ("ann", "bob", "cyd")
        if rater == "bob" or q > 9
    ]
    votes = pl.DataFrame(rows, ["image_id", "class_id", "rater_id", "answer"], orient="row").to_arrow()
    experts = [(f"{q}.jpg", 0, "eve", "yes" if q % 2 else "no") for q in range(10)]
    golden = pl.DataFrame(experts, ["image_id", "class_id", "expert_id", "answer"], orient="row").to_arrow()
    lines = list(agreement(votes, golden, resamples=0).lines())
    shown = {line.split()[0]: line for line in lines if line.startswith(("rater ", "ann", "bob", "cyd"))}
    assert shown.keys() == {"rater", "ann", "bob", "cyd"}
    assert "measured on" in shown["rater"]
    assert shown["bob"].rstrip().endswith("golden answers")
    assert shown["ann"].rstrip().endswith("other raters")
    assert " 30 " in shown["bob"]
    assert " 20 " in shown["cyd"]


def test_hundreds_of_raters_are_cut_and_that_is_said():
    rng = np.random.default_rng(0)
    rows = [
        (f"{q}.jpg", 0, f"r{i:03d}", "yes" if q % 2 ^ (rng.random() < i / 400) else "no")
        for q in range(20)
        for i in range(200)
    ]
    votes = pl.DataFrame(rows, ["image_id", "class_id", "rater_id", "answer"], orient="row").to_arrow()
    found = agreement(votes, resamples=0)
    lines = list(found.lines())
    shown = [line.split()[0] for line in lines if line.startswith("r") and line[1:4].isdigit()]
    ranked = sorted(found.raters.to_pylist(), key=lambda r: r["informedness"])
    expected = [r["rater_id"] for r in [*ranked[:10], *ranked[-10:]]]
    assert shown == expected
    note = "20 of 200 raters are shown: the least and the most informative ones; `out` writes all raters"
    assert note in lines
