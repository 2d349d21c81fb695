"""requirements.lock: every installed package that requirements.txt needs, with the SHA-256 of its file.

    python -m benchmarks.lock

`make lock` runs it after a change of constraints.txt. The hashes are those of the files that pip takes on
this platform and Python (the lock says which); elsewhere, write it anew. torch is left out, and so is what it
alone brings along: its builds for CPU and for each CUDA come from other indexes, with other hashes. Needs the
package index.
"""

import argparse
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INPUTS = ("requirements.txt", "requirements-embedded.txt")
TORCH = "torch"


def normal_name(requirement: str) -> str:
    """The name in a requirement, as the index spells it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def named_in(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [normal_name(line) for line in lines if line and not line.startswith(("#", "-"))]


def needed(names: list[str]) -> dict[str, str]:
    """Package -> installed version, of these and all that they require, without torch."""
    found: dict[str, str] = {}
    left = list(names)
    while left:
        name = left.pop()
        if name in found or name == TORCH:
            continue
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # Of another platform or Python, as its marker says.
            continue
        # Embedded models are installed without what they ask for: a runtime that is not used.
        required = [] if name in named_in(ROOT / INPUTS[1]) else importlib.metadata.requires(name) or []
        left += [normal_name(text) for text in required if "extra ==" not in text]
    return found


def hashed(versions: dict[str, str]) -> dict[str, str]:
    """Package -> SHA-256 of the file that pip takes for it, as the index gives it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--no-deps", "--report", str(report)]
        pins = [f"{name}=={version}" for name, version in versions.items()]
        subprocess.run([*command, *pins], check=True)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    hashes = {}
    for install in installs:
        name = normal_name(install["metadata"]["name"])
        hashes[name] = install["download_info"]["archive_info"]["hashes"]["sha256"]
    return hashes


def lock_text(versions: dict[str, str], hashes: dict[str, str]) -> str:
    """The lock as a requirements file."""
    system = f"{platform.system()} {platform.machine()}, Python {sys.version_info[0]}.{sys.version_info[1]}"
    lines = ["# Written by `make lock`; read by `make install-locked`, which installs torch first."]
    lines.append(f"# The hashes are those of the files for {system}.")
    lines += [f"{name}=={versions[name]} --hash=sha256:{hashes[name]}" for name in sorted(versions)]
    return "\n".join(lines) + "\n"


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=formatter, allow_abbrev=False).parse_args()
    versions = needed([name for path in INPUTS for name in named_in(ROOT / path)])
    (ROOT / "requirements.lock").write_text(lock_text(versions, hashed(versions)), encoding="utf-8")
    print(f"wrote requirements.lock ({len(versions)} packages)")


if __name__ == "__main__":
    main()
