"""The version of the package, which everything that records it reads here."""

__version__ = "0.2.0"
