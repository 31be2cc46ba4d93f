"""A name of published data wins over a file called like it; a path is a path."""

from pathlib import Path

import pytest

from manyhot.data.benchmarks import BENCHMARKS, benchmark_named, data_set, is_published_name, same_name_note


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


def test_a_published_name_wins_over_a_folder_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert same_name_note("imagenet") == ""
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "results.parquet").touch()
    assert same_name_note("imagenet") == (
        "imagenet refers to the published data set; to read the file or folder of this name, pass ./imagenet"
    )
    for path in ("./imagenet", Path("imagenet")):
        assert (is_published_name(path), same_name_note(path)) == (False, "")
    assert is_published_name("imagenet-val")


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("imagenet-real", "imagenet-val"), ("multilabelfy-imagenetv2", "imagenetv2-matched-frequency")],
)
def test_label_sets_of_the_catalogue_name_their_data_set_unless_there_is_such_a_path(
    tmp_path, monkeypatch, name, dataset
):
    monkeypatch.chdir(tmp_path)
    assert data_set(name) is data_set(dataset)
    assert is_published_name(name)
    assert data_set(f"./{name}") is None
    Path(name).mkdir()
    # Not as for names of data sets: earlier versions read the folder.
    assert data_set(name) is data_set(Path(name)) is None
    assert data_set("tsipras") is None  # a benchmark
    assert data_set("x" * 5000) is None
