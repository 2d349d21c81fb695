"""What is installed is what was tested: the lock agrees with the pins, and pip refuses another file."""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from benchmarks import versions
from benchmarks.lock import INPUTS, TORCH, lock_text, named_in, normal_name

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"([\w.-]+)==([\w.+-]+)")
LOCKED = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}")


def pins_of(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [PIN.match(line) for line in lines]
    return {normal_name(match[1]): match[2] for match in found if match}


def test_every_locked_package_has_a_hash_and_the_version_that_was_tested():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != "#"]
    assert [line for line in lines if not LOCKED.fullmatch(line)] == []
    locked = pins_of("requirements.lock")
    tested = pins_of("constraints.txt")
    assert {name: locked[name] for name in locked.keys() & tested.keys()} == {
        name: tested[name] for name in locked.keys() & tested.keys()
    }


def test_the_lock_has_all_that_is_asked_for_but_torch():
    wanted = {name for path in INPUTS for name in named_in(ROOT / path)}
    locked = pins_of("requirements.lock")
    assert wanted - locked.keys() == {TORCH}
    # torch's packages would come without a hash of the build that the user chose.
    assert not [name for name in locked if name.startswith("nvidia")]
    for name, version in pins_of("requirements-embedded.txt").items():
        assert locked[name] == version


def test_pip_refuses_a_file_with_another_hash(tmp_path):
    wheel = tmp_path / "tiny_part-1.0-py3-none-any.whl"
    about = "tiny_part-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as handle:
        handle.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-part\nVersion: 1.0\n")
        handle.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        handle.writestr(f"{about}/RECORD", "")
    lock = tmp_path / "requirements.lock"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--require-hashes"]
    command += ["--no-index", "--find-links", str(tmp_path), "--requirement", str(lock)]
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    codes = []
    for digest in (right, right[::-1]):
        lock.write_text(lock_text({"tiny-part": "1.0"}, {"tiny-part": digest}))
        codes.append(subprocess.run(command, capture_output=True, text=True))
    assert codes[0].returncode == 0, codes[0].stderr
    assert codes[1].returncode != 0 and "DO NOT MATCH THE HASHES" in codes[1].stderr


def test_audit_tools_are_pinned_and_mix_with_no_tested_version():
    lines = (ROOT / "requirements-audit.txt").read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))
    makefile = (ROOT / "Makefile").read_text()
    assert "$(BIN)/python -m pip install --quiet --requirement requirements-audit.txt" not in makefile
    # A vulnerability database that cannot be reached must not read like a clean result.
    assert all("--strict" in line for line in makefile.splitlines() if "/pip-audit " in line)


def test_the_versions_that_are_tried():
    assert versions.requirements("oldest") == ["transformers==5.23", "peft==0.21"]
    pinned = pins_of("constraints.txt")
    assert versions.requirements("pinned") == [f"{name}=={pinned[name]}" for name in versions.PACKAGES]
    assert versions.requirements("newest") == ["transformers>=5.23,<6", "peft>=0.21"]
    counts = versions.count_outcomes("FAILED a\n2 failed, 7 passed, 3 skipped, 1 error in 3.00s")
    assert counts == {"failed": 3, "passed": 7, "skipped": 3}
