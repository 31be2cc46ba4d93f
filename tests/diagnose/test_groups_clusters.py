"""Clusters of images, such as patients: from which column, and what they change."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from manyhot import diagnose_groups
from manyhot.diagnose.groups_findings import unseen_half
from manyhot.errors import InputError
from manyhot.tables import Images
from manyhot.tables.array_inputs import as_labels
from manyhot.tables.arrays import label_sets

N_PATIENTS, EACH = 100, 4
N = N_PATIENTS * EACH
PATIENT = np.repeat(np.arange(N_PATIENTS), EACH)


def labels(seed):
    """Return findings that most images of a patient share, as label sets of which some are empty."""
    rng = np.random.default_rng(seed)
    ill = rng.random((N_PATIENTS, 3)) < 0.3
    shown = ill[PATIENT] & (rng.random((N, 3)) < 0.9)
    return as_labels([np.flatnonzero(row).tolist() for row in shown], n_classes=3)


def metadata(seed, **more):
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 90, N_PATIENTS)
    columns = {"patient_id": [f"p{p}" for p in PATIENT], "age": age[PATIENT], **more}
    return Images(pa.table({"image_id": labels(0).image_id, **columns}))


def names(seed, **options):
    found = diagnose_groups(labels(seed), metadata=metadata(seed + 50), permutations=100, **options)
    return [r["name"] for r in found.groups.to_pylist() if r["kind"] == "metadata"], found


def test_a_property_of_patients_is_not_found_by_chance_more_often_than_stated():
    """Of 10 searches at 5 %, more than 3 are found in 1 of 1,000 runs; without clusters, most are."""
    alone, together = (
        sum(bool(names(seed, clusters=c)[0]) for seed in range(10)) for c in (None, "patient_id")
    )
    assert alone > 5
    assert together <= 3


def test_what_is_permuted_is_said():
    _, found = names(0, clusters="patient_id")
    assert found.notes[0] == (
        "labels: outcomes are permuted between and within 100 clusters of patient_id with 400 images; "
        "intervals of groups still assume independent images, so they are too narrow"
    )
    assert any(
        line.endswith("(Westfall and Young); images are permuted between and within 100 clusters.")
        for line in found.lines()
    )
    assert not any(name.startswith("patient_id") for name in names(0, clusters="patient_id")[0])
    _, alone = names(0)
    shown = label_sets(labels(0)).yes_matrix().reshape(N_PATIENTS, EACH, 3)
    b = EACH * shown.mean(axis=1).var(axis=0, ddof=1).sum()
    w = shown.var(axis=1, ddof=1).mean(axis=0).sum()
    icc = (b - w) / (b + (EACH - 1) * w)
    assert alone.notes[0] == (
        "labels: p-values assume independent images, but several images have the same patient_id, and their "
        f"label sets are similar (intraclass correlation {icc:.2f}), so intervals may be too narrow by a "
        f"factor of {np.sqrt(1 + 3 * icc):.1f}: to permute such images together, pass patient_id as "
        "`clusters`"
    )
    assert any(line.endswith("provided that images are independent of each other.") for line in alone.lines())


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "patient",
            "There is no column 'patient' of clusters.\n  where:   labels\n"
            "  allowed: patient_id, age, ward, views\n  do:      pass a table with this column as `metadata`",
        ),
        (
            "ward",
            "Some images have no cluster.\n  where:   labels, ward\n  got:     1 of 400 images, such as 0\n"
            "  allowed: a value for each labelled image\n"
            "  do:      add the missing values, or leave these images out of the labels",
        ),
        (
            "views",
            "Clusters are not single values.\n  where:   labels, views\n"
            "  got:     values of type list<item: string>",
        ),
    ],
)
def test_clusters_need_a_value_for_each_image(column, message):
    table = metadata(1, ward=[None, *["a"] * (N - 1)], views=[["front"]] * N)
    with pytest.raises(InputError) as error:
        diagnose_groups(labels(0), metadata=table, clusters=column)
    assert str(error.value) == message


def test_many_images_in_clusters_unlike_all_others_are_mentioned():
    rest = [f"p{p}" for p in PATIENT[120:]]
    table = metadata(2, case=["large"] * 80 + ["small"] * 40 + rest)
    found = diagnose_groups(labels(0), metadata=table, clusters="case", permutations=100)
    assert found.notes[0].endswith(
        "; 120 images are in clusters of a size that no other cluster has, so their outcomes "
        "are permuted only within their cluster"
    )


def test_no_cluster_is_searched_for_patterns_in_part():
    seen = unseen_half(N, 0, PATIENT).reshape(N_PATIENTS, EACH)
    assert (seen == seen[:, :1]).all()
    assert seen.sum() == N // 2


def test_the_page_has_the_numbers_of_the_benchmark():
    root = Path(__file__).parents[2]
    page = " ".join((root / "docs/guides/diagnose/groups.md").read_text(encoding="utf-8").split())
    with (root / "benchmarks/groups_clusters.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["searches"] for row in rows} == {"200"}
    pairs = [(rows[i]["found"], rows[i + 1]["found"]) for i in (0, 2, 4)]
    (alone, together), of_images, related = pairs
    lo, hi = (100 * float(rows[1][end]) for end in ("lo", "hi"))
    assert f"{alone} of 200 searches without `--clusters`" in page
    assert f"{together} do: {int(together) / 2:.1f} % ({lo:.1f} to {hi:.1f})" in page
    assert "{} searches without and {} with `--clusters` report one".format(*of_images) in page
    assert "{} searches without and {} with `--clusters` report it".format(*related) in page
