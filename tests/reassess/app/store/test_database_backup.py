"""A campaign in one file, and everything goes on elsewhere."""

import csv
import json
import os
import shutil
import sqlite3
import stat
import threading
import zipfile
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from manyhot import tables
from manyhot.errors import InputError, OutputError
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.app import CampaignSettings
from manyhot.reassess.app.store import NewRemark
from manyhot.reassess.backup import backup_campaign, restore_campaign
from manyhot.reassess.export_votes import export_votes
from manyhot.reassess.init import init_campaign
from stores import YES, answer

CLASSES = 3


@pytest.fixture
def campaign(tmp_path):
    return new_campaign(tmp_path)


def new_campaign(tmp_path):
    """Return a campaign of four generated images with proposals."""
    photos = tmp_path / "photos"
    names = [f"kind{n % 2}/photo{n}.png" for n in range(4)]
    for name in names:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (30, 20), "red").save(photos / name)
    ids = [name.rpartition("/")[2] for name in names]
    (tmp_path / "classes.txt").write_text("apple\npear\nfig\n")
    uris = [str(photos / name) for name in names]
    images = pa.table({"image_id": ids, "uri": uris, "label": pa.array([0, 1, 0, 1], pa.int32())})
    tables.write(images, tmp_path / "images.parquet", "images")
    made = init_campaign(
        tmp_path / "c", images=tmp_path / "images.parquet", classes=tmp_path / "classes.txt"
    ).campaign
    asked = [(i, c) for i in ids for c in range(CLASSES)]
    proposals = pa.table(
        {
            "image_id": [i for i, _ in asked],
            "class_id": pa.array([c for _, c in asked], pa.int32()),
            "score": pa.array([0.5] * len(asked), pa.float32()),
            "n_models": pa.array([1] * len(asked), pa.int32()),
            "source": ["test"] * len(asked),
        }
    )
    about = {"n_classes": str(CLASSES), "classes": made.class_hash}
    tables.write(proposals, made.path("proposals"), "proposals", about=about)
    return made.folder


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request):
    """Return a function that gives the address of a new database; None stands for a file in the campaign."""
    if request.param == "sqlite":
        return lambda: None
    return request.getfixturevalue("new_postgres")


def begin(folder, database=None):
    """Answer half of the questions; return tokens of an invitation and a session, and what was answered."""
    with open_annotation(
        folder, database=database, settings=CampaignSettings(raters=1, golden_every=0)
    ) as open_:
        store = open_.store
        invitation = store.invite("ann")
        ann = store.invited(invitation)
        session = store.begin_session(ann)
        for _ in range(2):
            visit = store.queue(ann).visits[0]
            assert len(answer(store, ann, visit, value=YES).stored) == CLASSES
        open_visit = store.queue(ann).visits[0]
        store.store(ann, [NewRemark("remark-1", open_visit.key, "é ✓")])
        return invitation, session, open_visit.key


def all_rows(folder, database=None):
    with open_annotation(folder, database=database) as open_:

        def read(connection):
            from manyhot.reassess.app.store import schema

            return {
                table.name: connection.execute(sa.select(table).order_by(*table.primary_key)).all()
                for table in schema.metadata.sorted_tables
            }

        return open_.store._database.read(read)


def test_a_campaign_goes_on_elsewhere(campaign, place, tmp_path):
    here, there = place(), place()
    invitation, session, visit_key = begin(campaign, here)
    before = all_rows(campaign, here)
    done = backup_campaign(campaign, tmp_path / "b.zip", database=here)
    assert done.manifest.counts["votes"] == 6
    assert done.manifest.counts["remarks"] == 1
    assert done.written == (tmp_path / "b.zip",)
    assert stat.S_IMODE((tmp_path / "b.zip").stat().st_mode) == 0o600
    shutil.rmtree(campaign)
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    restored = restore_campaign(tmp_path / "b.zip", tmp_path / "d", database=there)
    assert all_rows(tmp_path / "d", there) == before
    with open_annotation(restored.campaign.folder, database=there, image_folder=tmp_path / "moved") as open_:
        store = open_.store
        ann = store.of_session(session)
        assert ann == store.invited(invitation)
        visits = store.queue(ann).visits
        assert visits[0].key == visit_key
        assert visits[0].uri.startswith(str(tmp_path / "moved"))
        for visit in visits:
            assert open_.app.state.context.pictures.read(visit.uri, "small")
            assert len(answer(store, ann, visit).stored) == CLASSES
        assert store.queue(ann).reason == "finished"
        assert store.last_done(ann).key == visits[-1].key
    votes, remarks = export_votes(tmp_path / "d", database=there).written
    assert len(tables.read(votes, "votes")) == 12
    assert tables.read(remarks, "remarks")["text"].to_pylist() == ["é ✓"]


@pytest.mark.parametrize("back", [False, True])
def test_from_one_kind_of_database_to_the_other(campaign, new_postgres, tmp_path, back):
    postgres = new_postgres()
    here, there = (postgres, None) if back else (None, postgres)
    begin(campaign, here)
    before = all_rows(campaign, here)
    backup_campaign(campaign, tmp_path / "b.zip", database=here)
    restore_campaign(tmp_path / "b.zip", tmp_path / "d", database=there)
    assert all_rows(tmp_path / "d", there) == before
    # Numbers go on after those that came.
    with open_annotation(tmp_path / "d", database=there) as open_:
        if there:  # its planner knows how much came: of an unknown table it reads the whole
            known = sa.text("SELECT reltuples FROM pg_class WHERE relname = 'votes'")
            assert open_.store._database.read(lambda c: c.scalar(known)) == len(before["votes"])
        open_.store.invite("bob")
        assert [rater.name for rater in open_.store.raters()] == ["ann", "bob"]


def test_while_raters_answer_it_is_of_one_moment(campaign, place, tmp_path):
    """Changes always write two settings alike: a backup that sees two moments would hold two numbers."""
    from manyhot.reassess.app.store.campaign_settings import put_value

    database = place()
    with open_annotation(campaign, database=database) as open_:
        begun, ended = threading.Event(), threading.Event()

        def write():
            n = 0
            while not ended.is_set():
                n += 1
                open_.store._database.write(lambda c, n=n: (put_value(c, "aaa", n), put_value(c, "zzz", n)))
                begun.set()

        thread = threading.Thread(target=write)
        thread.start()
        assert begun.wait(60)
        for turn in range(3):
            backup_campaign(campaign, tmp_path / f"{turn}.zip", database=database)
        ended.set()
        thread.join()
    for turn in range(3):
        with zipfile.ZipFile(tmp_path / f"{turn}.zip") as archive:
            rows = pq.read_table(archive.open("database/settings.parquet")).to_pylist()
        found = {row["key"]: row["value"] for row in rows}
        assert found["aaa"] == found["zzz"]


def test_files_of_all_kinds_come_back(campaign, tmp_path):
    begin(campaign)
    written = {
        "log.csv": b"0,0\n" * 1_000_000,
        "old.txt": b"x",
        "no \u00e9 ' <b>.txt": b"",
        "a/b.json": b"{}",
    }
    for name, data in written.items():
        (campaign / name).parent.mkdir(exist_ok=True)
        (campaign / name).write_bytes(data)
    os.utime(campaign / "old.txt", (0, 0))  # before there were zip files
    backup_campaign(campaign, tmp_path / "b.zip")
    restored = restore_campaign(tmp_path / "b.zip", tmp_path / "d").campaign.folder
    assert {name: (restored / name).read_bytes() for name in written} == written


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("note 12:30.txt", "'note 12:30.txt'"),
        ("a\\b.txt", r"'a\\b.txt'"),
        (os.fsdecode(b"caf\xe9.txt"), r"'caf\udce9.txt'"),
    ],
)
def test_what_could_not_be_restored_is_not_backed_up(campaign, tmp_path, name, shown):
    begin(campaign)
    (campaign / name).write_bytes(b"x")
    with pytest.raises(InputError) as raised:
        backup_campaign(campaign, tmp_path / "b.zip")
    assert str(raised.value) == (
        f"A file has a name that cannot be stored in a backup.\n  where:   {campaign}\n  got:     {shown}\n"
        "  allowed: a UTF-8 name without : and \\\n  do:      rename or move the file"
    )
    assert not (tmp_path / "b.zip").exists()


# All or nothing.


@pytest.fixture(scope="module")
def first_backup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    campaign = new_campaign(folder)
    begin(campaign)
    backup_campaign(campaign, folder / "b.zip")
    return folder / "b.zip"


@pytest.fixture
def backup(first_backup, tmp_path):
    """Return a backup that the test may change."""
    return Path(shutil.copy(first_backup, tmp_path))


def rewritten(backup, change, name="bad.zip"):
    """Return a copy of a backup whose entries went through a function of name and data."""
    target = backup.with_name(name)
    with zipfile.ZipFile(backup) as source, zipfile.ZipFile(target, "w") as to:
        for entry in source.infolist():
            for new, data in change(entry.filename, source.read(entry)):
                to.writestr(new, data, zipfile.ZIP_DEFLATED)
    return target


def with_about(**changes):
    def change(name, data):
        if name == "backup.json":
            data = json.dumps(json.loads(data) | changes)
        yield name, data

    return change


def with_file(name, data=b"mine"):
    """Add a file, listed as it should be."""
    import hashlib

    def change(old, told):
        if old == "backup.json":
            about = json.loads(told)
            about["files"][name] = hashlib.sha256(data).hexdigest()
            yield name, data
            told = json.dumps(about)
        yield old, told

    return change


def cut_table(name, data):
    yield name, data[:-50] if name == "database/votes.parquet" else data


def restored(file, tmp_path, **more):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((InputError, OutputError)) as raised:
        restore_campaign(file, tmp_path / "d", **more)
    assert sorted(tmp_path.rglob("*")) == before, "something was left"
    return str(raised.value)


def test_a_folder_that_holds_something_is_left_alone(backup, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine").write_text("")
    assert restored(backup, tmp_path) == (
        f"The folder is not empty.\n  where:   {tmp_path / 'd'}\n  do:      restore into a new folder"
    )


def test_an_empty_folder_is_fine(backup, tmp_path):
    (tmp_path / "d").mkdir()
    restore_campaign(backup, tmp_path / "d")
    assert (tmp_path / "d" / "campaign.json").is_file()


def test_a_database_that_holds_something_is_left_alone(backup, tmp_path, new_postgres):
    url = new_postgres()
    restore_campaign(backup, tmp_path / "first", database=url)
    before = all_rows(tmp_path / "first", url)
    assert restored(backup, tmp_path, database=url).startswith(
        f"The database is not empty.\n  where:   {url}\n  got:     alembic_version, examples, golden, "
    )
    assert all_rows(tmp_path / "first", url) == before


def test_a_folder_that_cannot_be_made_leaves_an_empty_database(backup, tmp_path, new_postgres, monkeypatch):
    from manyhot.reassess import backup as module

    def fails(*_):
        raise PermissionError(13, "Permission denied")

    url = new_postgres()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_appear", fails)
        assert restored(backup, tmp_path, database=url).startswith(
            "Cannot write the file: Permission denied."
        )
    restore_campaign(backup, tmp_path / "d", database=url)


def test_of_a_later_manyhot(backup, tmp_path):
    file = rewritten(backup, with_about(backup=2, version="9.0"))
    assert restored(file, tmp_path) == (
        "The backup was made by a later version of manyhot.\n"
        f"  where:   {file}\n"
        "  got:     backup format 2, written by manyhot 9.0\n"
        "  allowed: backup format 1 or earlier\n"
        "  do:      upgrade manyhot"
    )
    assert restored(rewritten(backup, with_about(revision="9999")), tmp_path) == (
        "The backup was made by a later version of manyhot.\n"
        "  got:     version 9999\n"
        "  allowed: version 0004 and earlier\n"
        "  do:      upgrade manyhot"
    )


@pytest.mark.parametrize(
    "name",
    [
        "../out.txt",
        "campaign/../../out.txt",
        "campaign/..",
        "/tmp/out.txt",
        "campaign//out.txt",
        "campaign/./out.txt",
        "campaign\\..\\out.txt",
        "campaign/C:out.txt",
        "campaign/.hidden",
        "campaign/annotation.sqlite",
        "campaign/annotation.sqlite-wal",
        "elsewhere/a.txt",
        "database/../a.parquet",
        "a.txt",
    ],
)
def test_paths_that_could_land_anywhere(backup, tmp_path, name):
    file = rewritten(backup, with_file(name))
    with zipfile.ZipFile(file) as archive:
        (kept,) = {e.filename for e in archive.infolist()} - set(zipfile.ZipFile(backup).namelist())
    assert restored(file, tmp_path) == (
        "The backup is broken.\n"
        f"  where:   {file}\n"
        f"  got:     a file {kept!r}, which would be written outside the campaign\n"
        "  do:      use an earlier backup"
    )


def test_what_is_called_a_link_becomes_no_link(backup, tmp_path):
    def change(name, data):
        yield from with_file("campaign/link", b"/etc/passwd")(name, data)

    file = rewritten(backup, change)
    with zipfile.ZipFile(file, "a") as archive:
        archive.getinfo("campaign/link").external_attr = (stat.S_IFLNK | 0o777) << 16
        archive._didModify = True
    restore_campaign(file, tmp_path / "d")
    assert not (tmp_path / "d" / "link").is_symlink()
    assert (tmp_path / "d" / "link").read_bytes() == b"/etc/passwd"


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (with_file("campaign/bomb.json", b" " * 10_000_000), "'campaign/bomb.json' expands from"),
        (with_about(files={}), "the files differ from those listed in backup.json"),
        (with_about(counts={"votes": 1}), None),
        (with_about(counts={"votes": "many"}), "backup.json was not written by manyhot"),
        (with_about(strange=1), "Manifest.__init__() got an unexpected keyword argument 'strange'"),
        (cut_table, "'database/votes.parquet' has changed since the backup"),
    ],
)
def test_broken_or_hostile(backup, tmp_path, change, got):
    message = restored(rewritten(backup, change), tmp_path)
    if got is None:
        assert message.startswith("The backup contains unexpected tables.\n  got:     votes\n")
    else:
        assert message.startswith("The backup is broken.")
        assert f"  got:     {got}" in message


def test_fewer_rows_than_told(backup, tmp_path):
    with zipfile.ZipFile(backup) as archive:
        counts = json.loads(archive.read("backup.json"))["counts"]
    message = restored(rewritten(backup, with_about(counts=counts | {"votes": 7})), tmp_path)
    assert message == ("The table 'votes' of the backup is broken.\n  got:     6 rows\n  allowed: 7")


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_files_that_are_no_backup(backup, tmp_path, keep):
    file = tmp_path / "bad.zip"
    file.write_bytes(backup.read_bytes()[:keep])
    assert restored(file, tmp_path).startswith("The backup is broken.\n")


def test_another_zip_file_and_none(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    assert restored(tmp_path / "other.zip", tmp_path) == (
        "The file is not a backup of a campaign.\n"
        f"  where:   {tmp_path / 'other.zip'}\n"
        "  got:     a zip file without backup.json"
    )
    assert restored(tmp_path / "none.zip", tmp_path) == (
        f"The file does not exist.\n  where:   {tmp_path / 'none.zip'}"
    )


def test_a_campaign_that_nobody_has_begun(campaign, tmp_path):
    with pytest.raises(InputError, match="Annotation of this campaign has not begun yet"):
        backup_campaign(campaign, tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()
    assert not (campaign / "annotation.sqlite").exists()


def test_a_backup_within_the_campaign_does_not_hold_the_one_before(campaign, tmp_path):
    begin(campaign)
    backup_campaign(campaign, campaign / "b.zip")
    first = (campaign / "b.zip").stat().st_size
    backup_campaign(campaign, campaign / "b.zip")
    assert abs((campaign / "b.zip").stat().st_size - first) < 1000
    connection = sqlite3.connect(campaign / "annotation.sqlite")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


# Images that were moved.


def test_only_a_backup_is_replaced(campaign, tmp_path):
    begin(campaign)
    images = (campaign / "images.parquet").read_bytes()
    for wrong in (campaign / "images.parquet", tmp_path / "photos.zip"):
        if not wrong.exists():
            with zipfile.ZipFile(wrong, "w") as archive:
                archive.writestr("a.jpg", b"a")
        with pytest.raises(InputError, match="The file exists and is not a backup of a campaign"):
            backup_campaign(campaign, wrong)
    assert (campaign / "images.parquet").read_bytes() == images
    for _ in range(2):
        assert backup_campaign(campaign, tmp_path / "b.zip").manifest.counts["votes"] == 6


def test_payment_is_exported_as_on_the_page_of_the_owner(campaign, tmp_path):
    begin(campaign)
    done = export_votes(campaign, payment=tmp_path / "payment.csv")
    assert done.written[-1] == tmp_path / "payment.csv"
    with (tmp_path / "payment.csv").open(encoding="utf-8", newline="") as file:
        (ann,) = csv.DictReader(file)
    assert (ann["rater"], ann["pages"], ann["accepted"], ann["golden"]) == ("ann", "2", "2", "0")
    about = tables.metadata(pq.read_schema(campaign / "votes.parquet"))
    protocol = json.loads(about["protocol"])
    assert protocol["Golden pages to qualify"] == "0"
    assert protocol["Show raters the original label"] == "no"
    before = (campaign / "images.parquet").read_bytes()
    with pytest.raises(InputError, match="reserved for a table other than payment"):
        export_votes(campaign, payment=campaign / "images.parquet")
    assert (campaign / "images.parquet").read_bytes() == before


def test_images_in_an_archive(campaign, tmp_path):
    import tarfile

    begin(campaign)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(tmp_path / "photos", "photos")
    shutil.rmtree(tmp_path / "photos")
    with open_annotation(campaign, image_folder=tmp_path / "all.tar") as open_:
        for uri in open_.store.places():
            assert open_.app.state.context.pictures.read(uri, "small")


def test_images_that_are_not_all_there_change_nothing(campaign, tmp_path):
    begin(campaign)
    (tmp_path / "photos" / "kind1" / "photo3.png").unlink()
    with open_annotation(campaign) as open_:
        before = open_.store.places()
    with (
        pytest.raises(InputError) as raised,
        open_annotation(campaign, image_folder=tmp_path / "photos"),
    ):
        pass
    assert str(raised.value) == (
        "1 of 4 images are not at the new location.\n"
        f"  where:   {tmp_path / 'photos'}\n"
        f"  got:     no photo3.png, formerly at {tmp_path / 'photos' / 'kind1' / 'photo3.png'}\n"
        "  do:      pass the folder or archive that contains all of them"
    )
    with open_annotation(campaign) as open_:
        assert open_.store.places() == before


@pytest.mark.parametrize(("name", "got"), [("none", "no such file or folder"), ("b.txt", "neither a folder")])
def test_no_place_for_images(campaign, tmp_path, name, got):
    begin(campaign)
    (tmp_path / "b.txt").write_text("text")
    with (
        pytest.raises(InputError, match="Images cannot be read from this location") as raised,
        open_annotation(campaign, image_folder=tmp_path / name),
    ):
        pass
    assert f"got:     {got}" in str(raised.value)
