"""Measures what a frozen backbone already knows."""

__version__ = "0.1.0"
