"""The data sets of the studies, made of real pictures; with ``--smoke`` of generated ones."""

from __future__ import annotations

from pathlib import Path

from data_sets import cifar_sets, voc9
from data_sets.targets import write_dense, write_other
from manyhot.study import StudyDataSet


def _make_voc9(folder: Path, smoke: bool) -> None:
    voc9.make(folder, smoke)
    splits = {split: cifar_sets.compositions(split, smoke) for split in ("train", "test")}
    write_other(folder, splits, cifar_sets.CLASSES, smoke)
    write_dense(folder, voc9.SIDE, smoke)


def _make_cifar_sets(folder: Path, smoke: bool) -> None:
    cifar_sets.make(folder, smoke)
    splits = {split: voc9.photographs(split, smoke) for split in ("train", "test")}
    write_other(folder, splits, voc9.CLASSES, smoke)
    write_dense(folder, voc9.SIDE, smoke)


VOC9 = StudyDataSet(
    "voc9",
    "Photographs of PASCAL VOC 2007 and 2012 whose largest object is a bus, car, cat, cow, dog, horse, "
    "person, sheep or train, squashed to 96 x 96 pixels; the label is that of the largest object, the label "
    "set those of all nine that are there. 3,634 to train on, 505 and 1,037 held out, of which 22 % "
    "show several of the nine.",
    _make_voc9,
)

CIFAR_SETS = StudyDataSet(
    "cifar-sets",
    "Compositions of CIFAR-10 on 64 x 64 pixels: one to four pictures of different classes out of eight, as "
    "many as ImageNetV2's images have labels, the label being that of the largest. In training images nine "
    "horses of ten are beside a ship, in test images half. 4,000 to train on, 500 and 1,000 held out.",
    _make_cifar_sets,
    planted=("recall_gap", "hallucination_gap", "ap", "ap_balanced"),
)

__all__ = ["CIFAR_SETS", "VOC9"]
