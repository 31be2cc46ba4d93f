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
    said = mh.predict_loader(module, DataLoader(images, batch_size=2), classes=CLASSES, top=2)
    assert said.predictions.image_id.to_pylist() == ["b.png", "g.png", "r.png"]
    assert said.predictions.classes[:, 0].tolist() == [2, 1, 0]
    assert (said.predictions.model, said.predictions.class_hash) == ("MeanColour", CLASSES.hash)
    assert module.training  # as it was


def test_labels_count_in_the_class_list(images):
    """Not in the folders of the data set, which are sorted by name."""
    assert images.classes == ["blue", "green", "red"]
    labels = mh.predict_loader(MeanColour(), DataLoader(images), classes=CLASSES).images.label
    assert labels.to_pylist() == [2, 1, 0]
    other = from_keys(("red", "teal", "blue"), "others")
    assert mh.predict_loader(MeanColour(), DataLoader(images), classes=other).images.label.to_pylist() == [
        2,
        None,
        0,
    ]
    said = mh.predict_loader(MeanColour(), DataLoader(images))  # nobody says: those of the data set
    assert said.images.label.to_pylist() == [0, 1, 2]
    assert said.predictions.class_hash == from_keys(("blue", "green", "red")).hash


def test_ids_in_the_batches():
    batches = [{"image": torch.eye(3).view(3, 3, 1, 1), "image_id": ["a/x.jpg", "y.jpg", "z.jpg"]}]
    said = mh.predict_loader(MeanColour(), batches, classes=CLASSES, top=1)
    assert said.predictions.image_id.to_pylist() == ["a/x.jpg", "y.jpg", "z.jpg"]
    assert said.predictions.classes.tolist() == [[0], [1], [2]]
    triples = [(torch.eye(3).view(3, 3, 1, 1), torch.tensor([0, 1, 2]), ["x", "y", "z"])]
    assert mh.predict_loader(MeanColour(), triples, classes=CLASSES).images.label.to_pylist() == [0, 1, 2]


def test_ids_that_are_given():
    data = TensorDataset(torch.eye(3).view(3, 3, 1, 1), torch.tensor([0, 1, 2]))
    loader = DataLoader(data, batch_size=2)
    said = mh.predict_loader(MeanColour(), loader, classes=CLASSES, ids=["a", "b", "c"], top=None)
    assert said.predictions.is_dense
    np.testing.assert_allclose(said.predictions.scores, 10 * np.eye(3))
    with pytest.raises(InputError) as error:
        mh.predict_loader(MeanColour(), loader, classes=CLASSES)
    assert str(error.value) == (
        "The ids of the images are unknown.\n"
        "  allowed: ids=…, batches of (images, labels, ids), or an ImageFolder that is not shuffled\n"
        "  do:      pass the ids, which join predictions with labels, "
        'or ids="number" to number the images'
    )
    with pytest.raises(InputError) as error:
        mh.predict_loader(MeanColour(), loader, classes=CLASSES, ids=["a", "b"])
    assert str(error.value) == ("There are more images than ids.\n  got:     at least 3 images\n  allowed: 2")
    with pytest.raises(InputError) as error:
        mh.predict_loader(MeanColour(), loader, classes=CLASSES, ids=list("abcd"))
    assert str(error.value) == "There are more ids than images.\n  got:     4\n  allowed: 3"


def test_images_are_numbered_on_request(images):
    data = TensorDataset(torch.eye(3).view(3, 3, 1, 1), torch.tensor([0, 1, 2]))
    for loader in (DataLoader(data, batch_size=2), [(torch.eye(3).view(3, 3, 1, 1), torch.arange(3), "abc")]):
        said = mh.predict_loader(MeanColour(), loader, classes=CLASSES, ids="number", top=1)
        assert said.predictions.image_id.to_pylist() == said.images.image_id.to_pylist() == ["0", "1", "2"]
        assert (said.images.label.to_pylist(), said.notes) == ([0, 1, 2], ())
        sets = mh.as_labels([[0], [1], [0]], n_classes=3)
        found = mh.evaluate(sets, [said.predictions], metrics=["real1"], resamples=0)
        assert found.value("real1") == pytest.approx(2 / 3)
    shuffled = mh.predict_loader(
        MeanColour(), DataLoader(images, shuffle=True), classes=CLASSES, ids="number"
    )
    assert shuffled.notes == (
        "the loader may shuffle, so the ids are positions in this run and not in the data set",
    )
    with pytest.raises(InputError) as error:
        mh.predict_loader(MeanColour(), DataLoader(data), classes=CLASSES, ids="numbers")
    assert str(error.value) == (
        'A single text is not a list of ids.\n  got:     numbers\n  allowed: a list of ids, or "number"'
    )


def test_a_shuffled_loader_has_no_ids(images):
    with pytest.raises(InputError, match="The ids of the images are unknown"):
        mh.predict_loader(MeanColour(), DataLoader(images, shuffle=True), classes=CLASSES)


def test_batches_of_ones_own_have_no_ids(images):
    """Their loader calls its sampler sequential."""
    with pytest.raises(InputError, match="The ids of the images are unknown"):
        mh.predict_loader(MeanColour(), DataLoader(images, batch_sampler=[[2, 0], [1]]))
    said = mh.predict_loader(
        MeanColour(), DataLoader(images, batch_size=None, collate_fn=alone), classes=CLASSES
    )
    assert said.predictions.image_id.to_pylist() == ["b.png", "g.png", "r.png"]


def alone(pair):
    return pair[0][None], torch.tensor([pair[1]])


def test_what_is_no_module():
    with pytest.raises(InputError) as error:
        mh.predict_loader(3, [])
    assert str(error.value) == (
        "This is not a module.\n"
        "  got:     int\n"
        "  allowed: a torch.nn.Module\n"
        "  do:      to use a model by its name, call manyhot.predict or manyhot.predict_in_memory"
    )


def test_a_class_list_of_another_length():
    with pytest.raises(InputError) as error:
        mh.predict_loader(
            MeanColour(), [(torch.zeros(1, 3, 2, 2), torch.tensor([0]), ["a"])], classes=from_keys("ab")
        )
    assert str(error.value) == (
        "The model and the class list have different numbers of classes.\n"
        "  where:   MeanColour\n"
        "  got:     3 scores per image\n"
        "  allowed: 2"
    )
