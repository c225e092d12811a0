"""Numbers of things in sentences."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `2 rows`; the plural is the noun with an s unless told otherwise."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def leaked(n: int, dataset: str) -> str:
    """What is said of test rows that are training rows too."""
    return f"{counted(n, 'test row')} of {dataset} {'is a copy' if n == 1 else 'are copies'} of training rows"
