"""Stages on full and read-only disks, on drives that cannot do everything, and two at a time: at toy size.

A few moments and stages in `make test`; every stage, and many moments, with FACTUALITY_FAULTS=full.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.form import count
from tests.faults.stage_world import STAGES, prepare, results_in
from tests.killing import differences

SHORT = ("build", "sft", "evaluate", "generate", "judge", "rm")
TRIED = tuple(STAGES)[: count(0, len(STAGES))] or SHORT
MOMENTS = range(count(1, 3))
N_PAIRS = count(1, 4)
_LARGE = "size=300m"
_LOG_BYTES = 4000


@pytest.fixture(scope="module")
def starts(server, tiny_gemma_dir, tmp_path_factory):
    """Stage -> the home that it starts in."""
    return prepare(tmp_path_factory.mktemp("world"), tiny_gemma_dir, server, TRIED)


@pytest.fixture(scope="module")
def undisturbed(server, starts, tmp_path_factory):
    """Stage -> (the files of its home after it, how many bytes it added)."""
    known = {}

    def get(stage: str) -> tuple[dict, int]:
        if stage not in known:
            home = tmp_path_factory.mktemp("undisturbed") / "home"
            shutil.copytree(starts[stage], home)
            before = size_of(home)
            code, said = server.run(stage, home)
            assert code == 0, said
            known[stage] = (results_in(home), size_of(home) - before)
        return known[stage]

    return get


def size_of(home: Path) -> int:
    """The bytes that its files take on a disk with pages of 4 kB."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in home.rglob("*") if path.is_file())


@pytest.fixture
def disk(server, tmp_path):
    """A disk of its own, which the server sees at `path` and this process at `seen`."""
    if not server.can_mount:
        pytest.skip("file systems cannot be mounted here")
    path = tmp_path / "disk"
    path.mkdir()
    server.mount("mount", "-t", "tmpfs", "-o", _LARGE, "none", str(path))
    yield path
    server.mount("umount", "-l", str(path))


def check_refusal(said: str, home: Path) -> None:
    """One line that begins with the path and says what is free or what to do; no traceback."""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said and len(lines) == 1, said[-3000:]
    assert lines[0].startswith(f"error: {home}"), lines
    assert " MB free); make room, or set FACTUALITY_HOME" in lines[0] or "read-only here; choose" in lines[0]


def check_rerun(server, stage: str, home: Path, seen: Path, expected: dict) -> None:
    code, said = server.run(stage, home)
    assert code == 0, said[-3000:]
    assert differences(results_in(seen), expected) == []


# --- disks


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("stage", TRIED)
def test_a_full_disk_is_named_and_the_rerun_is_that_of_an_empty_one(
    stage, moment, server, starts, undisturbed, disk
):
    expected, growth = undisturbed(stage)
    home = disk / "home"
    seen = server.seen(disk)
    shutil.copytree(starts[stage], seen / "home")
    used = os.statvfs(seen)
    room = int(growth * (moment + 0.5) / (len(MOMENTS) + 0.5))
    size = (used.f_blocks - used.f_bfree) * used.f_frsize + room // 4096 * 4096
    server.mount("mount", "-o", f"remount,size={size}", str(disk))
    code, said = server.run(stage, home)
    if code == 0:
        # Only the page of the whole home did not fit, which fails no stage.
        assert "report.html was not refreshed" in said
    else:
        assert code == 1
        check_refusal(said, home)
    assert [path for path in seen.rglob(".*") if ".lock" in path.name or path.suffix == ".tmp"] == []
    server.mount("mount", "-o", f"remount,{_LARGE}", str(disk))
    check_rerun(server, stage, home, seen / "home", expected)


@pytest.mark.parametrize("stage", TRIED)
def test_a_read_only_home_is_named_and_left_as_it_was(stage, server, starts, disk):
    seen = server.seen(disk) / "home"
    shutil.copytree(starts[stage], seen)
    before = results_in(seen)
    server.mount("mount", "-o", "remount,ro", str(disk))
    code, said = server.run(stage, disk / "home")
    assert code == 2
    check_refusal(said, disk / "home")
    assert differences(results_in(seen), before) == []
    server.mount("mount", "-o", "remount,rw", str(disk))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("stage", TRIED)
def test_a_limit_on_file_sizes_is_named(stage, moment, server, starts, undisturbed, tmp_path):
    expected, _ = undisturbed(stage)
    home = tmp_path / "home"
    shutil.copytree(starts[stage], home)
    was_there = results_in(home).keys()
    contents = [value for name, value in expected.items() if name not in was_there]
    sizes = sorted({len(value) for value in contents if isinstance(value, bytes)})
    # The limit is one on the log of the run, too.
    sizes = [size for size in sizes if size > _LOG_BYTES] or sizes
    limit = sizes[len(sizes) * (2 * moment + 1) // (2 * len(MOMENTS))] - 1
    code, said = server.run(stage, home, faults={"file_size_limit": [limit]})
    assert code == 1
    check_refusal(said, home)
    check_rerun(server, stage, home, home, expected)


# --- drives

# What a drive cannot do, and whether a stage refuses to begin there.
DRIVES = {
    "no locks, no sync": ({"no_locks": ["ENOTSUP"], "no_sync": ["EINVAL"]}, False),
    "no renaming of folders": ({"no_folder_rename": ["ENOTSUP"]}, False),
    "an overlay's lower layer": ({"no_folder_rename": ["EXDEV"]}, False),
    "no links, modes or times": ({"no_links_and_modes": ["EPERM"]}, False),
    "listings two seconds late": ({"slow_listing": [2]}, False),
    "no replacing": ({"no_replacing": ["EEXIST"]}, True),
}
ON_DRIVES = tuple(STAGES)[: count(0, len(STAGES))] or ("judge", "rm")


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("stage", ON_DRIVES)
def test_a_drive_gets_complete_outputs_or_a_refusal(stage, drive, server, starts, undisturbed, tmp_path):
    faults, is_refused = DRIVES[drive]
    expected, _ = undisturbed(stage)
    home = tmp_path / "home"
    shutil.copytree(starts[stage], home)
    before = results_in(home)
    code, said = server.run(stage, home, faults=faults)
    assert "Traceback" not in said, said[-3000:]
    if is_refused:
        assert code == 1 and "cannot replace a file in one step" in said
        assert differences(results_in(home), before) == []
        return
    assert code == 0, said[-3000:]
    assert differences(results_in(home), expected) == []


# --- two runs


@pytest.mark.parametrize("pair", range(N_PAIRS))
@pytest.mark.parametrize("stage", TRIED)
def test_two_runs_at_once_leave_the_output_of_one(stage, pair, server, starts, undisturbed, tmp_path):
    expected, _ = undisturbed(stage)
    home = tmp_path / "home"
    shutil.copytree(starts[stage], home)
    # From the same moment to when the first is nearly done.
    runs = server.run_several(stage, home, 2, apart=0 if not pair else 5 * pair / N_PAIRS)
    codes = sorted(run.code for run in runs)
    assert codes in ([0, 0], [0, 2]), runs
    for run, other in (runs, reversed(runs)):
        assert "Traceback" not in run.said, run.said[-3000:]
        if run.code == 2:
            [line] = [line for line in run.said.splitlines() if line.startswith("error: ")]
            # A merged or exported model is never written over, so a later run may also find the complete one.
            is_complete = stage in ("merge", "export") and "is not empty; name a new one" in line
            assert is_complete or ("is in use by" in line and f"process {other.pid} on" in line)
    assert differences(results_in(home), expected) == []


# --- determinism

ELSEWHERE = {
    "another folder, time zone and locale": ({}, {"TZ": "Asia/Kathmandu", "LC_ALL": "C"}),
    "files listed in another order": ({"shuffled_listing": [7]}, {}),
}


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("stage", TRIED)
def test_the_same_bytes_elsewhere(stage, where, server, starts, undisturbed, tmp_path):
    faults, environment = ELSEWHERE[where]
    expected, _ = undisturbed(stage)
    home = tmp_path / "home"
    shutil.copytree(starts[stage], home)
    code, said = server.run(stage, home, faults=faults, environment=environment, cwd=str(tmp_path))
    assert code == 0, said[-3000:]
    assert differences(results_in(home), expected) == []
