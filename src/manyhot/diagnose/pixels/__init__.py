"""Pixels in, pixels out: regions of objects, and what is done to images to find out what models look at.

Nothing here knows models. What is done to an image is done the same way wherever and in whatever order it is.
"""

from __future__ import annotations
