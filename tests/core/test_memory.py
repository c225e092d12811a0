from pathlib import Path

import pytest

from probe.core import memory


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """One that has 8 GiB left."""
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    write(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8388608 kB\n"})
    return tmp_path


def test_memory_is_what_the_machine_has_left_where_no_group_limits_it(machine):
    assert memory.available_bytes() == 8 * 2**30
    write(machine, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.stat": ""})
    assert memory.available_bytes() == 8 * 2**30


def test_the_tightest_of_the_groups_above_counts_without_pages_that_can_go(machine):
    job = "sys/fs/cgroup/batch/job"
    write(machine, {
        "proc/self/cgroup": "0::/batch/job/step\n",
        f"{job}/step/memory.max": "max\n",
        f"{job}/memory.max": str(4 * 2**30),
        f"{job}/memory.current": str(3 * 2**30),
        f"{job}/memory.stat": f"anon 5\ninactive_file {2**30}\n",
        "sys/fs/cgroup/batch/memory.max": str(6 * 2**30),
        "sys/fs/cgroup/batch/memory.current": str(3 * 2**30),
        "sys/fs/cgroup/batch/memory.stat": "",
    })  # fmt: skip
    assert memory.available_bytes() == 2 * 2**30


def test_groups_of_the_first_version_count_too(machine):
    job = "sys/fs/cgroup/memory/job"
    write(machine, {
        "proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n",
        f"{job}/memory.limit_in_bytes": str(2 * 2**30),
        f"{job}/memory.usage_in_bytes": str(2**30),
        f"{job}/memory.stat": "total_inactive_file 0\n",
    })  # fmt: skip
    assert memory.available_bytes() == 2**30


def test_a_machine_that_does_not_say_has_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    assert memory.available_bytes() > 2**60
