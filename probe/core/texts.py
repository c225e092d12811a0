"""Texts as people's programs write them: encodings, byte order marks and the two spellings of accents."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path
from typing import NamedTuple

from probe.core.errors import InputError

MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins alike
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path, encoding: str | None = None, remedy: str = "save it as UTF-8") -> str:
    """The text of a file without a byte order mark; line ends stay as they are.

    Args:
        path: The file.
        encoding: By default UTF-8, or the UTF-16 or UTF-32 that a mark announces; others look alike: not guessed.
        remedy: What the error tells to do.
    """
    content = path.read_bytes()
    found = encoding or next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(found)
    except LookupError as error:
        raise InputError(f"encoding {encoding} is unknown, expected one such as latin-1 or cp1252: mend it") from error
    except UnicodeError as error:
        raise InputError(f"{path} is no text in {found.upper()} ({error}), expected UTF-8: {remedy}") from error
    if "\0" in text:
        raise InputError(f"{path} holds zero bytes, expected a text in UTF-8: {remedy}")
    return text.removeprefix("\ufeff")


def one_spelling(text: str) -> str:
    """The text with its accents composed (NFC): macOS writes names with accents apart, others do not."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


class Text(NamedTuple):
    """A row of texts that is more than a string.

    Attributes:
        text: The text.
        pair: A second one, such as the hypothesis to a premise; None where there is none.
        span: First character of a marked span of the text, and the one behind its last; None where none is marked.
    """

    text: str
    pair: str | None = None
    span: tuple[int, int] | None = None


def normalised(text: str) -> str:
    """What two texts have in common that differ in case, white space and the spelling of characters (NFKC) alone."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
