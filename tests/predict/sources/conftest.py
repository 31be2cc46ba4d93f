"""What tests of sources share."""

import importlib.util

import pytest

from manyhot.predict.sources import remote
from source_kinds import s3_server, thirty


@pytest.fixture
def images():
    return thirty()


@pytest.fixture(autouse=True)
def _forget():
    """Let no test know the storage of another."""
    remote._GOOD.clear()
    yield
    remote._GOOD.clear()


@pytest.fixture
def s3(require, monkeypatch):
    """Return a file system of an S3 server with the bucket ``photos``."""
    require(importlib.util.find_spec("moto"), "moto[server], an S3 server on loopback")
    require(importlib.util.find_spec("s3fs"), "s3fs, to read s3://")
    with s3_server(monkeypatch) as server:
        filesystem = remote.filesystem_of("s3://photos")
        filesystem.mkdir("photos")
        filesystem.stop_server = server.stop
        yield filesystem


@pytest.fixture
def needs_http(require):
    require(importlib.util.find_spec("fsspec"), "fsspec, to read https://")
    require(importlib.util.find_spec("aiohttp"), "aiohttp, to read https://")
