import pytest

from models.distributed import ShardLog, Shards
from tests.conftest import TWO_PROCESSES, TWO_PROCESSES_ENV
from utils.jsonl import read_json, read_jsonl


def test_a_rerun_goes_on_after_the_last_whole_row_on_any_number_of_processes(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"id": str(i)} for i in range(3)]
    log = ShardLog(path, {"a": 1}, Shards())
    log.add(rows[2:])
    with open(log.own, "a") as handle:
        handle.write('{"id": "9", "mod')
    other = Shards()
    other.rank = 1
    ShardLog(path, {"a": 1}, other).add(rows[:1])
    again = ShardLog(path, {"a": 1}, Shards())
    assert sorted(row["id"] for row in again.rows()) == ["0", "2"]
    again.add(rows[1:2])
    assert again.finish(lambda row: (row["id"],)) == rows and [row for _, row in read_jsonl(path)] == rows
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]
    assert ShardLog(path, {"a": 1}, Shards()).rows() == ShardLog(path, {"a": 2}, Shards()).rows() == []


def test_rows_of_other_settings_are_not_taken_up(tmp_path):
    ShardLog(tmp_path / "p.jsonl", {"a": 1}, Shards()).add([{"id": "1"}])
    assert ShardLog(tmp_path / "p.jsonl", {"a": 2}, Shards()).rows() == []


def test_shares_cover_everything_once():
    shards = Shards()
    items = list(range(7))
    shards.n_processes = 3
    parts = []
    for shards.rank in range(3):
        parts += shards.mine(items)
    assert sorted(parts) == items


@pytest.fixture(scope="module")
def home(stage, data_home, tiny_gemma_dir, tmp_path_factory):
    """A home with built samples; the tiny base model stands in for a checkpoint."""
    home = tmp_path_factory.mktemp("shards")
    (home / "data").symlink_to(data_home / "data")
    return home


def test_two_processes_write_what_one_writes(home, stage, tiny_gemma_dir):
    model = str(tiny_gemma_dir)
    evaluate = [
        "evaluate_sft_fast_robust.py",
        "--model-path",
        model,
        "--test-data",
        "data/processed/test.jsonl",
        "--limit",
        "9",
        "--batch-size",
        "2",
        "--max-new-tokens",
        "60",
        "--constrained",
        "--temperature",
        "1.0",
    ]
    prefs = [
        "make_prefs.py",
        "--sft-model",
        model,
        "--base-model",
        model,
        "--data-path",
        "data/processed/train.jsonl",
        "--max-samples",
        "5",
        "--batch-size",
        "3",
        "--max-new-tokens",
        "10",
        "--temperature",
        "1.0",
        "--judge-model",
        model,
        "--min-margin",
        "0",
    ]
    threads = TWO_PROCESSES_ENV
    for name, launch in (("one", []), ("two", TWO_PROCESSES)):
        done = stage(*launch, *evaluate, "--output", f"{name}.json", home=home, env=threads)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("wrote") == 1
        done = stage(*launch, *prefs, "--prefs-dir", f"prefs_{name}", home=home, env=threads)
        assert done.returncode == 0, done.stderr
    one, two = ([row for _, row in read_jsonl(home / f"{name}_predictions.jsonl")] for name in ("one", "two"))
    assert len(one) == 18 and [(r["id"], r["model"], r["completion"]) for r in one] == [
        (r["id"], r["model"], r["completion"]) for r in two
    ]
    assert read_json(home / "two.json")["run"]["times"]["sft"]["processes"] == 2
    for pattern in ("cache/*/gens_sft.jsonl", "cache/*/gens_base.jsonl", "preferences_*.jsonl"):
        files = [next((home / f"prefs_{name}").glob(pattern)) for name in ("one", "two")]
        rows = [
            [(row["id"], row.get("completion"), row.get("chosen")) for _, row in read_jsonl(file)]
            for file in files
        ]
        assert rows[0] == rows[1] and rows[0]
    assert not list(home.glob("**/.*partial*"))
