"""Slices that cross columns, such as camera and shift: against pandas."""

import numpy as np
import pandas as pd
import pytest

from manyhot import Reading, compare, evaluate
from manyhot.errors import InputError, UsageError
from manyhot.evaluate.slice_differences import by_slice

N = 400
KEYS = ["ok", "dent", "burr"]


@pytest.fixture(scope="module")
def parts():
    """Return images of two cameras and three shifts; at night, the second camera is not used."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "image_id": [f"{i}.png" for i in range(N)],
            "label": rng.choice(KEYS, N, p=[0.6, 0.3, 0.1]),
            "camera": rng.choice(["1", "2"], N),
            "shift": rng.choice(["early", "late", "night"], N),
            "date": rng.choice(["2026-11-06", "2026-11-09"], N),
            "habitat": rng.choice(["Beaches, dunes", "Arable land,camera"], N),
        }
    )
    frame.loc[frame["shift"] == "night", "camera"] = "1"
    frame["top"] = np.where(rng.random(N) < 0.8, frame["label"], "ok")
    return frame


def ask(parts, slices, call=evaluate, **options):
    reading = Reading(images=parts.drop(columns=["label", "top"]), dataset="line", trust_order=True)
    scores = pd.DataFrame({key: (parts["top"] == key).astype(float) for key in KEYS}).set_index(
        parts["image_id"]
    )
    labels = parts.set_index("image_id")["label"]
    return call(labels, {"net": scores}, slices=slices, metrics=["top1"], reading=reading, **options)


def values(found, slices):
    rows = found.results.to_pylist()
    return {row["slice"]: (row["value"], row["n"]) for row in rows if row["slice"] in slices}


def expected(parts, columns):
    right = (
        parts.assign(right=parts["label"] == parts["top"]).groupby(columns)["right"].agg(["mean", "count"])
    )
    names = [",".join(f"{c}={v}" for c, v in zip(columns, key, strict=True)) for key in right.index]
    return dict(zip(names, right.itertuples(index=False, name=None), strict=True))


@pytest.mark.parametrize("columns", [("camera", "shift"), ("class", "camera"), ("shift", "camera", "date")])
def test_columns_are_crossed_as_pandas_groups_by_them(parts, columns):
    wanted = expected(parts.rename(columns={"label": "class"}).assign(label=parts["label"]), list(columns))
    found = ask(parts, [",".join(columns)], resamples=0)
    crossed = {name for name in found.results["slice"].unique().to_pylist() if "," in name}
    assert crossed == set(wanted)  # no empty slice for camera 2 at night
    assert values(found, crossed) == {name: pytest.approx(pair) for name, pair in wanted.items()}


def test_conditions_are_crossed(parts):
    spec = "class=dent,camera=2,date>=2026-11-08"
    inside = parts[(parts["label"] == "dent") & (parts["camera"] == "2") & (parts["date"] == "2026-11-09")]
    found = values(ask(parts, [spec], resamples=0), {spec})[spec]
    assert found == (pytest.approx((inside["label"] == inside["top"]).mean()), len(inside))


def test_a_column_and_a_value_are_crossed(parts):
    wanted = {n: v for n, v in expected(parts, ["camera", "shift"]).items() if n.endswith("shift=late")}
    found = ask(parts, ["camera,shift=late"], resamples=0)
    assert values(found, wanted) == {name: pytest.approx(pair) for name, pair in wanted.items()}
    shown = "\n".join(found.lines())
    assert "camera=1,shift=late" in shown
    assert "camera=2,shift=late" in shown


def test_sizes_of_label_sets_are_crossed(parts):
    found = ask(parts, ["n_labels,camera"], resamples=0)
    n = {str(camera): int(n) for camera, n in parts["camera"].value_counts().items()}
    assert {name: pair[1] for name, pair in values(found, {f"n_labels=1,camera={c}" for c in n}).items()} == {
        f"n_labels=1,camera={c}": count for c, count in n.items()
    }


@pytest.mark.parametrize("spec", ["habitat=Beaches, dunes", "habitat"])
def test_commas_of_values_do_not_cross(parts, spec):
    found = values(ask(parts, [spec], resamples=0), {"habitat=Beaches, dunes"})
    assert found["habitat=Beaches, dunes"][1] == (parts["habitat"] == "Beaches, dunes").sum()


def test_a_column_is_sliced_beside_its_values_and_crosses(parts):
    found = ask(parts, ["camera=1", "camera=1,shift=late", "camera"], resamples=0)
    names = ["camera=1", "camera=2"]
    assert {n: pair[1] for n, pair in values(found, names).items()} == {
        f"camera={c}": (parts["camera"] == c).sum() for c in "12"
    }


def test_crosses_of_two_models_are_compared(parts):
    other = parts.assign(top=np.where(parts["shift"] == "late", parts["label"], parts["top"]))
    reading = Reading(images=parts.drop(columns=["label", "top"]), dataset="line", trust_order=True)
    models = {
        name: pd.DataFrame({key: (own["top"] == key).astype(float) for key in KEYS}).set_index(
            own["image_id"]
        )
        for name, own in (("old", parts), ("new", other))
    }
    labels = parts.set_index("image_id")["label"]
    found = compare(
        models, labels=labels, slices=["camera,shift", "camera"], metrics=["top1"], reading=reading
    )
    right = {name: own["label"] == own["top"] for name, own in (("old", parts), ("new", other))}
    cells = (right["new"].astype(int) - right["old"]).groupby([parts["camera"], parts["shift"]]).mean()
    pairs = {pair.slice: pair.difference for pair in by_slice(found.results, "line")}
    assert {name: pairs[name] for name in pairs if "," in name} == {
        f"camera={c},shift={s}": pytest.approx(value) for (c, s), value in cells.items()
    }
    lines = "\n".join(found.lines())
    # Each is tested on its own: crosses share images with the slices of a column, but not with each other.
    assert "depends on camera (" in lines
    assert "depends on camera,shift (" in lines


def test_a_cross_without_images_says_so(parts):
    with pytest.raises(InputError) as caught:
        ask(parts, ["camera=2,shift=night"])
    assert str(caught.value) == (
        "No image is in the slice 'camera=2,shift=night'.\n  allowed: shift=night, alone"
    )


def test_too_many_combinations(parts):
    many = parts.assign(camera=[str(i % 20) for i in range(N)], shift=[str(i // 20) for i in range(N)])
    with pytest.raises(InputError) as caught:
        ask(many, ["camera,shift"])
    assert str(caught.value) == (
        "The slice 'camera,shift' has too many combinations of values.\n"
        "  got:     400\n  allowed: up to 200\n  do:      name a value, as in COLUMN=VALUE"
    )


def test_an_audit_has_no_crosses_with_sizes(parts):
    labels = parts.set_index("image_id")[["label"]]
    with pytest.raises(UsageError, match="slices by the size of the label set cannot be crossed"):
        ask(parts, ["n_labels,camera"], audited=labels.iloc[:9], sample=labels.iloc[:9])
