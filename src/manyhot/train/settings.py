"""Words that recipes are written in; importing them needs no PyTorch."""

TEACH = ("label", "sets", "soft")
"""What images are taught: the original label alone, the label set, or the probability of each class."""

NOT_ASKED = ("no", "mask")
"""What a class is that nobody asked about: not there, or not known."""
