"""Finding a class by words."""

import re

import pytest

from manyhot.classes import ClassList, class_list
from manyhot.reassess.app.context import Search

NAMES = ("fire engine", "engine", "pâté", "tabby cat", "cherry", "truck")
SYNONYMS = ((), (), (), ("mouser",), (), ("fire truck", "engine"))
DEFINITIONS = ("puts fires out", "", "a spread", "has stripes", "a red fruit", "carries what an engine needs")
SMALL = Search(ClassList("small", tuple("abcdef"), NAMES, SYNONYMS, DEFINITIONS, ((),) * 6))


def found(text, search=SMALL, names=NAMES):
    return [names[c] for c in search(text)]


def test_names_before_synonyms_before_definitions():
    assert found("engine") == ["engine", "fire engine", "truck"]
    assert found("fire") == ["fire engine", "truck"]


def test_a_word_may_be_begun_only():
    assert found("eng") == found("engine")
    assert found("t") == ["truck", "tabby cat"]
    assert found("cat") == ["tabby cat"]
    assert found("ngine") == []


def test_all_words_are_wanted_in_any_order():
    assert found("engine fire") == ["fire engine", "truck"]
    assert found("engine stripes") == []


@pytest.mark.parametrize("text", ["", "   ", "?!", "\u0301"])
def test_no_words_find_nothing(text):
    assert found(text) == []


def test_accents_case_and_plurals_make_no_difference():
    assert found("PATE") == ["pâté"]
    assert found("pa\u0302te\u0301") == ["pâté"]
    assert found("cherries") == ["cherry"]
    assert found("engines") == found("engine")


def test_a_word_that_is_spelled_nearly_alike():
    assert found("chery") == ["cherry"]
    assert found("tabyb cat") == ["tabby cat"]
    assert found("spreadin") == ["pâté"]
    assert found("spreading") == []  # three letters more than a word
    assert found("zeppelin") == []


def test_what_is_found_in_imagenet_has_all_words_and_nothing_else_has():
    classes = class_list()
    search = Search(classes)
    texts = [
        " ".join(
            (
                classes.names[c],
                *classes.synonyms[c],
                classes.definitions[c],
                *(h.partition(" ")[2] for h in classes.hypernyms[c]),
            )
        )
        .lower()
        .replace("-", " ")
        for c in range(len(classes))
    ]
    for query in ("dog", "dog with", "b", "boat", "music", "water bott", "dog small coat"):
        expected = {
            c
            for c, text in enumerate(texts)
            if all(re.search(rf"(?<![^\W]){word}", text) for word in query.split())
        }
        assert expected
        assert set(search(query)) == expected, query


def test_imagenet_by_its_other_names():
    classes = class_list()
    search = Search(classes)

    def first(text):
        return classes.names[search(text)[0]]

    assert first("espresso") == "espresso"
    assert first("Tinca tinca") == "tench"
    assert first("accordian") == "accordion"
    assert first("tenches") == "tench"
    for class_id, name in enumerate(classes.names):
        assert class_id in search(name)[:3], name


def test_kinds_are_found_by_their_hypernym():
    """Of ImageNet's 118 breeds of dogs, few are called a dog."""
    classes = class_list("imagenet1k")
    search = Search(classes)
    dogs = search("dog")
    breeds = {c for c, path in enumerate(classes.hypernyms) if "n02084071 dog" in path}
    assert len(breeds) >= 118
    assert breeds <= set(dogs)
    assert classes.names.index("golden retriever") in dogs
    # What is called a dog comes first.
    assert "dog" in classes.names[dogs[0]]
