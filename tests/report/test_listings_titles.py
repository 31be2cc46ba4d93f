"""Listings of several data sets."""

from manyhot.report.listings import group_by_dataset


def test_data_sets_with_the_same_title_are_not_mixed():
    names = ["imagenetv2-threshold-0.7", "imagenetv2-threshold0.7", "imagenet-a"]
    rows = [{"dataset_x": "imagenet-val", "dataset_y": name, "value": i} for i, name in enumerate(names * 2)]
    found = list(group_by_dataset(rows))
    assert [title for title, _ in found] == [
        "ImageNet validation → ImageNetV2, threshold 0.7 (imagenet-val → imagenetv2-threshold-0.7)",
        "ImageNet validation → ImageNetV2, threshold 0.7 (imagenet-val → imagenetv2-threshold0.7)",
        "ImageNet validation → ImageNet-A",
    ]
    assert [[row["value"] for row in own] for _, own in found] == [[0, 3], [1, 4], [2, 5]]
