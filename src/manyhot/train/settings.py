"""Words that recipes are written in; importing them needs no PyTorch."""

LISTED = ("label", "sets", "soft")
"""What labels tell of whole images: the original label, the label set, or the probability of each class."""

TEACH = (*LISTED, "maps")
"""What is taught: what labels tell of the image, or what a label map tells of the crop."""

NOT_ASKED = ("no", "mask")
"""What a class is that nobody asked about: not there, or not known."""
