"""A name of published data wins over a file called like it; a path is a path."""

from pathlib import Path

import pytest

from manyhot.data.benchmarks import BENCHMARKS, benchmark_named, data_set


@pytest.mark.parametrize("exists", [False, True])
def test_names_and_paths(tmp_path, monkeypatch, exists):
    monkeypatch.chdir(tmp_path)
    if exists:
        Path("imagenet").mkdir()
        Path("imagenet-val").mkdir()
    assert benchmark_named("imagenet") is BENCHMARKS["imagenet"]
    assert data_set("imagenet-val").name == "imagenet-val"
    assert benchmark_named("./imagenet") is None
    assert data_set("./imagenet-val") is None
    # As the command line passes it, where only a file or a name is taken.
    assert (benchmark_named(Path("imagenet")) is None) is exists
    assert (data_set(Path("imagenet-val")) is None) is exists
