"""Many rows at once: by COPY in PostgreSQL."""

import pyarrow as pa
import pytest
import sqlalchemy as sa

from manyhot.reassess.app.store import Store, engines, schema

ODD = ["plain", "", " ", 'a "quoted" one', "a,b\nc\r\n", "\\N", "\\.", "NULL", "Löwe 🦁", "it's", "%s :x ?"]


def test_rows_are_stored_as_they_are(url, monkeypatch):
    monkeypatch.setattr(engines, "_AT_ONCE", 4)
    labels = [None if n % 3 else n for n in range(len(ODD))]
    ids = list(range(1, len(ODD) + 1))
    rows = pa.table(
        {
            "id": ids,
            "name": [f"{n} {text}" for n, text in enumerate(ODD)],
            "uri": ODD,
            "label": pa.array(labels, pa.int32()),
        }
    )
    store = Store(url)
    store._database.write(lambda c: engines.insert_rows(c, schema.images, rows))
    # The next one is numbered after them.
    store._database.write(lambda c: c.execute(schema.images.insert().values(name="next", uri="next")))
    found = store._database.read(lambda c: c.execute(sa.select(schema.images).order_by("id")).all())
    expected = list(zip(ids, rows["name"].to_pylist(), ODD, labels, strict=True))
    assert [tuple(row) for row in found] == [*expected, (len(ODD) + 1, "next", "next", None)]
    store.close()


def test_what_does_not_fit_is_an_error_of_the_database(url):
    store = Store(url)
    rows = pa.table({"id": [1, 1], "name": ["a", "b"], "uri": ["a", "b"]})
    with pytest.raises(sa.exc.DBAPIError):
        store._database.write(lambda c: engines.insert_rows(c, schema.images, rows))
    assert store._database.read(lambda c: c.execute(sa.select(schema.images)).all()) == []
    store.close()


def test_values_are_padded_to_a_power_of_two_with_the_last_one():
    assert [len(engines.padded(range(n))) for n in range(10)] == [0, 1, 2, 4, 4, 8, 8, 8, 8, 16]
    assert engines.padded("abcde") == list("abcdeeee")
