"""Images → predictions: a source lists images, a model scores them, a table keeps the scores.

Importing this package imports neither torch nor Pillow; building a model does.
"""

from manyhot.models.adapters import Classifier
from manyhot.models.predict import Predicted, predict, write_skipped
from manyhot.models.sources import EXTENSIONS, Listed, Skipped, decode, list_folder

__all__ = [
    "EXTENSIONS",
    "Classifier",
    "Listed",
    "Predicted",
    "Skipped",
    "decode",
    "list_folder",
    "predict",
    "write_skipped",
]
