"""Runs on several processes: nothing is lost, done twice or different from a run on one process."""

import pytest

from models.distributed import ShardLog, Shards
from tests.conftest import TWO_PROCESSES, TWO_PROCESSES_ENV
from utils.jsonl import append_jsonl, read_json, read_jsonl


def test_a_rerun_goes_on_after_the_last_whole_row_on_any_number_of_processes(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"id": str(i)} for i in range(3)]
    log = ShardLog(path, {"a": 1}, Shards())
    log.add(rows[2:])
    # As a kill in the middle of a write leaves it.
    with open(log.own, "a") as handle:
        handle.write('{"id": "9", "mod')
    # A second process of the run that was killed; the rerun has one process alone.
    other = Shards()
    other.rank = 1
    ShardLog(path, {"a": 1}, other).add(rows[:1])
    again = ShardLog(path, {"a": 1}, Shards())
    assert sorted(row["id"] for row in again.rows()) == ["0", "2"]
    again.add(rows[1:2])
    assert again.finish(lambda row: (row["id"],)) == rows and [row for _, row in read_jsonl(path)] == rows
    # No partial file is left, so the next run starts from nothing.
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]
    assert ShardLog(path, {"a": 1}, Shards()).rows() == ShardLog(path, {"a": 2}, Shards()).rows() == []


def test_a_kill_leaves_a_batch_whole_or_not_at_all(tmp_path):
    log = ShardLog(tmp_path / "p.jsonl", {"a": 1}, Shards())
    for start in (0, 2):
        log.add([{"id": start}, {"id": start + 1}])
    written = log.own.read_bytes()
    # The last batch, cut behind the first of its rows.
    log.own.write_bytes(written[: written.rindex(b'{"id"')])
    again = ShardLog(tmp_path / "p.jsonl", {"a": 1}, Shards())
    assert [row["id"] for row in again.rows()] == [0, 1]
    # Earlier versions wrote a row per line.
    append_jsonl(log.own, [{"id": 2}])
    assert [row["id"] for row in again.rows()] == [0, 1, 2]


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


def test_a_thread_at_work_does_not_abort_the_end_of_a_launch(stage, tmp_path):
    # Python's end would be: "terminate called without an active exception", SIGABRT.
    done = stage(*TWO_PROCESSES, "tests/leaves_early.py", home=tmp_path, env=TWO_PROCESSES_ENV)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def home(stage, data_home, tiny_gemma_dir, tmp_path_factory):
    """A home with built samples; the tiny base model serves as the checkpoint."""
    home = tmp_path_factory.mktemp("shards")
    (home / "data").symlink_to(data_home / "data")
    return home


def fields_of(path, *fields):
    values = []
    for _, row in read_jsonl(path):
        values.append([row.get(field) for field in fields])
    return values


def test_two_processes_write_what_one_writes(home, stage, tiny_gemma_dir):
    # Sampled at temperature 1: only seeds per row give the same tokens in other batches and on other
    # processes.
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
        *("--models", "sft,base", "--sft-model", model, "--base-model", model),
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
        # A random model writes nothing that may be chosen.
        *("--min-label-share=0", "--min-margin=0", "--hard-rejections"),
    ]
    threads = TWO_PROCESSES_ENV
    for name, launch in (("one", []), ("two", TWO_PROCESSES)):
        done = stage(*launch, *evaluate, "--output", f"{name}.json", home=home, env=threads)
        assert done.returncode == 0, done.stderr
        # The first process alone speaks.
        assert done.stdout.count("wrote") == 1
        done = stage(*launch, *prefs, "--prefs-dir", f"prefs_{name}", home=home, env=threads)
        assert done.returncode == 0, done.stderr
    one = fields_of(home / "one_predictions.jsonl", "id", "model", "completion")
    two = fields_of(home / "two_predictions.jsonl", "id", "model", "completion")
    assert len(one) == 18 and one == two
    assert read_json(home / "two.json")["run"]["times"]["sft"]["processes"] == 2
    manifest = next((home / "prefs_two").glob("cache/*/manifest.json"))
    assert read_json(manifest)["times"]["base"]["processes"] == 2
    for pattern in ("cache/*/gens_sft.jsonl", "cache/*/gens_base.jsonl", "preferences_*.jsonl"):
        one, two = (next((home / f"prefs_{name}").glob(pattern)) for name in ("one", "two"))
        fields = ("id", "completion", "chosen")
        assert fields_of(one, *fields) == fields_of(two, *fields) != []
    assert not list(home.glob("**/.*partial*"))
