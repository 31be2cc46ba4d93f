"""Results with what goes with them."""

import pyarrow as pa
import pytest

from manyhot.errors import InputError
from manyhot.tables import Results, read_results_folder, schema, write


def table(kind, rows):
    return pa.Table.from_pylist(rows, schema=schema(kind))


@pytest.fixture
def results():
    end = {"dataset": "a", "metric": "top1", "slice": "all"}
    numbers = [
        end | {"model": m, "value": v, "lo": None, "hi": None, "n": 9, "n_skipped": 1}
        for m, v in (("fv_4k", 0.2), ("vgg", 0.6), ("resnet", 0.7))
    ]
    pairs = [
        end
        | {
            "model_a": a,
            "model_b": b,
            "difference": 0.1,
            "lo": None,
            "hi": None,
            "p": 0.1,
            "p_adjusted": 0.2,
            "n": 9,
        }
        for a, b in (("fv_4k", "vgg"), ("vgg", "resnet"), ("resnet", "fv_4k"))
    ]
    samples = [end | {"model": m, "values": [0.1, 0.2]} for m in ("fv_4k", "vgg", "resnet")]
    models = [{"model": "fv_4k", "family": "fv"}, {"model": "vgg", "family": "vgg"}]
    return Results(
        table("results", numbers),
        table("pairs", pairs),
        table("samples", samples),
        table("models", models),
        "mine",
    )


def test_numbers_and_samples_are_found_by_their_end(results):
    end = ("a", "top1", "all")
    values = {m: (0.1 * v, None, None, 9) for m, v in (("fv_4k", 2), ("vgg", 6), ("resnet", 7))}
    assert {m: pytest.approx(values[m]) for m in values} == results.values_at[end]
    assert results.sample_rows == {end: {"fv_4k": 0, "vgg": 1, "resnet": 2}}
    assert results.datasets == ["a"]
    assert repr(results) == "Results('mine', 3 models, 1 data sets, 1 metrics)"


def test_models_are_left_out_everywhere(results):
    kept = results.without(["fv_*"])
    assert kept.table["model"].to_pylist() == kept.samples["model"].to_pylist() == ["vgg", "resnet"]
    assert kept.pairs.select(["model_a", "model_b"]).to_pylist() == [{"model_a": "vgg", "model_b": "resnet"}]
    assert kept.models["model"].to_pylist() == ["vgg"]
    assert len(results) == 3  # as it was
    assert results.without([]) is results


def test_a_folder(results, tmp_path):
    write(results.table, tmp_path / "results.parquet", "results")
    alone = read_results_folder(tmp_path)
    assert (len(alone), alone.pairs.num_rows, alone.samples.num_rows) == (3, 0, 0)
    for kind in ("pairs", "samples", "models"):
        write(getattr(results, kind), tmp_path / f"{kind}.parquet", kind)
    whole = read_results_folder(tmp_path)
    assert (whole.pairs.num_rows, whole.samples.num_rows, whole.models.num_rows) == (3, 3, 2)
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="The file is not a complete Parquet file"):
        read_results_folder(tmp_path)


def test_a_folder_without_results(tmp_path):
    with pytest.raises(InputError) as error:
        read_results_folder(tmp_path)
    assert str(error.value) == (
        "The folder contains no results.\n"
        f"  where:   {tmp_path}\n"
        "  allowed: a folder with results.parquet, written by manyhot evaluate or manyhot compare"
    )


def test_tables_are_checked(results):
    with pytest.raises(InputError, match="The pairs table lacks the column 'model_a'"):
        Results(results.table, results.table)
