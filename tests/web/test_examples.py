"""Example images give the original label away neither by being there nor by being missing."""

from manyhot.web.routes.answering import SHOWN_EXAMPLES, fair_examples


def examples(**counts):
    return {int(c[1:]): [(p, f"{c}-{p}.jpg") for p in range(1, n + 1)] for c, n in counts.items()}


def test_the_image_itself_is_never_shown_and_each_class_loses_one():
    given = examples(c0=3, c1=3, c2=1, c3=30)
    shown = fair_examples("c0-2.jpg", given)
    assert shown[0] == [1, 3]
    assert {c: len(p) for c, p in shown.items()} == {0: 2, 1: 2, 2: 0, 3: SHOWN_EXAMPLES}
    assert shown == fair_examples("c0-2.jpg", given)


def test_counts_are_the_same_whichever_class_the_image_is_of():
    given = examples(c0=5, c1=5, c2=5)
    images = [name for known in given.values() for _, name in known]
    assert {tuple(len(p) for p in fair_examples(i, given).values()) for i in images} == {(4, 4, 4)}
    # What is missing is another one beside another image, in classes that the image is not of, too.
    assert len({tuple(fair_examples(i, given)[1]) for i in images[:5]}) > 1


def test_beside_other_images_all_are_shown():
    assert fair_examples("other.jpg", examples(c0=3, c1=1)) == {0: [1, 2, 3], 1: [1]}
