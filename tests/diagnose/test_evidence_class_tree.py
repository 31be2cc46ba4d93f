"""WordNet's tree for classes that are known by their names only."""

import numpy as np
import pytest

from manyhot.classes import class_list, from_keys
from manyhot.diagnose.evidence import class_tree

VOC = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]


def size(tree, keys, a, b):
    """Return how many classes of ImageNet-1k are below the lowest common ancestor."""
    return int(tree.group_size(np.array([keys.index(a)]), np.array([keys.index(b)]))[0])


def below(name):
    """Count the classes of ImageNet-1k that have a hypernym of this name."""
    return sum(any(step.partition(" ")[2] == name for step in path) for path in class_list().hypernyms)


@pytest.mark.parametrize(
    ("a", "b", "ancestor"),
    [
        ("cow", "sheep", "bovid"),
        ("cow", "horse", "ungulate"),
        ("cat", "dog", "carnivore"),
        ("bus", "train", "public transport"),
        ("car", "motorbike", "motor vehicle"),
        ("chair", "sofa", "seat"),
    ],
)
def test_groups_of_voc_are_those_of_wordnet(a, b, ancestor):
    tree, _ = class_tree(from_keys(VOC))
    assert size(tree, VOC, a, b) == below(ancestor) > 0


def test_the_note_says_which_names_are_known():
    tree, note = class_tree(from_keys(VOC))
    assert tree.source == "WordNet"
    assert tree.n_counted == 1000
    assert note == (
        "superclasses are taken from WordNet, which contains 19 of the 20 class names; no superclass is "
        "known for pottedplant"
    )
    assert size(tree, VOC, "pottedplant", "chair") > 1000


def test_the_railcar_and_the_car():
    """WordNet has two synsets called car; the one with more classes is not always meant."""
    keys = ["car", "motorcycle"]
    tree, _ = class_tree(from_keys(keys))
    assert size(tree, keys, *keys) == below("motor vehicle")


def test_names_that_wordnet_does_not_have():
    assert class_tree(from_keys(["widget A", "widget B", "dog"])) == (None, "")
    assert class_tree(from_keys(["dog", "widget"])) == (None, "")
    assert class_tree(None) == (None, "")


def test_the_list_of_imagenet_has_its_own():
    tree, note = class_tree(class_list())
    assert (note, tree.source, tree.n_counted) == ("", "", 1000)
    assert tree.group_size(np.array([151]), np.array([268])) == 118  # chihuahua, Mexican hairless: dogs
