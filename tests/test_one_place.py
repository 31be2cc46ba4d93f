"""A feature is added in few places: the examples of docs/architecture.md, in a copy of the package."""

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet
import pytest

import manyhot
from forking import LIBRARIES, MAIN, Forks
from manyhot.tables import write_labels, write_predictions
from manyhot.tables.array_inputs import as_labels, as_predictions

REPO = Path(__file__).parents[1]
PAGE = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^% not run: tests/test_one_place.py writes it to (\S+)\n```python\n(.*?)^```$", re.M | re.S
)


COPIED = f"""
import sys
sys.path.insert(0, "src")
for name in [name for name in sys.modules if name.partition(".")[0] == "manyhot"]:
    del sys.modules[name]
{MAIN}
"""
"""Runs the command line of a copy in a process that has imported other packages, and perhaps the original."""


@pytest.fixture(scope="module")
def libraries():
    """Return what forks a process that has imported other packages: half the time of a new one."""
    forks = Forks(LIBRARIES)
    yield forks
    forks.close()


@pytest.fixture
def copy(tmp_path, libraries):
    """Return a copy of the package, two models and label sets, and a function that runs its command line."""
    source = tmp_path / "src" / "manyhot"
    # With the bytecode that is there: compiling the package takes each process as long as all that it does.
    shutil.copytree(Path(manyhot.__file__).parent, source)
    write_labels(as_labels([[0], [0, 1], [1], [1]], n_classes=3), tmp_path / "labels.parquet")
    (small,) = as_predictions({"small": np.array([[0, 1], [0, 1], [0, 2], [1, 2]])}, n_classes=3)
    write_predictions(small, tmp_path / "small.parquet")

    def run(*words, code=0):
        return libraries.run(*words, code=code, cwd=tmp_path, script=COPIED)

    return source, run


def test_a_diagnosis_is_two_files_and_a_line_of_the_index(copy):
    source, run = copy
    blocks = dict(BLOCK.findall(PAGE))
    index = blocks.pop("src/manyhot/commands.py")
    assert len(blocks) == 2
    for name, text in blocks.items():
        assert not (source.parents[1] / name).exists()
        (source.parents[1] / name).write_text(text)
    path = source / "commands.py"
    path.write_text(
        path.read_text().replace(
            "COMMANDS: dict[str, Command] = {\n", f"COMMANDS: dict[str, Command] = {{\n{index}"
        )
    )
    inputs = ("labels.parquet", "--predictions", "small.parquet")
    run("diagnose", "recall", *inputs, "--out", "found")
    rows = pl.read_parquet(source.parents[1] / "found" / "class_recall.parquet")
    assert rows["class_id"].to_list() == [0, 1]
    assert rows["recall"].to_list() == [1.0, 1 / 3]
    assert rows["n"].to_list() == [2, 3]
    page = (source.parents[1] / "found" / "report" / "index.html").read_text()
    assert "Which classes are missed" in page
    assert "--k" in run("diagnose", "recall", "--help").stdout


METRIC = '''

@register("metric", "second_rank", better="higher", label="Second best", unit="share", default=True)
def second_rank(case: Case) -> Ratio:
    """Share of images whose second-best class is in the label set."""
    return mean_over(case.hit[:, 1:2].any(axis=1), case.reaching(2, case.labels.scored))
'''


def test_a_metric_with_label_and_unit_is_one_function(copy):
    source, run = copy
    path = source / "core" / "accuracy.py"
    path.write_text(path.read_text() + METRIC)
    inputs = ("labels.parquet", "--predictions", "small.parquet")
    run("evaluate", *inputs, "--out", "found")
    rows = pl.read_csv(source.parents[1] / "found" / "results.csv").filter(metric="second_rank", slice="all")
    assert rows["value"].to_list() == [0.25]
    page = (source.parents[1] / "found" / "report" / "index.html").read_text()
    assert "Second best" in page
    assert "Share of images whose second-best class is in the label set" in page


def test_an_option_of_evaluate_is_one_field_with_its_sentence(copy):
    source, run = copy
    path = source / "evaluate" / "options.py"
    text = path.read_text().replace(
        "    seed: Seed = 0\n", "    seed: Seed = 0\n    folds: Annotated[int, AtLeast(1)] = 5\n", 1
    )
    path.write_text(text.replace("    gallery\n", "    folds\n        Number of folds.\n    gallery\n", 1))
    path = source / "evaluate" / "judge.py"  # where an option is used, it is read from the same object
    text = path.read_text()
    read = '            "seed": str(self._options.seed),\n'
    assert read in text
    path.write_text(text.replace(read, f'{read}            "folds": str(self._options.folds),\n'))
    shown = " ".join(run("evaluate", "--help").stdout.split())
    assert "--folds N Number of folds. Allowed: 1 or more. [default: 5]" in shown.replace("│ ", "")
    inputs = ("labels.parquet", "--predictions", "small.parquet")
    run("evaluate", *inputs, "--folds", "0", code=2)
    run("evaluate", *inputs, "--folds", "2", "--out", "found")
    found = pyarrow.parquet.read_schema(source.parents[1] / "found" / "results.parquet")
    assert found.metadata[b"manyhot.folds"] == b"2"
