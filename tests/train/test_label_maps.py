"""Label maps: files, crops against RoIAlign over the whole map, and networks against their own logits."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from PIL import Image  # noqa: E402
from torchvision.ops import roi_align  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from manyhot import cli  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.errors import InputError, MatchError  # noqa: E402
from manyhot.predict.network import Network, Preprocessing  # noqa: E402
from manyhot.predict.sources import open_source  # noqa: E402
from manyhot.predict.weights import Trained, read_trained, write_trained  # noqa: E402
from manyhot.run import Run  # noqa: E402
from manyhot.train.label_maps import (  # noqa: E402
    MapBlock,
    compute_label_maps,
    localised,
    place_weights,
    read_maps,
    read_relabel,
    write_maps,
)
from manyhot.train.train import train  # noqa: E402
from manyhot.train.write_label_maps import label_maps  # noqa: E402

CLASSES = from_keys(("cat", "dog", "sofa", "train"))
BOXES = torch.tensor(
    [[0, 0, 1, 1], [0.1, 0.2, 0.55, 0.9], [0.5, 0, 1, 0.3], [0.4, 0.4, 0.6, 0.6], [0, 0, 0.15, 1]]
)


def random_block(names, k=2, h=5, w=3, seed=0):
    rng = np.random.default_rng(seed)
    classes = rng.random((len(names), 4, h, w)).argsort(1)[:, :k]
    return MapBlock(list(names), rng.normal(size=(len(names), k, h, w)).astype(np.float16), classes)


def dense(block):
    """All scores of all classes, 0 where none is kept."""
    maps = np.zeros((len(block.image_ids), 4, *block.scores.shape[2:]), np.float32)
    np.put_along_axis(maps, block.classes, block.scores.astype(np.float32), 1)
    return torch.from_numpy(maps)


@pytest.fixture
def maps_file(tmp_path):
    blocks = [random_block("abc"), random_block("de", seed=1)]
    return write_maps(tmp_path / "maps.arrow", blocks, CLASSES, {"model": "m"}), blocks


def test_maps_are_read_as_they_were_written(maps_file):
    path, blocks = maps_file
    maps = read_maps(path)
    assert len(maps) == 5
    assert (maps.classes.keys, maps.grid, maps.about["model"]) == (CLASSES.keys, (5, 3), "m")
    for found, block in zip(maps.blocks, blocks, strict=True):
        assert found.image_ids == block.image_ids
        assert np.array_equal(found.scores, block.scores)
        assert np.array_equal(found.classes, block.classes)
        assert not found.scores.flags.owndata  # it lies in the file


def test_crops_are_taught_roi_align_of_the_map(maps_file):
    path, blocks = maps_file
    taught = localised(path, ["d", "a", "c", "e", "b"], CLASSES)
    whole = torch.cat([dense(block) for block in blocks])
    rows = torch.tensor([4, 0, 2, 1, 3])  # b, d, c, a, e
    targets = taught.batch(rows, 7, boxes=BOXES, mirrored=torch.tensor([True] + 4 * [False]))
    at = BOXES * torch.tensor([3, 5, 3, 5])
    of = torch.tensor([1, 3, 2, 0, 4])
    expected = roi_align(whole, torch.cat([of[:, None], at], 1), 1, aligned=True)[:, :, 0, 0].softmax(1)
    assert torch.allclose(targets.p, expected, atol=1e-6)
    assert targets.weight is None
    assert (targets.rows.tolist(), targets.epoch) == (rows.tolist(), 7)


def test_a_crop_by_hand():
    """Of a map of 2 by 2 a crop of one place: one sample, in the right column, half-way between the rows."""
    weight = place_weights(torch.tensor([[0.5, 0.25, 1.0, 0.75]]), (2, 2))
    assert torch.allclose(weight, torch.tensor([[[0, 0.5], [0, 0.5]]]))


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (7, 7), (15, 15), (5, 9)])
def test_a_whole_image_is_the_mean_of_its_map(grid):
    weight = place_weights(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), grid)
    assert torch.allclose(weight, torch.full((1, *grid), 1 / (grid[0] * grid[1])))


def test_weights_sum_to_one():
    rng = np.random.default_rng(0)
    corner = rng.random((200, 2)) * 0.7
    boxes = np.concatenate([corner, corner + 0.05 + rng.random((200, 2)) * 0.25], 1)
    weight = place_weights(torch.tensor(boxes, dtype=torch.float32), (15, 15))
    assert torch.allclose(weight.sum((1, 2)), torch.ones(200), atol=1e-5)
    assert (weight >= 0).all()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (60 + i, 80, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    module = timm.create_model("test_resnet", num_classes=4).eval()
    return Network("timm/test_resnet", CLASSES, Preprocessing(size=(96, 96), scale=(96, 96)), module)


def test_maps_of_a_network_are_its_logits_without_the_mean(photos, network, tmp_path):
    """With all classes kept a whole image is taught what the network itself says of it."""
    skipped = []
    blocks = list(
        compute_label_maps(
            network, open_source(photos), k=4, batch=2, skip=lambda *told: skipped.append(told)
        )
    )
    assert [name for name, _ in skipped] == ["broken.png"]
    path = write_maps(tmp_path / "m.arrow", blocks, CLASSES, {})
    names = [f"{i}.png" for i in range(5)]
    taught = localised(path, names, CLASSES).batch(torch.arange(5)).p
    side = Preprocessing(size=(96, 96), scale=(96, 96), mode="squash")
    images = torch.stack(
        [side(torch.from_numpy(np.array(Image.open(photos / n))).permute(2, 0, 1)) for n in names]
    )
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (side.mean, side.std))
    with torch.inference_mode():
        grid = network.module.forward_features((images - mean) / std)
        own = network.module((images - mean) / std).softmax(1)
    assert grid.shape[2] > 1
    assert torch.allclose(taught, own, atol=2e-3)  # scores are half precision in the file


def test_places_keep_their_best_classes(photos, network):
    skip = lambda *_: None  # noqa: E731
    (all_of, few_of) = (
        next(iter(compute_label_maps(network, open_source(photos), k=k, size=64, skip=skip))) for k in (4, 2)
    )
    assert few_of.scores.shape[1] == 2
    assert np.allclose(few_of.scores, all_of.scores[:, :2], atol=1e-2)
    assert np.allclose(all_of.scores.sum(1), 0, atol=1e-2)  # less their mean


def test_a_trained_network_makes_maps_and_tells_what_it_could_not_read(photos, network, tmp_path):
    state, how = network.module.state_dict(), network.preprocessing.to_dict()
    trained = Trained("test_resnet", {}, CLASSES, "softmax", how, state)
    path = write_trained(trained, tmp_path / "t.safetensors")
    made = label_maps(photos, model=f"trained:{path}", out=tmp_path / "m.arrow", top=3, size=64)
    n, written = made.n_images, made.written
    assert n == 5
    assert [p.name for p in written] == ["m.arrow", "m-skipped.csv"]
    assert "broken.png" in written[1].read_text()
    assert len(read_maps(written[0])) == 5
    command = [
        "label-maps",
        str(photos),
        "--model",
        f"trained:{path}",
        "--out",
        str(tmp_path / "again.arrow"),
    ]
    done = CliRunner().invoke(cli.app, [*command, "--k", "3", "--size", "64"])
    files = [f"wrote {tmp_path / name}" for name in ("again.arrow", "again-skipped.csv")]
    assert done.stdout.splitlines() == ["5 label maps", *files]
    assert done.stderr == "Note: --k is called --top now.\n"
    assert read_maps(tmp_path / "again.arrow").about["k"] == 3


@pytest.mark.parametrize("by_columns", [True, False])
def test_released_maps_give_what_the_released_code_gives(tmp_path, by_columns):
    """Its code: RoIAlign of the dense map, given top, left, bottom and right times the side, less a half."""
    block = random_block(["x"], h=6, w=6)
    (tmp_path / "n01").mkdir()
    packed = np.stack([block.scores[0].astype(np.float32), block.classes[0]])
    torch.save(torch.from_numpy(packed).half(), tmp_path / "n01" / "x.pt")
    blocks = read_relabel(tmp_path, by_columns=by_columns)
    taught = localised(write_maps(tmp_path / "m.arrow", blocks, CLASSES, {}), ["x.JPEG"], CLASSES)
    box = torch.tensor([[0.1, 0.3, 0.6, 0.9]])
    theirs = box[:, [1, 0, 3, 2]] if by_columns else box
    expected = roi_align(dense(block), torch.cat([torch.zeros(1, 1), theirs * 6 - 0.5], 1), 1)
    found = taught.batch(torch.tensor([0]), boxes=box).p
    assert torch.allclose(found, expected[:, :, 0, 0].softmax(1), atol=1e-6)


def training(photos, network, folder, told=None, **settings):
    """A network of two of the photographs' maps, trained for an epoch; one photograph has no map."""
    state, how = network.module.state_dict(), network.preprocessing.to_dict()
    trained = write_trained(
        Trained("test_resnet", {}, CLASSES, "softmax", how, state), folder / "t.safetensors"
    )
    label_maps(photos, model=f"trained:{trained}", out=folder / "all.arrow", size=64, top=4)
    known = read_maps(folder / "all.arrow").blocks[0]
    write_maps(folder / "m.arrow", [MapBlock(*(part[:4] for part in known))], CLASSES, {})
    lines = "".join(f"{i}.png,{i % 4},true,{i % 4},yes\n" for i in range(5))
    (folder / "labels.csv").write_text(f"image_id,label,usable,classes,state\n{lines}")
    (folder / "classes.txt").write_text("\n".join(CLASSES.keys))
    given = {"model": "timm/test_resnet", "weights": "none", "size": 32, "batch": 2, "epochs": 1}
    return train(
        photos,
        folder / "labels.csv",
        out=folder / "run",
        classes=folder / "classes.txt",
        settings={**given, "teach": "maps", "maps": str(folder / "m.arrow"), **settings},
        run=Run(on_event=lambda *event: None if told is None else told.append(str(event))),
    ).network


def test_crops_are_trained_on(photos, network, tmp_path):
    told = []
    found = read_trained(training(photos, network, tmp_path, told))
    assert (found.ends, found.about["n"]) == ("softmax", 4)
    assert any("1 images without a label map are left out" in event for event in told)


# Bad input.


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"maps": ""},
            "The settings `teach` and `maps` do not match.\n"
            "  got:     teach 'maps', maps ''\n"
            "  do:      set both `teach` to 'maps' and `maps` to a file written by manyhot label-maps",
        ),
        (
            {"loss": "bce"},
            "Label maps give shares of classes, which need a loss that ends in a softmax.\n"
            "  got:     bce\n"
            "  do:      use the loss softmax, or other targets",
        ),
    ],
)
def test_recipes_that_do_not_fit(photos, network, tmp_path, settings, text):
    with pytest.raises(InputError) as raised:
        training(photos, network, tmp_path, **settings)
    assert message(raised) == text


def message(raised):
    return str(raised.value)


def test_maps_of_other_classes(maps_file):
    with pytest.raises(MatchError) as raised:
        localised(maps_file[0], ["a"], from_keys(("dog", "cat")))
    assert message(raised) == (
        "The label maps and the labels have different classes.\n"
        f"  where:   {maps_file[0]}\n"
        "  got:     4 classes, starting with cat\n"
        "  allowed: 2 classes, starting with dog"
    )


def test_images_without_a_map(maps_file):
    assert localised(maps_file[0], ["a", "x", "b"], CLASSES).mapped.tolist() == [True, False, True]
    with pytest.raises(MatchError) as raised:
        localised(maps_file[0], ["x.png", "y.png"], CLASSES)
    assert message(raised) == (
        "None of the images has a label map.\n"
        f"  where:   {maps_file[0]}\n"
        "  got:     maps of images such as a, labels of images such as x.png\n"
        "  do:      create maps of these images: manyhot label-maps"
    )


@pytest.mark.parametrize("content", [b"", b"nothing of Arrow's"])
def test_no_file_of_maps(tmp_path, content):
    path = tmp_path / "m.arrow"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_maps(path)
    assert message(raised) == (
        f"The file contains no label maps.\n  where:   {path}\n  do:      create some with: manyhot "
        "label-maps"
    )
    with pytest.raises(InputError, match=r"^The file does not exist\."):
        read_maps(tmp_path / "absent.arrow")


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([], "There are no images from which label maps can be computed."),
        ([random_block("ab"), random_block("b")], "An image occurs twice."),
        ([random_block("a"), random_block("b", h=6)], "Label maps have different shapes."),
    ],
)
def test_maps_that_are_not_written(tmp_path, blocks, text):
    with pytest.raises(InputError) as raised:
        write_maps(tmp_path / "m.arrow", blocks, CLASSES, {})
    assert message(raised).startswith(text)
    assert not list(tmp_path.iterdir())


def test_a_network_without_a_grid(photos):
    vit = Network(
        "timm/test_vit",
        CLASSES,
        Preprocessing(size=(160, 160), scale=(160, 160)),
        timm.create_model("test_vit", num_classes=4),
    )
    with pytest.raises(InputError) as raised:
        next(compute_label_maps(vit, open_source(photos), k=2, skip=lambda *_: None))
    assert message(raised) == (
        "The network has no grid before its classifier.\n"
        "  where:   timm/test_vit\n"
        "  got:     features of shape (5, 101, 64)\n"
        "  allowed: a convolutional network, such as timm/resnet50"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            torch.zeros(3, 3),
            "The file contains no label map of ReLabel.\n  where:   {}\n  got:     shape (3, 3)\n"
            "  allowed: shape (2, k, side, side)",
        ),
        (b"no pickle", "The file cannot be read.\n  where:   {}\n  got:     UnpicklingError"),
    ],
)
def test_released_files_that_are_none(tmp_path, content, text):
    (tmp_path / "n01").mkdir()
    path = tmp_path / "n01" / "x.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError) as raised:
        next(read_relabel(tmp_path))
    assert message(raised) == text.format(path)
    with pytest.raises(InputError, match=r"^The folder contains no label maps of ReLabel\."):
        next(read_relabel(tmp_path / "n01"))
