"""Images → predictions: a source lists images, a network scores them, parts become a table.

The way of an image: `sources` (bytes) → `decode` (pixels, perhaps `altered`) → `preprocessing` (cropped) →
`engines` (logits) → `scored` (best classes) → `parts` (files, resumed) → `merging` (tables). `adapters` build
networks by name.

Importing this package imports neither torch nor Pillow; building a model does.
"""

from manyhot.models.engines import ENGINES, Precision, Trial, precision_of
from manyhot.models.find import families, find_backbone, find_model, is_published
from manyhot.models.job import Done, Settings, run
from manyhot.models.merging import Merged, NoneLeftError
from manyhot.models.network import Network
from manyhot.models.predict import Predicted, Skipped, predict
from manyhot.models.preprocessing import Preprocessing
from manyhot.models.sources import Alteration, Source, altered, chosen, open_source

__all__ = [
    "ENGINES",
    "Alteration",
    "Done",
    "Merged",
    "Network",
    "NoneLeftError",
    "Precision",
    "Predicted",
    "Preprocessing",
    "Settings",
    "Skipped",
    "Source",
    "Trial",
    "altered",
    "chosen",
    "families",
    "find_backbone",
    "find_model",
    "is_published",
    "open_source",
    "precision_of",
    "predict",
    "run",
]
