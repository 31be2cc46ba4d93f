"""Designs, draws and refusals of core/audit_samples.py."""

import itertools

import numpy as np
import pytest
from scipy import stats

from manyhot.core.audit_samples import (
    AuditDesign,
    AuditSample,
    active_design,
    balance_p,
    check_sample,
    sample_p,
    stratified_design,
    uniform_design,
)
from manyhot.errors import InputError


def test_a_uniform_draw_is_a_simple_random_sample():
    """Each of the 20 samples of 3 of 6 images has the same probability."""
    design, rng = uniform_design(6, 3), np.random.default_rng(0)
    drawn = [tuple(sorted(design.draw(rng).images)) for _ in range(4000)]
    counts = [drawn.count(s) for s in itertools.combinations(range(6), 3)]
    assert sum(counts) == 4000
    assert stats.chisquare(counts).pvalue > 0.001


def test_images_are_drawn_by_their_probabilities():
    residual = np.random.default_rng(1).gamma(0.5, size=50)
    design, rng = active_design(residual, 20, uniform=0.1), np.random.default_rng(2)
    assert design.probability.sum() == pytest.approx(20)
    drawn = np.bincount(np.concatenate([design.draw(rng).images for _ in range(4000)]), minlength=50)
    p = design.probability
    error = np.sqrt(p * (1 - p) / 4000)
    assert p.max() == 1
    assert (drawn[p == 1] == 4000).all()
    assert np.abs((drawn / 4000 - p)[p < 1] / error[p < 1]).max() < 4


def test_active_probabilities_are_proportional_to_the_root_of_the_mean_square_mixed_with_uniform():
    squares = np.array([[0.04, 0.12], [0.0, 0.0], [0.25, 0.07], [0.16, 0.16]])
    root = np.sqrt([0.08, 0, 0.16, 0.16])
    expected = 2 * (0.7 * root / root.sum() + 0.3 / 4)
    assert active_design(squares, 2, uniform=0.3).probability == pytest.approx(expected)
    assert active_design(np.zeros(4), 2).probability == pytest.approx(np.full(4, 0.5))


def test_active_probabilities_are_at_most_1_and_the_others_increase():
    p = active_design(np.array([100.0, 1, 1, 1, 1]), 3, uniform=0.5).probability
    assert p == pytest.approx([1, 0.5, 0.5, 0.5, 0.5])


def test_a_stratified_design_has_a_fixed_number_of_images_in_each_stratum():
    stratum = np.repeat([7, 3, 5], [60, 30, 10])
    design = stratified_design(stratum, 20)
    assert dict(zip((3, 5, 7), design.n_by_stratum, strict=True)) == {3: 6, 5: 2, 7: 12}
    sample = design.draw(np.random.default_rng(0))
    assert np.bincount(stratum[sample.images]).tolist() == [0, 0, 0, 6, 0, 2, 0, 12]
    assert sample.weights.sum() == pytest.approx(1)
    assert sample.weights[stratum[sample.images] == 7] == pytest.approx(np.full(12, 0.6 / 12))


def test_neymans_allocation():
    """Numbers are proportional to N_h S_h: 60 × 0.1, 30 × 0.4 and 10 × 0.2."""
    stratum, deviation = np.repeat([0, 1, 2], [60, 30, 10]), np.repeat([0.1, 0.4, 0.2], [60, 30, 10])
    assert stratified_design(stratum, 20, deviation).n_by_stratum.tolist() == [6, 12, 2]
    assert stratified_design(stratum, 55, deviation).n_by_stratum.tolist() == [19, 30, 6]
    assert stratified_design(stratum, 100, deviation).n_by_stratum.tolist() == [60, 30, 10]


def test_the_first_images_are_a_sample_with_a_share_of_the_probabilities():
    sample = stratified_design(np.arange(100) // 50, 20).draw(np.random.default_rng(3))
    first = sample.first(5)
    assert first.images.tolist() == sample.images[:5].tolist()
    assert first.probability == pytest.approx(np.full(5, 0.05))


def test_the_check_of_samples_refuses_one_of_the_promised_share():
    """p is uniform if a sample was drawn as recorded, and nearly 0 if images were answered in file order."""
    rng = np.random.default_rng(4)
    designs = [uniform_design(3000, 600), active_design(rng.gamma(0.5, size=3000), 600)]
    for design in designs:
        p = [sample_p(design.draw(rng)) for _ in range(500)]
        assert stats.kstest(p, "uniform").pvalue > 0.001
        check_sample(design.draw(rng))
    assert sample_p(AuditSample(designs[0], np.arange(600))) < 1e-100


def test_a_sample_of_one_group_is_not_checked():
    assert sample_p(uniform_design(20, 4).draw(np.random.default_rng(0))) == 1


def refused(call):
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


def test_impossible_probabilities_are_refused():
    p = np.array([0.5, 0.0, 0.5, 1.5])
    assert refused(lambda: AuditDesign(p)) == (
        "The probability of auditing an image is out of range.\n"
        "  where:   image 1 of 4\n"
        "  got:     0 and 1 more\n"
        "  allowed: above 0 and at most 1\n"
        "  do:      give each image a positive probability; "
        "an audit says nothing about images that it never draws"
    )
    assert "got:     nan" in refused(lambda: AuditDesign(np.array([0.5, np.nan])))


def test_a_stratum_of_one_audited_image_is_refused():
    assert refused(lambda: AuditDesign(np.full(6, 0.5), np.array([1, 1, 1, 1, 8, 8]))) == (
        "A stratum has too few audited images.\n"
        "  where:   stratum 8\n"
        "  got:     1\n"
        "  allowed: at least 2, or all\n"
        "  do:      merge small strata, or audit more images"
    )
    AuditDesign(np.array([0.5, 0.5, 0.5, 0.5, 1]), np.array([1, 1, 1, 1, 8]))


def test_a_sample_that_was_not_drawn_by_the_probabilities_is_refused():
    assert refused(lambda: AuditSample(uniform_design(10, 5), np.arange(3))) == (
        "The audited images were not drawn with the recorded probabilities.\n"
        "  got:     3 audited images\n"
        "  allowed: 5, the sum of the probabilities\n"
        "  do:      answer the questions about all images of the sample, or keep only the first images of "
        "its random order, "
        "provided that people answered all of them"
    )
    stratified = stratified_design(np.repeat([4, 9], 5), 4)
    assert "\n  where:   stratum 4\n  got:     3 audited images\n  allowed: 2" in refused(
        lambda: AuditSample(stratified, np.array([0, 1, 2, 6]))
    )
    assert refused(lambda: AuditSample(uniform_design(10, 3), np.array([1, 2, 1]))) == (
        "A row number of an audited image occurs twice or does not exist.\n"
        "  got:     3 rows, of which 2 are different\n"
        "  allowed: row numbers below 10, each at most once\n"
        "  do:      list each audited image once"
    )
    sample = AuditSample(uniform_design(1000, 100), np.arange(100))
    p = stats.chi2.sf((90**2 + 9 * 10**2) / 9, 9)
    assert refused(lambda: check_sample(sample)) == (
        "The audited images were not drawn with the recorded probabilities.\n"
        f"  got:     groups of images are over- or underrepresented (p = {p:.1g})\n"
        "  allowed: p of at least 0.0001\n"
        "  do:      answer the questions about the drawn images, in the order in which they were drawn"
    )


def test_impossible_sizes_and_shares_are_refused():
    assert refused(lambda: uniform_design(10, 11)) == (
        "The number of images to audit is out of range.\n  got:     11\n  allowed: 2 to 10"
    )
    assert "allowed: 4 to 10" in refused(lambda: stratified_design(np.arange(10) % 2, 3))
    assert refused(lambda: active_design(np.ones(4), 2, uniform=0.0)) == (
        "`uniform` is not a share.\n  got:     0.0\n  allowed: above 0 and at most 1"
    )
    assert refused(lambda: active_design(np.array([1.0, -1, np.nan]), 2)) == (
        "An expected squared residual is negative or not finite.\n  where:   image 1 of 3\n  got:     -1"
    )


@pytest.mark.parametrize("name", ["uniform", "stratified", "active"])
def test_the_balance_of_a_value_has_the_variance_of_the_design(name):
    rng = np.random.default_rng(3)
    values = rng.beta(2, 0.7, 2000)
    design = {
        "uniform": uniform_design(2000, 300),
        "stratified": stratified_design((values * 3).astype(int), 300, rng.random(2000)),
        "active": active_design(values * (1 - values), 300),
    }[name]
    samples = [design.draw(rng) for _ in range(400)]
    p = [balance_p(values, s) for s in samples]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    if name == "uniform":  # the textbook's (1 - n / N) s² / n
        drawn = values[samples[0].images].mean() - values.mean()
        error = np.sqrt((1 - 300 / 2000) * values.var(ddof=0) / 300)
        assert p[0] == pytest.approx(2 * stats.norm.sf(abs(drawn) / error))


def test_proposals_that_have_seen_most_answers_are_noticed():
    """They agree with people on 85 % of the other images."""
    rng = np.random.default_rng(4)
    noticed = 0
    for _ in range(50):
        y = rng.random(4000) < 0.83
        f = np.where(y, rng.random(4000) < 0.85, rng.random(4000) < 0.02)
        rows = uniform_design(4000, 1000).draw(rng)
        seen = rows.images[:900]
        f[seen] = y[seen]
        noticed += balance_p(f.astype(float), rows) < 1e-4
    assert noticed > 45


def test_balance_needs_ten_images_and_a_sample():
    values = np.zeros(1000)
    values[:20] = 1
    sample = AuditSample(uniform_design(1000, 100), np.arange(100))  # all that differ are in it
    assert balance_p(values, sample) == 1.0
    assert balance_p(values, AuditSample(uniform_design(1000, 1000), np.arange(1000))) == 1.0
