"""More than 20 classes: doubtful labels and confident learning against cleanlab's definitions."""

import numpy as np
import pytest

import manyhot
from manyhot.data.inputs import Reading

N_CLASSES = 60
PROBABILITIES = Reading(scores="probability")


def single(seed=0, n=1500):
    """Return labels of which a tenth is wrong, and probabilities in which many of these rank low."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, N_CLASSES, n)
    logits = 1.2 * rng.normal(size=(n, N_CLASSES))
    logits[np.arange(n), label] += 3.5
    wrong = rng.random(n) < 0.1
    label[wrong] = rng.integers(0, N_CLASSES, wrong.sum())
    p = np.exp(logits)
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    assert (np.argsort(np.argsort(-p, axis=1))[np.arange(n), label] >= 20).sum() > 50
    return label, p


def several(seed=0, n=500):
    """Return label sets, of which some have a class that does not belong, and sigmoids."""
    rng = np.random.default_rng(seed)
    yes = rng.random((n, N_CLASSES)) < 0.08
    p = 1 / (1 + np.exp(2.5 - 4.5 * yes - 1.3 * rng.normal(size=yes.shape)))
    return yes ^ (rng.random(yes.shape) < 0.01), p.astype(np.float32)


def thresholds(label, p):
    return np.array([p[label == k, k].mean() for k in range(p.shape[1])])


def confident_joint(label, p):
    """Northcutt et al. 2021, equations 1 and 2: the most probable class that reaches its own threshold."""
    reached = p >= thresholds(label, p)
    return np.where(reached.any(1), np.where(reached, p, -1).argmax(1), -1)


def suspected(label, p):
    """Return the suspected labels as cleanlab 2.9 does, one image after the other."""
    limits, found = thresholds(label, p), []
    for i, (given, row) in enumerate(zip(label, p, strict=True)):
        above = np.flatnonzero(row >= limits - 1e-6)
        guess = None if not len(above) else above[0] if len(above) == 1 else row.argmax()
        raised = row.copy()
        raised[given] += 1e-6
        if guess is not None and guess != given and raised.argmax() != given:
            found.append(i)
    return found


def rows_of(found, kind):
    rows = found.of_kind(kind)
    return rows, np.array(rows["image_id"].to_pylist(), int)


@pytest.mark.parametrize("seed", range(3))
def test_single_labels(seed):
    label, p = single(seed)
    exact = p.astype(np.float64)
    own = exact[np.arange(len(p)), label]
    rows, at = rows_of(
        manyhot.find_label_issues(label, p, min_doubtful=0, reading=PROBABILITIES), "doubtful-label"
    )
    assert at.tolist() == np.argsort(own, kind="stable").tolist()  # self-confidence, lowest first
    np.testing.assert_allclose(rows["score"].to_numpy(), 1 - own[at], rtol=0, atol=1e-10)
    wrong = suspected(label, exact)
    ours = at[rows["confident_class"].is_valid().to_numpy(zero_copy_only=False)]
    assert ours.tolist() == sorted(wrong, key=own.__getitem__)
    assert len(wrong) > 50


def test_the_count_from_a_minimum_score_up():
    label, p = single()
    own = p.astype(np.float64)[np.arange(len(p)), label]
    found = manyhot.find_label_issues(label, p, min_doubtful=0.999, reading=PROBABILITIES)
    rows, at = rows_of(found, "doubtful-label")
    confident = rows["confident_class"].is_valid().to_numpy(zero_copy_only=False)
    assert set(at[~confident]) <= set(np.flatnonzero(1 - own >= 0.999))
    assert set(np.flatnonzero(1 - own >= 0.999)) == set(at[rows["models"].to_numpy() >= 0.999])


def test_logits_are_read_as_their_softmax():
    label, p = single()
    logits = np.log(p) + np.linspace(-3, 3, len(p), dtype=np.float32)[:, None]
    found = manyhot.find_label_issues(label, logits, min_doubtful=0, reading=Reading(scores="logit"))
    rows, at = rows_of(found, "doubtful-label")
    own = p.astype(np.float64)[np.arange(len(p)), label]
    np.testing.assert_allclose(rows["models"].to_numpy(), 1 - own[at], rtol=0, atol=1e-5)


def test_means_of_several_models():
    label, p = single()
    _, q = single(1)
    q = (p + q) / 2
    rows, at = rows_of(
        manyhot.find_label_issues(label, {"p": p, "q": q}, min_doubtful=0, reading=PROBABILITIES),
        "doubtful-label",
    )
    mean = (p.astype(np.float64) + q.astype(np.float64)) / 2
    own = mean[np.arange(len(p)), label]
    assert at.tolist() == np.argsort(own, kind="stable").tolist()
    ours = at[rows["confident_class"].is_valid().to_numpy(zero_copy_only=False)]
    assert ours.tolist() == sorted(suspected(label, mean), key=own.__getitem__)


@pytest.mark.parametrize("seed", range(3))
def test_label_sets(seed):
    yes, p = several(seed)
    exact = p.astype(np.float64)
    found = manyhot.find_label_issues(yes, p, reading=PROBABILITIES)
    cells = set()
    for k in range(N_CLASSES):  # a question of its own with the answers no and yes
        binary = np.column_stack([1 - exact[:, k], exact[:, k]])
        cells |= {(i, k) for i in suspected(yes[:, k].astype(int), binary)}
    ours = []
    for kind, side in (("doubtful-label", "class_a"), ("missing-label", "class_b")):
        rows, at = rows_of(found, kind)
        class_id = rows[side].to_numpy()
        score = np.where(kind == "doubtful-label", 1 - exact[at, class_id], exact[at, class_id])
        np.testing.assert_allclose(rows["score"].to_numpy(), score, rtol=0, atol=1e-10)
        assert (np.diff(score) <= 0).all()
        ours += zip(at.tolist(), class_id.tolist(), strict=True)
    assert sorted(ours) == sorted(cells)
    assert len(cells) > 50


def test_label_sets_from_a_minimum_score_up():
    yes, p = several()
    exact = p.astype(np.float64)
    rows, at = rows_of(
        manyhot.find_label_issues(yes, p, min_doubtful=0.9, reading=PROBABILITIES), "doubtful-label"
    )
    low = rows["score"].to_numpy() >= 0.9
    assert low.sum() == np.count_nonzero(yes & (1 - exact >= 0.9)) > 20
    ours = list(zip(at[low].tolist(), rows["class_a"].to_numpy()[low].tolist(), strict=True))
    wanted = np.argwhere(yes & (1 - exact >= 0.9))
    order = np.argsort(exact[tuple(wanted.T)], kind="stable")
    assert ours == [tuple(cell) for cell in wanted[order].tolist()]


def test_logits_of_label_sets_are_read_as_sigmoids():
    yes, p = several()
    logits = np.log(p) - np.log1p(-p)
    for dtype in (np.float32, np.float16):
        found = manyhot.find_label_issues(
            yes, logits.astype(dtype), min_doubtful=0.5, reading=Reading(scores="logit", links="sigmoid")
        )
        rows, at = rows_of(found, "doubtful-label")
        own = 1 / (1 + np.exp(-logits.astype(dtype).astype(np.float64)))
        own = own[at, rows["class_a"].to_numpy()]
        np.testing.assert_allclose(rows["models"].to_numpy(), 1 - own, rtol=0, atol=1e-6)


def test_label_errors_are_the_confident_joint():
    label, p = single()
    exact = p.astype(np.float64)
    found = manyhot.propose(label, p, "label-errors", reading=PROBABILITIES).table.to_pylist()
    guess = confident_joint(label, exact)
    wanted = {(str(i), int(guess[i])) for i in np.flatnonzero((guess >= 0) & (guess != label))}
    ours = {(r["image_id"], r["class_id"]): r["score"] for r in found if r["source"] != "label"}
    assert set(ours) == wanted
    assert len(wanted) > 50
    for (i, j), score in ours.items():
        assert score == pytest.approx(exact[int(i), j] - exact[int(i), label[int(i)]], abs=1e-10)


def test_negative_probabilities_of_improbable_classes_are_refused():
    label, p = single()
    p[3, p[3].argmin()] = -0.5
    with pytest.raises(manyhot.errors.InputError, match=r"-0\.5"):
        manyhot.find_label_issues(label, p, reading=PROBABILITIES)
