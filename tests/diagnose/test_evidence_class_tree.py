"""WordNet's tree for classes that are known by their names only."""

from dataclasses import replace

import numpy as np
import pytest

from manyhot import diagnose_errors
from manyhot.classes import class_list, from_keys
from manyhot.data.inputs import Reading
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


def test_severity_of_taxa_is_the_same_in_either_order_and_counts_errors_without_a_place():
    """Lion for cat is 2, tit for cat 4: one level above both roots. The robot has no hypernyms."""
    taxa = {"cat": "Felis Felidae Mammalia", "lion": "Panthera Felidae Mammalia", "tit": "Parus Paridae Aves"}
    taxa |= {"owl": "Strix Strigidae Aves", "robot": ""}
    labels, predicted = np.array([0, 0, 2, 0]), np.eye(5, dtype=np.float32)[[1, 2, 2, 4]]
    notes = []
    for step in (1, -1):
        paths = tuple(tuple(path.split())[::step] for path in taxa.values())
        classes = replace(from_keys(list(taxa), "taxa"), hypernyms=paths)
        found = diagnose_errors(labels, predicted, reading=Reading(classes=classes))
        (model,) = found.models
        assert (model.severity, model.n_severity, model.n_sorted) == ((2 + 4) / 2, 2, 3)
        assert (
            f"{model.model}: mean severity 3.00 over 2 errors (height of the lowest common ancestor; without "
            "1 error of classes that are not in the hierarchy)" in found.lines()
        )
        notes.append([note for note in found.notes if "hypernyms" in note])
    (up,), (down,) = notes
    assert up.startswith("the hypernyms of taxa have 2 roots (Mammalia, Aves): ")
    assert down == (
        f"the hypernyms of taxa start at the root (Mammalia; Felidae; Felis), and are read in this order; "
        f"{up}"
    )
