"""Class lists of files that list other things, too."""

import json

import pytest

from manyhot.errors import InputError
from manyhot.formats import read_classes


def coco(folder, *categories):
    (path := folder / "instances.json").write_text(
        json.dumps(
            {
                "images": [],
                "annotations": [],
                "categories": [{"id": number, "name": name} for number, name in categories],
            }
        )
    )
    return path


def test_categories_of_coco(tmp_path):
    """The numbers have gaps, as those of COCO's 80 categories do."""
    assert read_classes(coco(tmp_path, (1, "person"), (3, "car"), (18, "dog"))).keys == (
        "person",
        "car",
        "dog",
    )


def test_categories_in_another_order_than_their_numbers(tmp_path):
    path = coco(tmp_path, (3, "car"), (1, "person"))
    with pytest.raises(InputError) as error:
        read_classes(path)
    assert str(error.value) == (
        "The categories are not in the order of their numbers.\n"
        f"  where:   {path}\n  got:     car, person\n  allowed: person, car\n"
        "  do:      pass a file with one name per line, in the order of the classes of the model"
    )
