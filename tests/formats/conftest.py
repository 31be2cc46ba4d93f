"""What the tests of formats share."""

import zipfile
from pathlib import Path

import pytest

from manyhot.errors import InputError


@pytest.fixture(scope="session")
def message():
    """Return a function that gives the whole message of an error."""

    def get(make, kind=InputError):
        with pytest.raises(kind) as error:
            make()
        return str(error.value)

    return get


@pytest.fixture(scope="session")
def release(mirror, tmp_path_factory):
    """Return a function that unpacks published files of a repository into one folder, as they are called."""

    def get(repository: str, *names: str) -> Path:
        folder = tmp_path_factory.mktemp("release")
        with zipfile.ZipFile(mirror) as archive:
            for entry in archive.namelist():
                if repository in entry and entry.rpartition("/")[2] in names:
                    (folder / entry.rpartition("/")[2]).write_bytes(archive.read(entry))
        return folder

    return get
