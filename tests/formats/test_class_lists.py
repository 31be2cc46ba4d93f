"""Class lists of files that list other things, too."""

import json

import pytest

from manyhot.errors import InputError
from manyhot.formats import read_classes, read_labels, read_votes


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


def test_the_ranks_of_inaturalist_are_hypernyms(tmp_path):
    """As in the categories of its 2021 competition; a rank may be missing."""
    lion = {
        "id": 0,
        "name": "Panthera leo",
        "supercategory": "Mammals",
        "kingdom": "Animalia",
        "class": "Mammalia",
    }
    lion |= {"phylum": "Chordata", "order": "Carnivora", "family": "Felidae", "genus": "Panthera"}
    moss = {
        "id": 1,
        "name": "Bryum argenteum",
        "supercategory": "Plants",
        "kingdom": "Plantae",
        "family": None,
    }
    path = tmp_path / "train2021.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [lion, moss]}))
    assert read_classes(path).hypernyms == (
        ("Panthera", "Felidae", "Carnivora", "Mammalia", "Chordata", "Animalia"),
        ("Plantae",),
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


def test_readers_take_the_file_or_the_names_of_a_class_list(tmp_path):
    (tmp_path / "classes.csv").write_text("key,name\nn1,cat\nn2,dog\n")
    (tmp_path / "labels.csv").write_text("image_id,labels\na.jpg,n1 n2\nb.jpg,n2\n")
    (tmp_path / "votes.csv").write_text("image_id,class,rater_id,answer\na.jpg,n2,ann,yes\n")
    for classes in (tmp_path / "classes.csv", str(tmp_path / "classes.csv"), ["n1", "n2"]):
        labels = read_labels(tmp_path / "labels.csv", classes=classes)
        assert labels.table["classes"].to_pylist() == [[0, 1], [1]]
        assert labels.class_list.keys == ("n1", "n2")
        assert read_votes(tmp_path / "votes.csv", classes=classes).class_id.tolist() == [1]


def test_a_table_of_ids_and_names_is_refused_with_advice(tmp_path, message):
    path = tmp_path / "names.csv"
    path.write_text("id,name\n0,Nucleoplasm\n1,Cytosol\n")
    refused = message(lambda: read_classes(path))
    assert refused.partition("do:      ")[2] == (
        "rename the column with the number or key of each class to key, or pass a text file with one class "
        "per line"
    )
    path.write_text("key,name\n0,Nucleoplasm\n1,Cytosol\n")
    assert read_classes(path).names == ("Nucleoplasm", "Cytosol")
