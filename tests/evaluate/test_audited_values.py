"""Audits end to end, against the equations in plain NumPy and against evaluations with all answers."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score

from audits import IDS, N_CLASSES, World, table_of
from manyhot import evaluate
from manyhot.core.audit_average_precision import audited_average_precision
from manyhot.core.audit_sequence import sequence_p, sequence_quantile
from manyhot.core.audited import estimate, side_by_side
from manyhot.errors import InputError
from manyhot.tables import Images, Labels, Predictions
from manyhot.tables.audit_samples import draw_sample


def row(evaluation, **where):
    frame = evaluation.to_polars().filter(*(pl.col(c) == v for c, v in {"slice": "all", **where}.items()))
    (found,) = frame.to_dicts()
    return found


def hits(world, sets, model="good"):
    top = world.models[model].classes[:, 0]
    return np.array([c in s for c, s in zip(top, sets, strict=True)], float)


def audited_rows(drawn):
    place = {name: i for i, name in enumerate(IDS.to_pylist())}
    return np.array([place[name] for name in drawn.drawn.to_pylist()])


@pytest.mark.parametrize("estimator", ["sample", "difference", "ppi++"])
def test_real1_is_what_the_equations_give(estimator):
    """Angelopoulos et al. 2023, doi 10.1126/science.adi6000, and arXiv 2311.01453, example 6.1."""
    world = World()
    drawn, found = world.evaluate(120, estimator=estimator)
    y, f = hits(world, world.sets), hits(world, [[c] for c in world.label])
    rows, n, of = audited_rows(drawn), 120, 400
    others = np.setdiff1d(np.arange(of), rows)
    ys, fs = y[rows], f[rows]
    weight = {"sample": 0.0, "difference": 1.0, "ppi++": np.cov(ys, fs)[0, 1] / np.var(fs, ddof=1)}[estimator]
    value = ys.mean() + weight * (f.mean() - fs.mean())
    # the same with the images that were not audited as PPI++'s unlabelled ones
    own = np.cov(ys, fs)[0, 1] / ((1 + n / (of - n)) * np.var(fs, ddof=1))
    if estimator == "ppi++":
        assert value == pytest.approx(ys.mean() + own * (f[others].mean() - fs.mean()))
    residual = ys - weight * fs - (ys - weight * fs).mean()
    squares = (1 - n / of) * residual**2 / (n * (n - 1))
    total = squares.sum() * ((n - 1) / (n - 2) if estimator == "ppi++" else 1)
    times = stats.t.ppf(0.975, 2 * total**2 / (squares**2).sum())
    half = times * np.sqrt(total) / (value * (1 - value))
    expected = {
        "value": value,
        "lo": expit(logit(value) - half),
        "hi": expit(logit(value) + half),
        "alone": f.mean(),
        "n": of,
        "n_skipped": 0,
        "n_audited": n,
        "estimator": estimator,
    }
    numbers = row(found, model="good", metric="real1")
    assert {k: numbers[k] for k in expected} == pytest.approx(expected)
    assert abs(value - y.mean()) < abs(f.mean() - y.mean()) / 3


def test_with_unequal_probabilities_it_is_the_difference_estimator_of_a_ratio():
    """Images without a valid class do not count: Särndal, Swensson and Wretman 1992, section 5.6."""
    world = World(empty=0.2)
    p = np.linspace(1, 3, 400)
    p *= 120 / p.sum()
    drawn, found = world.evaluate(probability=p, design="active", estimator="difference")
    counted = np.array([bool(s) for s in world.sets], float)
    y, f, rows = hits(world, world.sets), hits(world, [[c] for c in world.label]), audited_rows(drawn)
    w = 1 / p[rows] / (1 / p[rows]).sum()
    ratio, mean = (w @ y[rows]) / (w @ counted[rows]), w @ counted[rows]
    of_people, of_models = (y - ratio * counted) / mean, (f - ratio) / mean
    value = ratio + of_models.mean() + w @ (of_people - of_models)[rows]
    numbers = row(found, model="good", metric="real1")
    assert numbers["value"] == pytest.approx(value)
    assert numbers["alone"] == pytest.approx(f.mean())
    n = int(np.rint(400 * w @ counted[rows]))
    counts = (n, 400 - n, int(counted[rows].sum()))
    assert (numbers["n"], numbers["n_skipped"], numbers["n_audited"]) == counts


def test_in_strata_it_is_the_stratified_difference_estimator():
    """Cochran 1977, Sampling Techniques, equations 5.1 and 5.12."""
    world = World()
    easy = np.arange(400) < 300
    strata, p = pa.array(["easy" if e else "hard" for e in easy]), np.where(easy, 0.2, 0.6)
    drawn, found = world.evaluate(probability=p, design="stratified", strata=strata, estimator="difference")
    y, f, rows = hits(world, world.sets), hits(world, [[c] for c in world.label]), audited_rows(drawn)
    value, variance = f.mean(), 0
    for inside in (easy, ~easy):
        residual, share = (y - f)[rows[inside[rows]]], inside.mean()
        n = len(residual)
        value += share * residual.mean()
        variance += share**2 * (1 - n / inside.sum()) * residual.var(ddof=1) / n
    numbers = row(found, model="good", metric="real1")
    assert numbers["value"] == pytest.approx(value)
    half = (logit(numbers["hi"]) - logit(numbers["lo"])) / 2 * value * (1 - value)
    assert half / np.sqrt(variance) == pytest.approx(2, abs=0.06)  # Student's t


def test_pairs_are_estimated_from_paired_differences():
    world = World()
    drawn, found = world.evaluate(120, estimator="difference")
    people, single = world.sets, [[c] for c in world.label]
    y, f = (hits(world, s, "bad") - hits(world, s, "good") for s in (people, single))
    rows = audited_rows(drawn)
    residual = (y - f)[rows]
    squares = (1 - 120 / 400) * (residual - residual.mean()) ** 2 / (120 * 119)
    df = 2 * squares.sum() ** 2 / (squares**2).sum()
    value, error = f.mean() + residual.mean(), np.sqrt(squares.sum())
    half = stats.t.ppf(0.975, df) * error
    p = 2 * stats.t.sf(abs(value) / error, df)
    (pair,) = (r for r in found.pairs.to_pylist() if r["metric"] == "real1")
    assert (pair["model_a"], pair["model_b"], pair["estimator"]) == ("good", "bad", "difference")
    expected = {"difference": value, "lo": value - half, "hi": value + half, "p": p, "p_adjusted": p}
    expected |= {"alone": f.mean(), "n": 400, "n_audited": 120}
    assert {k: pair[k] for k in expected} == pytest.approx(expected)


def test_if_all_images_are_audited_it_is_the_evaluation_on_their_label_sets():
    world = World(empty=0.1)
    models = list(world.models.values())
    _, found = world.evaluate(400, slices=["class"])
    plain = evaluate(world.people, models, slices=["class"])
    keys = ["model", "metric", "slice"]
    both = found.to_polars().join(plain.to_polars(), on=keys, how="left", suffix="_all")
    assert both["value_all"].null_count() == 0
    values = both.select(pl.col("value", "value_all").fill_nan(-1))
    np.testing.assert_allclose(values["value"], values["value_all"], atol=1e-12)
    assert both["n"].to_list() == both["n_all"].to_list()
    assert both["n_skipped"].to_list() == both["n_skipped_all"].to_list()
    left_out = set(plain.results["metric"].to_pylist()) - set(found.results["metric"].to_pylist())
    assert left_out == {m for m in left_out if m.endswith("_unasked")}
    estimated = both.filter(pl.col("estimator").is_not_null())
    assert {"mla", "asma", "variable_topk", "valid_errors", "recall@5"} <= set(estimated["metric"])
    assert estimated["lo"].null_count() == len(estimated)  # nothing is uncertain
    assert not any("no interval" in note for note in found.notes)


def test_if_all_images_are_audited_the_population_still_varies():
    _, found = World().evaluate(400, population=True)
    numbers, y = row(found, model="good", metric="real1"), hits(World(), World().sets)
    error = y.std(ddof=1) / 20
    squares = (y - y.mean()) ** 2  # degrees of freedom: how uncertain the variance of y is
    times = stats.t.ppf(0.975, 2 * squares.sum() ** 2 / (squares**2).sum())
    half = times * error / (y.mean() * (1 - y.mean()))
    assert numbers["lo"] == pytest.approx(expit(logit(y.mean()) - half), abs=1e-4)
    assert numbers["hi"] == pytest.approx(expit(logit(y.mean()) + half), abs=1e-4)


def test_intervals_contain_the_values_on_all_answers():
    world = World(empty=0.1)
    models = list(world.models.values())
    plain = evaluate(world.people, models, resamples=0).to_polars()
    metrics, held, n = ["real1", "real5", "variable_topk", "valid_errors", "precision@5"], 0, 0
    for seed in range(60):
        drawn = draw_sample(IDS, np.full(400, 0.4), "uniform", seed)
        options = {"metrics": metrics, "audited": world.audited(drawn.drawn), "sample": drawn}
        found = evaluate(world.proposed, models, **options).to_polars()
        both = found.filter(pl.col("slice") == "all").join(plain, on=["model", "metric", "slice"])
        both = both.filter(pl.col("lo").is_not_null())
        n += len(both)
        held += both.select(pl.col("value_right").is_between("lo", "hi").sum()).item()
    assert n > 400
    assert 0.91 < held / n < 0.99


def test_a_mean_over_set_sizes_is_not_biased_by_proposals_of_one_size():
    """Single labels say nothing about the images with two labels and more."""
    world = World()
    models = list(world.models.values())
    true = evaluate(world.people, models, metrics=["asma"], resamples=0).value("asma", model="good")
    values = []
    for seed in range(60):
        drawn = draw_sample(IDS, np.full(400, 0.4), "uniform", seed)
        options = {"metrics": ["asma"], "audited": world.audited(drawn.drawn), "sample": drawn}
        values.append(evaluate(world.proposed, models, resamples=0, **options).value("asma", model="good"))
    assert np.mean(values) == pytest.approx(true, abs=3 * np.std(values) / np.sqrt(60))


def test_metrics_of_original_labels_are_known():
    world = World()
    _, found = world.evaluate()
    plain = evaluate(world.proposed, list(world.models.values()), metrics=["top1"])
    numbers, exact = (row(e, model="bad", metric="top1") for e in (found, plain))
    assert (numbers["value"], numbers["n"], numbers["estimator"]) == (exact["value"], 400, None)
    assert numbers["lo"] is None
    (values,) = (
        r["values"] for r in found.samples.to_pylist() if (r["model"], r["metric"]) == ("bad", "top1")
    )
    assert set(values) == {np.float32(exact["value"])}


def test_the_drop_from_original_labels_has_the_interval_of_the_audit():
    _, found = World().evaluate()
    (drop,) = (
        r
        for r in found.comparison.drops.to_pylist()
        if (r["metric_x"], r["metric_y"], r["model"]) == ("top1", "real1", "good")
    )
    numbers = row(found, model="good", metric="real1")
    assert drop["drop"] == pytest.approx(found.value("top1", model="good") - numbers["value"])
    assert drop["hi"] - drop["lo"] == pytest.approx(numbers["hi"] - numbers["lo"], rel=0.15)


def test_a_slice_by_size_is_by_peoples_answers():
    world = World()
    drawn, found = world.evaluate(estimator="sample")
    rows = audited_rows(drawn)
    two = np.array([len(s) == 2 for s in world.sets])[rows]
    numbers = row(found, model="good", metric="real1", slice="n_labels=2")
    assert numbers["value"] == pytest.approx(hits(world, world.sets)[rows][two].mean())
    assert (numbers["n_audited"], numbers["n"]) == (two.sum(), round(400 * two.mean()))
    assert numbers["alone"] is None


def test_models_that_predict_some_images_are_estimated_on_these():
    world = World()
    small = world.models["good"]
    world.models = {"good": replace(small, image_id=small.image_id[:300], classes=small.classes[:300])}
    drawn, found = world.evaluate(estimator="sample")
    rows = audited_rows(drawn)
    rows = rows[rows < 300]
    world.models["good"] = small
    numbers = row(found, model="good", metric="real1")
    assert numbers["value"] == pytest.approx(hits(world, world.sets)[rows].mean())
    assert (numbers["n_audited"], numbers["n"] + numbers["n_skipped"]) == (len(rows), 300)


def stopped(n=90, **options):
    """Return an audit of 120 images of which the first n were answered."""
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.3), "uniform", 3)
    return drawn, world.evaluate(labels=world.audited(drawn.drawn[:n]), estimator="sample", **options)[1]


def test_the_answers_to_the_first_images_of_a_sample_suffice():
    drawn, found = stopped(blind_stop=True)
    rows = audited_rows(drawn)[:90]
    y = hits(World(), World().sets)[rows]
    numbers = row(found, model="good", metric="real1")
    assert numbers["value"] == pytest.approx(y.mean())
    squares = (y - y.mean()) ** 2
    half = stats.t.ppf(0.975, 2 * squares.sum() ** 2 / (squares**2).sum())
    half *= np.sqrt((1 - 90 / 400) * y.var(ddof=1) / 90) / (y.mean() * (1 - y.mean()))
    assert (numbers["lo"], numbers["hi"]) == pytest.approx(
        (expit(logit(y.mean()) - half), expit(logit(y.mean()) + half))
    )
    assert found.notes[0] == (
        "proposed: values are estimates on people's label sets: 90 of 400 images were audited, the first of "
        "120 (uniform sample, seed 3; estimator sample); intervals are for the values on these images, "
        "with answers taken as they are"
    )


def test_intervals_of_an_audit_that_stopped_early_hold_at_all_numbers_of_answers():
    """They are those of a confidence sequence, whose quantile `sequence_quantile` is tested alone."""
    drawn, found = stopped()
    y = hits(World(), World().sets)[audited_rows(drawn)[:90]]
    numbers, quantile = row(found, model="good", metric="real1"), sequence_quantile(90, 120)
    half = quantile * np.sqrt((1 - 90 / 400) * y.var(ddof=1) / 90) / (y.mean() * (1 - y.mean()))
    assert (numbers["lo"], numbers["hi"]) == pytest.approx(
        (expit(logit(y.mean()) - half), expit(logit(y.mean()) + half))
    )
    assert found.notes[0].endswith(
        "with answers taken as they are; because the audit stopped early, the intervals are "
        f"{quantile / 1.959964:.1f} times as wide, so that they are valid after any number of answers; pass "
        "`blind_stop` if the stop did not depend on results"
    )
    (pair,) = (r for r in found.pairs.to_pylist() if r["metric"] == "real1")
    error = (pair["hi"] - pair["lo"]) / 2 / quantile
    assert pair["p"] == pytest.approx(sequence_p(np.array(pair["difference"] / error), 90, 120))
    key = ("good", "real1")
    widths = [
        np.ptp(np.quantile(r["values"], (0.025, 0.975)))
        for e in (found, stopped(blind_stop=True)[1])
        for r in e.samples.to_pylist()
        if (r["model"], r["metric"]) == key
    ]
    assert widths[0] / widths[1] == pytest.approx(quantile / 1.959964, rel=0.01)
    assert json.loads(found.metadata["audit"])["blind_stop"] is False


def test_proposals_that_have_seen_the_answers_are_noticed():
    """Original labels were replaced by people's answers, but on the audited images alone."""
    world = World()
    drawn = draw_sample(IDS, np.full(400, 0.4), "uniform", 3)
    top = world.models["good"].classes[:, 0]
    proposed = world.label.copy()
    wrong = np.flatnonzero(proposed == top)[:120]
    proposed[wrong] = (proposed[wrong] + 1) % N_CLASSES
    seen = audited_rows(drawn)
    proposed[seen] = [
        int(t) if int(t) in world.sets[i] else world.label[i] for i, t in zip(seen, top[seen], strict=True)
    ]
    labels = Labels(table_of([[c] for c in proposed], world.label), N_CLASSES, name="proposed")
    with pytest.raises(InputError) as error:
        evaluate(labels, list(world.models.values()), audited=world.audited(drawn.drawn), sample=drawn)
    hit = top == proposed
    on, of = hit[seen].mean(), hit.mean()
    p = 2 * stats.norm.sf((on - of) / np.sqrt(0.6 * of * (1 - of) / 160))
    assert str(error.value) == (
        "The proposed label sets fit the audited images differently from the other images.\n"
        "  where:   proposed\n"
        f"  got:     on the proposed label sets, real1 of good: {100 * on:.2f} % on the audited, "
        f"{100 * of:.2f} % on all images (p = {p:.1g})\n"
        "  allowed: p of at least 5e-05\n"
        "  do:      pass proposals and models that were made without the answers about the audited images, "
        "and the probabilities with which these were drawn as `sample`"
    )


def test_without_resamples_there_are_no_intervals_and_no_pairs():
    _, found = World().evaluate(resamples=0)
    assert found.results["lo"].null_count == len(found.results)
    assert (found.pairs.num_rows, found.samples.num_rows) == (0, 0)


def test_an_evaluation_without_audit_has_no_columns_of_audits():
    world = World()
    plain = evaluate(world.people, list(world.models.values()))
    names = [*plain.results.column_names, *plain.pairs.column_names]
    assert not {"estimator", "n_audited", "alone"} & set(names)


def dense(world):
    """Return models with probabilities of all classes, and labels without original ones."""
    rng = np.random.default_rng(5)
    yes = np.zeros((400, N_CLASSES))
    for i, classes in enumerate(world.sets):
        yes[i, classes] = 1
    models = [
        Predictions(
            IDS,
            name,
            scores=expit(3 * yes - 2 + noise * rng.normal(size=yes.shape)),
            score_kind="probability",
        )
        for name, noise in (("good", 1), ("bad", 2))
    ]
    return models, Labels(table_of([[c] for c in world.label]), N_CLASSES, name="proposed")


def test_macro_average_precision_is_what_the_estimator_gives():
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.5), "uniform", 3)
    models, proposed = dense(world)
    found = evaluate(proposed, models, audited=world.audited(drawn.drawn), sample=drawn)
    sample, sets = drawn.sample_for(IDS), (world.sets, [[c] for c in world.label])
    people, single = (np.array([[c in s for c in range(N_CLASSES)] for s in of]) for of in sets)
    numbers, values = row(found, model="good", metric="map_macro"), []
    for model in models:
        odds = logit(model.scores.astype(float))
        features = ((odds - odds.mean()) / odds.std(), single)
        values.append(
            audited_average_precision(people[sample.images], single, model.scores, sample, features=features)
        )
    expected = replace(estimate(values[0], sample, power=1.0), checked=False)
    lo, hi = expected.interval("logit")
    assert numbers["value"] == pytest.approx(expected.value[0], abs=1e-5)
    assert (numbers["lo"], numbers["hi"]) == pytest.approx((lo[0], hi[0]), abs=1e-5)
    assert numbers["alone"] == pytest.approx(expected.alone[0])
    assert (numbers["n"], numbers["n_skipped"], numbers["n_audited"]) == (400, 0, 200)
    (pair,) = (r for r in found.pairs.to_pylist() if r["metric"] == "map_macro")
    both = side_by_side(values).differences(np.array([1]), np.array([0]))
    both = replace(estimate(both, sample, power=1.0), checked=False)
    assert pair["difference"] == pytest.approx(both.value[0], abs=1e-5)
    assert pair["lo"] == pytest.approx(both.interval()[0][0], abs=1e-5)
    left_out = next(n for n in found.notes if "sums over images" in n)
    assert left_out.startswith("proposed, 2 models: map_micro, ")


def test_models_that_propose_for_one_another_predict_answers_by_their_scores():
    """Each model's average precision has both models' log odds in its regression, so both have the same."""
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.5), "uniform", 3)
    models, _ = dense(world)
    images = Images(pa.table({"image_id": IDS}), "photos")
    options = {"audited": world.audited(drawn.drawn), "sample": drawn, "classes": list("abcdef")}
    found = evaluate(images, models, metrics=["map_macro"], **options)
    sample = drawn.sample_for(IDS)
    people = np.array([[c in s for c in range(N_CLASSES)] for s in world.sets])
    odds = [logit(np.clip(m.scores, 1e-6, 1 - 1e-6).astype(float)) for m in models]
    odds = [(x - x.mean()) / x.std() for x in odds]
    for model, features in zip(models, (odds, odds[::-1]), strict=True):
        values = audited_average_precision(
            people[sample.images], people, model.scores, sample, features=features
        )
        expected = estimate(values, sample, power=1.0).value[0]
        assert found.value("map_macro", model=model.model) == pytest.approx(expected, abs=1e-5)


def test_models_that_propose_no_class_have_macro_average_precision():
    """No probability is one half, so that models propose nothing: people's answers alone have positives."""
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.5), "uniform", 3)
    models = [replace(m, scores=m.scores / 4) for m in dense(world)[0]]
    images = Images(pa.table({"image_id": IDS}), "photos")
    options = {"audited": world.audited(drawn.drawn), "sample": drawn, "classes": list("abcdef")}
    found = evaluate(images, models, metrics=["map_macro"], **options)
    numbers = row(found, model="good", metric="map_macro")
    assert numbers["alone"] is None
    truth = [
        average_precision_score(y, s) for y, s in zip(matrix(world.sets).T, models[0].scores.T, strict=True)
    ]
    assert numbers["lo"] < np.mean(truth) < numbers["hi"]


def matrix(sets):
    return np.array([[c in s for c in range(N_CLASSES)] for s in sets])


def test_macro_average_precision_needs_proposals():
    """Without, 250 audited images of CIFAR-10H were 3.7 points off, and 66 % of the intervals held."""
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.5), "uniform", 3)
    models, proposed = dense(world)
    options = {"sample": drawn, "metrics": ["map_macro"], "estimator": "sample", "trust_order": True}
    with pytest.raises(InputError) as error:
        evaluate(proposed, models, audited=world.audited(drawn.drawn), **options)
    assert str(error.value) == (
        "map_macro cannot be audited: it needs proposed label sets, so choose an estimator other than "
        "sample.\n  do:      leave it out of `metrics`"
    )


@pytest.mark.parametrize("metric", ["map_image", "lrap", "hamming"])
def test_models_that_propose_for_one_another_have_pairs(metric):
    """Their proposals differ, and the images that count by these do, but not those that count by people."""
    world, drawn = World(empty=0.1), draw_sample(IDS, np.full(400, 0.5), "uniform", 3)
    models, _ = dense(world)
    images = Images(pa.table({"image_id": IDS}), "photos")
    options = {"audited": world.audited(drawn.drawn), "sample": drawn, "classes": list("abcdef")}
    found = evaluate(images, models, metrics=[metric], **options)
    (pair,) = found.pairs.to_pylist()
    good, bad = (row(found, model=m, metric=metric) for m in ("good", "bad"))
    assert pair["difference"] == pytest.approx(bad["value"] - good["value"], abs=0.02)
    assert pair["lo"] < pair["difference"] < pair["hi"]
    assert pair["n"] == good["n"] == bad["n"]


def test_a_rule_that_chooses_the_questions_leaves_macro_average_precision_without_an_interval():
    """Classes that nobody asked about are not absent."""
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.5), "uniform", 3)
    models, proposed = dense(world)
    rows = pc.index_in(drawn.drawn, IDS).to_pylist()
    asked = [sorted({*world.sets[i], 0}) for i in rows]
    table = table_of(asked, ids=IDS.take(pa.array(rows)))
    states = [["yes" if c in world.sets[i] else "no" for c in a] for i, a in zip(rows, asked, strict=True)]
    table = table.set_column(table.column_names.index("state"), "state", pa.array(states))
    people = Labels(table, N_CLASSES, asked_known=True, name="people")
    found = evaluate(proposed, models, audited=people, sample=drawn, metrics=["map_macro"])
    assert found.results["lo"].null_count == 2
    mean = np.mean([len(a) for a in asked])
    text = (
        f"no interval of map_macro: people were asked about {mean:.1f} of 6 classes per image on "
        "average, and other classes may be valid, too: draw the questions with manyhot "
        "audit --design classes"
    )
    assert text in [n.text for n in found.model_notes if n.kind == "no_interval" and n.model == "bad"]


def test_macro_average_precision_is_exact_if_all_images_are_audited():
    world, drawn = World(), draw_sample(IDS, np.ones(400), "uniform", 3)
    models, proposed = dense(world)
    found = evaluate(proposed, models, audited=world.audited(drawn.drawn), sample=drawn)
    people = Labels(table_of(world.sets), N_CLASSES, name="people")
    plain = evaluate(people, models, metrics=["map_macro"])
    for model in ("good", "bad"):
        value = found.value("map_macro", model=model)
        assert value == pytest.approx(plain.value("map_macro", model=model), abs=1e-9)


def test_macro_average_precision_needs_audited_images():
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.045), "uniform", 7, random="numpy")
    models, proposed = dense(world)
    options = {"audited": world.audited(drawn.drawn), "sample": drawn}
    found = evaluate(proposed, models, metrics=["map_macro"], **options)
    assert found.results["lo"].null_count == 2
    text = "no interval of map_macro: fewer than 30 audited images count"
    assert [n.text for n in found.model_notes if n.kind == "no_interval" and n.model == "bad"] == [text]


def test_a_class_that_the_sample_missed_counts_and_is_noted():
    """Its first images were audited, so that images which have it would hardly change the value."""
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.95), "uniform", 3)
    models, proposed = dense(world)
    options = {"sample": drawn, "metrics": ["map_macro"]}
    found = evaluate(proposed, models, audited=world.audited(drawn.drawn), **options)
    assert not any("no positives" in n for n in found.notes)
    world.sets = [[c for c in classes if c] for classes in world.sets]
    found = evaluate(proposed, models, audited=world.audited(drawn.drawn), **options)
    assert found.results["lo"].null_count == 0
    text = (
        "proposed: 1 of 6 classes have no positives in the sample; map_macro assumes that other images show "
        "these classes, as models predict; leave out classes that no image shows"
    )
    assert text in found.notes


def test_a_class_that_the_sample_missed_needs_its_first_images():
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.1), "uniform", 3)
    models, proposed = dense(world)
    world.sets = [[c for c in classes if c] for classes in world.sets]
    options = {"sample": drawn, "metrics": ["map_macro"]}
    found = evaluate(proposed, models, audited=world.audited(drawn.drawn), **options)
    few = [n.text for n in found.model_notes if n.kind == "no_interval"]
    assert few
    assert all("with the highest scores" in text for text in few)


def test_proposals_of_classes_that_can_be_valid_together():
    """Without original labels, a model proposes all classes with a probability of at least 0.5."""
    world, drawn = World(), draw_sample(IDS, np.full(400, 0.5), "uniform", 3)
    models, _ = dense(world)
    images = Images(pa.table({"image_id": IDS}), "photos")
    options = {"audited": world.audited(drawn.drawn), "sample": drawn, "classes": list("abcdef")}
    found = evaluate(images, models, metrics=["hamming"], **options)
    good, bad = (m.scores >= 0.5 for m in models)
    alone = found.to_polars().filter(slice="all")["alone"].to_list()
    assert alone == pytest.approx([(good != bad).mean()] * 2)
