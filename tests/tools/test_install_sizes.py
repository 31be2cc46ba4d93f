"""The packages of an extra, compared with what pip says that it would install."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "tools" / "install_sizes.py"
spec = importlib.util.spec_from_file_location("install_sizes", PATH)
sizes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sizes)


def test_packages_of_the_core_and_of_extras():
    core = sizes.closure(frozenset())
    assert {"numpy", "scipy", "pyarrow", "polars", "polars-runtime-32", "typer", "rich", "markupsafe"} <= core
    assert not core & {"manyhot", "torch", "altair", "fastapi", "pandas", "pytest"}
    report = sizes.closure(frozenset({"report"}))
    assert report - core >= {"altair", "vl-convert-python", "pillow"}
    train = sizes.closure(frozenset({"train"}))  # an extra of an extra
    assert sizes.closure(frozenset({"models"})) < train


def test_sizes_are_those_of_the_files(tmp_path):
    import numpy as np

    folder = Path(np.__file__).parent
    files = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc")
    assert files <= sizes.size_of("numpy") < 2.5 * files


def test_a_package_that_is_not_installed():
    with pytest.raises(SystemExit) as error:
        sizes.size_of("no-such-package")
    assert str(error.value) == "no-such-package is not installed; run `make test` first"
