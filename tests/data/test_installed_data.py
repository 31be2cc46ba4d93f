"""Published files of an installed package: found without an import, verified, and missed with the command."""

import importlib.util

import pytest

from imagenet_x_package import MULTI, TOP, install
from manyhot.data import catalog
from manyhot.data.fetch import fetch_published
from manyhot.errors import ChecksumError, MissingExtraError

ROWS = [("ILSVRC2012_val_00000001.JPEG", 65, ["pose"])]


def test_files_of_an_installed_package(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, ROWS)
    folder = tmp_path / "imagenet_x" / "annotations"
    names = (MULTI, TOP, "prototypical_paths.csv")
    assert catalog.fetch("imagenet-x") == {name: folder / name for name in names}
    assert catalog.is_cached("imagenet-x")
    fetched = fetch_published(["imagenet-x"])
    assert fetched.written == ()  # nothing is downloaded
    assert "installed" in list(fetched.lines())[1]


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not catalog.is_cached("imagenet-x")
    with pytest.raises(MissingExtraError) as caught:
        catalog.fetch_file("imagenet-x", TOP)
    assert str(caught.value) == (
        "The published data of imagenet-x are not installed.\n"
        f"  got:     no imagenet_x/annotations/{TOP}\n"
        "  allowed: the Python package imagenet-x (CC-BY-NC-4.0), which manyhot neither contains nor "
        "downloads\n"
        '  do:      pip install "imagenet-x==0.0.7"'
    )


def test_a_file_of_another_version(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, ROWS)
    path = tmp_path / "imagenet_x" / "annotations" / TOP
    expected = catalog.catalog_entry("imagenet-x").file(TOP).sha256
    path.write_text("{}")
    with pytest.raises(ChecksumError) as caught:
        catalog.fetch_file("imagenet-x", TOP)
    assert str(caught.value) == (
        "A file differs from the published file.\n"
        f"  where:   {path}\n"
        "  got:     sha256 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n"
        f"  allowed: sha256 {expected}\n"
        '  do:      pip install "imagenet-x==0.0.7"'
    )
