"""EfficientNet-Lite0 at 128 pixels that remembers features, because cases share most of theirs.

At 224 pixels, all cases take three times as long.

`network` is a model for ``manyhot --model python:planted_backbone:network``. Features are kept in the SQLite
file that the environment variable ``PLANTED_CACHE`` names, under a hash of the pixels that the network sees.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import nn

from manyhot.predict.models import find_model
from manyhot.predict.network import Network

SPEC = "python:planted_backbone:network"
SIDE, SCALE = 128, 146
"""Pixels of the input, and of the shorter side before the crop."""


@cache
def _inner():
    """Return the network without its classifier, compiled by OpenVINO, and its preprocessing."""
    import openvino

    known = find_model("efficientnet-lite0")
    classifier, known.module.classifier = known.module.classifier, nn.Identity()
    model = openvino.convert_model(known.module, example_input=torch.zeros(1, 3, SIDE, SIDE))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
    return openvino.compile_model(model, "CPU", options), classifier, known


_LOCK = threading.Lock()  # engines call from several threads


@cache
def _store() -> sqlite3.Connection:
    path = os.environ.get("PLANTED_CACHE", ":memory:")
    database = sqlite3.connect(path, timeout=600, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")
    database.execute("CREATE TABLE IF NOT EXISTS features (image BLOB PRIMARY KEY, feature BLOB)")
    return database


def _features(images: np.ndarray) -> np.ndarray:
    pixels = np.rint((images + 1) * 127.5).astype(np.uint8)
    keys = [hashlib.blake2b(one.tobytes(), digest_size=12).digest() for one in pixels]
    find = "SELECT feature FROM features WHERE image = ?"
    known = {}
    for key in dict.fromkeys(keys):
        row = _store().execute(find, (key,)).fetchone()
        if row:
            known[key] = np.frombuffer(row[0], np.float32)
    missing = [i for i, key in enumerate(keys) if key not in known]
    if missing:
        request = _inner()[0].create_infer_request()
        made = next(iter(request.infer(images[missing]).values()))
        known |= {keys[i]: row for i, row in zip(missing, made, strict=True)}
        rows = [(keys[i], known[keys[i]].astype(np.float32).tobytes()) for i in missing]
        with _store() as database:
            database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)
    return np.stack([known[key] for key in keys])


class _Remembering(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with _LOCK:
            return torch.from_numpy(_features(images.contiguous().numpy()).astype(np.float32))


def network() -> Network:
    _, classifier, known = _inner()
    module = nn.Sequential(_Remembering(), classifier).eval()
    seen = replace(known.preprocessing, size=(SIDE, SIDE), scale=(SCALE, SCALE))
    return Network("efficientnet-lite0-remembered", known.classes, seen, module, "1")
