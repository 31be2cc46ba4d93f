import importlib.resources
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manyhot.classes import CLASS_ORDERS, SUPERCLASSES, ClassList, class_list, class_list_of, from_keys
from manyhot.errors import InputError, UnknownNameError

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "src/manyhot/data/imagenet1k.tsv"
SCRIPT = ROOT / "tools/build_imagenet1k.py"
WORDNET = Path("/usr/share/wordnet")  # where Debian's wordnet-base puts it


@pytest.fixture
def imagenet() -> ClassList:
    return class_list()


def test_first_and_last_class(imagenet):
    assert len(imagenet) == 1000
    assert (imagenet.keys[0], imagenet.names[0]) == ("n01440764", "tench")
    assert imagenet.synonyms[0] == ("Tinca tinca",)
    assert (imagenet.keys[999], imagenet.names[999]) == ("n15075141", "toilet tissue")
    assert imagenet.hypernyms[0][0] == "n01439121 cyprinid"
    assert imagenet.hypernyms[0][-1] == "n00001740 entity"


def test_ids_are_the_sorted_keys(imagenet):
    assert list(imagenet.keys) == sorted(imagenet.keys)
    assert len(set(imagenet.keys)) == 1000


def test_names_are_unique_even_without_case(imagenet):
    assert len({name.casefold() for name in imagenet.names}) == 1000


def test_every_class_is_described(imagenet):
    assert all(imagenet.definitions)
    assert not any('"' in definition for definition in imagenet.definitions)
    assert all(path[-1] == "n00001740 entity" for path in imagenet.hypernyms)


def test_superclasses_are_those_of_shankar(imagenet):
    counts = np.bincount(imagenet.superclass, minlength=3)
    assert dict(zip(SUPERCLASSES, counts.tolist(), strict=True)) == {
        "organism": 410,
        "artifact": 522,
        "other": 68,
    }
    assert imagenet.superclass.dtype == np.int8


@pytest.mark.parametrize(
    ("name", "superclass"),
    [
        ("tench", "organism"),
        ("scuba diver", "organism"),
        ("bakery", "artifact"),  # by its second hypernym: the first says workplace, a location
        ("handkerchief", "artifact"),
        ("traffic light", "other"),
        ("pizza", "other"),
        ("toilet tissue", "other"),
    ],
)
def test_superclass(imagenet, name, superclass):
    assert SUPERCLASSES[imagenet.superclass[imagenet.index(name)]] == superclass


def test_superclass_cannot_be_changed(imagenet):
    with pytest.raises(ValueError, match="read-only"):
        imagenet.superclass[0] = 1


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("n02012849", 134),
        ("crane (bird)", 134),
        ("Crane (machine)", 517),
        ("toilet_tissue", 999),
        ("bathroom tissue", 999),
        ("kite", 21),  # the name is "kite (bird)"
        ("crayfish", 124),  # a name; the spiny lobster has it as a synonym
        ("red panda", 387),
    ],
)
def test_index(imagenet, text, index):
    assert imagenet.index(text) == imagenet.find(text) == index


@pytest.mark.parametrize("text", ["crane", "Goldfisch", ""])
def test_names_of_several_classes_or_none_are_not_found(imagenet, text):
    assert imagenet.find(text) is None


def test_every_key_and_name_finds_its_class(imagenet):
    assert [imagenet.index(key) for key in imagenet.keys] == list(range(1000))
    assert [imagenet.index(name) for name in imagenet.names] == list(range(1000))


def test_ambiguous_name(imagenet):
    with pytest.raises(InputError) as caught:
        imagenet.index("crane")
    assert str(caught.value) == (
        "2 classes of imagenet1k have the name 'crane'.\n"
        "  allowed: crane (bird) (n02012849, class 134), crane (machine) (n03126707, class 517)\n"
        "  do:      use the key or the full name"
    )


def test_unknown_name(imagenet):
    with pytest.raises(UnknownNameError) as caught:
        imagenet.index("Goldfisch")
    assert str(caught.value) == (
        "There is no class 'Goldfisch' in imagenet1k.\n"
        "  allowed: the keys, names and synonyms of its 1000 classes, such as n01440764 or tench\n"
        "  do:      did you mean 'goldfish' or 'goldfinch'?"
    )


def test_unknown_key_of_ones_own():
    with pytest.raises(UnknownNameError) as caught:
        from_keys(["cat", "dog"], name="pets").index("horse")
    assert str(caught.value) == (
        "There is no class 'horse' in pets.\n"
        "  allowed: the keys, names and synonyms of its 2 classes, such as cat"
    )


def test_unknown_class_list():
    with pytest.raises(UnknownNameError) as caught:
        class_list("imagenet21k")
    assert str(caught.value) == (
        "There is no built-in class list 'imagenet21k'.\n"
        "  allowed: imagenet1k, imagenet-a, imagenet-r\n"
        "  do:      for your own data set, use from_keys(keys)"
    )


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_classes_of_imagenet_a_and_r(imagenet, name):
    """timm names them twice: by WordNet id, and by their position in ImageNet-1k."""
    info = importlib.resources.files(pytest.importorskip("timm")) / "data" / "_info"
    ids, positions = (
        (info / f"{name.replace('-', '_')}_{what}.txt").read_text().split() for what in ("synsets", "indices")
    )
    known = class_list(name)
    assert known.keys == tuple(ids) == tuple(imagenet.keys[int(i)] for i in positions)
    assert known.names == tuple(imagenet.names[int(i)] for i in positions)
    assert (len(known), class_list_of(known.hash)) == (200, known)


def test_hash_stays(imagenet):
    assert imagenet.hash == "385e0240499426c0"
    assert repr(imagenet) == "<ClassList imagenet1k: 1000 classes, hash 385e0240499426c0>"


def test_hash_is_of_keys_and_their_order(imagenet):
    keys = list(imagenet.keys)
    assert from_keys(keys).hash == imagenet.hash
    assert from_keys(keys[::-1]).hash != imagenet.hash
    assert from_keys(keys[:-1]).hash != imagenet.hash
    assert from_keys(["a", "bc"]).hash != from_keys(["ab", "c"]).hash


def test_classes_of_ones_own():
    classes = from_keys(["cat", "Cat", "hot_dog"])
    assert (classes.name, len(classes), classes.names) == ("own classes", 3, ("cat", "Cat", "hot_dog"))
    assert [classes.index(key) for key in ("cat", "Cat", "Hot Dog")] == [0, 1, 2]
    assert classes.superclass.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ["a", "b", "a"],
            "The class list contains a key twice.\n"
            "  where:   own classes\n"
            "  got:     'a'\n"
            "  allowed: each key once, on one line",
        ),
        (
            ["a\nb"],
            "A key contains a line break.\n"
            "  where:   own classes\n"
            "  got:     'a\\nb'\n"
            "  allowed: each key once, on one line",
        ),
        ([], "A class list needs at least one class.\n  where:   own classes"),
        (
            ["a", "\ud800"],
            "A key or name contains a lone surrogate, which is half of a character.\n"
            "  where:   own classes\n"
            "  got:     '\\ud800'\n"
            "  allowed: characters that UTF-8 can encode",
        ),
    ],
)
def test_bad_keys(keys, message):
    with pytest.raises(InputError) as caught:
        from_keys(keys)
    assert str(caught.value) == message


def test_columns_of_different_length():
    with pytest.raises(InputError) as caught:
        replace(from_keys(["a", "b"]), names=("a",))
    assert str(caught.value) == (
        "The columns of a class list differ in length.\n"
        "  where:   own classes\n"
        "  got:     2, 1, 2, 2, 2\n"
        "  allowed: as many names, synonyms, definitions and hypernyms as keys"
    )


@pytest.mark.parametrize("name", CLASS_ORDERS)
def test_orders_are_permutations(name):
    order = CLASS_ORDERS[name](1000)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(order, np.arange(1000))


def test_orders_that_do_not_exist():
    assert [order(1) for order in CLASS_ORDERS.values()] == [None] * 4
    assert [order(10) is None for order in CLASS_ORDERS.values()] == [True, False, True, True]
    assert [order(999) is None for order in CLASS_ORDERS.values()] == [False, False, True, True]


def test_folders_sorted_as_strings():
    order = CLASS_ORDERS["folders 0, 1, 10, … sorted as strings"](12)
    assert order.tolist() == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]


def test_indices_from_one():
    assert CLASS_ORDERS["indices that start at 1"](4).tolist() == [3, 0, 1, 2]


def test_devkit_order(imagenet):
    order = CLASS_ORDERS["the ILSVRC devkit (ILSVRC2012_ID)"](1000)
    names = [imagenet.names[order[i]] for i in (1, 2, 3, 449, 999)]
    assert names == ["kit fox", "English setter", "Siberian husky", "tench", "carbonara"]
    assert np.array_equal(np.roll(CLASS_ORDERS["the ILSVRC devkit (ILSVRC2012_ID - 1)"](1000), 1), order)


def test_devkit_order_agrees_with_labels_of_validation_images():
    """Images 1 to 20: their lines in ILSVRC2012_validation_ground_truth.txt, and their class ids."""
    devkit = [490, 361, 171, 822, 297, 482, 13, 704, 599, 164, 649, 11, 73, 286, 554, 6, 648, 399, 749, 545]
    labels = [65, 970, 230, 809, 516, 57, 334, 415, 674, 332, 109, 286, 370, 757, 595, 147, 108, 23, 478, 517]
    assert CLASS_ORDERS["the ILSVRC devkit (ILSVRC2012_ID)"](1000)[devkit].tolist() == labels


@pytest.mark.parametrize("suffix", [".json", ".txt"])
def test_script_reproduces_the_file(tmp_path, imagenet, suffix, require):
    require((WORDNET / "data.noun").exists(), "WordNet 3.0 (apt-get install wordnet-base)")
    wnids, out = tmp_path / f"wnids{suffix}", tmp_path / "out.tsv"
    images = {"image_filenames": [[f"{key}.JPEG", key] for key in reversed(imagenet.keys)]}
    wnids.write_text(json.dumps(images) if suffix == ".json" else "\n".join(imagenet.keys))
    arguments = ["--wordnet", WORDNET, "--wnids", wnids, "--out", out]
    subprocess.run([sys.executable, SCRIPT, *arguments], check=True)
    assert out.read_bytes() == TABLE.read_bytes()


def test_script_refuses_another_wordnet(tmp_path):
    (tmp_path / "data.noun").write_text("  1 WordNet 3.1 Copyright 2011 by Princeton University.\n")
    arguments = ["--wordnet", tmp_path, "--wnids", TABLE, "--out", tmp_path / "out.tsv"]
    run = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == f"{tmp_path}/data.noun is not of WordNet 3.0, whose offsets ImageNet's ids are.\n"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("goldfish, Carassius auratus", 1),
        ("great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias", 2),
        ("tabby, tabby cat", 281),
        ("maillot, tank suit", 639),
    ],
)
def test_labels_of_hugging_face_models_are_found(text, at):
    """As in ``config.id2label`` of microsoft/resnet-50."""
    assert class_list().find(text) == class_list().index(text) == at


def test_keys_are_found_in_other_spellings_beside_names():
    own = replace(from_keys(["tvmonitor", "dining_table"]), names=("TV monitor", "table"))
    spellings = ["Tvmonitor", "tv monitor", "Dining Table", "TABLE", "monitor"]
    assert [own.find(text) for text in spellings] == [0, 0, 1, 1, None]
    swapped = replace(from_keys(["a", "b"]), names=("B", "A"))  # names come first, unless a key is exact
    assert [swapped.find(text) for text in "aAbB"] == [0, 1, 1, 0]
