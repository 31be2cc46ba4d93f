"""Free memory, read from a made-up machine: its own, and what control groups leave."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from manyhot.tables import unpacked

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that writes a file of a machine with 100 GiB of free memory."""

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    monkeypatch.setattr(unpacked, "_ROOT", tmp_path)
    write("proc/meminfo", f"MemTotal: {200 * 2**20} kB\nMemAvailable: {100 * 2**20} kB")
    return write


def test_without_limits_it_is_that_of_the_machine(machine):
    assert unpacked.free_memory() == 100 * GIB
    machine("proc/self/cgroup", "0::/user.slice")
    machine("sys/fs/cgroup/user.slice/memory.max", "max")
    assert unpacked.free_memory() == 100 * GIB


def test_a_job_of_a_cluster_has_what_its_limit_leaves(machine):
    """The limit is that of a group above its own; 10 GiB of it are used, 3 of these by cached files."""
    machine("proc/self/cgroup", "0::/system.slice/job_7/step_0/task_0")
    job = "sys/fs/cgroup/system.slice/job_7"
    machine(f"{job}/memory.max", 16 * GIB)
    machine(f"{job}/memory.current", 10 * GIB)
    machine(f"{job}/memory.stat", f"anon {7 * GIB}\ninactive_file {3 * GIB}")
    machine(f"{job}/step_0/memory.max", "max")
    machine(f"{job}/step_0/memory.current", 9 * GIB)
    assert unpacked.free_memory() == 9 * GIB


def test_groups_of_version_1(machine):
    machine("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/slurm/uid_1/job_7\n0::/")
    top = "sys/fs/cgroup/memory"
    machine(f"{top}/memory.limit_in_bytes", 2**63 - 4096)
    machine(f"{top}/memory.usage_in_bytes", 50 * GIB)
    job = f"{top}/slurm/uid_1/job_7"
    machine(f"{job}/memory.limit_in_bytes", 8 * GIB)
    machine(f"{job}/memory.usage_in_bytes", 2 * GIB)
    machine(f"{job}/memory.stat", f"inactive_file 0\ntotal_inactive_file {GIB}")
    assert unpacked.free_memory() == 7 * GIB


def test_a_container_that_sees_its_own_group_at_the_top(machine):
    machine("proc/self/cgroup", "0::/")
    machine("sys/fs/cgroup/memory.max", 4 * GIB)
    machine("sys/fs/cgroup/memory.current", 5 * GIB)
    assert unpacked.free_memory() == 0


def test_the_path_of_a_container_that_is_not_there(machine):
    machine("proc/self/cgroup", "4:memory:/docker/0123abcd")
    machine("sys/fs/cgroup/memory/memory.limit_in_bytes", 4 * GIB)
    machine("sys/fs/cgroup/memory/memory.usage_in_bytes", GIB)
    assert unpacked.free_memory() == 3 * GIB


def test_checking_a_file_reads_no_column(tmp_path):
    """Arrow would otherwise hold all values of the file as long as it is open."""
    values = np.random.default_rng(0).random((2_000, 500)).astype(np.float32)
    table = pa.table({"scores": pa.FixedSizeListArray.from_arrays(values.ravel(), 500)})
    pq.write_table(table, tmp_path / "t.parquet")
    before = pa.total_allocated_bytes()
    with unpacked.open_parquet_lazily(tmp_path / "t.parquet") as file:
        (group,) = unpacked.row_groups(file)
        assert group.num_rows == 2_000
        assert pa.total_allocated_bytes() - before < values.nbytes / 3


def test_a_file_without_columns(tmp_path):
    """pyarrow ends the process with a floating point exception if no rows of no columns are read."""
    path = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"a": [1, 2]}).drop_columns(["a"]), path)
    with unpacked.open_parquet_lazily(path) as file:
        assert list(unpacked.row_groups(file)) == []
        unpacked.check_parquet(path, file)
