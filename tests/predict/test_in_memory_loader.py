"""A module over the batches of a loader."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

import manyhot as mh
from manyhot.classes import from_keys
from manyhot.errors import InputError

CLASSES = from_keys(("red", "green", "blue"), "colours")


class MeanColour(torch.nn.Module):
    def forward(self, images):
        assert not self.training
        return 10 * images.mean(dim=(2, 3))


@pytest.fixture
def images(tmp_path):
    for i, name in enumerate(("red/r.png", "green/g.png", "blue/b.png")):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (6, 5), tuple(255 * (i == j) for j in range(3))).save(tmp_path / name)
    return ImageFolder(tmp_path, ToTensor())


def test_ids_of_an_image_folder(images):
    module = MeanColour().train()
    said = mh.predict(module, DataLoader(images, batch_size=2), classes=CLASSES, top=2)
    assert said.predictions.image_id.to_pylist() == ["b.png", "g.png", "r.png"]
    assert said.predictions.classes[:, 0].tolist() == [2, 1, 0]
    assert (said.predictions.model, said.predictions.class_hash) == ("MeanColour", CLASSES.hash)
    assert module.training  # as it was


def test_labels_count_in_the_class_list(images):
    """Not in the folders of the data set, which are sorted by name."""
    assert images.classes == ["blue", "green", "red"]
    labels = mh.predict(MeanColour(), DataLoader(images), classes=CLASSES).images.label
    assert labels.to_pylist() == [2, 1, 0]
    other = from_keys(("red", "teal", "blue"), "others")
    assert mh.predict(MeanColour(), DataLoader(images), classes=other).images.label.to_pylist() == [
        2,
        None,
        0,
    ]
    said = mh.predict(MeanColour(), DataLoader(images))  # nobody says: those of the data set
    assert said.images.label.to_pylist() == [0, 1, 2]
    assert said.predictions.class_hash == from_keys(("blue", "green", "red")).hash


def test_ids_in_the_batches():
    batches = [{"image": torch.eye(3).view(3, 3, 1, 1), "image_id": ["a/x.jpg", "y.jpg", "z.jpg"]}]
    said = mh.predict(MeanColour(), batches, classes=CLASSES, top=1)
    assert said.predictions.image_id.to_pylist() == ["x.jpg", "y.jpg", "z.jpg"]
    assert said.predictions.classes.tolist() == [[0], [1], [2]]
    triples = [(torch.eye(3).view(3, 3, 1, 1), torch.tensor([0, 1, 2]), ["x", "y", "z"])]
    assert mh.predict(MeanColour(), triples, classes=CLASSES).images.label.to_pylist() == [0, 1, 2]


def test_ids_that_are_given():
    data = TensorDataset(torch.eye(3).view(3, 3, 1, 1), torch.tensor([0, 1, 2]))
    loader = DataLoader(data, batch_size=2)
    said = mh.predict(MeanColour(), loader, classes=CLASSES, ids=["a", "b", "c"], top=None)
    assert said.predictions.is_dense
    np.testing.assert_allclose(said.predictions.scores, 10 * np.eye(3))
    with pytest.raises(InputError) as error:
        mh.predict(MeanColour(), loader, classes=CLASSES)
    assert str(error.value) == (
        "Nobody knows which images these are.\n"
        "  allowed: ids=…, batches of (images, labels, ids), or an ImageFolder that is not shuffled\n"
        "  do:      rows without ids cannot be joined with labels"
    )
    with pytest.raises(InputError) as error:
        mh.predict(MeanColour(), loader, classes=CLASSES, ids=["a", "b"])
    assert str(error.value) == ("There are more images than ids.\n  got:     3 images and more\n  allowed: 2")
    with pytest.raises(InputError) as error:
        mh.predict(MeanColour(), loader, classes=CLASSES, ids=list("abcd"))
    assert str(error.value) == "There are more ids than images.\n  got:     4\n  allowed: 3"


def test_a_shuffled_loader_has_no_ids(images):
    with pytest.raises(InputError, match="Nobody knows which images these are"):
        mh.predict(MeanColour(), DataLoader(images, shuffle=True), classes=CLASSES)


def test_batches_of_ones_own_have_no_ids(images):
    """Their loader calls its sampler sequential."""
    with pytest.raises(InputError, match="Nobody knows which images these are"):
        mh.predict(MeanColour(), DataLoader(images, batch_sampler=[[2, 0], [1]]))
    said = mh.predict(MeanColour(), DataLoader(images, batch_size=None, collate_fn=alone), classes=CLASSES)
    assert said.predictions.image_id.to_pylist() == ["b.png", "g.png", "r.png"]


def alone(pair):
    return pair[0][None], torch.tensor([pair[1]])


@pytest.mark.parametrize("option", [{"embeddings": True}, {"engine": "openvino"}, {"batch": 3}])
def test_options_that_a_loader_does_not_heed(images, option):
    with pytest.raises(InputError) as error:
        mh.predict(MeanColour(), DataLoader(images), classes=CLASSES, **option)
    ((name, value),) = option.items()
    assert str(error.value) == (
        "A module with a loader runs as it is.\n"
        f"  got:     {name}={value!r}\n"
        "  allowed: top, classes, ids, progress\n"
        "  do:      set it in the module or in the loader; or give a path and the name of a model"
    )


def test_ids_of_a_source(folder, tint):
    with pytest.raises(InputError) as error:
        mh.predict(folder, tint, ids=["a"])
    assert str(error.value) == (
        f"ids are those of a loader.\n  where:   {folder}\n  do:      leave them out: a source has its own"
    )


def test_what_is_no_module():
    with pytest.raises(InputError) as error:
        mh.predict(3, [])
    assert str(error.value) == (
        "This is neither a source of images nor a module.\n"
        "  got:     int\n"
        "  allowed: predict(source, model) with a path and a name, or predict(module, loader)"
    )


def test_a_class_list_of_another_length():
    with pytest.raises(InputError) as error:
        mh.predict(
            MeanColour(), [(torch.zeros(1, 3, 2, 2), torch.tensor([0]), ["a"])], classes=from_keys("ab")
        )
    assert str(error.value) == (
        "The model has another number of classes than the class list.\n"
        "  where:   MeanColour\n"
        "  got:     3 scores an image\n"
        "  allowed: 2"
    )
