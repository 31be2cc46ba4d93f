"""Read a file of every kind under an audit hook, and print the events that reading must not cause.

Run as ``python auditing.py FOLDER``, in a folder with a module ``helper`` that hostile files name.
"""

import contextlib
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from fuzz_corpus import Seed, corpus

from manyhot.classes import from_keys
from manyhot.errors import ManyhotError
from manyhot.formats import read_labels, read_predictions
from manyhot.predict.adapters.network_files import onnx_network, openvino_network
from manyhot.predict.models import find_model
from manyhot.predict.weights import Head, write_head
from manyhot.reassess.app.store import Store
from manyhot.train.label_maps import read_relabel
from stores import filled

RUNS = ("exec", "import", "pickle.find_class", "marshal.", "code.", "ctypes.")
STARTS = ("os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "subprocess.")
CONNECTS = ("socket.", "urllib.", "ftplib.", "webbrowser.")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.symlink", "os.link", "shutil.")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = (*RUNS, *STARTS, *CONNECTS, *CHANGES)


class Runs:
    """Calls ``helper.run`` when it is unpickled."""

    def __reduce__(self):
        import helper

        return helper.run, ()


def objects(path):
    np.save(path, np.array([Runs()], object), allow_pickle=True)


def pickled(path):
    path.write_bytes(pickle.dumps(Runs()))


def head(path):
    weight = np.ones((2, 3), np.float32)
    write_head(
        Head("python:helper:run", from_keys(["a", "b"], "x"), "softmax", weight, weight[:, 0], 1.0, 5), path
    )


def onnx_file(path):
    """Write the mean of each channel as a network."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ports = [helper.make_tensor_value_info(n, kind, s) for n, s in (("i", ["n", 3, 8, 8]), ("o", ["n", 3]))]
    node = helper.make_node("ReduceMean", ["i"], ["o"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph([node], "mean", ports[:1], ports[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save(model, path)


def openvino_files(path):
    import openvino

    onnx_file(path.with_suffix(".onnx"))
    # Not with convert_model, which starts a process for its statistics of use, at any time.
    openvino.save_model(openvino.Core().read_model(path.with_suffix(".onnx")), path)


def campaign(path):
    with contextlib.closing(filled(f"sqlite:///{path}")):
        pass


def network(load):
    return lambda path: load(str(path), classes=from_keys(["a", "b", "c"], "three"), preprocessing={})


NETWORKS = [
    Seed("n.onnx", onnx_file, network(onnx_network), "bytes"),
    Seed("n.xml", openvino_files, network(openvino_network), "bytes"),
    Seed("n.sqlite", campaign, lambda path: Store(f"sqlite:///{path}").close(), "bytes"),
]
"""Files of which a library in another language reads the structure, and a campaign's database."""

HOSTILE = [
    Seed("m.npy", objects, read_predictions, "bytes"),
    Seed("image_info.pkl", pickled, read_labels, "bytes"),
    Seed("annotations_classify_task.pkl", pickled, read_labels, "bytes"),
    Seed("n01440764/maps.pt", pickled, lambda path: list(read_relabel(path.parents[1])), "bytes"),
    Seed("evil.safetensors", head, lambda path: find_model(f"head:{path}"), "bytes"),
]
"""Files that would run ``helper.run``."""


def main():
    folder, active, seen = Path(sys.argv[1]), [], set()

    def audit(event, arguments):
        if not active:
            return
        if event.startswith(EVENTS):
            seen.add(f"{active[0]}: {event} {arguments}"[:300])
        elif event == "open" and arguments[2] & WRITES:
            seen.add(f"{active[0]}: {arguments[0]} is opened to be written")

    sys.addaudithook(audit)
    outcomes = {}
    # The first time, readers import what they need.
    for strict in (False, True):
        for i, seed in enumerate([*corpus(), *NETWORKS, *HOSTILE]):
            path = folder / str(i) / seed.name
            path.parent.mkdir(parents=True, exist_ok=True)
            seed.make(path)
            for name, content in seed.beside:
                beside = folder / str(i) / name
                beside.parent.mkdir(parents=True, exist_ok=True)
                beside.write_bytes(content)
            active[:] = [seed.name] * strict
            try:
                seed.read(path)
                outcomes[seed.name] = "read"
            except ManyhotError as error:
                outcomes[seed.name] = str(error).partition("\n")[0]
            active.clear()
            shutil.rmtree(folder / str(i))
    events = sorted(seen)
    seen.clear()
    active.append("control")
    pickle.loads(pickle.dumps(Runs()))
    print(json.dumps({"events": events, "outcomes": outcomes, "control": sorted(seen)}))


if __name__ == "__main__":
    main()
