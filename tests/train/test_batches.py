"""Orders, crops and mixing: functions of the seed, the epoch and the row."""

import contextlib
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

import trainings
from manyhot.predict.decode import decode
from manyhot.predict.network import Preprocessing
from manyhot.predict.sources import Decoding, open_source
from manyhot.train.augment import drawn
from manyhot.train.batches import (
    Loader,
    Views,
    centred_view,
    collect_images,
    cropped_view,
    decoders,
    opened,
    random_box,
)
from manyhot.train.order import Everything, Shards, plan_of, shuffled
from manyhot.train.recipe import Recipe

SMALL = Preprocessing(size=(32, 32), scale=(36, 36))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trainings.images(tmp_path_factory.mktemp("images") / "images", 24)


ROWS = {f"{i:03}.png": i for i in range(24)}


def dealt(order, world, seed=0, epoch=0, first=0):
    """Return the rows of each batch as its processes have them, each in its place."""
    plans = [plan_of(8, 4, seed, 24, rank, world) for rank in range(world)]
    per = [[[row for row, _ in b] for b in order.batches(plan, epoch, first)] for plan in plans]
    return [list(itertools.chain(*zip(*parts, strict=True))) for parts in zip(*per, strict=True)]


@pytest.fixture
def orders(folder, tmp_path):
    tars = trainings.shards(tmp_path / "tars", folder, 6)
    return {
        "all": collect_images(open_source(folder), ROWS, "auto", 3, 10**9),
        "shards": collect_images(open_source(tars), ROWS, "shards", 3, 10**9),
    }


def test_processes_share_the_batches_of_one(orders):
    assert isinstance(orders["all"], Everything)
    assert isinstance(orders["shards"], Shards)
    for order in orders.values():
        one = dealt(order, 1)
        assert dealt(order, 2) == one
        assert dealt(order, 4) == one
        assert dealt(order, 2, first=1) == one[1:]
        assert dealt(order, 1, epoch=1) != one
        assert dealt(order, 1, seed=1) != one
    assert sorted(itertools.chain(*dealt(orders["all"], 1))) == list(range(24))


def test_large_sources_are_read_by_shards(folder, tmp_path):
    tars = trainings.shards(tmp_path / "tars", folder, 6)
    assert isinstance(collect_images(open_source(tars), ROWS, "auto", 3, 1000), Shards)
    assert isinstance(collect_images(open_source(tars), ROWS, "all", 3, 1000), Everything)
    assert isinstance(collect_images(open_source(folder), ROWS, "auto", 3, 1000), Everything)


def test_images_that_just_fit_into_the_memory_are_not_read_by_shards(folder, tmp_path):
    one, same = min(folder.iterdir()), tmp_path / "same"
    same.mkdir()
    for name in ROWS:
        (same / name).write_bytes(one.read_bytes())
    source, size = open_source(trainings.shards(tmp_path / "tars", same, 6)), 24 * one.stat().st_size
    assert isinstance(collect_images(source, ROWS, "auto", 3, size), Everything)
    assert isinstance(collect_images(source, ROWS, "auto", 3, size - 1), Shards)


def test_an_image_that_cannot_be_read_takes_no_memory(folder, tmp_path):
    size = (folder / "000.png").stat().st_size
    for room, kept in ((0, True), (-1, False)):
        same = tmp_path / f"same{room}"
        same.mkdir()
        for name in ROWS:
            (same / name).write_bytes((folder / "000.png").read_bytes())
        source = open_source(same)
        (same / "005.png").unlink()
        order = collect_images(source, ROWS, "auto", 3, 23 * size + room)
        (same / "007.png").unlink()
        with contextlib.nullcontext() if kept else pytest.raises(FileNotFoundError):
            assert order.openers[7]() == (folder / "000.png").read_bytes()


@pytest.mark.parametrize("budget", [0, 10**9])
def test_a_network_is_trained_on_images_with_their_bits(tmp_path, budget):
    """Whether they are kept in memory or read again: both are decoded when a batch needs them."""
    values = np.linspace(0, 4000, 120).reshape(10, 12).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    source = open_source(tmp_path, decoding=Decoding(12))
    order = collect_images(source, {"a.png": 0}, "auto", 1, budget)
    assert isinstance(order, Everything)
    assert np.array_equal(opened(order.openers[0])[0], np.round(values / 4095 * 255))


def test_a_shuffle_buffer_gives_each_image_once():
    samples = [(i, bytes) for i in range(50)]
    out = [row for row, _ in shuffled(iter(samples), 8, [0])]
    assert sorted(out) == list(range(50))
    assert out != sorted(out)
    # Nothing comes before it was read.
    assert all(row <= at + 8 for at, row in enumerate(out))


def test_crops_are_distributed_as_torchvisions():
    rng, (height, width), n = np.random.default_rng(0), (60, 100), 4000
    own = np.array([random_box(rng, height, width, 0.25) for _ in range(n)], float)
    torch.manual_seed(0)
    crop = RandomResizedCrop(8, (0.25, 1.0))
    image = torch.zeros(3, height, width)
    params = [crop.make_params([image]) for _ in range(n)]
    others = np.array([[p["top"], p["left"], p["height"], p["width"]] for p in params], float)
    spread = np.sqrt(own.var(0) / n + others.var(0) / n)
    assert (np.abs(own.mean(0) - others.mean(0)) < 4 * spread).all()
    np.testing.assert_allclose(
        np.quantile(own, (0.1, 0.5, 0.9), 0), np.quantile(others, (0.1, 0.5, 0.9), 0), atol=3
    )


def test_a_crop_is_cut_then_resized():
    pixels = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    view = cropped_view(pixels, (5, 7, 20, 30), (16, 16))
    assert view.box == (7 / 70, 5 / 50, 37 / 70, 25 / 50)
    wanted = F.resized_crop(pixels, 5, 7, 20, 30, [16, 16], antialias=True)
    assert torch.equal(view.pixels, wanted)
    seen = centred_view(pixels, SMALL)
    assert torch.equal(seen.pixels, SMALL(pixels))
    # 50 × 70 becomes 36 × 50, of which 32 × 32 in the middle are seen.
    assert seen.box == pytest.approx((9 / 50, 2 / 36, 41 / 50, 34 / 36))


@pytest.mark.parametrize("augment", ["none", "mirror", "crop"])
def test_batches_say_what_they_show(orders, augment):
    recipe = Recipe(augment=augment)
    loader = Loader(orders["all"], plan_of(8, 4, 0, 24), Views(recipe, SMALL, 10**9))
    again = Loader(orders["all"], plan_of(8, 4, 0, 24), Views(recipe, SMALL, 0))  # nothing is kept
    for batch, other in zip(loader.epoch(3), again.epoch(3), strict=True):
        assert torch.equal(batch.images, other.images)
        assert batch.images.shape == (8, 3, 32, 32)
        assert batch.mirrored.any() == (augment != "none")
        whole = [decode(orders["all"].openers[row]()) for row in batch.rows]
        for i, (pixels, box) in enumerate(zip(whole, batch.boxes.tolist(), strict=True)):
            if augment == "crop":
                h, w = pixels.shape[1:]
                x1, y1, x2, y2 = (round(v * s) for v, s in zip(box, (w, h, w, h), strict=True))
                wanted = F.resize(pixels[:, y1:y2, x1:x2], [32, 32], antialias=True)
            else:
                wanted = SMALL(pixels)
            shown = batch.images[i].flip(2) if batch.mirrored[i] else batch.images[i]
            assert torch.equal(shown, wanted)


def test_threads_that_decode_compute_alone(monkeypatch):
    """Also once they began and the number of PyTorch's threads is as before."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "16")  # on other machines
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with decoders() as pool:
            assert torch.get_num_threads() == 3
            assert [pool.submit(torch.get_num_threads).result() for _ in range(8)] == [1] * 8
            assert pool._max_workers == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_altered_batches_are_the_same_again(orders):
    """Whatever was seen before, decoded or kept; each epoch alters otherwise."""
    recipe = Recipe(policy="rand-augment", jitter=0.2, seed=3)
    calm = Recipe(seed=3)
    loader, again, plain = (
        Loader(orders["all"], plan_of(8, 4, 3, 24), Views(r, SMALL, memory))
        for r, memory in ((recipe, 10**9), (recipe, 0), (calm, 0))
    )
    first, *rest = loader.epoch(1)
    later = list(again.epoch(1, 1))
    assert len(rest) == len(later) == 2
    for one, other, before in zip([first, *rest], [None, *later], plain.epoch(1), strict=True):
        assert other is None or torch.equal(one.images, other.images)
        assert torch.equal(one.boxes, before.boxes)
        assert not torch.equal(one.images, before.images)


@pytest.mark.parametrize("kinds", [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}])
def test_mixing_against_pixels(kinds):
    plan, size = plan_of(16, 4, 0, 64), (12, 10)
    mix = drawn(Recipe(batch=16, **kinds), plan, 1, 2, size)
    images = torch.rand(16, 3, *size)
    mixed = mix(images)
    assert mix.order.tolist() == [(i + 4) % 16 for i in range(16)]
    for i, other in enumerate(mix.order.tolist()):
        top, left, bottom, right = mix.boxes[i].tolist()
        if bottom > top:
            wanted = images[i].clone()
            wanted[:, top:bottom, left:right] = images[other, :, top:bottom, left:right]
            assert float(mix.share[i]) == pytest.approx(1 - (bottom - top) * (right - left) / 120)
        else:
            wanted = mix.share[i] * images[i] + (1 - mix.share[i]) * images[other]
        torch.testing.assert_close(mixed[i], wanted)
    cut = mix.boxes[:, 2] > 0
    assert cut.any() == ("cutmix" in kinds)
    # A share near 1 leaves a box without a pixel.
    assert ((~cut) & (mix.share < 1)).any() == ("mixup" in kinds)
    # Two processes draw what one does.
    halves = [drawn(Recipe(batch=16, **kinds), plan_of(16, 4, 0, 64, r, 2), 1, 2, size) for r in (0, 1)]
    assert torch.equal(torch.stack([h.share for h in halves], 1).flatten(), mix.share)
    for rank, half in enumerate(halves):
        assert (half.order * 2 + rank).tolist() == mix.order[rank::2].tolist()


def test_no_mixing():
    assert drawn(Recipe(), plan_of(16, 4, 0, 64), 0, 0, (8, 8)) is None
