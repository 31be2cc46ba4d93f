"""The command after a diagnosis is about the data of the call before it."""

from dataclasses import fields

import pytest

from manyhot import Reading
from manyhot.report.chapter import SHARED, NextStep

TABLES = "manyhot diagnose labels DATASET --predictions FOLDER"
IMAGES = "manyhot mitigate IMAGES --objects FILE --model NAME --pair CLASS:COMPANION"


@pytest.mark.parametrize(
    ("command", "call", "expected"),
    [
        (
            TABLES,
            "manyhot diagnose errors 'my labels.csv' --predictions a --predictions b --min-confidence 0.9",
            "manyhot diagnose labels 'my labels.csv' --predictions a --predictions b",
        ),
        (
            TABLES,
            "manyhot evaluate labels.csv --predictions a --classes c.txt --trust-order --out results",
            "manyhot diagnose labels labels.csv --predictions a --classes c.txt --trust-order",
        ),
        (
            TABLES,
            "manyhot diagnose errors imagenet-val --models 'resnet*' --json",
            "manyhot diagnose labels imagenet-val --models 'resnet*'",
        ),
        (
            f"{TABLES} --images OUT/images.parquet",
            "manyhot diagnose groups x --predictions p --images photos.parquet --out 'my groups'",
            "manyhot diagnose labels x --predictions p --images 'my groups'/images.parquet",
        ),
        (
            f"{TABLES} --images OUT/images.parquet",
            "manyhot diagnose groups x --links sigmoid --label-values p --dataset d",
            "manyhot diagnose labels x --images folder/images.parquet --links sigmoid --label-values p "
            "--dataset d",
        ),
        (
            "manyhot init campaign --images IMAGES --predictions FOLDER",
            "manyhot diagnose labels l.csv --predictions a --predictions b --images photos --scores logit "
            "--links sigmoid",
            "manyhot init campaign --images photos --predictions a --predictions b --scores logit",
        ),
        (
            "manyhot aggregate --sources NAME --sources NAME",
            "manyhot diagnose protocols a.csv 'b c.csv' d.csv --classes c.txt --predictions p --scores logit",
            "manyhot aggregate --sources a.csv --sources 'b c.csv' --sources d.csv --classes c.txt",
        ),
        (
            "manyhot diagnose shortcuts IMAGES --objects FILE --model NAME",
            "manyhot explain photos --model m --bits 12",
            "manyhot diagnose shortcuts photos --objects FILE --model m --bits 12",
        ),
        (
            "manyhot diagnose shortcuts IMAGES --objects FILE --model NAME",
            "manyhot diagnose companions l.csv --images photos --predictions p --scores logit",
            "manyhot diagnose shortcuts photos --objects FILE --model NAME",
        ),
        (
            IMAGES,
            "manyhot diagnose shortcuts photos --objects boxes.csv --model=head:a.safetensors --out s",
            "manyhot mitigate photos --objects boxes.csv --model head:a.safetensors --pair CLASS:COMPANION",
        ),
        (
            IMAGES,
            "manyhot mitigate p --objects o.csv --labels l.csv --model m --pair 'dog:tag 1' --split s.csv",
            "manyhot mitigate p --objects o.csv --model m --pair 'dog:tag 1' --labels l.csv --split s.csv",
        ),
        (
            "manyhot predict IMAGES --model head:FILE",
            "manyhot mitigate photos --objects o.csv --labels l.csv --model m --pair dog:tag",
            "manyhot predict photos --model head:FILE",
        ),
        (
            "manyhot mitigate IMAGES --objects groups/objects.parquet --model NAME --pair 'dog:tag 1'",
            "manyhot diagnose groups labels.csv --images 'my photos' --predictions p --seed 1",
            "manyhot mitigate 'my photos' --objects groups/objects.parquet --model NAME --pair 'dog:tag 1'",
        ),
        # What the call does not tell stays a placeholder.
        (TABLES, "", TABLES),
        (TABLES, "manyhot …", TABLES),
        (TABLES, "python 'is not closed", TABLES),
        (TABLES, "manyhot diagnose shortcuts photos --objects boxes.csv --model a", TABLES),
        (TABLES, "manyhot diagnose duplicates photos", TABLES),
        (TABLES, "manyhot diagnose shortcuts photos --dataset voc", TABLES),
        (IMAGES, "manyhot diagnose errors labels.csv --predictions a", IMAGES),
    ],
)
def test_data_and_options_are_those_of_the_call(command, call, expected):
    assert NextStep("look.", command).after(call, "folder") == NextStep("look.", expected)


def test_the_next_command_reads_data_as_the_call_did():
    """What says how data are read is passed on; the columns of Reading are the only list of these options."""
    options = {f.name.replace("_", "-") for f in fields(Reading)} - {"label", "n-classes", "score-kind"}
    assert {*SHARED} == {*options, "predictions"}
