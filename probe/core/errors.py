"""The exceptions. Each text is one sentence: what is wrong, with the value; what was expected; what to do."""

from __future__ import annotations


class ProbeError(Exception):
    """Anything the user can mend; the command prints its text without a traceback."""


class InputError(ProbeError, ValueError):
    """Rows, labels, parameters or configuration that cannot be worked with."""


class StoreError(ProbeError, OSError):
    """The feature store cannot be read or written as asked."""


class DoesNotFit(InputError):
    """Parts that cannot be combined, such as a head and a backbone; a sweep may pass over it with `skip_unfit=true`."""


class FileError(ProbeError, OSError):
    """A file or folder outside the feature store that cannot be written as asked."""
