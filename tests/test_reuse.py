"""Results that are there already: shown again for the same run, refused for another one, else kept."""

import json
import shutil

import pytest

import evaluate_sft_fast_robust as evaluation
import robustness
from tests.canned import gold_rows
from utils.errors import UsageError
from utils.jsonl import read_json, write_jsonl
from utils.schema import read_samples

TEST_DATA = "--test-data data/processed/test.jsonl"
RESCORE = f"--predictions p.jsonl {TEST_DATA} --output out.json"


def evaluate(flags: str) -> None:
    evaluation.main(flags.split())


@pytest.fixture
def test_samples(home):
    samples = read_samples(home / "data/processed/test.jsonl")
    write_jsonl(home / "p.jsonl", gold_rows(samples) + gold_rows(samples, "base"))
    return samples


def refusal(flags: str) -> str:
    with pytest.raises(UsageError) as caught:
        evaluate(flags)
    return str(caught.value)


def test_the_same_scoring_again_shows_its_table_and_writes_nothing(home, test_samples, capsys):
    evaluate(RESCORE)
    first = (home / "out.json").read_bytes()
    shown = capsys.readouterr().out
    evaluate(f"{RESCORE} --batch-size 2")
    again = capsys.readouterr().out
    assert (home / "out.json").read_bytes() == first
    assert "out.json is complete with these settings; nothing to do" in again
    # The same table, down to its last row.
    assert shown[: shown.index("lower is better")] in again
    # A page that was not asked for before comes from the files.
    evaluate(f"{RESCORE} --report page.html")
    assert (home / "page.html").is_file() and (home / "out.json").read_bytes() == first


@pytest.mark.parametrize(
    "flags, named",
    [
        ("--limit 10", "limit (was None, now 10)"),
        ("--confidence-threshold 0.5", "confidence_threshold (was None, now 0.5)"),
        ("--seed 7", "seed (was 42, now 7)"),
    ],
)
def test_other_flags_are_named_and_need_overwrite(flags, named, home, test_samples):
    evaluate(RESCORE)
    first = read_json(home / "out.json")
    message = refusal(f"{RESCORE} {flags}")
    assert (
        "out.json was made with other settings" in message and named in message and "--overwrite" in message
    )
    assert read_json(home / "out.json") == first
    evaluate(f"{RESCORE} {flags} --overwrite")
    assert read_json(home / "out.json") != first


def test_other_predictions_under_the_same_name_are_noticed(home, test_samples):
    evaluate(RESCORE)
    write_jsonl(home / "p.jsonl", gold_rows(test_samples))
    assert "p.jsonl" in refusal(RESCORE)
    # Moved, they are the same.
    write_jsonl(home / "q.jsonl", gold_rows(test_samples) + gold_rows(test_samples, "base"))
    evaluate(RESCORE.replace("p.jsonl", "q.jsonl"))


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "no json", json.dumps({"suites": {}, "run": {}})])
def test_a_file_of_something_else_is_not_replaced(content, home, test_samples):
    (home / "out.json").write_text(content)
    assert "exists and holds other data" in refusal(RESCORE)
    assert (home / "out.json").read_text() == content
    evaluate(f"{RESCORE} --overwrite")
    assert read_json(home / "out.json")["sft"]["em"] == 1


def test_a_model_is_not_loaded_for_results_that_are_there(home, tiny_gemma_dir, monkeypatch, capsys):
    shutil.copytree(tiny_gemma_dir, home / "model")
    common = f"--model-path model {TEST_DATA} --max-new-tokens 2 --limit 4"
    evaluate(f"{common} --output out.json")
    robustness.main(f"{common} --suite order --output r.json".split())
    written = {name: (home / name).read_bytes() for name in ("out.json", "r.json", "out_predictions.jsonl")}

    def refuse(*args, **settings):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(evaluation, "sft_and_base", refuse)
    monkeypatch.setattr(robustness, "load_generator", refuse)
    capsys.readouterr()
    evaluate(f"{common} --output out.json")
    robustness.main(f"{common} --suite order --output r.json".split())
    shown = capsys.readouterr().out
    assert shown.count("complete with these settings; nothing to do") == 2 and "order" in shown

    changed = common.replace("--max-new-tokens 2", "--max-new-tokens 3")
    named = r"max_new_tokens \(was 2, now 3\)"
    with pytest.raises(UsageError, match=named):
        evaluate(f"{changed} --output out.json")
    with pytest.raises(UsageError, match=named):
        robustness.main(f"{changed} --suite order --output r.json".split())
    with pytest.raises(UsageError, match="suite"):
        robustness.main(f"{common} --suite order,noise --output r.json".split())
    # Neither is the output of the other script.
    with pytest.raises(UsageError, match="holds other data"):
        robustness.main(f"{common} --suite order --output out.json".split())
    assert written == {name: (home / name).read_bytes() for name in written}

    # Another checkpoint under the same path.
    (home / "model/chat_template.jinja").write_text("{{ messages }}")
    assert "model_key" in refusal(f"{common} --output out.json")
