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


def numbered(n=8, **more):
    """A data set whose image i has the score i in the first class."""
    return [
        {"image": torch.tensor([float(i), 0]), **{name: own[i] for name, own in more.items()}}
        for i in range(n)
    ]


def scores_by_id(said):
    found = said.predictions
    return dict(zip(found.image_id.to_pylist(), found.scores[:, 0].tolist(), strict=True))


NAMES = [f"tile_{i}.tif" for i in range(8)]


def predicted(loader, **options):
    options = {"classes": ["a", "b"], "top": None} | options
    return mh.predict_loader(torch.nn.Identity(), loader, **options)


@pytest.mark.parametrize(
    ("options", "sampler"),
    [
        ({"shuffle": True}, "RandomSampler"),
        ({"shuffle": True, "generator": torch.Generator().manual_seed(1)}, "RandomSampler"),
        ({"sampler": torch.utils.data.SubsetRandomSampler(range(8))}, "SubsetRandomSampler"),
        (
            {"sampler": torch.utils.data.WeightedRandomSampler([1.0] * 8, 8, replacement=False)},
            "WeightedRandomSampler",
        ),
        (
            {"sampler": torch.utils.data.DistributedSampler(range(8), num_replicas=1, rank=0)},
            "DistributedSampler",
        ),
    ],
)
def test_ids_of_a_loader_that_shuffles_are_refused(options, sampler):
    """The scores of each image were those of another."""
    with pytest.raises(InputError) as error:
        predicted(DataLoader(numbered(), batch_size=4, **options), ids=NAMES)
    assert str(error.value) == (
        "The loader shuffles, so it is unknown which image has which id.\n"
        f"  got:     `ids`, and a loader with {sampler}\n"
        "  allowed: a loader that yields the images in the order of `ids`, or batches with ids\n"
        "  do:      create the loader with shuffle=False, or yield (images, labels, ids) and omit `ids`"
    )
    named = numbered(image_id=NAMES)
    torch.manual_seed(0)
    assert all(
        score == NAMES.index(name)
        for name, score in scores_by_id(predicted(DataLoader(named, batch_size=4, **options))).items()
    )


def test_ids_of_a_loader_of_unknown_order_are_noted():
    loader = DataLoader(numbered(), batch_sampler=[[7, 6, 5, 4], [3, 2, 1, 0]])
    said = predicted(loader, ids=NAMES[::-1])
    assert scores_by_id(said) == {name: i for i, name in enumerate(NAMES)}
    assert said.notes == (
        "the loader may not yield the images in the order of its data set (list); the ids must be in the "
        "order in which it yields them",
    )
    for loader in (DataLoader(numbered(), batch_size=4), [5 * torch.eye(2)] * 4):
        assert predicted(loader, ids=NAMES).notes == ()


@pytest.mark.parametrize("name", ["image_id", "patch_id", "FileName", "path", "id", "__key__"])
def test_names_of_ids_in_files_are_those_in_batches(name):
    said = predicted(DataLoader(numbered(**{name: NAMES}), batch_size=4, shuffle=True))
    assert scores_by_id(said) == {name: i for i, name in enumerate(NAMES)}
    with pytest.raises(InputError) as error:
        predicted(DataLoader(numbered(**{name: NAMES}), batch_size=4), ids=[NAMES[1], NAMES[0], *NAMES[2:]])
    assert str(error.value) == (
        "The ids differ from those in the batches.\n  got:     tile_1.tif in `ids`\n"
        "  allowed: tile_0.tif, as in the batch\n"
        "  do:      omit `ids`, so that the ids in the batches are used"
    )


def test_ids_that_are_written_differently_or_are_of_other_things():
    """A path is the same image; a number or a uuid under another name than image_id is no id of `ids`."""
    for more in (
        {"path": [f"/data/{name}" for name in NAMES]},
        {"id": torch.arange(8)},
        {"uuid": [f"f0{i}" for i in range(8)]},
    ):
        said = predicted(DataLoader(numbered(**more), batch_size=4), ids=NAMES)
        assert scores_by_id(said) == {name: i for i, name in enumerate(NAMES)}
    with pytest.raises(InputError, match="The ids differ"):
        predicted(DataLoader(numbered(image_id=[f"p{i}" for i in range(8)])), ids=NAMES)
    triples = [(image["image"], 0, f"p{i}") for i, image in enumerate(numbered())]
    with pytest.raises(InputError, match="The ids differ"):
        predicted(DataLoader(triples), ids=NAMES)
    numbers = [(image["image"], 0, i) for i, image in enumerate(numbered())]
    said = predicted(DataLoader(numbers), ids=NAMES)
    assert scores_by_id(said) == {name: i for i, name in enumerate(NAMES)}
    assert list(scores_by_id(predicted(DataLoader(numbers)))) == list("01234567")


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
