"""With the core alone: judging works, and what needs an extra says which."""

import importlib.util
import json
import subprocess
import sys

import pytest

EXTRAS = ("torch", "torchvision", "timm", "PIL", "pandas", "fastapi", "altair", "ray")


def manyhot(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "manyhot", *arguments], capture_output=True, text=True, timeout=60, cwd=cwd
    )


def test_core_judges(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label,classes\na,0,0 1\nb,1,1\n")
    (tmp_path / "p.csv").write_text("image_id,class_id,rank\na,1,1\nb,0,1\n")
    done = manyhot(
        "evaluate", "--labels", "l.csv", "--predictions", "p.csv", "--out", "o", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    values = {r["metric"]: r["value"] for r in json.loads(done.stdout)["results"]}
    assert (values["top1"], values["real1"]) == (0.0, 0.5)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed: see `.ci/run`")
def test_predicting_names_the_extra(tmp_path):
    assert not [m for m in EXTRAS if importlib.util.find_spec(m)]
    (tmp_path / "a.png").write_bytes(b"")
    done = manyhot("predict", ".", "--model", "efficientnet-lite0", cwd=tmp_path)
    assert done.returncode == 4
    assert 'pip install "manyhot[models]"' in done.stderr
