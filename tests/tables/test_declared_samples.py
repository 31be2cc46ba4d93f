"""Samples that users drew themselves: their probabilities, given that these images were drawn."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot.errors import InputError, MatchError
from manyhot.tables.declared_samples import DeclaredDesign
from manyhot.tables.labels import Images

N = 400
IDS = pa.array([f"{i:03}.jpg" for i in range(N)])
HARD = np.arange(N) < 100
STRATA = pa.array(np.where(HARD, "hard", "easy").tolist())


def of_table(**columns):
    return DeclaredDesign.of_images(Images(pa.table({"image_id": IDS} | columns), "mine"), IDS)


def first_of(*counts):
    """Return the ids of the first images of each stratum."""
    rows = [r for rows, n in zip((HARD, ~HARD), counts, strict=True) for r in np.flatnonzero(rows)[:n]]
    return IDS.take(pa.array(rows))


def test_without_probabilities_each_image_of_a_stratum_has_the_same_one():
    drawn = of_table(stratum=STRATA).drawn(first_of(40, 30))
    np.testing.assert_allclose(drawn.sample.design.probability, np.where(HARD, 40 / 100, 30 / 300))
    assert (drawn.design, drawn.is_declared) == ("stratified", True)
    assert DeclaredDesign(IDS).drawn(first_of(40, 0)).sample.design.probability[0] == pytest.approx(0.1)


def test_given_the_number_of_drawn_images_certain_ones_stay_certain_and_the_others_share_the_rest():
    """37 others were drawn, not the 30 that are expected: they were drawn with 37 / 300."""
    drawn = of_table(probability=np.where(HARD, 1.0, 0.1)).drawn(first_of(100, 37))
    np.testing.assert_allclose(drawn.sample.design.probability, np.where(HARD, 1, 37 / 300))
    assert drawn.design == "unequal-probability"


def test_given_the_number_of_drawn_images_the_odds_of_all_change_by_one_factor():
    p = np.linspace(0.05, 0.6, N)
    after = of_table(probability=p).drawn(IDS.take(pa.array(np.arange(0, N, 3)))).sample.design.probability
    assert after.sum() == pytest.approx(134)
    factor = after / (1 - after) / (p / (1 - p))
    np.testing.assert_allclose(factor, factor[0])


def test_each_stratum_has_its_own_number():
    drawn = of_table(probability=np.full(N, 0.2), stratum=STRATA).drawn(first_of(25, 50))
    np.testing.assert_allclose(drawn.sample.design.probability, np.where(HARD, 25 / 100, 50 / 300))


COUNTS = "The number of audited images does not match the probabilities.\n  where:   mine\n"
RANGE = "The probability with which an image was drawn is out of range.\n  where:   mine, image 000.jpg\n"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, "The table does not say how the images were drawn.\n  where:   mine\n  got:     the columns"),
        ({"probability": [0.0] + [0.1] * 399}, RANGE + "  got:     0.0, and 1 such images in all"),
        ({"probability": ["often"] * N}, RANGE + "  got:     often, and 400 such images in all"),
    ],
)
def test_a_table_without_probabilities_is_refused(columns, expected):
    with pytest.raises(InputError) as error:
        of_table(**columns)
    assert str(error.value).startswith(expected)


@pytest.mark.parametrize(
    ("columns", "counts", "expected"),
    [
        (
            {"probability": [0.1] * N},
            (100, 10),
            COUNTS + "  got:     110 audited images\n  allowed: about 40, the sum of the probabilities\n",
        ),
        ({"probability": np.where(HARD, 1.0, 0.1)}, (90, 9), COUNTS + "  got:     99 audited images"),
        ({"stratum": STRATA}, (30, 0), "No image of a stratum was audited.\n  where:   mine, stratum easy\n"),
        ({"stratum": STRATA}, (1, 9), "A stratum has too few audited images."),
    ],
)
def test_images_that_were_not_drawn_as_declared_are_refused(columns, counts, expected):
    design = of_table(**columns)
    with pytest.raises(InputError) as error:
        design.drawn(first_of(*counts))
    assert str(error.value).startswith(expected)


def test_images_that_are_not_in_the_table_were_not_drawn_from_it():
    design = of_table(stratum=STRATA)
    with pytest.raises(MatchError, match="not among the images that they were drawn from"):
        design.drawn(pa.array(["000.jpg", "other.jpg"]))
