"""Lists of metrics follow from what each registers."""

import pytest

from manyhot import registry
from manyhot.tables.result_tables import (
    LABEL_SETS,
    ORIGINAL_LABELS,
    accuracies,
    default_metrics,
    describe_metric,
    headline,
    reading_order,
)

HEADLINE = ["top1", "real1", "mla", "variable_topk", "asma"]


def test_lists_of_metrics():
    assert headline() == HEADLINE
    assert accuracies() == [*HEADLINE, "top5", "real5"]
    assert accuracies(ORIGINAL_LABELS) == ["top1", "top5"]
    assert accuracies(LABEL_SETS) == [*HEADLINE[1:], "real5"]
    assert default_metrics(dense=True) == [
        "map_macro",
        "map_micro",
        "map_image",
        "coverage",
        "ranking_loss",
    ]
    assert {*HEADLINE, "precision@5", "recall@5", "f1@5"} <= set(default_metrics(dense=False))


def test_every_default_is_complete():
    for spec in default_metrics(dense=False) + default_metrics(dense=True):
        assert not registry.missing_options(registry.get("metric", spec))


def test_the_headline_is_read_first_and_strangers_last():
    mixed = ["zeta", "coverage", "recall@5", "alpha", "asma", "recall@10", "top5", "top1"]
    ordered = ["top1", "asma", "top5", "recall@10", "recall@5", "coverage", "alpha", "zeta"]
    assert sorted(mixed, key=reading_order) == ordered


@pytest.mark.parametrize("name", ["stranger", "stranger@5", "probe/top1", "precision"])
def test_what_is_not_registered_is_not_described(name):
    assert describe_metric(name) == {}
