"""Agreement against the package krippendorff, published examples and plain loops."""

import itertools

import krippendorff
import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom, binomtest, t, ttest_1samp
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from manyhot.core.agreement import SET_MEASURES, VOTE_MEASURES, measure_answers, measure_sets
from manyhot.core.answers import Answers, GoldenAnswers
from manyhot.core.rater_pairs import rater_pairs
from manyhot.core.raters import (
    agreement_with_others,
    always_no,
    golden_measures,
    golden_quality,
    peer_quality,
    too_fast,
)


def rng():
    return np.random.default_rng(0)


def answers_of_matrix(matrix):
    """Return answers of a matrix of raters and questions, -1 where there is none."""
    rater, question = np.nonzero(matrix >= 0)
    return Answers(question, rater, matrix[rater, question].astype(np.int8), matrix.shape[1], len(matrix))


def random_matrix(seed, raters=6, questions=60, gaps=0.3):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, questions)
    said = np.where(
        generator.random((raters, questions)) < 0.6, truth, generator.integers(0, 3, (raters, questions))
    )
    return np.where(generator.random((raters, questions)) < gaps, -1, said)


def measured(answers, image=None, **options):
    image = np.arange(answers.n_questions) if image is None else image
    found = measure_answers(answers, image, **{"intervals": False, **options})
    return {m.name: m for m in found}


@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_that_of_the_package_krippendorff(seed):
    matrix = random_matrix(seed)
    data = np.where(matrix < 0, np.nan, matrix)
    found = measured(answers_of_matrix(matrix))
    for level in ("nominal", "ordinal"):
        expected = krippendorff.alpha(data, level_of_measurement=level, value_domain=[0, 1, 2])
        assert found[f"alpha_{level}"].value == pytest.approx(expected, abs=1e-12)
    several = (matrix >= 0).sum(0)
    assert found["alpha_nominal"].n == (several > 1).sum()
    assert found["alpha_nominal"].n_skipped == (several == 1).sum()


def test_fleiss_kappa_by_hand():
    # Four questions of three raters: counts of no, maybe and yes.
    counts = [(3, 0, 0), (1, 1, 1), (0, 0, 3), (2, 0, 1)]
    matrix = np.array([[a for a, k in enumerate(row) for _ in range(k)] for row in counts]).T
    found = measured(answers_of_matrix(matrix))
    # P = (1 + 0 + 1 + 1/3) / 4 = 7/12; shares 6/12, 1/12, 5/12; P_e = (36 + 1 + 25) / 144 = 31/72.
    assert found["fleiss_kappa"].value == pytest.approx((7 / 12 - 31 / 72) / (1 - 31 / 72))
    assert found["pairwise"].value == pytest.approx((3 + 0 + 3 + 1) / 12)
    assert tuple(found) == VOTE_MEASURES


def test_intervals_are_over_images():
    matrix = random_matrix(7, questions=400, gaps=0)
    image = np.arange(400) // 4
    found = measured(answers_of_matrix(matrix), image, intervals=True)
    drawn = np.random.default_rng(5)
    alphas = []
    for _ in range(200):
        picked = drawn.integers(0, 100, 100)
        columns = (picked[:, None] * 4 + np.arange(4)).ravel()
        alphas.append(measured(answers_of_matrix(matrix[:, columns]))["alpha_nominal"].value)
    lo, hi = np.quantile(alphas, [0.025, 0.975])
    assert found["alpha_nominal"].lo == pytest.approx(lo, abs=0.015)
    assert found["alpha_nominal"].hi == pytest.approx(hi, abs=0.015)
    for m in found.values():
        assert m.lo < m.value < m.hi


def test_the_interval_of_pairwise_agreement_is_students_over_images():
    """With as many answers to each question, pairwise agreement is a mean over images."""
    matrix = random_matrix(7, questions=40, gaps=0)
    found = measured(answers_of_matrix(matrix), intervals=True)["pairwise"]
    raters = len(matrix)
    pairs = [(a, b) for a in range(raters) for b in range(a)]
    same = np.mean([matrix[a] == matrix[b] for a, b in pairs], axis=0)
    assert (found.lo, found.hi) == pytest.approx(tuple(ttest_1samp(same, 0).confidence_interval(0.95)))
    few = measured(answers_of_matrix(matrix[:, :9]), intervals=True)["pairwise"]
    assert np.isnan([few.lo, few.hi]).all()


@pytest.mark.parametrize("n", [10, 67])
def test_intervals_of_few_images_hold(n):
    """400 data sets of three questions an image and six raters, by the binomial's bound of 99.9 %."""
    generator, held = np.random.default_rng(n), np.zeros(4)

    def found(n):
        hard = np.repeat(generator.beta(1, 2, n), 3)
        said = (generator.random((6, 3 * n)) < np.clip(hard + 0.2 * generator.normal(size=3 * n), 0, 1)) * 2
        return measured(answers_of_matrix(said), np.repeat(np.arange(n), 3), intervals=True)

    true = {name: m.value for name, m in found(100_000).items()}
    for _ in range(400):
        held += [m.lo <= true[name] <= m.hi for name, m in found(n).items()]
    assert (held >= binom.ppf(0.001, 400, 0.935)).all()


def jaccard(a, b):
    return len(a & b) / len(a | b) if a | b else 1.0


def masi(a, b):
    monotone = 1 if a == b else 2 / 3 if a <= b or b <= a else 1 / 3 if a & b else 0
    return jaccard(a, b) * monotone


def slow_alpha(units, similarity):
    """Krippendorff's alpha of lists of sets, in loops."""
    units = [u for u in units if len(u) > 1]
    values = [v for u in units for v in u]
    n = len(values)
    observed = sum(
        sum(1 - similarity(a, b) for a, b in itertools.permutations(u, 2)) / (len(u) - 1) for u in units
    )
    expected = sum(1 - similarity(a, b) for a, b in itertools.permutations(values, 2))
    return 1 - (observed / n) / (expected / (n * (n - 1)))


def test_masi_of_the_paper():
    # Passonneau 2006: of {1, 2} and {1, 2, 3, 4} half is common, and one holds the other.
    assert masi({1, 2}, {1, 2, 3, 4}) == pytest.approx(1 / 2 * 2 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_alpha_of_label_sets_against_loops(seed):
    generator = np.random.default_rng(seed)
    image, class_id, rows, sheets = [], [], [], {}
    for i in range(25):
        classes = generator.choice(8, generator.integers(1, 5), replace=False)
        # Some images are asked about in two parts, each by raters of its own or by the same.
        for part in filter(len, np.array_split(classes, generator.integers(1, 3))):
            raters = generator.choice(4, generator.integers(1, 5), replace=False).tolist()
            sets = sheets.setdefault((i, frozenset(raters)), {r: set() for r in raters})
            for c in part.tolist():
                for r in raters:
                    said = generator.choice([0, 1, 2], p=[0.4, 0.1, 0.5])
                    rows.append((len(image), r, said))
                    sets[r] |= {c} if said == 2 else set()
                image.append(i)
                class_id.append(c)
    merged = [list(sets.values()) for sets in sheets.values()]
    question, rater, answer = map(np.array, zip(*rows, strict=True))
    answers = Answers(question, rater, answer.astype(np.int8), len(image), 4)
    found = measure_sets(answers, np.array(image), np.array(class_id), intervals=False)
    for m, similarity in zip(found, (jaccard, masi), strict=True):
        assert m.value == pytest.approx(slow_alpha(merged, similarity), abs=1e-12)
        assert m.n == sum(len(u) > 1 for u in merged)
        assert m.n_skipped == sum(len(u) == 1 for u in merged)
    assert tuple(m.name for m in found) == SET_MEASURES


def test_one_rater_only_is_nan_with_n_0():
    answers = Answers(np.arange(4), np.zeros(4, int), np.array([0, 2, 1, 2], np.int8), 4, 1)
    image = np.array([0, 0, 1, 2])
    sets = measure_sets(answers, image, np.arange(4))
    for m in [*measure_answers(answers, image), *sets]:
        assert np.isnan([m.value, m.lo, m.hi]).all()
        assert m.n == 0
    assert sets[0].n_skipped == 3
    assert len(rater_pairs(answers).a) == 0
    assert np.isnan(agreement_with_others(answers)[0]).all()


def test_raters_who_always_say_the_same_have_no_kappa():
    found = measured(answers_of_matrix(np.zeros((3, 5), int)))
    assert found["pairwise"].value == 1
    assert np.isnan([found[n].value for n in ("fleiss_kappa", "alpha_nominal", "alpha_ordinal")]).all()
    assert found["fleiss_kappa"].n == 5


def golden(rows, yes, image=None):
    question, rater, answer = map(np.array, zip(*rows, strict=True))
    n = len(yes)
    told = Answers(question, rater, answer.astype(np.int8), n, rater.max() + 1)
    return GoldenAnswers(told, np.array(yes) * 5, np.full(n, 5), np.full(n, -1), image)


def test_quality_by_hand():
    # Truth: no, no, yes, yes. Rater 0: no, maybe, yes, maybe. Rater 1: always no.
    found = golden_quality(
        golden([(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 0, 1), *((q, 1, 0) for q in range(4))], [0, 0, 1, 1])
    )
    assert found.accuracy.tolist() == [3 / 4, 1 / 2]
    assert found.sensitivity.tolist() == [1 / 2, 0]
    assert found.specificity.tolist() == [1, 1]
    value, lo, hi = found.informedness()
    # Of four pairs of answers three are the right way round and one is equal.
    assert value.tolist() == [3 / 4, 0]
    assert -1 < lo[1] < 0 < hi[1] < 1
    assert lo[0] < 3 / 4 < hi[0]
    assert not found.spammers().any()  # too few to say


def test_a_faultless_rater_is_not_sure_to_be_faultless():
    """Eight images of each truth, two questions on each: the interval has no width by variances alone."""
    truth, image = np.repeat([0, 1], 16), np.arange(32) // 2
    found = golden_quality(golden([(q, 0, 2 * t) for q, t in enumerate(truth)], truth, image))
    value, lo, hi = found.informedness()
    least = binomtest(8, 8).proportion_ci(method="wilson").low
    assert (value[0], hi[0]) == (1, 1)
    assert lo[0] == pytest.approx(1 - np.sqrt(2) * (1 - least))


def test_informedness_is_twice_the_area_under_the_curve_less_one():
    generator = np.random.default_rng(1)
    truth = generator.random(200) < 0.3
    said = np.clip(truth * 2 + generator.integers(-1, 2, 200), 0, 2)
    rows = [(q, 0, a) for q, a in enumerate(said)]
    found = golden_quality(golden(rows, truth.astype(int)))
    value, lo, hi = found.informedness()
    assert value[0] == pytest.approx(2 * roc_auc_score(truth, said) - 1)
    drawn = []
    for _ in range(500):
        yes, no = generator.choice(said[truth], truth.sum()), generator.choice(said[~truth], (~truth).sum())
        drawn.append(2 * roc_auc_score(np.repeat([1, 0], [len(yes), len(no)]), np.concatenate([yes, no])) - 1)
    assert (hi[0] - lo[0]) / 2 == pytest.approx(1.96 * np.std(drawn), rel=0.1)


def clustered(seed=2, images=120, each=4, raters=3):
    """Return golden questions, some images of which all raters find easy; gaps in what they answered."""
    generator = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), each)
    truth = generator.random(images * each) < 0.3
    easy = (generator.random(images) < 0.5)[image]
    said = [
        np.where(easy | (generator.random(len(image)) < 0.3), truth * 2, generator.integers(0, 3, len(image)))
        for _ in range(raters)
    ]
    rows = [(q, r, a) for r, of in enumerate(said) for q, a in enumerate(of) if r or q % 7]
    return golden(rows, truth.astype(int), image), rows, truth, image


def test_interval_of_informedness_is_over_images():
    questions, rows, truth, image = clustered()
    value, lo, hi = golden_quality(questions).informedness()
    for rater in range(3):
        q = np.array([q for q, r, _ in rows if r == rater])
        a = np.array([a for _, r, a in rows if r == rater])
        yes, no = a[truth[q]], a[~truth[q]]
        beats = np.sign(yes[:, None] - no[None])
        assert value[rater] == pytest.approx(beats.mean())
        # Obuchowski 1997, as written there: sums of components of each image, less their expectation.
        sums = np.zeros((120, 2))
        np.add.at(sums[:, 0], image[q][truth[q]], beats.mean(1) - beats.mean())
        np.add.at(sums[:, 1], image[q][~truth[q]], beats.mean(0) - beats.mean())
        i_yes, i_no, i_all = (len(set(image[q][flags])) for flags in (truth[q], ~truth[q], truth[q] | True))
        variance = (
            i_yes / (i_yes - 1) * (sums[:, 0] ** 2).sum() / len(yes) ** 2
            + i_no / (i_no - 1) * (sums[:, 1] ** 2).sum() / len(no) ** 2
            + 2 * i_all / (i_all - 1) * (sums[:, 0] * sums[:, 1]).sum() / (len(yes) * len(no))
        )
        quantile = t.ppf(0.975, min(i_yes, i_no) - 1)
        assert (hi - lo)[rater] / 2 == pytest.approx(quantile * np.sqrt(variance), rel=1e-6)


def test_means_on_golden_questions_redraw_raters_and_images():
    questions, rows, truth, _ = clustered(raters=12)
    found = {m.name: m for m in golden_measures(questions, resamples=2000, rng=rng())}
    table = np.full((12, 480), -1)
    for q, r, a in rows:
        table[r, q] = a
    there, right = table >= 0, (table == 2) == truth
    generator, drawn = np.random.default_rng(9), []
    for _ in range(1500):
        columns = (generator.integers(0, 120, 120)[:, None] * 4 + np.arange(4)).ravel()
        raters = generator.integers(0, 12, 12)
        asked, r = there[raters][:, columns], right[raters][:, columns]
        kinds = (np.full(480, True), truth[columns], ~truth[columns])
        drawn.append(
            [*(((r & asked)[:, k].sum(1) / asked[:, k].sum(1)).mean() for k in kinds), kinds[2].mean()]
        )
    quality = golden_quality(questions)
    means = [quality.accuracy.mean(), quality.sensitivity.mean(), quality.specificity.mean(), (~truth).mean()]
    # Student's t of 12 raters, or 120 images, on the logit scale.
    n, means = np.array([12, 12, 12, 120]), np.array(means)
    error = np.std(drawn, axis=0, ddof=1) * np.sqrt(n / (n - 1)) / (means * (1 - means))
    lo, hi = (expit(logit(means) + sign * t.ppf(0.975, n - 1) * error) for sign in (-1, 1))
    names = ("golden_accuracy", "golden_sensitivity", "golden_specificity", "always_no")
    assert tuple(found) == names
    assert [found[n].lo for n in names] == pytest.approx(lo, abs=0.006)
    assert [found[n].hi for n in names] == pytest.approx(hi, abs=0.006)
    assert [found[n].n for n in names] == [12, 12, 12, 480]
    assert [found[n].value for n in names] == pytest.approx(means)


def test_golden_questions_of_no_rater_and_of_nobody():
    nothing = np.empty(0, int)
    for n in (2, 0):
        told = Answers(nothing, nothing, nothing.astype(np.int8), n, 3)
        questions = GoldenAnswers(told, np.arange(n) * 5, np.full(n, 5), np.full(n, -1))
        measures = golden_measures(questions, resamples=50, rng=rng())
        for m in measures[:3]:
            assert np.isnan([m.value, m.lo, m.hi]).all()
            assert (m.n, m.n_skipped) == (0, 3)
        assert measures[3].n == n
        assert np.isnan(measures[3].value) == (n == 0)


def test_without_golden_yes_there_is_no_sensitivity():
    found = golden_quality(golden([(q, 0, 0) for q in range(30)], [0] * 30))
    assert (found.n[0], found.n_yes[0]) == (30, 0)
    assert np.isnan([found.sensitivity[0], found.informedness()[0][0]]).all()
    assert found.specificity[0] == 1
    assert not found.spammers()[0]


def test_always_no():
    assert always_no(golden([(0, 0, 0)], [0, 0, 0, 1])) == 3 / 4


def crowd(seed=0, n=800, honest=8, skill=0.85):
    """Return answers of honest raters, one who says what comes to mind, and one who copies the first."""
    generator = np.random.default_rng(seed)
    truth = generator.random(n) < 0.3
    right = generator.random((honest, n)) < skill
    matrix = np.where(right, truth * 2, 2 - truth * 2)
    spam = generator.integers(0, 3, n)
    copied = np.where(generator.random(n) < 0.97, matrix[0], truth * 2)
    return answers_of_matrix(np.vstack([matrix, spam, copied])), truth


def test_spammers_and_copiers_are_found_and_nobody_else():
    answers, truth = crowd()
    assert np.flatnonzero(peer_quality(answers).spammers()).tolist() == [8]
    on_golden = GoldenAnswers(answers, truth * 5, np.full(len(truth), 5), np.full(len(truth), -1))
    assert np.flatnonzero(golden_quality(on_golden).spammers()).tolist() == [8]
    pairs = rater_pairs(answers)
    copies = pairs.copiers()
    assert list(zip(pairs.a[copies].tolist(), pairs.b[copies].tolist(), strict=True)) == [(0, 9)]


def test_pairs_against_loops():
    matrix = random_matrix(3, raters=6, questions=50)
    pairs = rater_pairs(answers_of_matrix(matrix))
    assert list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)) == list(
        itertools.combinations(range(6), 2)
    )
    for i, (a, b) in enumerate(zip(pairs.a, pairs.b, strict=True)):
        both = (matrix[a] >= 0) & (matrix[b] >= 0)
        assert pairs.n[i] == both.sum()
        assert pairs.agreement[i] == pytest.approx((matrix[a] == matrix[b])[both].mean())
        assert pairs.kappa[i] == pytest.approx(
            cohen_kappa_score(matrix[a][both], matrix[b][both], labels=[0, 1, 2])
        )
        wrong = same = 0
        for q in np.flatnonzero(both):
            others = [v for r, v in enumerate(matrix[:, q]) if v >= 0 and r not in (a, b)]
            most = max(range(3), key=others.count)
            if len(others) > 1 and 2 * others.count(most) > len(others):
                one, two = matrix[a, q], matrix[b, q]
                wrong += one != most or two != most
                same += one == two != most
        assert (pairs.wrong[i], pairs.same_wrong[i]) == (wrong, same)


def test_likeness_to_others_by_hand():
    # Question 0: yes yes no, question 1: no of rater 2 alone.
    answers = Answers(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([2, 2, 0, 0], np.int8), 2, 3)
    (share, lo, hi), n = agreement_with_others(answers)
    assert share.tolist() == [1 / 2, 1 / 2, 0]
    assert np.isnan([lo, hi]).all()  # of one image, no interval
    assert n.tolist() == [2, 2, 2]


def test_too_fast():
    seconds = np.array([3.0, 2.0, 2.4, 0.7, 0.1, np.nan])
    # The median of those known is 2; a third of it 0.67; the fifth has too few pages to tell.
    assert too_fast(seconds, np.array([50] * 6)).tolist() == [False, False, False, False, True, False]
    assert not too_fast(seconds, np.array([50, 50, 50, 50, 9, 0])).any()
    assert not too_fast(np.full(3, np.nan), np.zeros(3, int)).any()


def _drawn(rng, n=300):
    """Return the numbers of yes and no of n images with 3 or 60 votes each, shape (n, 2)."""
    share = np.where(rng.random(n) < 0.5, 0.25, 0.6)
    total = np.where(rng.random(n) < 0.5, 3, 60)
    yes = rng.binomial(total, share)
    return np.stack([yes, total - yes], 1)


def _alpha_of_counts(counts):
    """Krippendorff's nominal alpha of counts, written out."""
    total, each = counts.sum(1), counts.sum(0)
    n = total.sum()
    observed = ((total[:, None] - counts) * counts).sum(1) / (total - 1)
    return 1 - observed.sum() / n / ((n**2 - (each**2).sum()) / (n * (n - 1)))


def test_intervals_of_sets_with_different_numbers_of_raters_are_those_of_a_bootstrap():
    """Each set has one of two classes, so both alphas are nominal, and images are resampled."""
    rng = np.random.default_rng(0)
    counts = _drawn(rng)
    # One question a class; the raters of each image answer both.
    rows = [
        (2 * i + c, rater, 2 if (rater < yes) == (c == 0) else 0)
        for i, (yes, no) in enumerate(counts)
        for rater in range(yes + no)
        for c in (0, 1)
    ]
    question, rater, answer = map(np.array, zip(*rows, strict=True))
    answers = Answers(question, rater, answer, 2 * len(counts), 60)
    measured = measure_sets(answers, np.repeat(np.arange(len(counts)), 2), np.tile([0, 1], len(counts)))
    drawn = [_alpha_of_counts(counts[rng.integers(0, len(counts), len(counts))]) for _ in range(4000)]
    lo, hi = np.percentile(drawn, [2.5, 97.5])
    for measure in measured:
        assert measure.value == pytest.approx(_alpha_of_counts(counts))
        # With the expected distance held fixed, the interval was 1.5 times as wide.
        assert measure.hi - measure.lo == pytest.approx(hi - lo, rel=0.08)


def test_intervals_of_sets_on_several_sheets_are_those_of_values_without_each_image():
    rng = np.random.default_rng(1)
    n, k = 14, 4
    asked = rng.random((n * k, 6)) < 0.7
    question, rater = np.nonzero(asked)
    answer = rng.choice([0, 2], len(question))
    image, class_id = np.divmod(np.arange(n * k), k)

    def values(rows):
        answers = Answers(question[rows], rater[rows], answer[rows], n * k, 6)
        return [m.value for m in measure_sets(answers, image, class_id, intervals=False)]

    without = np.array([values(image[question] != i) for i in range(n)])
    error = np.sqrt((n - 1) / n * ((without - without.mean(0)) ** 2).sum(0))
    answers = Answers(question, rater, answer, n * k, 6)
    half = [m.value - m.lo for m in measure_sets(answers, image, class_id)]
    np.testing.assert_allclose(half, t.ppf(0.975, n - 1) * error)
