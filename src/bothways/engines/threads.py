"""How many threads an engine uses when the caller does not say."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["default_threads"]


def default_threads() -> tuple[int, str]:
    """Return the number of threads to use here, and where the number comes from.

    The smallest of: the CPUs this process may run on, the control group's quota (containers), and the physical
    cores, as two hyperthreads share one core's arithmetic.
    """
    allowed = _allowed_cpus()
    limits = [(len(allowed), "the CPUs this process may run on")]
    cores = _physical_cores(allowed)
    if cores is not None:
        limits.append((cores, "physical cores"))
    quota = _quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    if quota is not None:
        limits.append((max(1, int(quota)), f"the control group's quota of {quota:g} CPUs"))
    return min(limits, key=lambda limit: limit[0])


def _allowed_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _physical_cores(cpus: set[int], root: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """Count the cores behind `cpus`: hyperthreads of one core name the same siblings."""
    try:
        siblings = {(root / f"cpu{n}/topology/thread_siblings_list").read_text() for n in cpus}
    except OSError:
        return None
    return len(siblings)


def _quota(root: Path, membership: Path) -> float | None:
    """Return the CPUs that the control groups grant, the tightest of this process's group and its parents."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            quota = _group_quota(base / folder)
            if quota is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _group_quota(folder: Path) -> float | None:
    """Read one group's quota: version 2 keeps it in cpu.max, version 1 in two files."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
