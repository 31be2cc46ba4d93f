"""Printed tables of numbers carry n, and the interval where there is one."""

import polars as pl

from forking import commands

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
