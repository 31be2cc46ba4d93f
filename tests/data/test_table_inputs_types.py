"""Frames whose columns have types that Arrow cannot count, write or infer: categories, intervals, objects."""

import datetime
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from manyhot import diagnose_groups, evaluate
from manyhot.errors import InputError

N = 40
IDS = [f"i{k}" for k in range(N)]
Y = np.arange(N) % 2
LABELS = pd.DataFrame({"a": Y, "b": 1 - Y}, IDS)
SCORES = LABELS * 0.8 + 0.1
MARKETS = ["DE", "FR"] * (N // 2)


def slices(images, labels=LABELS, scores=SCORES):
    """Return the slices of the column ``market``, with the number of images."""
    found = evaluate(labels, {"m": scores}, scores="probability", images=images, slices=["market"])
    rows = found.to_pandas().query("metric == 'map_macro' and slice.str.startswith('market=')")
    return dict(zip(rows["slice"].str.removeprefix("market="), rows["n"] + rows["n_skipped"], strict=True))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.Categorical(MARKETS), ["DE", "FR"]),
        (pd.Categorical(MARKETS, ordered=True), ["DE", "FR"]),
        (pd.Categorical([1, 2] * (N // 2)), ["1", "2"]),
        (pd.cut(range(N), [-1, 19, 39]), ["(-1, 19]", "(19, 39]"]),
        (pd.PeriodIndex(["2026-01", "2026-02"] * (N // 2), freq="M"), ["2026-01", "2026-02"]),
        (pd.to_timedelta([1, 2] * (N // 2), unit="D"), ["1 days 00:00:00", "2 days 00:00:00"]),
        (np.array([7, "x"] * (N // 2), object), ["7", "x"]),
        ([uuid.UUID(int=k % 2) for k in range(N)], [str(uuid.UUID(int=0)), str(uuid.UUID(int=1))]),
        (pd.arrays.SparseArray([0, 1] * (N // 2)), ["0", "1"]),
        ([datetime.date(2026, 1, 1 + k % 2) for k in range(N)], ["2026-01-01", "2026-01-02"]),
    ],
)
def test_columns_of_pandas_define_slices_by_their_values(values, expected):
    found = slices(pd.DataFrame({"image_id": IDS, "market": values}))
    assert found == dict.fromkeys(expected, N // 2)


def test_texts_beside_labels_may_be_intervals_periods_and_mixed_objects():
    mixed = np.array([7, "x"] * (N // 2), object)
    for values in (pd.cut(range(N), 2), pd.period_range("2026-01", periods=N, freq="M"), mixed):
        found = evaluate(LABELS.assign(note=values), {"m": SCORES}, scores="probability")
        assert found.value("map_macro") == 1


def test_missing_categories_are_missing():
    values = pd.Categorical([None if k < 4 else market for k, market in enumerate(MARKETS)])
    assert slices(pd.DataFrame({"image_id": IDS, "market": values})) == {"DE": 18, "FR": 18}


def test_dictionaries_of_arrow_parquet_and_polars_are_their_values(tmp_path):
    table = pa.table({"image_id": IDS, "market": pa.array(MARKETS).dictionary_encode()})
    pq.write_table(table, tmp_path / "images.parquet")
    frames = [
        pl.DataFrame({"image_id": IDS, "market": pl.Series(MARKETS, dtype=kind)})
        for kind in (pl.Categorical, pl.Enum(["DE", "FR"]))
    ]
    for images in (table, str(tmp_path / "images.parquet"), *frames):
        assert slices(images) == {"DE": N // 2, "FR": N // 2}


def test_ids_of_several_types_are_texts():
    ids = [1, *IDS[1:]]
    assert slices(
        pd.DataFrame({"image_id": ids, "market": MARKETS}), LABELS.set_axis(ids), SCORES.set_axis(ids)
    ) == {"DE": N // 2, "FR": N // 2}


def test_the_metadata_of_groups_may_be_a_frame():
    metadata = pd.DataFrame({"image_id": IDS, "market": pd.Categorical(MARKETS)})
    found = diagnose_groups(LABELS, {"m": SCORES}, scores="probability", metadata=metadata, min_images=5)
    assert {row["value"] for row in found.group_rates.to_pylist()} == {"DE", "FR"}


def test_an_index_of_several_levels_and_columns_of_one_name_are_refused():
    levels = pd.MultiIndex.from_arrays([IDS, IDS], names=["image_id", "case"])
    with pytest.raises(InputError, match=r"(?s)several levels.*image_id, case.*droplevel"):
        evaluate(LABELS.set_index(levels), {"m": SCORES}, scores="probability")
    with pytest.raises(InputError, match=r"(?s)Two columns of the table have the same name.*'b'"):
        evaluate(pd.concat([LABELS, LABELS[["b"]]], axis=1), {"m": SCORES}, scores="probability")
