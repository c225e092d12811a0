"""What a language model is given for a text: a template around it, perhaps inside a chat."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.core.errors import InputError
from probe.core.texts import Text

TEXT = "{text}"
NOW = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
DATE = datetime.datetime(2024, 7, 26)
"""What chat templates that print the day are told: the features of a text are the same tomorrow."""


class Prompt:
    """A template around a text; `words` is what the tokenizer is given.

    Attributes:
        special: Whether the tokenizer is to add special tokens.
    """

    special = True

    def __init__(self, template: str):
        if template.count(TEXT) != 1:
            raise InputError(f"template is {template!r}, expected one that holds {{text}} once: set backbone.template")
        self.template = template
        self.before, _, self.after = template.partition(TEXT)

    def words(self, given: Text) -> tuple[list[str], int]:
        """The strings of one text, and where it begins in the first of them."""
        pair = [] if given.pair is None else [given.pair]
        return [self.before + given.text + self.after, *pair], len(self.before)

    def identity(self) -> dict[str, Any]:
        """What determines what is read."""
        return {"template": self.template}

    def cut(self, tokenizer: Any, words: Sequence[str], given: Text, max_length: int) -> Any:
        """The tokens of one that is too long; the tokenizer cuts at its own side."""
        return tokenizer(*words, truncation=True, max_length=max_length, verbose=False)


class Chat(Prompt):
    """The same as what a user says, in the model's own chat template, before its answer.

    A text that is too long loses tokens of its own, never those of the frame around it.

    Args:
        tokenizer: With a chat template.
        template: Around the text, in what the user says.
        system: What the system says ahead of it; null: nothing.
        name: Of the model, for errors.
    """

    special = False

    def __init__(self, tokenizer: Any, template: str, system: str | None, name: str):
        super().__init__(template)
        self.tokenizer, self.system, self.name = tokenizer, system, name
        try:
            source = tokenizer.get_chat_template()
        except ValueError as error:
            raise InputError(
                f"the tokenizer of {name} has no chat template, expected one for backbone.chat=true: leave it out and "
                "write the frame into backbone.template, or choose a model that was tuned on chats"
            ) from error
        self.source = on_a_day(source, name)
        # Where what the user says begins does not depend on it.
        self.begins = self._render("\ufffctext\ufffc").index("\ufffctext\ufffc")

    def _render(self, said: str) -> str:
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        messages = [*system, {"role": "user", "content": said}]
        try:
            found: str = self.tokenizer.apply_chat_template(
                messages, chat_template=self.source, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # whatever the template itself raises
            raise InputError(
                f"the chat template of {self.name} refuses {' and '.join(m['role'] for m in messages)} ({error}): "
                f"{'set backbone.system=null' if system else 'leave backbone.chat out'}"
            ) from error
        return found

    def words(self, given: Text) -> tuple[list[str], int]:
        """As `Prompt.words`; some templates strip what the user says."""
        if given.pair is not None:
            raise InputError(
                "a row has two texts and backbone.chat=true reads one: leave dataset.pair_column or backbone.chat out"
            )
        said = self.before + given.text + self.after
        rendered = self._render(said)
        stripped = len(said) - len(said.lstrip()) if not rendered.startswith(said, self.begins) else 0
        return [rendered], self.begins + len(self.before) - stripped

    def identity(self) -> dict[str, Any]:
        """As `Prompt.identity`, with the frame."""
        return {**super().identity(), "chat": {"template": self.source, "system": self.system}}

    def cut(self, tokenizer: Any, words: Sequence[str], given: Text, max_length: int) -> Any:
        """The tokens without as many of the text as are too many, from the tokenizer's side."""
        whole, (_, begins) = tokenizer(*words, add_special_tokens=False, verbose=False), self.words(given)
        n = len(whole["input_ids"])
        spans = [whole.token_to_chars(token) for token in range(n)]
        ends = begins + len(given.text)
        own = [token for token, at in enumerate(spans) if at is not None and at.start >= begins and at.end <= ends]
        spare = n - max_length
        if spare >= len(own):
            raise InputError(
                f"the chat of {self.name} takes {n - len(own)} tokens around the text, max_length is {max_length}: "
                "set backbone.max_length higher, or shorten backbone.template and backbone.system"
            )
        gone = own[:spare] if tokenizer.truncation_side == "left" else own[-spare:]
        return Kept(whole, np.setdiff1d(np.arange(n), gone).tolist())


def on_a_day(source: str, name: str) -> str:
    """A chat template that prints `DATE` in the place of the day on which it is rendered."""
    found = NOW.sub(lambda call: repr(DATE.strftime(call[2])), source)
    if "strftime_now(" in found:
        raise InputError(
            f"the chat template of {name} prints the day in a format of its own making, and features that change with "
            "the day are none: leave backbone.chat out and write the frame into backbone.template"
        )
    return found


@dataclass(frozen=True)
class Kept(Mapping[str, Any]):
    """Some tokens of an encoding, which looks as that does.

    Attributes:
        whole: The encoding.
        tokens: The numbers of those that are left.
    """

    whole: Any
    tokens: Sequence[int]

    def __getitem__(self, part: str) -> list[int]:
        return [self.whole[part][token] for token in self.tokens]

    def __iter__(self) -> Any:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)

    def sequence_ids(self) -> list[int | None]:
        """Of each token, which text it is of."""
        every = self.whole.sequence_ids()
        return [every[token] for token in self.tokens]

    def token_to_chars(self, token: int) -> Any:
        """Where it stands."""
        return self.whole.token_to_chars(self.tokens[token])
