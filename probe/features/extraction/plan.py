"""What the writers of an extraction agree on, and what each writes down of its part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from probe.core.errors import StoreError
from probe.features.layout import SCHEMA

MAX_RANGES = 1024
"""Four for each of 256 writers: the last ones of a large extraction then wait for a few seconds, not for minutes."""


@dataclass(frozen=True)
class Plan:
    """What all writers of one extraction agree on.

    Attributes:
        kinds: Kind -> requested dtype.
        block_rows: Rows per forward pass; block b is always rows b * block_rows onwards, so that whoever extracts it
            runs the same batch and gets the same bits.
        backbone: Its name, for `probe cache ls`.
        dataset: Dataset and partition, likewise.
    """

    n_rows: int
    block_rows: int
    kinds: Mapping[str, str]
    backbone: str
    dataset: str
    schema: int = SCHEMA

    @property
    def n_blocks(self) -> int:
        """Blocks of all rows."""
        return -(-self.n_rows // self.block_rows)

    @property
    def blocks_per_range(self) -> int:
        """Blocks that a writer claims at once."""
        return -(-self.n_blocks // MAX_RANGES)

    @property
    def n_ranges(self) -> int:
        """Ranges of all blocks."""
        return -(-self.n_blocks // self.blocks_per_range)

    def rows(self, block: int) -> range:
        """The rows of a block."""
        return range(block * self.block_rows, min((block + 1) * self.block_rows, self.n_rows))

    def blocks(self, number: int) -> range:
        """The blocks of a range."""
        size = self.blocks_per_range
        return range(number * size, min((number + 1) * size, self.n_blocks))


@dataclass(frozen=True)
class Block:
    """A finished block, as a line of a journal.

    Attributes:
        hashes: Kind -> XXH3-64 of its rows; empty where no row could be decoded, these are filled at the finish.
        invalid: Row -> why it could not be decoded.
        shapes: Kind -> shape of one row; of kinds of which rows differ in length, of one token.
        lengths: Kind of which rows differ in length -> tokens of each row.
        places: Such a kind -> file of its tokens among those of the writers, and the byte at which they begin.
    """

    block: int
    hashes: Mapping[str, int]
    shapes: Mapping[str, list[int]] = field(default_factory=dict)
    invalid: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    lengths: Mapping[str, list[int]] = field(default_factory=dict)
    places: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def line(self) -> str:
        """As it stands in a journal."""
        optional = ("lengths", "places")
        return json.dumps({k: v for k, v in asdict(self).items() if v or k not in optional}) + "\n"


def read_plan(folder: Path) -> Plan:
    """The plan of an extraction; refuses one that this version cannot go on with."""
    try:
        facts = json.loads((folder / "plan.json").read_bytes())
        if facts["schema"] <= SCHEMA:
            return Plan(**facts)
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{folder / 'plan.json'} is damaged or not of this cache: delete the folder {folder} and run again"
        ) from None
    raise StoreError(
        f"the extraction in {folder} was begun by a newer version of probe (schema {facts['schema']}, this one reads "
        f"{SCHEMA}): update probe, or set PROBE_CACHE to another folder"
    )
