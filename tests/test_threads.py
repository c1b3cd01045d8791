"""The default number of threads on made-up machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from bothways.engines import threads


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_hyperthreads_count_once(tmp_path: Path) -> None:
    siblings = {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}
    write(tmp_path, {f"cpu{n}/topology/thread_siblings_list": text for n, text in siblings.items()})
    assert threads._physical_cores({0, 1, 4, 5}, tmp_path) == 2
    assert threads._physical_cores({0, 4}, tmp_path) == 1


def test_unknown_cores_are_no_limit(tmp_path: Path) -> None:
    assert threads._physical_cores({0, 1}, tmp_path) is None


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"membership": "0::/\n"}, None),
        (
            {
                "membership": "0::/box/inner\n",
                "cg/box/cpu.max": "150000 100000\n",
                "cg/box/inner/cpu.max": "max 100000",
            },
            1.5,
        ),
        ({"membership": "0::/box\n", "cg/cpu.max": "400000 100000", "cg/box/cpu.max": "50000 100000"}, 0.5),
        (
            {
                "membership": "5:memory:/m\n4:cpu,cpuacct:/box\n",
                "cg/cpu/box/cpu.cfs_quota_us": "200000",
                "cg/cpu/box/cpu.cfs_period_us": "100000",
            },
            2.0,
        ),
        (
            {
                "membership": "4:cpu,cpuacct:/box\n",
                "cg/cpu/box/cpu.cfs_quota_us": "-1",
                "cg/cpu/box/cpu.cfs_period_us": "100000",
            },
            None,
        ),
    ],
)
def test_the_tightest_quota_of_the_group_and_its_parents_counts(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    write(tmp_path, files)
    assert threads._quota(tmp_path / "cg", tmp_path / "membership") == quota


def test_no_control_groups_are_no_limit(tmp_path: Path) -> None:
    assert threads._quota(tmp_path, tmp_path / "missing") is None


def test_the_smallest_limit_counts_and_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(threads, "_physical_cores", lambda cpus: 2)
    monkeypatch.setattr(threads, "_quota", lambda root, membership: None)
    assert threads.default_threads() == (2, "physical cores")
    monkeypatch.setattr(threads, "_quota", lambda root, membership: 0.5)
    assert threads.default_threads() == (1, "the control group's quota of 0.5 CPUs")
