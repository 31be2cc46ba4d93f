"""Audits over draws of people's label sets, against the equations in plain NumPy."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import stats

from audits import IDS, N_CLASSES, World
from manyhot import evaluate
from manyhot.core.posterior import adjusted_probabilities, draw_sets
from manyhot.errors import InputError, UsageError
from manyhot.tables import Labels, Predictions
from manyhot.tables.arrays import label_sets
from manyhot.tables.audit_samples import draw_sample

M, N = 8, 120


def drawn_of(n=N):
    return draw_sample(IDS, np.full(400, n / 400), "uniform", 3)


def people(world, ids, method=None, *, sure=False):
    """Return people's label sets over all classes, with probabilities."""
    rows = pc.index_in(ids, IDS).to_numpy()
    valid = np.array([[c in world.sets[i] for c in range(N_CLASSES)] for i in rows])
    p = np.where(valid, 0.9, 0.05) if not sure else valid.astype(float)
    p[::9] = np.where(valid[::9], 0.3, p[::9])  # two raters disagreed
    columns = {
        "image_id": ids,
        "usable": [True] * len(rows),
        "classes": pa.array([list(range(N_CLASSES))] * len(rows), pa.list_(pa.int32())),
        "state": [["yes" if x > 0.5 else "no" for x in row] for row in p],
        "p": pa.array(p.tolist(), pa.list_(pa.float32())),
    }
    table = pa.table(columns if method is None else columns | {"method": [method] * len(rows)})
    return Labels(table, N_CLASSES, name="people", asked_known=True)


def judged(world, draws=M, labels=None, n=N, **options):
    drawn = drawn_of(n)
    labels = people(world, drawn.drawn) if labels is None else labels
    models = options.pop("models", list(world.models.values()))
    return evaluate(world.proposed, models, audited=labels, sample=drawn, posterior=draws, **options)


def contributions(world, sets, rows, model):
    """Return value and squared error parts of `real1` by the difference estimator."""
    top = world.models[model].classes[:, 0]
    size = np.bincount(sets.rows[sets.state == 3], minlength=N)
    pairs = set(zip(sets.rows[sets.state == 3].tolist(), sets.classes[sets.state == 3].tolist(), strict=True))
    hit = np.array([(i, int(top[row])) in pairs for i, row in enumerate(rows)], float)
    scored = (size > 0).astype(float)
    ratio, mean = hit.sum() / scored.sum(), scored.mean()
    f = (top == world.label) - ratio
    residual = ((hit - ratio * scored) - f[rows]) / mean
    return ratio + f.mean() / mean + residual.mean(), residual


def by_rules(values, residuals):
    """Return mean, standard error and degrees of freedom: Rubin 1987, Barnard and Rubin 1999."""
    squares = [(1 - N / 400) * (r - r.mean()) ** 2 / (N * (N - 1)) for r in residuals]
    within = np.mean([s.sum() for s in squares])
    between = (1 + 1 / M) * np.var(values, ddof=1)
    share = between / (within + between)
    com = np.mean([2 * s.sum() ** 2 / (s**2).sum() for s in squares])
    observed = (com + 1) / (com + 3) * com * (1 - share)
    return np.mean(values), math.sqrt(within + between), 1 / (share**2 / (M - 1) + 1 / observed), share


def test_values_pairs_and_intervals_are_those_of_rubins_rules():
    world, drawn = World(), drawn_of()
    labels = people(world, drawn.drawn)
    rows = pc.index_in(drawn.drawn, IDS).to_numpy()
    sets = [draw_sets(label_sets(labels), np.random.default_rng([0, m])) for m in range(M)]
    found = judged(world, estimator="difference", metrics=["real1"])
    each = {m: [contributions(world, s, rows, m) for s in sets] for m in ("good", "bad")}
    for model in ("good", "bad"):
        value, error, df, _ = by_rules(*zip(*each[model], strict=True))
        (row,) = found.to_polars().filter(model=model, slice="all").to_dicts()
        assert row["value"] == pytest.approx(value)
        half = stats.t.ppf(0.975, df) * error / (value * (1 - value))
        ends = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + np.array([-half, half]))))
        assert (row["lo"], row["hi"]) == pytest.approx(tuple(ends))
    both = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(each["good"], each["bad"], strict=True)]
    value, error, df, _ = by_rules(*zip(*both, strict=True))
    (pair,) = found.pairs.to_pylist()
    half = stats.t.ppf(0.975, df) * error
    assert (pair["difference"], pair["lo"], pair["hi"]) == pytest.approx((value, value - half, value + half))
    assert pair["p"] == pytest.approx(2 * stats.t.sf(abs(value) / error, df))


def test_notes_say_what_raters_add_and_what_is_taken_to_be_right():
    world, drawn = World(), drawn_of()
    rows = pc.index_in(drawn.drawn, IDS).to_numpy()
    labels = label_sets(people(world, drawn.drawn))
    found = judged(world, estimator="difference", metrics=["real1"])
    shares, changes = [], []
    for model in ("good", "bad"):
        sets = [draw_sets(labels, np.random.default_rng([0, m])) for m in range(M)]
        value, *_, share = by_rules(*zip(*(contributions(world, s, rows, model) for s in sets), strict=True))
        shares.append(100 * share)
        changes.append(100 * (contributions(world, labels, rows, model)[0] - value))
    assert found.notes[0].endswith(
        "intervals are for the values on these images, over images and raters: values are means over 8 draws "
        "of people's label sets from their probabilities, which are assumed to be right"
    )
    assert found.notes[1] == (
        f"proposed: raters cause {np.mean(shares):.0f} % of the variance of real1; on people's label sets "
        f"without draws, its value would differ by {np.mean(changes):+.2f} points (means over 2 models)"
    )


def test_slices_and_samples_are_over_raters_too():
    world = World()
    options = {"slices": ["class=0"], "metrics": ["real1", "variable_topk"], "n": 200}
    without, over_raters = (judged(world, draws, **options) for draws in (0, 20))
    keys = ["model", "metric", "slice"]
    both = over_raters.to_polars().join(without.to_polars(), on=keys, suffix="_without").drop_nulls("lo")
    wider = (both["hi"] - both["lo"]) > (both["hi_without"] - both["lo_without"])
    assert set(both["slice"]) >= {"all", "n_labels=1", "class=0"}
    assert wider.mean() > 0.9
    spread, narrow = (
        {tuple(r[k] for k in keys): np.std(r["values"]) for r in found.samples.to_pylist()}
        for found in (over_raters, without)
    )
    assert set(spread) >= set(narrow)
    assert all(spread[key] > narrow[key] for key in narrow)


def test_certain_probabilities_change_nothing_but_degrees_of_freedom():
    world = World()
    labels = people(world, drawn_of().drawn, sure=True)
    p = np.array(labels.table["p"].combine_chunks().flatten())
    p[(p > 0) & (p < 1)] = 0
    column = pa.ListArray.from_arrays(labels.table["p"].combine_chunks().offsets, pa.array(p, pa.float32()))
    state = ["yes" if x else "no" for x in p]
    states = pa.ListArray.from_arrays(column.offsets, pa.array(state))
    table = labels.table.set_column(labels.table.column_names.index("p"), "p", column)
    table = table.set_column(table.column_names.index("state"), "state", states)
    labels = replace(labels, table=table)
    without, found = (judged(world, draws, labels=labels).to_polars() for draws in (0, 2))
    assert found["value"].to_list() == pytest.approx(without["value"].to_list(), nan_ok=True)
    assert found["lo"].null_count() == without["lo"].null_count()


@pytest.mark.parametrize(("method", "is_adjusted"), [("auto", True), ("golden-bayes", False), (None, False)])
def test_probabilities_of_models_of_raters_are_adjusted_to_the_proposals(method, is_adjusted):
    """The share of draws in which a class is valid is its probability."""
    world, drawn = World(), drawn_of()
    labels = people(world, drawn.drawn, method)
    sets, rows = label_sets(labels), pc.index_in(drawn.drawn, IDS).to_numpy()
    proposed = sets.classes == world.label[rows][sets.rows]
    p = adjusted_probabilities(sets.p, proposed) if is_adjusted else sets.p
    expected = [draw_sets(replace(sets, p=p), np.random.default_rng([0, m])) for m in range(M)]
    found = judged(world, labels=labels, metrics=["real1"], estimator="difference")
    values = [contributions(world, s, rows, "good")[0] for s in expected]
    assert found.value("real1", model="good") == pytest.approx(np.mean(values))


def test_macro_average_precision_is_over_raters_too():
    world = World()
    rng = np.random.default_rng(3)
    truth = np.array([[c in s for c in range(N_CLASSES)] for s in world.sets])
    scores = np.clip(0.3 * truth + 0.7 * rng.random(truth.shape), 0.01, 0.99).astype(np.float32)
    models = [Predictions(IDS, "dense", scores=scores, score_kind="probability")]
    options = {"models": models, "metrics": ["map_macro"], "n": 200, "trust_order": True}
    drawn = drawn_of(200)
    labels = people(world, drawn.drawn)
    labels = replace(labels, complete=True)
    widths = []
    for draws in (0, 5):
        (row,) = judged(world, draws, labels=labels, **options).to_polars().to_dicts()
        widths.append(row["hi"] - row["lo"])
    assert widths[1] > widths[0]


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def test_one_draw_is_refused():
    assert message(UsageError, lambda: judged(World(), 1)) == (
        "Several draws are needed to compute the variance over draws of people's label sets.\n"
        "  got:     `posterior` 1\n"
        "  allowed: at least 2, or 0 for none\n"
        "  do:      draw 20 or more"
    )


def test_draws_need_images_that_were_not_audited():
    assert message(UsageError, lambda: judged(World(), n=400)) == (
        "All images were audited, so only raters cause uncertainty.\n"
        "  got:     `posterior` with `audited`\n"
        "  do:      evaluate people's label sets themselves with `posterior`, without `audited`"
    )


def test_draws_need_probabilities():
    assert message(InputError, lambda: World().evaluate(posterior=10)) == (
        "The labels have no probabilities from which label sets can be drawn.\n"
        "  where:   people\n"
        "  allowed: labels with the column p, from votes or counts of votes\n"
        "  do:      leave out `posterior`, or aggregate the votes: manyhot aggregate DATASET"
    )
