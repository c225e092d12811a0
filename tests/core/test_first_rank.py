"""Processes that train together; those that wait for one another are in `tests/command/test_watch.py`."""

import pytest

from probe.core.first_rank import FirstRank, is_first


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_before_ranks_have_met_the_environment_tells_which_is_the_first(environment, first, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first() is first


def test_a_process_alone_calls_the_function_and_sees_its_error():
    assert FirstRank()(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        FirstRank()(lambda: 1 / 0)
