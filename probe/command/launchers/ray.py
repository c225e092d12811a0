"""What a sweep has to know of Ray: it connects ahead of the launcher, and asks the nodes whether they can take part."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from probe.command import launchers
from probe.core.errors import InputError
from probe.core.files import cache_root
from probe.features.processes import ray_tasks

SETTING = "hydra.launcher.ray"
SECONDS = 120.0
SHOWN = 3


def connect(init: Mapping[str, Any]) -> Any:
    """The module `ray`, connected as the launcher would be, which takes the connection that it finds.

    Left to itself the launcher asks a running cluster for an object store of some size, which Ray refuses, and its
    jobs run in the folder where `ray start` was given.

    Args:
        init: Arguments of `ray.init`.

    Raises:
        InputError: No cluster answers, or one that cannot be reached in this way.
    """
    options = dict(init)
    address = options.pop("address", None)
    if str(address or os.environ.get("RAY_ADDRESS")).startswith("ray://"):
        raise InputError(
            "a sweep on Ray is started on a node of the cluster, not from outside it (ray://…): do so, with "
            f"{SETTING}.init.address=auto"
        )
    asked = dict(options.pop("runtime_env", None) or {})
    variables = {"PROBE_CACHE": cache_root().absolute()} | dict(asked.get("env_vars") or {})
    asked["env_vars"] = {name: str(value) for name, value in variables.items()}
    asked.setdefault("worker_process_setup_hook", _in_folder(os.getcwd()))
    # Ray takes lines that differ by numbers alone for one, as those of progress may do.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    return ray_tasks.connect(
        address, user="hydra/launcher=ray", setting=f"{SETTING}.init.address", runtime_env=asked, **options
    )


def check(ray: Any, remote: Mapping[str, Any], sign: Path) -> str:
    """Returns a warning, or nothing, where the nodes that have room for a job can run one.

    Args:
        remote: Arguments of `ray.remote`, for each job.
        sign: A file of this sweep, in its folder.

    Raises:
        InputError: Ray knows no such arguments, or nodes do not see the sweep's folder or cannot import probe.
    """
    try:
        ray.remote(**{"num_cpus": 1, **remote})(check)
    except (TypeError, ValueError) as error:
        raise InputError(f"Ray gives no job {dict(remote)} ({error}): change {SETTING}.remote") from error
    wanted = {"CPU": remote.get("num_cpus", 1), "GPU": remote.get("num_gpus", 0), **remote.get("resources", {})}
    nodes = [node for node in ray.nodes() if node["Alive"]]
    fit = [node for node in nodes if all(node["Resources"].get(name, 0) >= n for name, n in wanted.items())]
    if troubles := sorted(_troubles(ray, fit, sign)):
        more = f"; {len(troubles) - SHOWN} more" if len(troubles) > SHOWN else ""
        raise InputError(
            f"{'; '.join(troubles[:SHOWN])}{more}: start the sweep in a folder that the nodes share, and have probe "
            "installed on all"
        )
    if not fit:
        asked = ", ".join(f"{n} {name}" for name, n in wanted.items() if n)
        return f"no node of the cluster has {asked} for a job ({SETTING}.remote): the sweep waits until one comes"
    if not wanted["GPU"] and (n_gpus := sum(node["Resources"].get("GPU", 0) for node in nodes)):
        return f"the cluster has GPUs ({n_gpus:.0f}), and no job is given one: +{SETTING}.remote.num_gpus=1 does so"
    return ""


class Launcher(launchers.Launcher):
    """Jobs as tasks of a cluster."""

    target = "RayLauncher"

    def before(self, config: Any) -> str:
        self.ray = connect(_plain(config.ray)["init"])
        return ""

    def ready(self, config: Any, sign: Path) -> str:
        return check(self.ray, _plain(config.ray)["remote"], sign)

    def became_of(self, error: BaseException | None) -> str:
        if type(error).__module__ == "ray.exceptions":
            return f"Ray gave a job up, and the others with it ({_first_line(error)})"
        return super().became_of(error)


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=True)


def _in_folder(folder: str) -> Callable[[], None]:
    """Called in each process of a cluster ahead of its first job: relative paths mean the same in all of them."""

    def enter() -> None:
        os.chdir(folder)

    return enter


def _troubles(ray: Any, nodes: Sequence[Mapping[str, Any]], sign: Path) -> Iterator[str]:
    """A sentence for each node that cannot read the sign of a sweep; one that does not answer is left to Ray."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    task = ray.remote(num_cpus=0, max_retries=0)(_read)
    answers = {
        task.options(scheduling_strategy=On(node["NodeID"], soft=False)).remote(str(sign.absolute())): node
        for node in nodes
    }
    for answer in ray.wait(list(answers), num_returns=len(answers), timeout=SECONDS)[0] if answers else []:
        name = answers[answer]["NodeManagerHostname"]
        try:
            if ray.get(answer) != sign.read_text():
                yield f"node {name} does not see the folder {sign.parent.parent.absolute()}"
        except ray.exceptions.RayError as error:
            yield f"node {name} runs no job ({_first_line(getattr(error, 'cause', None) or error)})"


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]
