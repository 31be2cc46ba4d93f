"""A small report, and a browser to look at it."""

import pyarrow as pa
import pytest

from manyhot.evaluate.report import TITLE, build_report, render
from manyhot.evaluate.report.figures import draw_figures
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.pictures import make_pictures
from manyhot.report.prerender import prepare
from manyhot.tables import Images
from report_pages import (
    compared,
    parse,
    picture_labels,
    picture_predictions,
    small_notes,
    small_tables,
)


@pytest.fixture(scope="session")
def write():
    """Return a function that makes a report without figures and returns its text."""

    def make(results, pairs=None, *, tables=None, **options):
        given = dict(tables or {}) | ({} if pairs is None else {"pairs": pairs})
        return render(build_report(ReportTables(results, given), **{"title": TITLE, **options}))

    return make


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Pictures of four images: with labels, with a broken file, unlabelled, and with an empty set."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("photos")
    ids = ["cat.jpg", "broken.jpg", "new.png", "noise.png"]
    image.new("RGB", (960, 640), "orange").save(folder / ids[0])
    (folder / ids[1]).write_bytes(b"\xff\xd8\xff nothing more")
    image.new("RGBA", (40, 90), (0, 0, 255, 128)).save(folder / ids[2])
    image.new("L", (30, 30), 128).save(folder / ids[3])
    images = Images(pa.table({"image_id": ids, "uri": [str(folder / i) for i in ids]}))
    return make_pictures(images, picture_labels(ids), picture_predictions(ids))


@pytest.fixture(scope="session")
def small(write, pictures):
    """The text of a report with two data sets, own models, comparisons, notes and pictures."""
    results, pairs = small_tables()
    return write(
        results,
        pairs,
        tables=compared(),
        notes=small_notes(),
        pictures=pictures,
        highlight=["my/model"],
        call="manyhot evaluate --labels real.json --out results",
    )


@pytest.fixture(scope="session")
def drawn():
    """The same report with its figures, but without photographs."""
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    results, pairs = small_tables()
    tables = ReportTables(results, {"pairs": pairs, **compared()})
    figures = draw_figures(tables, own=["my/model"])
    report = build_report(tables, highlight=["my/model"], title=TITLE, figures=figures)
    return render(report, prepare(figures))


@pytest.fixture(scope="session")
def page(small):
    return parse(small)
