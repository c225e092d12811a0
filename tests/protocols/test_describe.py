from __future__ import annotations

import json

from probe.protocols.describe import parameters
from probe.protocols.few_shot import FewShot
from probe.protocols.label_noise import LabelNoise
from probe.protocols.long_tail import LongTail


def test_plain_parameters():
    assert parameters(FewShot(3)) == {"k": 3, "validation_fraction": 0.2}


def test_wrapped_protocols_are_named_inside():
    found = parameters(LabelNoise(LongTail(FewShot(50), 5), 0.1))
    assert json.loads(json.dumps(found)) == {
        "protocol": {
            "name": "long_tail",
            "protocol": {"name": "few_shot", "k": 50, "validation_fraction": 0.2},
            "imbalance": 5,
        },
        "rate": 0.1,
    }
