"""A small file of every format, with its reader, which `test_fuzz.py` and `tools/fuzz.py` break."""

import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imagenet_x_package import lines_of
from manyhot.formats import (
    read_classes,
    read_findings,
    read_golden,
    read_images,
    read_labels,
    read_objects,
    read_predictions,
    read_proposals,
    read_results,
    read_votes,
)
from manyhot.tables import Images, Labels, Predictions, schema, write, write_labels, write_predictions

ROWS = Images(pa.table({"image_id": ["a.jpg", "b.jpg", "c.jpg"]}))
IDS = ["a.jpg", "b.jpg", "c.jpg"]
LISTS = [[1, 2], [3], []]
SPECIES = {"classes": ["1;mammalia;;;;;cat", "2;;;;;;blank"], "scores": [0.75, 0.25]}
BOXES = [{"category": "1", "conf": 0.5, "bbox": [0, 0, 1, 1]}, {"category": "1", "conf": 0.25}]
STATES = [["yes", "no"], ["yes"], []]
VAL = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2)]


def text(content):
    return lambda path: path.write_text(content, encoding="utf-8")


def as_json(content):
    return text(json.dumps(content))


def parquet(columns, features=None):
    told = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    # Neither packed nor in a dictionary, so that a changed byte is a changed value.
    return lambda path: pq.write_table(
        pa.table(columns).replace_schema_metadata(told), path, compression="none", use_dictionary=False
    )


def own_labels(path):
    table = {"image_id": IDS, "label": [1, 3, 0], "usable": [True] * 3, "classes": LISTS, "state": STATES}
    write_labels(Labels(pa.table(table), 5, name="own"), path)


def own_predictions(path):
    scores = np.array([[0.5, 0.25]] * 3, np.float32)
    write_predictions(Predictions(ROWS.image_id, "m", np.array([[1, 2]] * 3), scores, n_classes=5), path)


def own_findings(path):
    write(pa.table({"kind": ["mistake"], "image_id": ["a.jpg"], "severity": ["minor"]}), path, "findings")


def own_results(path):
    row = {
        "dataset": "d",
        "model": "m",
        "metric": "top1",
        "slice": "all",
        "value": 0.5,
        "n": 4,
        "n_skipped": 0,
    }
    write(pa.Table.from_pylist([row], schema("results")), path, "results")


VOTES = {"image_id": IDS, "class_id": [1, 2, 3], "rater_id": ["x"] * 3, "answer": ["yes", "no", "maybe"]}


def own_votes(path):
    write(pa.table(VOTES), path, "votes", about={"n_classes": "5"})


def real_votes(path):
    tensor = np.zeros((2, 2, 3))
    tensor[[0, 0, 1], [0, 1, 1], [2, 0, 1]] = 1
    np.savez_compressed(path, tensor=tensor, info=np.array([[n, "1"] for n in VAL]), ids=np.array([4, 7]))


def pickle_of_2020(path):
    # The first words of a published file; the rest of the pickle is tested in test_tsipras.
    path.write_bytes(b"\x80\x04\x8c\x11pandas.core.frame\x94\x8c\x09DataFrame\x94\x93\x94)\x81\x94.")


MISTAKE = {"top_prediction": 192, "failure category": "Fine-grained error", "failure severity": "Minor"}
LABEL = {"names": ["x", "y", "z", "w"], "_type": "ClassLabel"}
TFDS = {
    "file_name": IDS,
    "original_label": [1, 2, 3],
    "correct_multi_labels": LISTS,
    "wrong_multi_labels": [[5], [6], [7]],
    "unclear_multi_labels": [[8], [], []],
    "is_problematic": [False, True, False],
}
TIMM = {"filename": IDS, "index": [[1, 2]] * 3, "prob": [[0.5, 0.25]] * 3}
IMAGES = [{"bytes": b"x" * 9, "path": name} for name in IDS]

PAIRS = {"image_id": IDS, "class_id": [1, 2, 3]}
PROPOSALS = PAIRS | {"score": [0.5, 1, 2], "n_models": [1] * 3, "source": ["x"] * 3}
ANNOTATION = {
    "id": 11,
    "completed_by": {"id": 7},
    "result": [{"from_name": "classes", "type": "choices", "value": {"choices": ["tench"]}}],
    "was_cancelled": False,
    "created_at": "2026-03-09T22:16:08.500000Z",
    "lead_time": 4.25,
}


def export(path, **more):
    data = {"image": "/data/local-files/?d=a.jpg", "classes": [{"value": "tench"}, {"value": "goldfish"}]}
    as_json([{"id": 1, "annotations": [ANNOTATION | more], "data": data}])(path)


OBJECTS = {"image_id": IDS, "class": ["x"] * 3, **{c: [0.0, 0.25, 0.5] for c in ("x1", "y1")}}
OBJECTS |= {c: [1.0, 0.75, 0.5] for c in ("x2", "y2")} | {"polygons": [[[0.0, 0, 1, 0, 1, 1]], None, []]}
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}],
    "categories": [{"id": 5, "name": "cat"}],
    "annotations": [
        {"image_id": 1, "category_id": 5, "bbox": [0, 0, 2, 2], "segmentation": [[0, 0, 2, 0, 2, 2]]}
    ],
}


CLASSIFICATIONS = {
    "_cls": "Classifications",
    "classifications": [{"_cls": "Classification", "label": "cat", "confidence": 0.5, "tags": []}],
}
SAMPLES = [{"_id": {"$oid": "1"}, "filepath": "data/a.jpg", "tags": [], "ground_truth": CLASSIFICATIONS}]


counts = partial(read_votes, format="counts")
shares = partial(read_votes, format="counts(votes=4)")

FILES = {
    "openclip.csv": (
        read_results,
        text("name,pretrained,ImageNet 1k,ImageNet v2\nvit,openai,0.6,\nb,x,0.5,0.4\n"),
    ),
    "testbed.csv": (read_results, text("model,val,imagenetv2-matched-frequency\na,60.5,\nb,50,40\n")),
    "peychev.csv": (
        read_results,
        text("model_dir_id,imagenet_top1_val_acc,imagenet_mla_val_acc\nt--a,60.5,70\nt--b,50,61\n"),
    ),
    "clip.csv": (
        read_results,
        text("acc1,acc5,dataset,model,pretrained\n0.5,0.9,imagenet1k,a,x\n0.4,0.8,imagenetv2,a,x\n"),
    ),
    "indicator.csv": (read_labels, text("filename,Age,cat,caf\u00e9\na,31,1,-1\nb,7,,0\n")),
    "indicator.tsv": (read_labels, text('\ufeff"file name"\t"cat"\t"dog"\r\n"a;b"\tTrue\tfalse\r\n')),
    "indicator.parquet": (
        read_labels,
        parquet({"path": IDS, "cat": [1.0, 0, -1], "dog": [True, None, False]}),
    ),
    "scores.csv": (read_predictions, text("image_id;cat;dog\na;0.25;1e-3\nb;1;0\n")),
    "top.csv": (read_predictions, text("image,class,score\na,cat,0.5\na,dog,0.25\nb,dog,1\n")),
    "species.json": (
        read_predictions,
        as_json({"predictions": [{"filepath": i, "classifications": SPECIES} for i in IDS]}),
    ),
    "megadetector.json": (
        read_predictions,
        as_json(
            {
                "detection_categories": {"1": "animal"},
                "images": [{"file": i, "detections": BOXES} for i in IDS],
            }
        ),
    ),
    "top.jsonl": (
        read_predictions,
        text(
            '{"image": "a", "labels": ["cat", "dog"], "scores": [0.5, 0.25]}\n'
            '{"image": "b", "labels": ["dog"], "scores": [1.0]}\n'
        ),
    ),
    "top.json": (
        read_predictions,
        text('[{"image": "a", "predictions": [{"label": "cat", "score": 0.5}]}]'),
    ),
    "top.parquet": (
        read_predictions,
        parquet({"image": IDS, "labels": [["cat", "dog"]] * 3, "scores": [[0.5, 0.25]] * 3}),
    ),
    "tags.csv": (read_predictions, text("image,tags\na,cat;dog\nb,\nc,caf\u00e9\n")),
    "tags.jsonl": (
        read_predictions,
        text('{"image": "a", "tags": ["cat", "dog"]}\n{"image": "b", "tags": []}\n'),
    ),
    "tags.parquet": (read_predictions, parquet({"image": IDS, "tags": [["cat", "dog"], [], None]})),
    "scores.parquet": (read_predictions, parquet({"image_id": IDS, "cat": [0.5, 1, 2], "dog": [0.25, 1, 2]})),
    "lists.csv": (read_labels, text("image,tags,split\na.jpg,cat;caf\u00e9,x\nb.jpg,,y\n")),
    "one each.csv": (read_labels, text("file,label\na.jpg,cat\na.jpg,dog\nb.jpg,\n")),
    "lists.parquet": (read_labels, parquet({"image": IDS, "labels": [["cat", "dog"], [], None]})),
    "by image.json": (read_labels, as_json({"a.jpg": ["cat", "caf\u00e9"], "b.jpg": [], "c.jpg": [1]})),
    "entries.json": (
        read_labels,
        as_json([{"image": "a.jpg", "labels": ["cat"]}, {"image": 2, "labels": None}]),
    ),
    "output.jsonl": (
        read_labels,
        text(
            '{"source-ref": "s3://b/a.jpg", "t": [1, 0], "t-metadata": {"class-map": {"1": "dog", '
            '"0": "cat"}, "confidence-map": {"1": 0.9, "0": 0.2}, '
            '"type": "groundtruth/image-classification-multilabel"}}\n'
            '{"source-ref": "s3://b/b.jpg", "t": [0], "t-metadata": {"class-map": {"0": "cat"}, '
            '"confidence-map": {"0": 1}, "type": "groundtruth/image-classification-multilabel"}}\n'
        ),
    ),
    "metadata.jsonl": (
        read_labels,
        text('{"file_name": "a.jpg", "labels": ["cat"]}\n{"file_name": "b.jpg", "labels": "dog"}\n'),
    ),
    "factors.jsonl": (read_images, text(lines_of([("a.JPEG", 1, ["pose"]), ("b.JPEG", 2, [])]))),
    "coco.json": (read_labels, as_json(COCO)),
    "coco images.json": (read_images, as_json(COCO)),
    "traps.json": (read_labels, as_json(COCO | {"annotations": [{"image_id": 1, "category_id": 5}]})),
    "by-image.json": (read_predictions, as_json({"a.jpg": {"cat": 0.5, "dog": 0.25}, "b.jpg": {"cat": 1}})),
    "pairs.json": (read_predictions, as_json([[{"label": "cat", "score": 0.5}]] * 3)),
    "config.xml": (
        read_classes,
        text(
            '<View><Choices name="c" toName="i"><Choice value="cat"/><Choice value="dog"/></Choices></View>'
        ),
    ),
    "open images.csv": (
        read_labels,
        text("ImageID,Source,LabelName,Confidence\na,verification,/m/1,1\na,machine,/m/2,0.7\n"),
    ),
    "samples.json": (read_labels, as_json({"samples": SAMPLES})),
    "predicted samples.json": (read_predictions, as_json({"samples": SAMPLES})),
    "matrix.npz": (
        read_labels,
        lambda path: np.savez(path, y=np.eye(3), ids=np.array(IDS), classes=np.array(["x", "y", "z"])),
    ),
    "fiftyone.json": (
        read_labels,
        as_json({"classes": ["x", "y"], "labels": {"a": [{"label": 0, "confidence": 0.5}], "b": None}}),
    ),
    "export.json": (read_votes, export),
    "golden.json": (read_golden, lambda path: export(path, ground_truth=True)),
    "proposals.parquet": (read_proposals, parquet(PROPOSALS)),
    "objects.parquet": (read_objects, parquet(OBJECTS)),
    "objects.csv": (read_objects, text("image_id,class,x1,y1,x2,y2,crowd\na,cat,0,0,0.5,1,0\n")),
    "instances.json": (read_objects, as_json(COCO)),
    "real.json": (read_labels, text("[" + ", ".join(["[1]", "[]"] * 25_000) + "]")),
    "multilabelfy.json": (read_labels, as_json({"a.jpeg": ["1", "2"], "b.jpeg": []})),
    "tfds.json": (
        read_labels,
        as_json(
            {"initial_annots": {name: {"correct": ["n01440764"]} for name in VAL}, "problematic_images": {}}
        ),
    ),
    "tfds.parquet": (read_labels, parquet(TFDS)),
    "multilabel.csv": (
        read_labels,
        text(
            "id,original_label,proposed_labels,unclear_multi_labels,wrong_multi_labels,is_problematic\n"
            'a.JPEG,3,"3, 9",,5,False\nb.JPEG,4,,6,"4, 7",True\n'
        ),
    ),
    "list_attr_celeba.txt": (read_labels, text("2\nBald Young \n1.jpg -1  1\n2.jpg  1 -1\n")),
    "list_attr_img.txt": (read_images, text("2\nBald Young \n1.jpg -1  1\n2.jpg  1 -1\n")),
    "list_eval_partition.txt": (read_images, text("1.jpg 0\n2.jpg 2\n")),
    "cat_val.txt": (read_labels, text("000005 -1\n000007  1\n000009  0\n")),
    "chen.tsv": (read_labels, text("a.JPEG\t0\t0,391\t0.25,1.0\nb.JPEG\t1\t\t\n")),
    "scores.npz": (
        read_labels,
        lambda path: np.savez(path, tensor=np.array([0.5, 1]), info=np.array([[n, "1"] for n in VAL])),
    ),
    "hf.parquet": (
        read_labels,
        parquet(
            {"image": IMAGES, "labels": LISTS, "label": [1, 2, -1]},
            {"image": {"_type": "Image"}, "labels": [LABEL], "label": LABEL},
        ),
    ),
    "own.parquet": (read_labels, own_labels),
    "labels.parquet": (read_labels, parquet({"image_id": IDS, "usable": [True] * 3, "classes": LISTS})),
    "labels.csv": (read_labels, text("image_id,label,classes,state,p\na,tench,0 1,yes no,0.5 0.1\nb,1,,,\n")),
    "long.csv": (read_labels, text("image_id,class_id,state\na,tench,yes\na,1,no\nb,,\n")),
    "m.npy": (read_predictions, lambda path: np.save(path, np.array([[1, 2]] * 3))),
    "m.npz": (
        read_predictions,
        lambda path: np.savez(path, logits=np.zeros((3, 1000), np.float16), filenames=np.array(IDS)),
    ),
    "packed.npz": (
        read_predictions,
        lambda path: np.savez_compressed(path, classes=np.array([[1, 2]] * 3), ids=np.array(IDS)),
    ),
    "p.parquet": (read_predictions, own_predictions),
    "foreign.parquet": (
        read_predictions,
        parquet({"image_id": IDS, "classes": [[1, 2]] * 3, "scores": [[0.5, 0.25]] * 3}),
    ),
    "p.csv": (read_predictions, text("image_id,class_id,score\na,5,0.1\na,7,0.9\nb,1,1.0\n")),
    "timm.csv": (read_predictions, text("filename,index,prob\na.JPEG,[1 2],[0.5 0.25]\nb,[3 4],[1.0 0.0]\n")),
    "labels of timm.csv": (
        read_predictions,
        text("filename,label,prob\na.JPEG,['tench' 'goldfish'],[0.5 0.25]\n"),
    ),
    "timm.json": (read_predictions, as_json({name: {"index": [1, 2], "prob": [0.5, 0.1]} for name in IDS})),
    "split.json": (
        read_predictions,
        as_json({"columns": ["filename", "index", "prob"], "data": [["a", [1], [0.5]], ["b", [2], [1]]]}),
    ),
    "lines.json": (
        read_predictions,
        text('{"filename":"a","index":[1],"prob":[0.5]}\n{"filename":"b","index":[2],"prob":[1]}\n'),
    ),
    "timm.parquet": (read_predictions, parquet(TIMM)),
    "v2.json": (read_images, as_json({"image_filenames": [["abc", "n01440764"], ["d", "n01443537"]]})),
    "images.csv": (read_images, text("image_id,label,split\na,tench,x\nb,1,y\n")),
    "images.parquet": (read_images, parquet({"image_id": IDS, "label": [1, 2, 3], "split": ["x"] * 3})),
    "rows.txt": (read_images, text("a.jpg\nb.jpg\ncaf\u00e9.jpg\n")),
    "image_info.pkl": (read_images, pickle_of_2020),
    "annotations_classify_task.pkl": (read_labels, pickle_of_2020),
    "objects.pkl": (partial(read_labels, format="tsipras-selected"), pickle_of_2020),
    "results-imagenet.csv": (
        read_results,
        text(
            "model,img_size,top1,top1_err,top5,top5_err,param_count\nresnet50,224,80.1,19.9,94.6,5.4,25.56\n"
        ),
    ),
    "results.csv": (
        read_results,
        text("dataset,model,metric,slice,value,lo,hi,n,n_skipped\nd,m,top1,all,0.5,0.25,0.75,4,0\n"),
    ),
    "results.parquet": (read_results, own_results),
    "vit3b_mistakes.json": (read_findings, as_json({"a.JPEG": MISTAKE, "b.JPEG": MISTAKE})),
    "greedy_soups_mistakes.json": (
        partial(read_labels, format="imagenet-mistakes-labels"),
        as_json({"a.JPEG": MISTAKE, "b.JPEG": MISTAKE}),
    ),
    "findings.parquet": (read_findings, own_findings),
    "votes.parquet": (read_votes, own_votes),
    "foreign votes.parquet": (read_votes, parquet(VOTES)),
    "votes.csv": (
        read_votes,
        text("image_id,class_id,rater_id,answer\na,tench,x,yes\na,1,x,no\nb,1,7,maybe\n"),
    ),
    "zooniverse.csv": (
        read_votes,
        text(
            "classification_id,user_name,created_at,annotations,subject_data\n"
            '1,ann,2024-02-01 03:07:00 UTC,"[{""task"": ""T0"", ""value"": [{""choice"": ""CAT""}]}]",'
            '"{""9"": {""Filename"": ""a.jpg""}}"\n'
        ),
    ),
    "mechanical turk.csv": (
        read_votes,
        text(
            "HITId,AssignmentId,WorkerId,AssignmentStatus,SubmitTime,WorkTimeInSeconds,Input.url,Answer.taskAnswers\n"
            "1,2,ann,Approved,Mon Nov 02 10:00:20 PST 2026,20,https://b.org/a.jpg,"
            '"[{""animals"": {""labels"": [""cat"", ""dog""]}}]"\n'
        ),
    ),
    "ground truth.json": (
        read_votes,
        as_json(
            [
                {
                    "dataObject": {"s3Uri": "s3://b/a.jpg"},
                    "annotations": [
                        {"workerId": "w", "annotationData": {"content": '{"x": {"label": "cat"}}'}},
                        {"workerId": "v", "annotationData": {"content": '{"x": {"label": "dog"}}'}},
                    ],
                }
            ]
        ),
    ),
    "crowd-kit.csv": (read_votes, text("task,worker,label\na.jpg:tench,w1,yes\na.jpg:1,w1,no\n")),
    "raters.npz": (read_votes, real_votes),
    "choices.csv": (read_votes, text("task,worker,label\na,x,cat\na,y,cat\nb,x,dog\nb,y,caf\u00e9\n")),
    "answers.json": (read_votes, as_json({"a": {"x": "cat", "y": "dog"}, "b": {"x": "dog"}})),
    "rater rows.csv": (read_votes, text("image_id,rad_id,cat,caf\u00e9\na,x,1,0\na,y,-1,\nb,x,0,1\n")),
    "rater columns.csv": (read_votes, text("image_id,x,y,z\na,cat,cat,\nb,dog,cat,dog\n")),
    "choices.npz": (
        read_votes,
        lambda path: np.savez(path, choices=np.array([[0, 1, -1], [1, 1, 0]]), class_names=["x", "y"]),
    ),
    "answers.txt": (read_votes, text("0 1 -1\n1 1 0\n")),
    "counts.csv": (counts, text("image_id,cat,caf\u00e9\na.jpg,2,0\nb.jpg,1,3\n")),
    "counts.parquet": (counts, parquet({"image_id": IDS, "cat": [2, 0, 1], "dog": [0, 3, 2]})),
    "counts.npy": (counts, lambda path: np.save(path, np.array([[2, 0], [1, 3]]))),
    "shares.csv": (shares, text("image_id,cat,dog\na.jpg,0.5,0.5\nb.jpg,0.25,0.75\n")),
    "shares.parquet": (shares, parquet({"image_id": IDS, "cat": [0.5, 0, 1], "dog": [0.5, 1.0, 0]})),
    "golden.csv": (read_golden, text("image_id,class_id,expert_id,answer\na,tench,x,yes\nb,1,7,no\n")),
    "golden.npz": (read_golden, real_votes),
    "classes.txt": (read_classes, text("cat\ndog\ncaf\u00e9\n")),
    "categories.json": (read_classes, as_json(COCO)),
    "classes.csv": (read_classes, text("class_id,key,name\n0,n1,cat\n1,n2,dog\n")),
    "classes.parquet": (read_classes, parquet({"class_id": [0, 1], "key": ["n1", "n2"]})),
}
