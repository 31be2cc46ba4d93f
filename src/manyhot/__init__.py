"""Treat single-label image data sets as what they are: multi-label."""

from manyhot._version import __version__ as __version__
