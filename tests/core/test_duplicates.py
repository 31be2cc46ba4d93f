"""Candidates for duplicates compared with plain loops, and groups of pairs."""

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dct
from scipy.ndimage import gaussian_filter

from manyhot.core import duplicates
from manyhot.core.duplicates import (
    FRAMES,
    MIN_EMBEDDING_SIMILARITY,
    MIN_HASH_SIMILARITY,
    NEAREST,
    WHOLE_FRAMES,
    candidates_among,
    candidates_by_embedding,
    candidates_by_hash,
    connected_groups,
    equal_pairs,
    image_hashes,
    separating_similarity,
)

SIDE = 32


def pictures(n, seed=0):
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(n, SIDE, SIDE)), (0, 3, 3))
    noise -= noise.min(axis=(1, 2), keepdims=True)
    return (255 * noise / noise.max(axis=(1, 2), keepdims=True)).astype(np.uint8)


def plain_hash(image):
    """Return the hash of one image, term by term."""
    terms = dct(dct(image.astype(float), axis=0, norm="ortho"), axis=1, norm="ortho")
    flat = [terms[u, v] * (u**2 + v**2) ** 0.25 for u in range(8) for v in range(8)]
    return np.array(flat) / np.linalg.norm(flat)


def test_hashes_are_low_frequencies_of_the_cosine_transform():
    images = pictures(5)
    assert image_hashes(images) == pytest.approx(np.array([plain_hash(i) for i in images]), abs=1e-5)


@pytest.mark.parametrize("frame", range(len(FRAMES)))
def test_a_frame_has_the_hash_of_the_picture_that_it_shows(frame):
    images = pictures(5)
    mirrored, x, y, size = FRAMES[frame]
    box = tuple(SIDE * end for end in (x, y, x + size, y + size))
    cut = [np.asarray(Image.fromarray(i).resize((SIDE, SIDE), Image.BILINEAR, box=box)) for i in images]
    expected = [plain_hash(i[:, ::-1] if mirrored else i) for i in cut]
    found = image_hashes(images, frame)
    assert (np.array(expected) * found).sum(axis=1) == pytest.approx(np.ones(5), abs=2e-3)


def test_blocks_do_not_change_hashes(monkeypatch):
    images = pictures(7)
    whole = [image_hashes(images, frame) for frame in range(len(FRAMES))]
    monkeypatch.setattr(duplicates, "_IMAGES", 3)
    for frame, expected in enumerate(whole):
        assert np.array_equal(image_hashes(images, frame), expected)


def test_an_image_without_contrast_has_no_hash():
    flat = np.full((3, SIDE, SIDE), 90, np.uint8)
    assert not image_hashes(flat).any()
    assert len(candidates_by_hash(flat)) == 0


@pytest.mark.parametrize("frames", [range(len(FRAMES)), WHOLE_FRAMES])
def test_candidates_are_those_of_a_plain_search(frames, monkeypatch):
    images = pictures(40)
    images[20:30] = images[:10, :, ::-1]
    images[30] = images[5]
    monkeypatch.setattr(duplicates, "_CELLS", 3 * 40)  # several blocks
    best = {}
    for frame in frames:
        mirrored = FRAMES[frame][0]
        scores = image_hashes(images, frame) @ image_hashes(images).T
        np.fill_diagonal(scores, -1)
        for i, row in enumerate(scores):
            for j in np.argsort(-row)[:NEAREST]:
                pair = (min(i, j), max(i, j))
                if row[j] >= MIN_HASH_SIMILARITY and row[j] > best.get(pair, (0,))[0]:
                    best[pair] = row[j], mirrored
    found = candidates_by_hash(images, frames=frames)
    pairs = [tuple(sorted(p)) for p in zip(found.first.tolist(), found.second.tolist(), strict=True)]
    assert sorted(pairs) == sorted(best)
    assert {(i, i + 20) for i in range(10)} | {(5, 30)} <= set(pairs)
    by_pair = dict(zip(pairs, found.mirrored.tolist(), strict=True))
    assert all(by_pair[i, i + 20] for i in range(10))
    assert not by_pair[5, 30]


def test_the_part_of_a_pair_is_the_most_similar_one():
    images = pictures(6)
    cut = np.asarray(Image.fromarray(images[0]).resize((SIDE, SIDE), Image.BILINEAR, box=(0, 3.2, 28.8, 32)))
    images = np.concatenate([images, cut[None], cut[None, :, ::-1]])
    pairs = np.array([[0, 6], [7, 0], [1, 2]])
    found = candidates_among(images, pairs)
    assert len(found) == 3
    row = {tuple(sorted(p)): i for i, p in enumerate(zip(found.first, found.second, strict=True))}
    plain, turned = row[0, 6], row[0, 7]
    assert (found.first[plain], found.second[plain], found.mirrored[plain]) == (0, 6, False)
    assert found.frames[plain] == pytest.approx([0, 0.9, 0.1, 0.9])
    # Mirrored, the part begins a tenth from the left.
    assert (found.first[turned], found.second[turned], found.mirrored[turned]) == (0, 7, True)
    assert found.frames[turned] == pytest.approx([0.1, 0.9, 0.1, 0.9], abs=1e-6)


def test_similar_embeddings_are_those_of_a_plain_search():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 16))
    vectors[25:40] = vectors[:15] + 0.3 * rng.normal(size=(15, 16))
    vectors[40] = 0
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    cosine = unit @ unit.T
    expected = {(i, j) for i in range(50) for j in range(i) if cosine[i, j] >= MIN_EMBEDDING_SIMILARITY}
    found = candidates_by_embedding(vectors.astype(np.float32))
    assert {(j, i) for i, j in expected} == set(map(tuple, found.tolist()))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_images(n):
    images, done = pictures(max(n, 1))[:n], []
    assert len(candidates_by_hash(images, lambda *step: done.append(step))) == 0
    assert done[-1] == (len(FRAMES), len(FRAMES))
    assert len(candidates_among(images, np.empty((0, 2), np.int64))) == 0
    assert candidates_by_embedding(np.eye(3, dtype=np.float32)[:n]).shape == (0, 2)


def test_groups_are_connected_images():
    pairs = np.array([[7, 3], [1, 5], [5, 8], [9, 3]])
    # 0 is that of image 1, which comes first.
    assert connected_groups(11, pairs).tolist() == [-1, 0, -1, 1, -1, 0, -1, 1, 0, 1, -1]
    assert connected_groups(3, np.empty((0, 2), np.int64)).tolist() == [-1, -1, -1]
    assert connected_groups(0, np.empty((0, 2), np.int64)).tolist() == []


def test_equal_keys_are_paired_with_the_first():
    keys = np.array([b"a", b"b", b"a", b"c", b"b", b"a"])
    assert list(equal_pairs(keys)) == [(0, 2), (1, 4), (0, 5)]


def test_the_widest_gap_above_which_no_group_has_most_images():
    pairs = np.array([(0, 1), (2, 3), (4, 5), (1, 2), (3, 4), (0, 5)])
    similarity = np.array([0.97, 0.98, 0.965, 0.9, 0.91, 0.75], np.float32)
    # The gap from 0.75 to 0.9 is wider, but leaves all images in one group.
    assert separating_similarity(6, pairs, similarity) == pytest.approx((0.91, 0.965))
    even = np.linspace(0.7, 0.74, 6, dtype=np.float32)  # steps of 0.008
    assert separating_similarity(6, pairs, even) is None
