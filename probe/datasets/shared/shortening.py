"""Texts made shorter before any tokenizer sees them, each by itself."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from probe.core.errors import InputError
from probe.core.texts import Text, read_text

ORDER = ("recurring", "stop", "punctuation", "head", "tail", "head_tail")
COUNTED = ("head", "tail", "head_tail")
Pieces = list[re.Match[str]]
LAST_MARK = 0x1F000
"""Behind it there are marks of variants of pictures alone."""


@cache
def pieces_of() -> re.Pattern[str]:
    """Words, runs of letters and digits of any script with their marks, and every other one that is no white space."""
    marks = "".join(chr(c) for c in range(LAST_MARK) if unicodedata.category(chr(c)).startswith("M"))
    return re.compile(rf"[^\W_](?:[^\W_]|[{re.escape(marks)}])*|[^\s\w]|_")


@dataclass
class Shortening:
    """Steps that leave words or punctuation out, in a fixed order; what is left keeps its order.

    `recurring` keeps the first of equal words, `stop` leaves stop words out, `punctuation` whatever is no word;
    `head:<n>`, `tail:<n>` and `head_tail:<n>` keep the first n words, the last n, or n of either end, with the
    punctuation between them. Words are compared without case. White space becomes one blank. Twice is as once.

    Source: Mutasodirin et al., "Simple Hack for Transformers against Heavy Long-Text Classification on a Time- and
    Memory-Limited GPU Service", 2023, arXiv 2403.12563. Departure: rare words, which need counts of the training rows,
    are not left out, since a row shall not depend on others; give a list of them as stop words.

    Args:
        steps: Those to take, in any order; none leaves texts as they are.
        stop_words: A list, or a file with a word per line; null: scikit-learn's 318 English ones.
        keep_words: Stop words that are none after all, such as `not`.

    Attributes:
        n_words, n_left_out: Counted as texts come.

    Raises:
        InputError: Steps that there are not, or a file that cannot be read.
    """

    steps: Sequence[str]
    stop_words: str | Sequence[str] | None = None
    keep_words: Sequence[str] = ()
    n_words: int = field(default=0, init=False)
    n_left_out: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        given = [self.steps] if isinstance(self.steps, str) else list(self.steps)
        parts = [step.partition(":") for step in given]
        self._asked = {name: int(n) if n.isdecimal() else 0 for name, _, n in parts}
        odd = [s for s, (name, _, n) in zip(given, parts, strict=True) if not _is_step(name, n)]
        if odd or len(self._asked) != len(given) or len(set(COUNTED) & set(self._asked)) > 1:
            raise InputError(
                f"dataset.shorten is {given}, expected each once and one at most of the last three of recurring, stop, "
                f"punctuation, head:<n>, tail:<n>, head_tail:<n>: mend {odd[0] if odd else 'the list'}"
            )
        if "stop" not in self._asked and (self.stop_words is not None or len(self.keep_words)):
            raise InputError("dataset.stop_words and keep_words are of dataset.shorten=[stop]: add stop to it")
        self._stop = _listed(self.stop_words) - _folded(self.keep_words) if "stop" in self._asked else frozenset()

    @property
    def name(self) -> str:
        """The steps in the order in which they are taken, for tables."""
        return "+".join(f"{step}:{n}" if (n := self._asked[step]) else step for step in ORDER if step in self._asked)

    @property
    def told(self) -> list[str]:
        """How much it left out, for the record; nothing where it takes no step."""
        return [f"{self.n_left_out:,} of {self.n_words:,} words by shorten={self.name}"] if self._asked else []

    def __call__(self, row: str | Text) -> str | Text:
        """A text made shorter, with its pair.

        Raises:
            InputError: It has a marked span, whose place would be lost.
        """
        if not self._asked:
            return row
        if isinstance(row, str):
            return self._shortened(row)
        if row.span is not None:
            raise InputError(
                "dataset.shorten moves the characters of texts, and dataset.span_columns marks some: leave one of them "
                "out"
            )
        return Text(self._shortened(row.text), row.pair and self._shortened(row.pair))

    def _shortened(self, text: str) -> str:
        pieces = list(pieces_of().finditer(text))
        before = sum(map(_is_word, pieces))
        for step in ORDER:
            if step in self._asked:
                pieces = STEPS[step](pieces, self._asked[step] or self._stop)
        self.n_words += before
        self.n_left_out += before - sum(map(_is_word, pieces))
        return _joined(text, pieces)


def _is_step(name: str, n: str) -> bool:
    return name in ORDER and (n.isdecimal() and int(n) > 0 if name in COUNTED else not n)


def _folded(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.casefold() for word in words)


def _listed(given: str | Sequence[str] | None) -> frozenset[str]:
    if given is None:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return frozenset(ENGLISH_STOP_WORDS)
    if not isinstance(given, str):
        return _folded(given)
    try:
        return _folded(read_text(Path(given).expanduser()).split())
    except OSError as error:
        raise InputError(
            f"dataset.stop_words is {given!r} and cannot be read ({error}), expected a file with a word per line: mend "
            "it"
        ) from error


def _is_word(piece: re.Match[str]) -> bool:
    return piece[0][0].isalnum()


def _recurring(pieces: Pieces, _: object) -> Pieces:
    seen: set[str] = set()
    kept = []
    for piece in pieces:
        word = piece[0].casefold()
        if not _is_word(piece) or word not in seen:
            kept.append(piece)
        seen.add(word)
    return kept


def _stop(pieces: Pieces, words: frozenset[str]) -> Pieces:
    return [piece for piece in pieces if piece[0].casefold() not in words]


def _ends(pieces: Pieces, first: int, last: int) -> Pieces:
    """Those up to the last of the first words, and from the first of the last words on."""
    places = [place for place, piece in enumerate(pieces) if _is_word(piece)]
    if len(places) <= first + last:
        return pieces
    head = pieces[: places[first - 1] + 1] if first else []
    return head + (pieces[places[-last] :] if last else [])


STEPS: dict[str, Callable[..., Pieces]] = {
    "recurring": _recurring,
    "stop": _stop,
    "punctuation": lambda pieces, _: [piece for piece in pieces if _is_word(piece)],
    "head": lambda pieces, n: _ends(pieces, n, 0),
    "tail": lambda pieces, n: _ends(pieces, 0, n),
    "head_tail": lambda pieces, n: _ends(pieces, n, n),
}


def _joined(text: str, pieces: Pieces) -> str:
    """Pieces of a text, a blank between those between which there was white space, or something that is left out."""
    found: list[str] = []
    end = None
    for piece in pieces:
        apart = end is not None and piece.start() > end
        found += [" "] * apart + [piece[0]]
        end = piece.end()
    return "".join(found)
