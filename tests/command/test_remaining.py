from __future__ import annotations

import pytest

from probe.command.remaining import left
from probe.command.sweep import duration

JOBS = [[f"head={head}", f"seed={seed}"] for head in ("ncm", "slow") for seed in range(10)]
SECONDS = {"head=ncm": 1.0, "head=slow": 60.0}


def after(n: int, jobs: list[list[str]] = JOBS, **others: int) -> float | None:
    return left(jobs, {frozenset(job): SECONDS[job[0]] for job in jobs[:n]}, **others)


def test_nothing_is_known_before_the_first_job_has_ended() -> None:
    assert after(0) is None


def test_once_each_kind_of_job_has_ended_once_the_time_left_is_right() -> None:
    assert [after(n) for n in (11, 15, 19, 20)] == [540, 300, 60, 0]


def test_quick_jobs_that_come_first_say_nothing_of_slow_ones_that_have_run() -> None:
    mixed = [JOBS[10], *JOBS[:10], *JOBS[11:]]
    assert after(2, mixed) == 9 + 9 * 60


def test_a_first_job_that_extracts_features_does_not_count_for_all() -> None:
    took = {frozenset(job): 1.0 for job in JOBS[:5]} | {frozenset(JOBS[0]): 500.0}
    assert left(JOBS[:10], took) == 5


def test_settings_of_a_head_share_its_time_until_they_have_their_own() -> None:
    jobs = [["head=knn", f"head.k={k}", f"seed={seed}"] for k in (1, 9) for seed in (0, 1)]
    assert left(jobs, {frozenset(jobs[0]): 4.0}) == 12
    assert left(jobs, {frozenset(jobs[0]): 4.0, frozenset(jobs[2]): 10.0}) == 14


def test_jobs_beside_each_other_share_what_is_left() -> None:
    assert after(11, n_running=3) == 180


@pytest.mark.parametrize(("seconds", "told"), [(3.4, "3 s"), (99, "99 s"), (600, "10 min"), (9000, "2.5 h")])
def test_a_time_is_told_as_people_say_it(seconds: float, told: str) -> None:
    assert duration(seconds) == told
