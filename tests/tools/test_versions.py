"""Which versions are tested together: those of pyproject.toml, on Pythons that run."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from scripts import load


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load(Path(__file__).resolve().parents[2] / "tools" / "versions.py")


def test_the_oldest_versions_are_the_lower_bounds_that_hold_on_a_python(tool, monkeypatch):
    asked = ["a>=1.2,<3", "b>=0.5", "a>=1.10; python_version >= '3.13'"]
    monkeypatch.setitem(tool.PROJECT, "dependencies", asked)
    assert tool.oldest("3.12") == ["a==1.2", "b==0.5"]
    assert tool.oldest("3.13") == ["a==1.10", "b==0.5"]


def test_the_pythons_begin_with_the_one_that_is_required(tool):
    pythons = tool.pythons()
    assert len(pythons) > 1
    assert tool.PROJECT["requires-python"] == f">={pythons[0]}"


def test_a_python_is_found_on_path_if_it_runs(tool, tmp_path, monkeypatch):
    for folder, script in {"shim": "exit 127", "real": "echo 3.99"}.items():
        (tmp_path / folder).mkdir()
        python = tmp_path / folder / "python3.99"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'shim'}:{tmp_path / 'real'}")
    assert tool.interpreter("3.99") == str(tmp_path / "real" / "python3.99")


def test_a_python_that_is_absent_is_named_and_a_failure(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tool, "checked", lambda command: (Path(command[-1]) / "a.whl").touch())
    assert tool.main(["3.98", "--pins", "newest"]) == 1
    assert capsys.readouterr().out.endswith(": not tested: no python3.98 on PATH\n")
