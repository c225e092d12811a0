from pathlib import Path

import pytest
import yaml

from probe.backbones.shared.taps import REDUCTIONS
from probe.core.errors import InputError
from probe.core.kinds import KINDS, dtype_of_layer, dtypes_of, tap_of, taps_of_maps
from probe.features.layout import DEFAULT_DTYPES
from probe.heads.shared.head import N_AXES

CONF = Path(__file__).parents[2] / "conf"


def test_all_who_ask_about_kinds_read_one_table():
    assert list(N_AXES) == list(DEFAULT_DTYPES) == list(KINDS)
    assert N_AXES == {"pooled": 2, "tokens": 3, "map": 4, "token_ids": 2}
    assert DEFAULT_DTYPES == {"pooled": "float32", "tokens": "float16", "map": "float16", "token_ids": "int32"}
    assert REDUCTIONS == ("mean", "cls", "tokens", "map", "heads")


OF_LAYERS = [name for name in KINDS if name != "token_ids"]


def test_every_kind_but_ids_can_be_read_from_another_layer():
    reads = yaml.safe_load((CONF / "config.yaml").read_text())["reads"]
    assert reads == {name: name for name in OF_LAYERS} | {"cells": None}


def test_every_kind_but_ids_can_be_told_its_dtype_without_a_plus():
    told = yaml.safe_load((CONF / "config.yaml").read_text())["features"]["dtypes"]
    assert told == dict.fromkeys(OF_LAYERS)
    assert dtypes_of("token_ids") == ("int32",)
    assert dtypes_of("tokens") == dtypes_of("blocks.3:tokens") == ("float16", "float32", "int8")
    assert dtypes_of("pooled") == dtypes_of("blocks.3") == dtypes_of("blocks.3:heads") == ("float16", "float32")


def test_rows_come_first_and_ids_alone_differ_in_length_whatever_the_backbone():
    assert all(kind.axes[0] == "N" for kind in KINDS.values())
    assert [name for name, kind in KINDS.items() if kind.ragged] == ["token_ids"]


def test_tapped_layers_are_stored_as_the_kinds_with_as_many_axes():
    assert [dtype_of_layer(n) for n in (2, 3, 4, 5)] == ["float32", "float16", "float16", "float16"]


def test_layers_stand_in_for_kinds_by_a_reduction():
    assert [tap_of("blocks.3", kind) for kind in ("pooled", "tokens", "map", "blocks.1")] == [
        "blocks.3",
        "blocks.3:tokens",
        "blocks.3:map",
        None,
    ]


def test_lists_among_the_layers_of_maps_are_refused():
    with pytest.raises(InputError, match=r"reads\.map names \['a', 'b'\] among its layers, .*write reads\.map=\["):
        taps_of_maps([["a", "b"]])
