"""The data sets of the studies, made of real pictures; with ``--smoke`` of generated ones."""

from data_sets.cifar_sets import CIFAR_SETS
from data_sets.voc9 import VOC9

__all__ = ["CIFAR_SETS", "VOC9"]
