"""Missed shares are said, an empty split stops the build, and data is replaced only by whole data."""

import json
import os
import signal
import subprocess
import sys

import pytest

import build_data
from evidence.drops import DroppedRows, examples, first_dropped
from evidence.promises import empty_split_problem, missed_promises
from tests.test_identity import build, dpr_row, write_rows
from utils.errors import DataError, UsageError
from utils.jsonl import read_json
from utils.replacing import close_replacement, open_replacement
from utils.run_folders import BUILD_NAMES

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def sample(i, answerable=True, source="own", page=None, group=None):
    return {
        "id": f"{source}:{i}",
        "source": source,
        "answerable": answerable,
        "group": group or f"g{i}",
        "evidence_chunks": [{"title": page or f"P{i}", "text": "Text."}],
        "support_spans": [0] if answerable else [],
        "metadata": {},
    }


def splits_of(*sizes):
    """Train, val and test of these sizes, a third of each unanswerable."""
    found = {}
    for split, n in zip(SHARES, sizes):
        found[split] = [sample(f"{split}{i}", answerable=i % 3 > 0) for i in range(n)]
    return found


@pytest.mark.parametrize("sizes", [(80, 10, 10), (83, 9, 8), (4, 1, 1), (33, 4, 3)])
def test_shares_that_whole_groups_allow_are_not_called_missed(sizes):
    assert missed_promises(splits_of(*sizes), {}, SHARES, 0.33) == []


def test_a_source_without_a_sample_is_named_with_its_reasons():
    drops = {"own": {"spare": 2}, "hotpotqa": {"too long": 30, "odd": 1}}
    (line,) = missed_promises(splits_of(80, 10, 10), drops, SHARES, 0.33)
    assert line == "hotpotqa: no sample (dropped: too long 30, odd 1)"


def test_missed_shares_are_said_with_what_was_asked():
    (line,) = missed_promises(splits_of(96, 2, 2), {}, SHARES, 0.33)
    assert line == "split shares: train 0.96 (asked 0.80), val 0.02 (asked 0.10), test 0.02 (asked 0.10)"


def test_a_source_with_too_few_unanswerable_samples_is_named_with_its_split():
    splits = splits_of(80, 10, 10)
    splits["test"] = [sample(i, answerable=i % 5 > 0, source="nq_open") for i in range(10)]
    splits["train"] += [sample(f"n{i}", answerable=i % 5 > 0, source="nq_open") for i in range(50)]
    lines = missed_promises(splits, {}, SHARES, 0.33)
    assert "unanswerable 0.20 of 0.33 in nq_open train" in lines
    # Ten samples of test: one more or less decides nothing.
    assert not any("nq_open test" in line for line in lines)


def test_a_source_that_loses_a_fifth_of_its_rows_to_the_splits_is_named_with_a_way_out():
    drops = {"own": {"connects two splits": 40}}
    (line,) = missed_promises(splits_of(80, 10, 10), drops, SHARES, 0.33)
    assert line.startswith(
        "own: 40 rows dropped because they connect two splits, over 20%; titles of smaller"
    )
    assert missed_promises(splits_of(80, 10, 10), {"own": {"connects two splits": 10}}, SHARES, 0.33) == []


def test_an_empty_split_is_explained_by_the_page_that_all_share():
    splits = {"train": [sample(i, page="Handbook", group="g") for i in range(9)], "val": [], "test": []}
    problem = empty_split_problem(splits, {})
    assert problem.startswith("no val and no test sample, because 9 of 9 questions share the page 'Handbook'")
    assert "finer titles" in problem
    assert empty_split_problem(splits_of(8, 1, 1), {}) is None


def test_an_empty_split_is_explained_by_too_few_groups():
    rows = [sample(i, page=f"Part {i % 2}", group=f"g{i % 2}") for i in range(10)]
    problem = empty_split_problem({"train": rows[::2], "val": rows[1::2], "test": []}, {})
    assert problem.startswith(
        "no test sample, because 10 questions share pages in 2 groups, each of which is"
    )
    assert "finer titles" in problem


def test_a_single_question_shares_its_page_with_nobody(sample):
    problem = empty_split_problem({"train": [sample], "val": [], "test": []}, {"spare row": 39})
    assert "share the page" not in problem
    assert "spare row 39" in problem


def test_an_empty_split_is_explained_by_dropped_rows_where_nothing_connects_them():
    splits = splits_of(8, 1, 0)
    assert empty_split_problem(splits, {"own: bad": 3}).startswith(
        "no test sample could be built (dropped 3: own: bad 3)"
    )


def test_an_empty_split_is_explained_by_dropped_rows_before_the_page_that_is_left():
    splits = {"train": [sample(i, page="Mill", group="g") for i in range(3)], "val": [], "test": []}
    drops = {"own: fewer than two verified negatives": 8, "own: odd": 2, "own: spare row, not needed": 90}
    assert empty_split_problem(splits, drops) == (
        "no val and no test sample could be built because only 3 of 13 questions are left; dropped: own: "
        "fewer than two verified negatives 8 (give longer pages or more pages), own: odd 2; 3 of 3 "
        "questions share the page 'Mill', so they are in one split"
    )


def test_the_first_row_of_each_reason_is_named_and_the_audit_has_twenty():
    rows = DroppedRows()
    for i in range(30):
        rows.drop("too short", f"own:{i}", f"Who is {i}?")
    rows.drop("malformed row", "own.jsonl:7", "question: expected text, found 3")
    rows.drop("spare row, not needed", "own:31", "Who is 31?")
    assert examples({"own": rows, "whole": DroppedRows()}) == [
        "own: first row dropped as too short: own:0 'Who is 0?'; "
        "malformed row: own.jsonl:7 'question: expected text, found 3'"
    ]
    found = first_dropped({"own": rows})["own"]
    assert list(found["too short"]) == [f"own:{i}" for i in range(20)]
    assert rows["too short"] == 30


# --- builds


def test_one_document_for_all_stops_the_build_and_a_quick_look_goes_on(tmp_path, monkeypatch, capsys):
    path = write_rows(tmp_path / "own.jsonl", [dpr_row(i, "Employee handbook") for i in range(20)])
    message = "20 of 20 questions share the page 'Employee handbook', .*finer titles"
    with pytest.raises(DataError, match=message):
        build(tmp_path, monkeypatch, {path: "any"})
    assert (tmp_path / "data/processed/audit.json").is_file()
    splits = tmp_path / "data/processed"
    monkeypatch.setattr("evidence.writing.note", print)
    build_data.main(
        ["--sources-config", str(tmp_path / "s.yaml"), "--limit", "5", "--overwrite", "--accept-new-hash"]
    )
    assert "5 of 5 questions share the page" in capsys.readouterr().out
    assert (splits / "train.jsonl").read_text()


def test_a_file_of_official_test_rows_becomes_a_test_file(tmp_path, monkeypatch, capsys):
    path = write_rows(tmp_path / "own.jsonl", [dpr_row(i, f"P{i}") for i in range(20)])
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    config = tmp_path / "s.yaml"
    records = [{"path": str(path), "split": "test"}]
    config.write_text(json.dumps({"sources": {"own": {"licence": "x", "records": records}}}))
    build_data.main(["--sources-config", str(config), "--accept-new-hash"])
    said = capsys.readouterr()
    assert "all rows are official dev or test rows, so only test can be built" in said.err
    assert said.out.startswith("wrote test 30 samples")
    assert not (tmp_path / "data/processed/train.jsonl").exists()


def test_official_test_rows_go_to_test_alone_and_dev_rows_never_to_train(tmp_path, monkeypatch):
    rows = [dpr_row(i, f"P{i}") for i in range(60)]
    files = {}
    for split, part in (("train", rows[:40]), ("dev", rows[40:50]), ("test", rows[50:])):
        files[write_rows(tmp_path / f"{split}.jsonl", part)] = split
    splits, _ = build(tmp_path, monkeypatch, files)
    for split, samples in splits.items():
        officials = {sample["metadata"]["official_split"] for sample in samples}
        assert (
            officials
            <= {"train": {"train"}, "val": {"train", "dev"}, "test": {"train", "dev", "test"}}[split]
        )
    assert sum(sample["metadata"]["official_split"] == "test" for sample in splits["test"]) >= 10


# --- replacing processed data


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """(flags of a finished build, a function that returns the bytes of its files)."""
    path = write_rows(tmp_path / "own.jsonl", [dpr_row(i, f"P{i}") for i in range(20)])
    build(tmp_path, monkeypatch, {path: "any"})
    processed = tmp_path / "data/processed"

    def files():
        return {file.name: file.read_bytes() for file in sorted(processed.iterdir())}

    return ["--sources-config", str(tmp_path / "s.yaml"), "--seed", "7", "--overwrite"], files


def test_a_finished_build_replaces_the_old_data(finished, tmp_path):
    flags, files = finished
    old = files()
    build_data.main(flags)
    assert files().keys() == old.keys()
    assert files() != old
    assert read_json(tmp_path / "data/processed/run.json")["settings"]["seed"] == 7
    assert [path.name for path in (tmp_path / "data").glob("processed*")] == ["processed"]


def test_a_failed_build_leaves_the_old_data_and_names_its_own_audit(finished, tmp_path, monkeypatch):
    flags, files = finished
    old = files()
    monkeypatch.setattr("evidence.writing.empty_split_problem", lambda splits, drops: "no val sample")
    with pytest.raises(DataError, match=r"processed\.new/audit\.json"):
        build_data.main(flags)
    assert files() == old
    assert (tmp_path / "data/processed.new/audit.json").is_file()


@pytest.mark.parametrize(
    "step", ["build_data.build", "evidence.writing.write_text", "build_data.close_replacement"]
)
def test_a_killed_build_leaves_the_old_data_and_the_next_one_finishes(step, finished, tmp_path):
    flags, files = finished
    old = files()
    code = (
        "import build_data, evidence.writing, os, signal, sys\n"
        f"{step} = lambda *args, **facts: os.kill(os.getpid(), signal.SIGKILL)\n"
        "build_data.main(sys.argv[1:])\n"
    )
    env = {**os.environ, "FACTUALITY_HOME": str(tmp_path), "PYTHONPATH": str(build_data.ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *flags], env=env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert files() == old
    build_data.main(flags)
    assert files() != old
    assert not (tmp_path / "data/processed.new").exists()


@pytest.mark.parametrize("n_renamed", [0, 1, 2])
def test_a_swap_that_is_cut_short_leaves_whole_data(n_renamed, tmp_path, monkeypatch):
    folder = tmp_path / "processed"
    run = {"settings": {"seed": 1}, "inputs": {}, "status": "running"}
    for content in ("old", "new"):
        state, written = open_replacement(folder, run, overwrite=True, names=BUILD_NAMES)
        (written / "train.jsonl").write_text(content)
        if content == "old":
            close_replacement(written, folder, run)
    assert (state, written.name) == ("new", "processed.new")

    renamed = []
    rename = type(folder).rename

    def cut_short(path, target):
        if len(renamed) == n_renamed:
            raise KeyboardInterrupt
        renamed.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "rename", cut_short)
        # The third step of the swap removes the old data.
        patch.setattr("utils.replacing.shutil.rmtree", lambda path: cut_short(path, path))
        with pytest.raises(KeyboardInterrupt):
            close_replacement(written, folder, run)

    # The next run of any stage that asks finds one whole directory.
    assert open_replacement(folder, run, overwrite=False, names=BUILD_NAMES) == ("complete", folder)
    assert (folder / "train.jsonl").read_text() == ("new" if n_renamed == 2 else "old")
    assert not (tmp_path / "processed.old").exists()


def test_a_replaced_build_deletes_no_file_of_the_user(tmp_path):
    folder = tmp_path / "processed"
    run = {"settings": {"seed": 1}, "inputs": {}, "status": "running"}
    _, written = open_replacement(folder, run, overwrite=False, names=BUILD_NAMES)
    (written / "train.jsonl").write_text("old")
    close_replacement(written, folder, run)
    (folder / "own.jsonl").write_text("rows of the user")
    with pytest.raises(UsageError, match=r"has own\.jsonl \(data\), which .*--overwrite would delete"):
        open_replacement(folder, run, overwrite=True, names=BUILD_NAMES)
    assert (folder / "own.jsonl").read_text() == "rows of the user"
    assert (folder / "train.jsonl").read_text() == "old"


def test_data_behind_a_link_is_replaced_where_the_link_points(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    folder = tmp_path / "processed"
    folder.symlink_to(disk)
    run = {"settings": {"seed": 1}, "inputs": {}, "status": "running"}
    for content in ("old", "new"):
        _, written = open_replacement(folder, run, overwrite=True, names=BUILD_NAMES)
        (written / "train.jsonl").write_text(content)
        close_replacement(written, folder, run)
    assert folder.is_symlink()
    assert (disk / "train.jsonl").read_text() == "new"
