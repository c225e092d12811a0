"""Folders that no fixture can hold: a `contract_case` is asked for while tests are collected too."""

import atexit
import tempfile


def scratch() -> str:
    """A folder of one's own, which is removed when the process of the tests ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder.name
