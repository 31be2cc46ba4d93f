"""Files that may be pickles: they can run code, so they are not opened, and what to do instead."""

from __future__ import annotations

from pathlib import Path

_TORCH = (".pt", ".pth", ".ckpt")

PICKLES = frozenset((*_TORCH, ".pkl", ".pickle", ".joblib"))
"""Suffixes of pickles."""

MAY_RUN = "may be pickles, which can run code"

SAVE = "save the arrays with numpy.savez(FILE, scores=…, image_id=…, classes=…)"


def advice(path: Path) -> str:
    """Return the line of Python that saves the content of a file from a trusted source in another format."""
    name, suffix = path.name, path.suffix.lower()
    table = f'pandas.read_pickle("{name}").to_parquet("{path.stem}.parquet")'
    if suffix not in _TORCH:
        return f"if you trust the file: {table} for a data frame; otherwise {SAVE}"
    arrays = 'logits=d["logits"], image_id=d["files"], classes=d["classes"]'
    return (
        f'if you trust the file: d = torch.load("{name}", weights_only=True); '
        f'numpy.savez("{path.stem}.npz", {arrays}), with the names that it contains'
    )
