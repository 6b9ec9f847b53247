"""Threads follow the container's share, and a device is judged by running on it."""

from __future__ import annotations

import os

import numpy as np
import pytest

from app.runtime import device
from app.runtime.device import Device, DeviceUnavailable, choose_device, session, usable_cpus


@pytest.mark.parametrize(
    ("cpu_max", "affinity", "expected"),
    [
        ("max 100000", 8, 8),
        ("200000 100000", 8, 2),
        ("150000 100000", 8, 2),
        ("50000 100000", 8, 1),
        ("400000 100000", 2, 2),
        ("nonsense", 4, 4),
    ],
)
def test_cpus_are_the_least_of_quota_and_affinity(tmp_path, cpu_max, affinity, expected):
    """Control groups version 2 write quota and period into one file."""
    (tmp_path / "cpu.max").write_text(cpu_max + "\n")
    assert usable_cpus(tmp_path, affinity) == expected


def test_the_older_control_groups_are_read_too(tmp_path):
    """Version 1 has a file for each, and -1 for no limit."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path, 16) == 3
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert usable_cpus(tmp_path, 16) == 16


def test_without_a_control_group_affinity_counts(tmp_path):
    """The mask of this process, as the system says."""
    assert usable_cpus(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_the_cpu_is_what_it_is_asked_to_be():
    """Threads are taken as given, or counted."""
    assert choose_device("cpu", 3) == Device("cpu", 0, 3)
    assert choose_device("cpu").threads == usable_cpus()


@pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
def test_cuda_by_name_is_never_silently_the_cpu(asked):
    """Where CUDA can't run, asking for it fails and says what to do."""
    with pytest.raises(DeviceUnavailable, match="TESSERA_DEVICE=cpu"):
        choose_device(asked)


def test_auto_falls_back_to_the_cpu():
    """That is what auto is for."""
    assert choose_device("auto").kind == "cpu"


def test_both_wheels_at_once_are_refused(monkeypatch):
    """They overwrite each other's files; which one works is chance."""
    monkeypatch.setattr(device, "_version", lambda _name: "1.0")
    with pytest.raises(DeviceUnavailable, match="break each other"):
        choose_device("cpu")


def test_the_proof_is_a_real_convolution():
    """The hand-made graph loads and sums 3×3 ones."""
    run = session(device._convolution(), Device("cpu", 0, 1))
    pixels = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    (sums,) = run.run(None, {"x": pixels})
    expected = [[pixels[0, 0, i : i + 3, j : j + 3].sum() for j in range(2)] for i in range(2)]
    assert sums[0, 0].tolist() == expected
