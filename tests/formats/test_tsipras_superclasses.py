"""Superclasses: published ones and those of one's own."""

import collections
import itertools
import os
import pickle

import numpy as np
import pytest

from manyhot.classes import class_list, from_keys
from manyhot.errors import InputError, UnknownNameError
from manyhot.formats.tsipras import read_superclasses


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def test_published(published):
    path = published("ImageNetMultiLabel/f939d1f4d4d40ce5e2d77dd82fddd58028781a50/data/superclasses.npy")
    found = read_superclasses(path, 1000, class_list())
    # As the notebook of the repository prints them.
    assert {name: len(members) for name, members in found.items()} == {
        "Dogs": 130,
        "Other mammals": 88,
        "Birds": 59,
        "Reptiles, fish, amphibians": 60,
        "inverterbrates": 61,
        "Food, plants, fungi": 63,
        "Devices": 172,
        "Structures, furnishing": 90,
        "Clothes, covering": 92,
        "Implements, containers, misc. objects": 117,
        "vehicles": 68,
    }
    assert found["Dogs"][:5] == [151, 152, 153, 154, 155]
    assert sorted(itertools.chain(*found.values())) == list(range(1000))


def test_own(tmp_path):
    path = tmp_path / "own.json"
    path.write_text('{"pets": ["cat", 2], "rest": ["car"]}')
    assert read_superclasses(path, 3, from_keys(["cat", "car", "dog"])) == {"pets": [0, 2], "rest": [1]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[1, 2]",
            "The file contains no superclasses.\n  where:   {path}\n  got:     [1, 2]\n"
            '  allowed: an object such as {{"dogs": [151, 152], "birds": [7, 8]}}',
        ),
        (
            "{}",
            "The file contains no superclasses.\n  where:   {path}\n  got:     {{}}\n"
            '  allowed: an object such as {{"dogs": [151, 152], "birds": [7, 8]}}',
        ),
        (
            '{"a": [true]}',
            "This is not a class.\n  where:   {path}, a\n  got:     true\n"
            "  allowed: 0 to 2, or the key or name of a class",
        ),
        (
            '{"a": [3]}',
            "This is not a class.\n  where:   {path}, a\n  got:     3\n"
            "  allowed: 0 to 2, or the key or name of a class",
        ),
    ],
)
def test_broken(text, expected, tmp_path):
    path = tmp_path / "own.json"
    path.write_text(text)
    known = from_keys(["cat", "car", "dog"])
    assert message(InputError, lambda: read_superclasses(path, 3, known)) == expected.format(path=path)


def test_clusters_of_flaws_of_imagenet(tmp_path):
    path = tmp_path / "clusters.json"
    path.write_text(
        '[{"category": [6], "classes": {"0": "cat, true cat", "2": "dog"}},'
        ' {"category": [2, 3], "classes": {"1": "car"}}]'
    )
    assert read_superclasses(path, 3, None) == {"cat / dog": [0, 2], "car": [1]}
    assert message(InputError, lambda: read_superclasses(path, 2, None)) == (
        f"This is not a class.\n  where:   {path}, cat / dog\n  got:     2\n  allowed: 0 to 1"
    )


def test_names_without_a_class_list_and_unknown_names(tmp_path):
    path = tmp_path / "own.json"
    path.write_text('{"a": ["cat"]}')
    assert message(InputError, lambda: read_superclasses(path, 3, None)) == (
        f'This is not a class.\n  where:   {path}, a\n  got:     "cat"\n  allowed: 0 to 2'
    )
    with pytest.raises(UnknownNameError):
        read_superclasses(path, 2, from_keys(["dog", "car"]))
    absent = tmp_path / "absent.json"
    assert message(InputError, lambda: read_superclasses(absent, 3, None)) == (
        f"The file does not exist.\n  where:   {absent}"
    )


class Evil:
    def __reduce__(self):
        return (os.system, ("echo ran",))  # `print` is another where Ray was started in this process


def test_nothing_of_a_pickle_is_run(tmp_path, capfd):
    path = tmp_path / "evil.npy"
    header = b"\x93NUMPY\x01\x00" + (10).to_bytes(2, "little") + b"{}       \n"
    path.write_bytes(header + pickle.dumps(Evil()))
    assert message(InputError, lambda: read_superclasses(path, 3, None)) == (
        "The pickle was not read, because it contains a name that could run code.\n"
        f"  where:   {path}\n"
        f"  got:     {os.system.__module__}.system\n"
        "  allowed: an ordered dict of lists of whole numbers\n"
        "  do:      use the published file, whose checksum is in the catalogue"
    )
    assert capfd.readouterr().out == ""
    path.write_bytes(header + pickle.dumps(collections.Counter(a=1)))
    assert message(InputError, lambda: read_superclasses(path, 3, None)) == (
        "The file is not a complete pickle of superclasses.\n"
        f"  where:   {path}\n"
        "  got:     TypeError: a Dropped, not an array\n"
        "  do:      fetch it again"
    )
    np.save(path, np.arange(3))
    assert "not a complete pickle of superclasses" in message(
        InputError, lambda: read_superclasses(path, 3, None)
    )
