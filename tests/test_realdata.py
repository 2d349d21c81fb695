"""The records of FACTUALITY_REAL_DATA (real rows in the original formats) through the data stage."""

import os
from collections import Counter
from pathlib import Path

import pytest

import build_data
from utils.jsonl import read_json
from utils.schema import read_samples

ROOT = Path(__file__).resolve().parent.parent
REAL = Path(os.environ.get("FACTUALITY_REAL_DATA", ROOT.parent / "shared/realdata"))
pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="no real records: set FACTUALITY_REAL_DATA to their folder"
)


# 13 to 16 s of processor time.
@pytest.mark.slow
def test_real_records_of_all_four_sources_build_with_all_rules_green(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    # The sources config names its files by this variable.
    monkeypatch.setenv("FACTUALITY_REAL_DATA", str(REAL))
    build_data.main(
        ["--sources-config", "tests/realdata_sources.yaml", "--accept-new-hash", "--max-per-source", "300"]
    )
    figures = read_json(tmp_path / "data/processed/audit.json")
    assert figures["rules_broken"] == []
    # Two questions may have one answer; nothing else may be in two splits.
    assert sum(n for name, n in figures["contamination"].items() if name != "answers") == 0
    samples = []
    for split in ("train", "val", "test"):
        samples += read_samples(tmp_path / f"data/processed/{split}.jsonl")
    counts = Counter(s["source"] for s in samples)
    assert all(counts[source] > 50 for source in ("fever", "hotpotqa", "nq_open", "popqa")), counts
