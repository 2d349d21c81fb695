"""Pairs of other tools: what is read of them, what is refused with its line, and what comes back."""

import copy
import json
import random

import pytest

import make_prefs
import train_rm
from preferences.exchange import read_pairs
from preferences.forms import FORMS, imported_row
from preferences.inputs import preference_files
from tests.test_reward import preference
from utils.completions import render_completion
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, read_jsonl, write_jsonl
from utils.pair_rules import IMPORTED, kind_of
from utils.schema import read_preferences

USER = {"role": "user", "content": "Why is the sky blue?"}
GOOD = {"role": "assistant", "content": "Air scatters blue light more than red light."}
BAD = {"role": "assistant", "content": "It mirrors the sea."}
ULTRA = {
    "prompt": USER["content"],
    "prompt_id": "9f1",
    "chosen": [USER, GOOD],
    "rejected": [USER, BAD],
    "messages": [USER, GOOD],
    "score_chosen": 8.5,
    "score_rejected": 4.0,
}
BENCH = {
    "id": 7,
    "prompt": USER["content"],
    "chosen": GOOD["content"],
    "chosen_model": "one",
    "rejected": BAD["content"],
    "rejected_model": "two",
    "subset": "alpacaeval-easy",
}


def lines_of(path):
    return [row for _, row in read_jsonl(path)]


def test_a_row_of_ultrafeedback():
    row = imported_row(ULTRA, 3)
    assert row["prompt"] == [USER] and row["chosen"] == [GOOD] and row["rejected"] == [BAD]
    assert (row["score_chosen"], row["score_rejected"], row["margin"]) == (0.85, 0.4, 0.45)
    assert row["id"] == "9f1" and row["source"] == "ultrafeedback" and row["question"] == USER["content"]
    assert row["evidence_chunks"] == [] and row["kind"] == row["decided_by"] == IMPORTED


def test_a_row_of_rewardbench():
    row = imported_row(BENCH, 3)
    assert row["prompt"] == [USER] and row["chosen"] == [GOOD] and row["rejected"] == [BAD]
    assert (row["score_chosen"], row["score_rejected"], row["margin"]) == (1.0, 0.0, 1.0)
    assert row["id"] == "rewardbench:alpacaeval-easy:7" and row["kind"] == "alpacaeval-easy"
    assert (row["chosen_model"], row["rejected_model"]) == ("one", "two")
    # Pairs of one prompt are on one side of a split.
    other = {**BENCH, "id": 8, "chosen": "Light is scattered."}
    assert imported_row(other, 4)["group"] == row["group"]


def test_a_conversation_keeps_its_turns_and_loses_what_is_no_message():
    turns = [{"role": "system", "content": "Be brief."}, USER, GOOD, {**USER, "content": "And at dusk?"}]
    chosen = [*turns, {"role": "assistant", "content": "The way is longer."}]
    rejected = [*copy.deepcopy(turns), {"role": "assistant", "content": "Red paint.", "name": "x"}]
    row = imported_row({**ULTRA, "chosen": chosen, "rejected": rejected}, 1)
    assert row["prompt"] == turns and row["rejected"] == [{"role": "assistant", "content": "Red paint."}]
    assert row["question"].startswith("Be brief.\n\nWhy is") and row["question"].endswith("And at dusk?")


def test_a_question_of_another_tool_is_not_the_prompt():
    row = imported_row({**BENCH, "question": "Of something else", "system": "Be brief."}, 3)
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, USER]
    assert row["question"] == f"Be brief.\n\n{USER['content']}"


@pytest.mark.parametrize("field", ["subset", "kind"])
def test_a_null_kind_is_none(field):
    row = imported_row({**ULTRA, field: None}, 3)
    assert row["kind"] == IMPORTED and row["source"] == "ultrafeedback"
    nameless = {name: value for name, value in BENCH.items() if name != "id"}
    assert imported_row({**nameless, "subset": None}, 3)["id"] == "ultrafeedback:row:3"
    assert kind_of({"kind": None}) == kind_of({}) == "pair"


BAD_ROWS = {
    "other prompt": (
        {"prompt": "Who won?"},
        "prompt is in none of the messages that chosen and rejected hold",
    ),
    "null text": ({"chosen": None}, "chosen must be a text or a list of chat messages, found None"),
    "null content": ({"chosen": [USER, {**GOOD, "content": None}]}, r"chosen\[1\].content must be str"),
    "empty content": ({"rejected": [USER, {**BAD, "content": " "}]}, r"rejected\[0\].content is empty"),
    "no messages": ({"chosen": []}, "chosen must be a list of chat messages"),
    "no reply": ({"chosen": [USER], "rejected": [USER, BAD]}, "differ before their last message"),
    "no reply at all": ({"chosen": [USER], "rejected": [BAD | USER]}, "chosen must be one message of the"),
    "other prompts": (
        {"rejected": [{**USER, "content": "Why is grass green?"}, BAD]},
        "differ before their last message",
    ),
    "two prompts": ({"prompt": [{**USER, "content": "x"}]}, "prompt differs from the conversation"),
    "equal": ({"rejected": [USER, GOOD]}, "chosen and rejected are the same text"),
    "equal scores": ({"score_rejected": 8.5}, "score_chosen 8.5 is not above score_rejected 8.5"),
    "turned": ({"score_rejected": 9}, "score_chosen 8.5 is not above score_rejected 9"),
    "one score": ({"score_rejected": None}, "score_rejected must be a number of 0-10, found None"),
    "high score": ({"score_chosen": 85}, "score_chosen must be a number of 0-10, found 85"),
    "no prompt": ({"prompt": None, "chosen": "a", "rejected": "b"}, "prompt must be a text or a list"),
    "empty prompt": ({"prompt": " ", "chosen": "a", "rejected": "b"}, "prompt is empty"),
    "type": ({"source": ["web"]}, "field 'source' must be str"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_an_error_with_its_line_or_counted(name, tmp_path):
    change, reason = BAD_ROWS[name]
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, [BENCH, {**ULTRA, **change}])
    with pytest.raises(DataError, match=rf"pairs.jsonl:2: .*{reason}.* add --skip-bad"):
        read_pairs(path, skip_bad=False)
    rows, dropped = read_pairs(path, skip_bad=True)
    assert len(rows) == 1 and dropped == {"malformed row": 1}


def test_lines_and_ids_that_cannot_be_used_are_bad_rows_too(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([json.dumps(ULTRA), "{", json.dumps(ULTRA), "[]"]))
    with pytest.raises(DataError, match="pairs.jsonl:2: not a JSON object"):
        read_pairs(path, skip_bad=False)
    assert read_pairs(path, skip_bad=True)[1] == {"malformed row": 3}
    write_jsonl(path, [ULTRA, ULTRA])
    with pytest.raises(DataError, match="pairs.jsonl:2: duplicate id '9f1', first seen on line 1"):
        read_pairs(path, skip_bad=False)
    write_jsonl(path, [{**ULTRA, "chosen": None}])
    with pytest.raises(DataError, match="no pair that can be read .dropped 1: malformed row 1"):
        read_pairs(path, skip_bad=True)


@pytest.fixture
def own_rows(sample, tmp_path, monkeypatch):
    """A home with a preferences file of make_prefs.py; its rows."""
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    rows = []
    for i in range(6):
        row = preference(i, sample, render_completion("Paris", [1], 0.9))
        row |= {"kind": "other answer", "licence": "CC0", "score_chosen": 0.75, "score_rejected": 0.25}
        rows.append({**row, "margin": 0.5})
    write_jsonl(tmp_path / "prefs/preferences_a-b.jsonl", rows)
    return rows


@pytest.mark.parametrize("form", FORMS)
def test_what_is_exported_comes_back_by_import(form, own_rows, tmp_path, capsys):
    make_prefs.main(["--export", form])
    exported = tmp_path / f"prefs/{form}_preferences_a-b.jsonl"
    assert f"wrote 6 pairs to {exported}" in capsys.readouterr().out
    # What is exported is no preferences file, which train_rm.py would take for the newest.
    assert [path.name for path in preference_files(tmp_path / "prefs")] == ["preferences_a-b.jsonl"]
    first = lines_of(exported)[0]
    assert first["prompt"] == "q" and first["score_chosen"] == 7.5
    is_whole = form == "ultrafeedback"
    assert first["chosen"] == (own_rows[0]["prompt"] + own_rows[0]["chosen"] if is_whole else CHOSEN)
    make_prefs.main(["--import", str(exported), "--prefs-dir", "again"])
    (found,) = preference_files(tmp_path / "again")
    assert read_preferences(found) == own_rows


CHOSEN = render_completion("Warsaw", [0], 0.9)


def test_an_import_writes_preferences_and_statistics_that_are_the_newest(own_rows, tmp_path, capsys):
    write_jsonl(tmp_path / "pairs.jsonl", [ULTRA, {**ULTRA, "chosen": None}, BENCH])
    run = ["--import", "pairs.jsonl", "--skip-bad"]
    make_prefs.main([*run, "--dry-run"])
    assert "would write 2 preferences" in capsys.readouterr().out
    make_prefs.main(run)
    assert "(rows dropped 1: malformed row 1)" in capsys.readouterr().out
    newest = preference_files(tmp_path / "prefs")[-1]
    assert newest.name.startswith("preferences_import-") and len(read_preferences(newest)) == 2
    stats = read_json(newest.with_name(newest.name.replace("preferences", "preference_stats", 1)[:-1]))
    assert stats["n_pairs"] == 2 and stats["dropped"] == {"malformed row": 1}
    assert stats["settings"]["judge"] == IMPORTED


def test_a_limit_takes_the_first_pairs(own_rows, tmp_path, capsys):
    write_jsonl(tmp_path / "pairs.jsonl", [ULTRA, BENCH])
    make_prefs.main(["--import", "pairs.jsonl", "--limit", "1", "--dry-run"])
    assert "would write 1 preferences" in capsys.readouterr().out
    make_prefs.main(["--export", "rewardbench", "--limit", "2"])
    assert "wrote 2 pairs" in capsys.readouterr().out


def test_flags_and_files_that_do_not_fit_are_refused(own_rows, tmp_path):
    with pytest.raises(UsageError, match="--skip-bad is about the rows of --import"):
        make_prefs.main(["--export", "rewardbench", "--skip-bad"])
    with pytest.raises(UsageError, match="--prefs names the file of --export"):
        make_prefs.main(["--import", "x", "--prefs", "y"])
    for flag in ("--match-form", "--hard-rejections", "--judge-model x", "--min-margin 0.9", "--cache-sig x"):
        for way in ("--import x", "--export rewardbench"):
            with pytest.raises(UsageError, match=f"{flag.split()[0]}: --.*port neither generates nor judges"):
                make_prefs.main([*way.split(), *flag.split()])
    with pytest.raises(DataError, match="found preference pairs, expected pairs of another tool"):
        make_prefs.main(["--import", "prefs/preferences_a-b.jsonl"])


# Rows that others made, given to train_rm.py: (changes of a row of ours, what the error says).
OTHERS = {
    "both sides whole": (
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        "chosen must be one message of the assistant, and what comes before in prompt; found user, assistant",
    ),
    "null": ({"rejected": [{**BAD, "content": None}]}, r"rejected\[0\].content must be str, found None"),
    "no content": ({"rejected": [{"role": "assistant"}]}, "must be a chat message with role and content"),
    "empty": ({"chosen": [{**GOOD, "content": "\n"}]}, r"chosen\[0\].content is empty"),
    "equal but for a name": ({"chosen": [GOOD], "rejected": [{**GOOD, "name": "x"}]}, "the same text"),
    "no reply": ({"chosen": []}, "chosen must be a list of chat messages"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_train_rm_names_the_line_and_the_reason_of_a_bad_pair(name, own_rows, tmp_path):
    change, reason = OTHERS[name]
    write_jsonl(tmp_path / "p.jsonl", [own_rows[0], {**own_rows[1], **change}])
    with pytest.raises(DataError, match=rf"p.jsonl:2: .*{reason}"):
        train_rm.main(["-c", "configs/rm.yaml", "--prefs", "p.jsonl"])


@pytest.mark.parametrize("row", [ULTRA, BENCH], ids=["ultrafeedback", "rewardbench"])
def test_train_rm_names_the_command_for_pairs_of_another_tool(row, own_rows, tmp_path):
    write_jsonl(tmp_path / "p.jsonl", [row])
    with pytest.raises(DataError, match="pairs of another tool.* make_prefs.py --import"):
        train_rm.main(["-c", "configs/rm.yaml", "--prefs", "p.jsonl"])


def imported_pairs(n: int) -> list[dict]:
    numbers = random.Random(1)
    rows = []
    for i in range(n):
        text = " ".join(str(numbers.randint(0, 99)) for _ in range(4))
        user = {**USER, "content": f"Question {i}"}
        sides = {"chosen": [user, {**GOOD, "content": f"yes {text}"}], "rejected": [user, BAD]}
        rows.append({**ULTRA, "prompt": user["content"], "prompt_id": f"p{i}", **sides})
    # These differ behind what the head reads.
    long = [{"role": "assistant", "content": "word " * 400 + end} for end in ("a", "b")]
    rows.append({**ULTRA, "prompt_id": "cut", "chosen": [USER, long[0]], "rejected": [USER, long[1]]})
    return rows


def test_a_reward_model_trains_on_imported_pairs(tiny_gemma_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    write_jsonl(tmp_path / "pairs.jsonl", imported_pairs(12))
    make_prefs.main(["--import", "pairs.jsonl"])
    config = {"base_model": str(tiny_gemma_dir), "val_fraction": 0.2, "test_fraction": 0.2, "num_epochs": 1}
    (tmp_path / "rm.yaml").write_text(json.dumps(config))
    train_rm.main(["-c", str(tmp_path / "rm.yaml")])
    printed = capsys.readouterr()
    assert "dropped 1: equal after the cut at 159 tokens 1" in printed.out
    assert read_json(tmp_path / "checkpoints/rm/validation.json")["n_test_pairs"] >= 2


def trl_steps(name: str, rows_path, tiny_dir, out) -> float:
    """The loss of two steps of a TRL trainer on a preferences file, as TRL reads it."""
    trl = pytest.importorskip("trl")
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    rows = load_dataset("json", data_files=str(rows_path), split="train", cache_dir=str(out / "cache"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_dir)
    # A base model has no chat template.
    tokenizer.chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    sizes = {"max_steps": 2, "per_device_train_batch_size": 2, "report_to": [], "use_cpu": True}
    sizes |= {"output_dir": str(out / name), "bf16": False, "gradient_checkpointing": False}
    if name == "RewardTrainer":
        model = AutoModelForSequenceClassification.from_pretrained(tiny_dir, num_labels=1)
        args = trl.RewardConfig(**sizes)
    else:
        model = AutoModelForCausalLM.from_pretrained(tiny_dir)
        args = trl.DPOConfig(**sizes)
    trainer = getattr(trl, name)(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    done = trainer.train()
    assert done.global_step == 2
    return done.training_loss


@pytest.mark.parametrize("name", ["RewardTrainer", "DPOTrainer"])
def test_trl_trains_two_steps_on_our_preferences(name, own_rows, tiny_gemma_dir, tmp_path):
    path = tmp_path / "prefs/preferences_a-b.jsonl"
    assert trl_steps(name, path, tiny_gemma_dir, tmp_path) > 0
