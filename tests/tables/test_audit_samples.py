"""The audit sample as a table, and that another sample than the drawn one is refused."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot.core.audit_samples import AuditDesign
from manyhot.errors import InputError, MatchError
from manyhot.tables.audit_samples import (
    draw_sample,
    random_order,
    read_audit_sample,
    write_audit_sample,
)

N = 40
IDS = pa.array([f"{i:02}.jpg" for i in range(N)], pa.string())
HALVES = pa.array(["many" if i % 2 else "one" for i in range(N)], pa.string())


def drawn(design="uniform", seed=3, order=None):
    order = np.arange(N) if order is None else order
    p, strata = np.full(N, 10 / N), None
    if design == "stratified":
        p, strata = np.where(np.arange(N) % 2, 4 / 20, 6 / 20), HALVES
    elif design != "uniform":
        p = np.linspace(1, 3, N) * 10 / np.linspace(1, 3, N).sum()
    take = None if strata is None else strata.take(pa.array(order))
    return draw_sample(IDS.take(pa.array(order)), p[order], design, seed, take)


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def rewritten(path, change=lambda table: table, **about):
    """Write a sample, changed afterwards."""
    table = pq.read_table(write_audit_sample(drawn("active"), path))
    metadata = table.schema.metadata | {f"manyhot.{k}".encode(): v.encode() for k, v in about.items()}
    pq.write_table(change(table).replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize("design", ["uniform", "stratified", "active", "systematic"])
def test_written_and_read_again(tmp_path, design):
    first = drawn(design)
    again = read_audit_sample(write_audit_sample(first, tmp_path / "s.parquet", call="manyhot audit"))
    assert again.drawn.equals(first.drawn)
    assert np.array_equal(again.sample.design.probability, first.sample.design.probability)
    assert again.sample.strata.tolist() == first.sample.strata.tolist()
    assert (again.design, again.seed, len(again)) == (design, 3, 10)


def by_hash(rows, seed, purpose):
    """Return rows of IDS in the order of SHA-256 of the seed, the purpose and the id."""
    return sorted(rows, key=lambda i: hashlib.sha256(f"{seed}:{purpose}:{IDS[i]}".encode()).hexdigest())


def systematic(rows, p, seed, stratum=""):
    """Return what is drawn from some rows: those at which the running sum of p passes u, u + 1, u + 2, …"""
    digest = hashlib.sha256(f"{seed}:start:{stratum}".encode()).hexdigest()
    point, total, taken = int(digest[:16], 16) / 2**64, 0.0, []
    for row in by_hash(rows, seed, "draw"):
        total += p[row]
        if total > point:
            taken.append(row)
            point += 1
    return taken


def test_the_draw_is_that_of_the_design_and_the_seed():
    p = np.linspace(1, 3, N) * 10 / np.linspace(1, 3, N).sum()
    for seed in range(20):
        expected = by_hash(systematic(range(N), p, seed), seed, "answer")
        assert drawn("active", seed).drawn.to_pylist() == [f"{i:02}.jpg" for i in expected]


def test_the_draw_of_strata():
    p = np.where(np.arange(N) % 2, 4 / 20, 6 / 20)
    for seed in range(20):
        halves = systematic(range(0, N, 2), p, seed, "one"), systematic(range(1, N, 2), p, seed, "many")
        expected = by_hash([*halves[0], *halves[1]], seed, "answer")
        assert drawn("stratified", seed).drawn.to_pylist() == [f"{i:02}.jpg" for i in expected]


def test_the_random_order_is_that_of_published_hashes():
    """SHA-256 of "abc", FIPS 180-4: the text is the seed, the purpose and the id, divided by colons."""
    assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf8f01cfea")
    # printf 7:draw:a.jpg | sha256sum begins with 126f38b44b87357d, that of b.jpg with 2a3f96cc912bba07,
    # c.jpg c51811cc9deee181, d.jpg 0ccd4864eec891fb
    assert random_order(pa.array(["a.jpg", "b.jpg", "c.jpg", "d.jpg"]), 7, "draw").tolist() == [3, 0, 1, 2]


def test_each_image_is_drawn_with_its_probability_and_at_each_place():
    """Over 1,000 seeds, the largest of 40 and of 400 standardised deviations."""
    p = np.linspace(1, 3, N) * 10 / np.linspace(1, 3, N).sum()
    times, places = np.zeros(N), np.zeros((10, N))
    for seed in range(1000):
        images = drawn("active", seed).sample.images
        times[images] += 1
        places[np.arange(10), images] += 1
    assert np.abs((times - 1000 * p) / np.sqrt(1000 * p * (1 - p))).max() < 4
    assert np.abs((places - 100 * p) / np.sqrt(100 * p)).max() < 4.5


def test_samples_from_before_are_drawn_by_numpy(tmp_path):
    """They do not say so."""
    p = np.linspace(1, 3, N) * 10 / np.linspace(1, 3, N).sum()
    expected = AuditDesign(p).draw(np.random.default_rng(3)).images
    first = draw_sample(IDS, p, "active", 3, random="numpy")
    assert first.drawn.to_pylist() == [f"{i:02}.jpg" for i in expected]
    path = write_audit_sample(first, tmp_path / "s.parquet")
    assert b"manyhot.random" not in pq.read_schema(path).metadata
    again = read_audit_sample(path)
    assert (again.random, again.drawn.to_pylist()) == ("numpy", first.drawn.to_pylist())


def test_random_numbers_of_an_unknown_kind(tmp_path):
    path = rewritten(tmp_path / "s.parquet", random="sha3")
    assert message(InputError, lambda: read_audit_sample(path)) == (
        "The kind of random numbers that was used for the draw is unknown.\n"
        f"  where:   {path}\n"
        "  got:     sha3\n"
        "  allowed: sha256 or numpy\n"
        "  do:      update manyhot, or pass the file that manyhot audit wrote, unchanged"
    )


def test_a_long_seed(tmp_path):
    seed = 2**128
    path = write_audit_sample(drawn(seed=seed), tmp_path / "s.parquet")
    assert read_audit_sample(path).seed == seed


def test_the_order_of_the_images_does_not_matter():
    order = np.random.default_rng(0).permutation(N)
    for design in ("uniform", "stratified", "active"):
        assert drawn(design, order=order).drawn.equals(drawn(design).drawn)


def test_metadata(tmp_path):
    about = pq.read_schema(write_audit_sample(drawn(), tmp_path / "s.parquet")).metadata
    ids = "".join(f"{len(i)}:{i}" for i in sorted(IDS.to_pylist()))
    expected = {
        "table": "audit_sample",
        "design": "uniform",
        "seed": "3",
        "random": "sha256",
        "n": "10",
        "n_images": "40",
        "images": hashlib.sha256(ids.encode()).hexdigest()[:16],
    }
    assert {k: about[f"manyhot.{k}".encode()].decode() for k in expected} == expected


def test_the_sample_for_images_in_another_order():
    order = np.random.default_rng(1).permutation(N)
    for design in ("uniform", "stratified", "active"):
        first = drawn(design)
        ids = first.image_id.take(pa.array(order))
        other = first.sample_for(ids)
        assert ids.take(pa.array(other.images)).equals(first.drawn)
        assert np.array_equal(other.weights, first.sample.weights)
        assert other.strata.tolist() == first.sample.strata.tolist()


def test_other_images():
    ids = pa.array(["x.jpg", *IDS.to_pylist()[2:]], pa.string())
    assert message(MatchError, lambda: drawn().sample_for(ids)) == (
        "The audited images were not drawn from these images.\n"
        "  where:   the labels and the audit sample\n"
        "  got:     1 images could never be drawn, such as x.jpg; 2 images are not in the labels, such as "
        "00.jpg, 01.jpg\n"
        "  allowed: the 40 images of the sample\n"
        "  do:      pass the labels that the sample was drawn from, or select the images of the sample"
    )


def test_another_seed_is_refused(tmp_path):
    path = rewritten(tmp_path / "s.parquet", seed="4")
    others = sorted(set(drawn("active").drawn.to_pylist()) - set(drawn("active", seed=4).drawn.to_pylist()))
    assert message(InputError, lambda: read_audit_sample(path)) == (
        "The audited images were not drawn with the recorded probabilities.\n"
        f"  where:   {path}\n"
        f"  got:     10 images, of which {len(others)} were not drawn, such as {', '.join(others[:2])}\n"
        "  allowed: the 10 images that seed 4 draws, in this order\n"
        "  do:      pass the file that manyhot audit wrote, unchanged"
    )


def test_another_order_is_refused(tmp_path):
    def reversed_order(table):
        place = pa.array([None if p is None else 9 - p for p in table["place"].to_pylist()], pa.int32())
        return table.set_column(3, "place", place)

    path = rewritten(tmp_path / "s.parquet", reversed_order)
    assert message(InputError, lambda: read_audit_sample(path)) == (
        "The audited images were not drawn with the recorded probabilities.\n"
        f"  where:   {path}\n"
        "  got:     10 images, of which 0 were not drawn\n"
        "  allowed: the 10 images that seed 3 draws, in this order\n"
        "  do:      pass the file that manyhot audit wrote, unchanged"
    )


def test_images_left_out_are_refused(tmp_path):
    path = rewritten(tmp_path / "s.parquet", lambda table: table[:30])
    assert message(InputError, lambda: read_audit_sample(path)).startswith(
        "The audited images were not drawn from these images.\n"
        f"  where:   {path}\n"
        "  got:     30 images with the hash "
    )


def test_probabilities_of_another_design_are_refused(tmp_path):
    path = rewritten(tmp_path / "s.parquet", design="uniform")
    assert message(InputError, lambda: read_audit_sample(path)) == (
        "The probabilities do not match the design.\n"
        f"  where:   {path}\n"
        "  got:     0.125 for an image of a uniform sample\n"
        "  allowed: 0.25\n"
        "  do:      name the design 'systematic' if probabilities differ"
    )


def test_changed_probabilities_are_refused_even_if_they_draw_the_same_images(tmp_path):
    def moved(table):
        p = table["probability"].to_numpy().copy()
        p[:2] += 1e-9, -1e-9
        return table.set_column(1, "probability", pa.array(p))

    path = rewritten(tmp_path / "s.parquet", moved)
    assert message(InputError, lambda: read_audit_sample(path)).startswith(
        "The audited images were drawn with other probabilities.\n"
        f"  where:   {path}\n"
        "  got:     probabilities and strata with the hash "
    )


def test_an_image_that_cannot_be_drawn_is_refused(tmp_path):
    def zero(table):
        p = table["probability"].to_numpy().copy()
        p[5] = 0
        return table.set_column(1, "probability", pa.array(p))

    path = rewritten(tmp_path / "s.parquet", zero)
    assert message(InputError, lambda: read_audit_sample(path)) == (
        "The probability of auditing an image is out of range.\n"
        "  where:   image 5 of 40\n"
        "  got:     0\n"
        "  allowed: above 0 and at most 1\n"
        "  do:      give each image a positive probability; "
        "an audit says nothing about images that it never draws"
    )


def test_a_file_that_does_not_record_the_draw_is_refused(tmp_path):
    path = tmp_path / "s.parquet"
    pq.write_table(drawn().to_table(), path)
    assert message(InputError, lambda: read_audit_sample(path)) == (
        "The file does not record how its images were drawn.\n"
        f"  where:   {path}\n"
        "  got:     no design, seed, n, n_images, images, probabilities in its metadata\n"
        "  allowed: design, seed, n, n_images, images, probabilities\n"
        "  do:      pass the file that manyhot audit wrote; if you drew the images yourself, uniformly from "
        "all images, pass `sample` uniform"
    )


def test_unknown_design():
    assert message(InputError, lambda: draw_sample(IDS, np.full(N, 0.25), "random", 0)) == (
        "There is no such audit design.\n"
        "  got:     random\n"
        "  allowed: uniform, stratified, active, systematic"
    )


def test_strata_of_some_images_only():
    strata = pa.array([None, *["a"] * (N - 1)], pa.string())
    assert message(InputError, lambda: draw_sample(IDS, np.full(N, 0.25), "stratified", 0, strata)) == (
        "Some images have a stratum and others have none.\n"
        "  got:     1 of 40 images without a stratum\n"
        "  allowed: a stratum for each image, or for none"
    )
    assert message(InputError, lambda: draw_sample(IDS, np.full(N, 0.25), "stratified", 0)) == (
        "A stratified sample has no strata."
    )


def test_an_image_twice():
    ids = pa.array(["a", "a", "b"], pa.string())
    assert message(MatchError, lambda: draw_sample(ids, np.full(3, 2 / 3), "uniform", 0)) == (
        "An image is listed more than once.\n"
        "  where:   the images of the audit\n"
        "  got:     1 id, such as a\n"
        "  allowed: each image_id once\n"
        "  do:      retain one row per image"
    )
