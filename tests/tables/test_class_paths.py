"""The order of hypernyms: the parent first, or the root first where only that order is a tree."""

from dataclasses import replace

import pytest

from manyhot.classes import class_list, from_keys
from manyhot.errors import InputError
from manyhot.tables.class_paths import class_paths

TAXA = {
    "lion": ("Panthera", "Felidae", "Carnivora", "Animalia"),
    "cat": ("Felis", "Felidae", "Carnivora", "Animalia"),
    "dog": ("Canis", "Canidae", "Carnivora", "Animalia"),
    "mouse": ("Mus", "Muridae", "Rodentia", "Animalia"),
}


def taxa(paths):
    return replace(from_keys(list(paths), "taxa"), hypernyms=tuple(paths.values()))


@pytest.mark.parametrize("n", [4, 3])  # with and without a common root
def test_a_list_from_the_root_is_read_as_the_same_list_from_the_parent(n):
    upwards = {key: path[:n] for key, path in TAXA.items()}
    expected = [(key, *path) for key, path in upwards.items()]
    assert class_paths(taxa(upwards)) == (expected, "")
    paths, note = class_paths(taxa({key: path[::-1] for key, path in upwards.items()}))
    assert paths == expected
    example = "; ".join(upwards["lion"][::-1])
    assert note == f"the hypernyms of taxa start at the root ({example}), and are read in this order"


def test_a_name_of_two_groups_does_not_reverse_a_list():
    """Oenanthe is a genus of birds and a genus of plants."""
    both = {
        "wheatear": ("Oenanthe", "Muscicapidae", "Animalia"),
        "water dropwort": ("Oenanthe", "Apiaceae", "Plantae"),
        "robin": ("Erithacus", "Muscicapidae", "Animalia"),
        "carrot": ("Daucus", "Apiaceae", "Plantae"),
        "owl": ("Strix", "Strigidae", "Animalia"),
    }
    paths, note = class_paths(taxa(both))
    assert (paths[0], note) == (("wheatear", *both["wheatear"]), "")
    with pytest.raises(InputError) as error:
        class_paths(taxa({key: path[::-1] for key, path in both.items()}))
    assert str(error.value) == (
        "The hypernyms of the classes seem to start at the root, but do not form a tree in either order.\n"
        "  where:   taxa\n"
        "  got:     Animalia; Muscicapidae; Oenanthe; and several parents of 'Oenanthe', if read from the "
        "root\n"
        "  allowed: the parent first, then its parent, up to the root\n"
        "  do:      reverse the hypernyms, and give different names to different groups of classes"
    )


def test_names_that_begin_with_the_same_word_are_different_groups():
    """Only the synsets of WordNet begin with an id."""
    birds = {"owl": ("Old World owls", "birds"), "ape": ("Old World monkeys", "mammals")}
    assert class_paths(taxa(birds))[0] == [(key, *path) for key, path in birds.items()]


def test_imagenets_hypernyms_start_with_the_parent_and_are_identified_by_synset():
    paths, note = class_paths(class_list())
    assert note == ""
    assert paths[0][:2] == ("n01440764", "n01439121")
    assert all(path[-1] == "n00001740" for path in paths)
