"""How much of a campaign is in memory while its database is filled."""

import pyarrow as pa

from manyhot.reassess.app.store import fill, schema
from manyhot.reassess.app.store.fill import ImageQuestions

ROOM = 200  # characters of each location


def test_images_are_in_memory_once_while_they_are_stored_and_not_after():
    tables = (schema.images, schema.pages, schema.questions)
    columns = fill._Columns(4, dict.fromkeys(tables, 0), lambda names: {})
    before = pa.total_allocated_bytes()
    n = 20_000
    for i in range(n):
        columns.add(ImageQuestions(f"{i}.jpg", str(i).zfill(ROOM), None, (1, 2)))
    rows = columns.tables()

    table, images = next(rows)
    assert (table, len(images)) == (schema.images, n)
    assert n * ROOM < pa.total_allocated_bytes() - before < 2 * n * ROOM
    del images
    table, pages = next(rows)
    assert (table, len(pages)) == (schema.pages, n)
    assert pa.total_allocated_bytes() - before < n * ROOM
