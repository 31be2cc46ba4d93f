"""Similar images from embeddings in memory."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhot.errors import InputError, MatchError
from manyhot.predict.embeddings import Embedded
from manyhot.predict.similar import similar
from manyhot.tables import TABLES, Images, Predictions, check


def make(n, *, label=None, classes=None, size=8, seed=0, name="a", **about):
    """Make n images called a0.jpg, …, with random embeddings and three predicted classes of four."""
    rng = np.random.default_rng(seed)
    ids = pa.array([f"{name}{i}.jpg" for i in range(n)])
    if classes is None:
        classes = np.argsort(rng.random((n, 4)), axis=1)[:, :3]
    told = {"model": "timm/one", "n_classes": 4, "class_hash": "aaaa"} | about
    columns = {"image_id": ids} | ({} if label is None else {"label": pa.array(label, pa.int32())})
    vectors = rng.standard_normal((n, size)).astype(np.float16)
    return Embedded(Predictions(ids, classes=classes, **told), vectors, Images(pa.table(columns)), name)


LABEL = [0, 1, 2, 1, 0, 1, None, 2, 1, 0]


def rows_of(found):
    return found.table.to_pylist()


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.float32(a @ b / np.sqrt((a @ a) * (b @ b))))


def expected(index, queries, image_id, class_id, k):
    """Return the neighbours of one image by a loop over ids."""
    vector = dict(zip(queries.image_id.to_pylist(), queries.vectors, strict=True))[image_id]
    label = dict(zip(index.images.image_id.to_pylist(), index.labels().tolist(), strict=True))
    found = [
        (-cosine(vector, other), i, name)
        for i, (name, other) in enumerate(zip(index.image_id.to_pylist(), index.vectors, strict=True))
        if name != image_id and class_id in (None, label[name])
    ]
    return [name for _, _, name in sorted(found)[:k]]


def test_predicted_classes_the_best_first():
    index = make(10, label=LABEL)
    found = similar(index, neighbours=3, top=2)
    assert check(found.table, "similar").schema.names == [c.name for c in TABLES["similar"]]
    rows = rows_of(found)
    assert [(r["image_id"], r["class_id"]) for r in rows] == [
        (f"a{i}.jpg", int(c)) for i in range(10) for c in index.predictions.classes[i, :2]
    ]
    for r in rows:
        assert r["neighbours"] == expected(index, index, r["image_id"], r["class_id"], 3)
        assert r["similarity"] == sorted(r["similarity"], reverse=True)
        assert len(r["similarity"]) == len(r["neighbours"])
    assert found.n_images == 10
    assert found.n_empty == sum(not r["neighbours"] for r in rows)


def test_the_original_label():
    index = make(10, label=LABEL)
    found = similar(index, neighbours=10, among="label")
    assert [(r["image_id"], r["class_id"]) for r in rows_of(found)] == [
        (f"a{i}.jpg", c) for i, c in enumerate(LABEL) if c is not None
    ]
    for r in rows_of(found):
        assert r["neighbours"] == expected(index, index, r["image_id"], r["class_id"], 10)
    assert found.notes == (
        "1 of 10 images have no class to search for and therefore no row",
        "1 of 10 images of the index have no label and are not searched",
    )


def test_any_class_needs_no_labels():
    index = make(10)
    found = similar(index, neighbours=4, among="any")
    assert found.table["class_id"].null_count == 10
    for r in rows_of(found):
        assert r["neighbours"] == expected(index, index, r["image_id"], None, 4)
    assert found.notes == ()


def test_queries_from_elsewhere_and_the_same_image_by_its_id():
    index, queries = make(10, label=LABEL), make(6, seed=1, name="b")
    ids = pa.array(["b0.jpg", "a3.jpg", "b2.jpg", "b3.jpg", "a0.jpg", "b5.jpg"])
    queries = Embedded(
        Predictions(ids, "timm/one", queries.predictions.classes, n_classes=4), queries.vectors
    )
    for classes in ("predicted", "any"):
        for r in rows_of(similar(index, queries, neighbours=10, among=classes)):
            assert r["neighbours"] == expected(index, queries, r["image_id"], r["class_id"], 10)
            assert r["image_id"] not in r["neighbours"]


def test_labels_are_joined_by_id():
    index = make(10, label=LABEL)
    order = np.random.default_rng(5).permutation(10)
    shuffled = Images(index.images.table.take(order))
    other = Embedded(index.predictions, index.vectors, shuffled)
    assert similar(other).table.equals(similar(index).table)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(10)), st.sampled_from(["predicted", "label", "any"]))
def test_the_order_of_the_index_does_not_matter(order, classes):
    index = make(10, label=LABEL)
    p = index.predictions
    moved = Predictions(p.image_id.take(pa.array(order)), p.model, p.classes[order], n_classes=4)
    other = Embedded(moved, index.vectors[order], index.images)
    here, there = similar(index, among=classes), similar(other, index, among=classes)
    assert here.table.equals(there.table)
    assert here.notes == there.notes


def test_scores_over_all_classes():
    index = make(10, label=LABEL)
    scores = np.random.default_rng(2).random((10, 4)).astype(np.float32)
    dense = Predictions(index.image_id, "timm/one", scores=scores, score_kind="logit", n_classes=4)
    found = similar(Embedded(dense, index.vectors, index.images), top=2)
    best = np.argsort(-scores, axis=1)[:, :2]
    assert found.table["class_id"].to_pylist() == best.ravel().tolist()


def test_what_is_empty_is_counted_and_said():
    label = [0, 0, 1, 0]
    index = make(4, label=label, classes=np.array([[0, 3], [1, 2], [1, 0], [2, -1]]))
    found = similar(index)
    assert [r["neighbours"] == [] for r in rows_of(found)] == [False, True, False, True, True, False, True]
    assert found.n_empty == 4
    assert found.notes == (
        "4 of 7 rows are empty, because the index contains no other image of the class, and no image "
        "at all of 2 classes (2, 3)",
    )


def test_embeddings_that_are_zero_or_not_finite_are_counted_and_said():
    index = make(10, label=LABEL)
    index.vectors[3], index.vectors[4, 2] = 0, np.inf
    found = similar(index, among="label", neighbours=2)
    rows = {r["image_id"]: r["neighbours"] for r in rows_of(found)}
    assert rows["a3.jpg"] == rows["a4.jpg"] == []
    assert not {"a3.jpg", "a4.jpg"} & set(itertools.chain(*rows.values()))
    assert found.n_empty == 2
    assert found.notes[2:] == (
        "2 images, such as a3.jpg, have an embedding that is zero or not finite, and have no neighbours",
        "2 images of the index, such as a3.jpg, have an embedding that is zero or not finite, "
        "and are no image's neighbour",
    )


def test_fewer_predicted_classes_than_asked_for():
    assert len(similar(make(10, label=LABEL), top=20).table) == 30


INDEX, UNLABELLED = make(4, label=[0, 1, 1, 0], name="folder"), make(4, name="folder")
ERRORS = {
    "neighbours": (
        lambda: similar(INDEX, neighbours=0),
        InputError,
        "`neighbours` is out of range.\n  got:     0\n  allowed: 1 or more",
    ),
    "top": (
        lambda: similar(INDEX, top=0),
        InputError,
        "`top` is out of range.\n  got:     0\n  allowed: 1 or more",
    ),
    "classes": (
        lambda: similar(INDEX, among="all"),
        InputError,
        "This choice does not exist.\n  got:     all\n  allowed: predicted, label, any",
    ),
    "lengths": (
        lambda: Embedded(INDEX.predictions, INDEX.vectors[:3], name="folder"),
        InputError,
        "The number of embeddings differs from the number of predictions.\n"
        "  where:   folder\n"
        "  got:     timm/one: 3 rows\n"
        "  allowed: 4 rows, one per row of the predictions\n"
        "  do:      run manyhot predict --embeddings on these images",
    ),
    "no matrix": (
        lambda: Embedded(INDEX.predictions, INDEX.vectors.ravel()),
        InputError,
        "The number of embeddings differs from the number of predictions.\n"
        "  got:     timm/one: an array of shape (32,)\n"
        "  allowed: 4 rows, one per row of the predictions\n"
        "  do:      run manyhot predict --embeddings on these images",
    ),
    "model": (
        lambda: similar(INDEX, make(4, name="queries", model="timm/two")),
        MatchError,
        "The queries and the index were embedded with different models.\n"
        "  where:   queries\n"
        "  got:     timm/two\n"
        "  allowed: timm/one\n"
        "  do:      run manyhot predict --embeddings on both with the same model",
    ),
    "dimensions": (
        lambda: similar(INDEX, make(4, name="queries", size=6)),
        MatchError,
        "The embeddings of the queries and of the index differ in length.\n"
        "  where:   queries\n"
        "  got:     6 numbers per image\n"
        "  allowed: 8, as in folder\n"
        "  do:      run manyhot predict --embeddings on both with the same weights of the model",
    ),
    "no labels": (
        lambda: similar(UNLABELLED),
        InputError,
        "The images of the index have no labels.\n"
        "  where:   folder\n"
        "  allowed: a column 'label' in images.parquet\n"
        "  do:      predict again with manyhot predict --labels, or search among all images with `among`=any",
    ),
    "no labels of queries": (
        lambda: similar(INDEX, UNLABELLED, among="label"),
        InputError,
        "The images of the queries have no labels.\n"
        "  where:   folder\n"
        "  allowed: a column 'label' in images.parquet\n"
        "  do:      predict again with manyhot predict --labels, or search among all images with `among`=any",
    ),
    "class lists": (
        lambda: similar(INDEX, make(4, name="queries", class_hash="bbbb")),
        MatchError,
        "The queries and the index have different class lists.\n"
        "  where:   queries\n"
        "  got:     class list bbbb\n"
        "  allowed: class list aaaa, as in folder\n"
        "  do:      run manyhot predict on both with the same class list, or search among all images with "
        "`among`=any",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message


def test_other_class_lists_do_not_matter_where_no_class_is_asked_for():
    other = make(4, name="queries", class_hash="bbbb")
    assert len(similar(INDEX, other, among="any").table) == 4


def test_the_class_list_of_labels_is_that_of_the_images_table():
    table = INDEX.images.table.replace_schema_metadata({"manyhot.classes": "bbbb"})
    index = Embedded(INDEX.predictions, INDEX.vectors, Images(table))
    with pytest.raises(MatchError, match="different class lists"):
        similar(index)
