"""`manyhot status` where the answers are in a database of one's own."""

import json
import sqlite3

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from manyhot import cli, tables
from manyhot.errors import OutputError
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.app import CampaignSettings
from manyhot.reassess.init import init_campaign
from manyhot.reassess.status import campaign_status
from stores import YES, answer


@pytest.fixture
def campaign(tmp_path):
    """Return a campaign of two images with proposals."""
    images = {
        "image_id": ["a.png", "b.png"],
        "uri": ["a.png", "b.png"],
        "label": pa.array([0, 1], pa.int32()),
    }
    tables.write(pa.table(images), tmp_path / "images.parquet", "images")
    (tmp_path / "classes.txt").write_text("apple\npear\n")
    made = init_campaign(
        tmp_path / "camp", images=tmp_path / "images.parquet", classes=tmp_path / "classes.txt"
    ).campaign
    proposals = {
        "image_id": ["a.png", "a.png", "b.png", "b.png"],
        "class_id": pa.array([0, 1, 0, 1], pa.int32()),
        "score": pa.array([0.5] * 4, pa.float32()),
        "n_models": pa.array([1] * 4, pa.int32()),
        "source": ["test"] * 4,
    }
    about = {"n_classes": "2", "classes": made.class_hash}
    tables.write(pa.table(proposals), made.path("proposals"), "proposals", about=about)
    tables.write_predictions(
        tables.Predictions(pa.array(["a.png", "b.png"]), "model", np.array([[0], [1]]), n_classes=2),
        made.path("predictions") / "model.parquet",
    )
    return made.folder


def run(*words):
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_is_not_exported_from_the_database_of_the_environment(campaign, url, monkeypatch):
    monkeypatch.setenv("MANYHOT_DATABASE", url)
    empty = json.loads(run("status", campaign, "--json"))
    assert (empty["notes"], empty["command"]) == ([], f"manyhot annotate {campaign}")
    with open_annotation(campaign, database=url, settings=CampaignSettings(raters=1)) as annotation:
        ann = annotation.store.invited(annotation.store.invite("ann"))
        answer(annotation.store, ann, annotation.store.queue(ann).visits[0], value=YES)
        told = json.loads(run("status", campaign, "--json"))  # while the app runs
    assert told["notes"] == ["the database contains 2 answers that are not in votes.parquet yet"]
    assert told["command"] == f"manyhot export {campaign}"
    assert run("export", campaign).startswith("wrote ")
    told = json.loads(run("status", campaign, "--json"))
    assert (told["notes"], told["stages"]["votes"]["count"]) == ([], 2)
    monkeypatch.delenv("MANYHOT_DATABASE")
    (campaign / "votes.parquet").unlink()
    assert campaign_status(campaign, database=url).command == f"manyhot export {campaign} --database {url}"
    told = json.loads(run("status", campaign, "--json", "--database", url))
    assert told["command"] == f"manyhot export {campaign} --database {url}"


def test_to_ask_makes_no_table_and_no_file(campaign, new_postgres, tmp_path):
    address = new_postgres()
    assert campaign_status(campaign, database=address).command.startswith(f"manyhot annotate {campaign} ")
    engine = sa.create_engine(sa.make_url(address).set(drivername="postgresql+psycopg"))
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()
    campaign_status(campaign, database=f"sqlite:///{tmp_path}/none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


def test_a_database_that_is_not_there(campaign):
    with pytest.raises(OutputError) as error:
        campaign_status(campaign, database="postgresql://ann:secret@127.0.0.1:1/none")
    assert str(error.value) == (
        "The database is not available.\n"
        "  where:   postgresql://ann:***@127.0.0.1:1/none\n"
        '  got:     connection failed: connection to server at "127.0.0.1", port 1 failed: '
        "Connection refused\n"
        "  do:      check that the disk has free space and that the server is running"
    )


def test_a_file_that_is_no_database(campaign, tmp_path):
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE things (name TEXT)")
    assert campaign_status(campaign, database=f"sqlite:///{tmp_path}/other.sqlite").notes == ()
