"""Measures what a frozen backbone already knows."""

__version__ = "0.2.0"

from probe.core import moved

moved.keep()
