"""The fuzzer finds what it looks for, repeats its cases, and finds nothing in a few hundred of them."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fuzz():
    sys.path.insert(0, str(REPO / "tools"))
    try:
        import fuzz
        import fuzz_corpus
        import fuzz_mutations
    finally:
        sys.path.remove(str(REPO / "tools"))
    return fuzz, fuzz_corpus, fuzz_mutations


@pytest.fixture(scope="module")
def seeds(fuzz):
    return fuzz[1].corpus()


def test_mutations_depend_on_the_seed_alone(fuzz, seeds, tmp_path):
    mutate = fuzz[2].mutate
    for seed in seeds:
        path = tmp_path / seed.name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed.make(path)
        data = path.read_bytes()
        first, again = (mutate(seed.kind, data, random.Random("1 7")) for _ in range(2))
        assert first == again or seed.kind == "npz"  # its members have times


def test_changes_that_do_not_matter_do_not(fuzz, seeds, tmp_path):
    """What the fuzzer compares is equal for other compressions, line ends and layouts."""
    tested = set()
    for seed in seeds:
        path = tmp_path / seed.name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed.make(path)
        fuzz[2].write_beside(tmp_path, seed.beside)
        same = fuzz[2].harmless(seed.kind, path.read_bytes(), random.Random(3))
        if seed.exact and same is not None:
            before = seed.read(path)
            path.write_bytes(same)
            assert seed.read(path) == before, seed.name
            tested.add(seed.kind)
    assert tested == {"json", "csv", "parquet", "npz", "toml"}


READS = {
    "traceback": lambda path: [][1],
    "forbidden": lambda path: path.with_name("written").write_text("x"),
    "read": lambda path: path.read_bytes(),
}


@pytest.mark.parametrize("outcome", READS)
def test_what_is_a_failure(fuzz, tmp_path, outcome):
    seed = fuzz[1].Seed("a.bin", lambda path: path.write_bytes(b"abc"), READS[outcome], "bytes", exact=False)
    watch = fuzz[0].Watch(tmp_path)
    found = fuzz[0].run_case([seed], [(b"abc", None)], tmp_path / "case", watch, 0, 1)
    assert found["outcome"] == outcome
    assert found["seed"] == "a.bin"


def test_a_change_that_must_not_matter_but_does(fuzz, tmp_path):
    seed = fuzz[1].Seed("a.csv", lambda path: path.write_bytes(b"a,b\n1,2\n"), Path.read_bytes, "csv")
    watch = fuzz[0].Watch(tmp_path)
    cases = [
        fuzz[0].run_case([seed], [(b"a,b\n1,2\n", b"a,b\n1,2\n")], tmp_path / "case", watch, 0, number)
        for number in range(50)
    ]
    assert {case["outcome"] for case in cases} == {"read", "differs"}


@pytest.mark.slow
def test_a_few_hundred_cases_fail_nowhere():
    line = [sys.executable, str(REPO / "tools" / "fuzz.py"), "--cases", "400", "--seed", "5"]
    found = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout
    assert "400 cases of seed 5: " in found.stdout
