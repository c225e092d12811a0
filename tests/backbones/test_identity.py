import numpy as np
import pytest
import torch
from PIL import Image

from probe.backbones.identity import IdentityBackbone
from probe.core.errors import InputError


def test_rows_pass_through():
    backbone, row = IdentityBackbone(), np.array([1.5, -2.0, 3.25])
    batch = backbone.transform(row)[None]
    assert backbone.extract(batch, ["pooled"])["pooled"].tolist() == [[1.5, -2.0, 3.25]]
    assert batch.dtype == torch.float32


def test_the_row_is_copied():
    row = np.zeros(2, np.float32)
    IdentityBackbone().transform(row)[0] = 1
    assert row[0] == 0


@pytest.mark.parametrize("row", [Image.new("RGB", (4, 4)), np.zeros((2, 2)), np.array(["a"]), [1.0, 2.0]])
def test_other_rows_are_refused_with_the_fix(row):
    with pytest.raises(InputError, match=r"reads rows of numbers.*set backbone=tiny"):
        IdentityBackbone().transform(row)


def test_what_float32_cannot_hold_is_refused_with_the_fix():
    row = np.array([1.0, -1e200])
    with pytest.raises(InputError, match=r"holds -1e\+200, too large for float32 .* divide the column"):
        IdentityBackbone().transform(row)
    IdentityBackbone().transform(row / 1e200)
    assert IdentityBackbone().transform(np.array([np.inf])).isinf().all()  # told of where rows are named


def test_other_kinds_are_refused():
    with pytest.raises(InputError, match=r"gives \['pooled'\], not \['tokens'\]"):
        IdentityBackbone().extract(torch.zeros(1, 2), ["tokens"])
