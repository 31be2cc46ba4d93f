"""The server is killed while raters answer, and afterwards each acknowledged answer is there once.

The load is that of benchmarks/annotate.py, made small: real processes, real sockets, kill -9.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = Path(__file__).parents[3] / "benchmarks" / "annotate.py"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Return the folder of a campaign that the first run makes, and the next takes."""
    return tmp_path_factory.mktemp("load") / "base"


def load(campaign, *options):
    """Run the benchmark and return what it prints; it fails where an answer is lost, or there twice."""
    command = [sys.executable, LOAD, "--raters", "6", "--faster", "40", "--pages", "150", "--examples", "0"]
    command += ["--keep", campaign]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_killed_twice_no_answer_is_lost_and_none_is_there_twice(request, campaign, database):
    if database == "postgresql":
        request.getfixturevalue("new_postgres")  # skips where there is none
    told = load(campaign, "--database", database, "--seconds", "5", "--kills", "2")
    kept = re.search(r"each of the ([\d,]+) acknowledged answers is there once, and nothing else", told)
    assert int(kept[1].replace(",", "")) > 100, told
    lost = re.search(r"(\d+) connections lost", told)
    assert int(lost[1]) > 0, "the kills met nobody"
    assert " 0 errors" in told
