"""Exports: they answer as their checkpoint does, or are not written."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import train_sft
from tests.test_cards import trained
from tests.tokenizer_families import FAMILIES
from training.export import Export
from training.gguf import read_gguf, word_rule, write_gguf
from training.parity import check_parity
from utils.completions import render_completion
from utils.errors import StageError
from utils.jsonl import read_json, write_json

__all__ = ["trained"]


def rows(*completions: str) -> list[dict]:
    return [{"id": f"q{i}", "completion": text, "shown": [0, 1, 2]} for i, text in enumerate(completions)]


def test_the_same_answers_and_citations_pass_whatever_the_confidence():
    before = rows(render_completion("Warsaw", [0], 0.9), render_completion("1931", [1, 2], 0.8), "no JSON")
    after = rows(render_completion("Warsaw", [0], 0.7), render_completion("1931", [1, 2], 0.8), "no JSON")
    expected = {"n_prompts": 3, "n_answers": 2, "same_answers": 1.0}
    assert check_parity(before, after, "--merge x") == expected


@pytest.mark.parametrize(
    ("after", "shown"),
    [
        (render_completion("Paris", [0], 0.9), r"q0: 'Warsaw' \[0\] became 'Paris' \[0\]"),
        (render_completion("Warsaw", [1], 0.9), r"q0: 'Warsaw' \[0\] became 'Warsaw' \[1\]"),
        ("Warsaw,\nI think", r"q0: 'Warsaw' \[0\] became no answer \('Warsaw, I think'\)"),
    ],
)
def test_another_answer_or_citation_is_named(after, shown):
    same = [render_completion(str(i), [0], 0.9) for i in range(98)]
    before = rows(render_completion("Warsaw", [0], 0.9), render_completion("x", [0], 0.9), *same)
    once = rows(after, render_completion("x", [0], 0.9), *same)
    # One of 100 may be a close call that rounding decides.
    assert check_parity(before, once, "--merge x")["same_answers"] == 0.99
    twice = rows(after, after, *same)
    with pytest.raises(StageError, match=f"2 of 100 .*limit 1%.*nothing was written; {shown}; q1") as raised:
        check_parity(before, twice, "--merge x")
    assert "\n" not in str(raised.value)


def test_a_merged_model_that_answers_otherwise_is_not_written(trained, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(trained))
    run = ["-c", str(trained / "c.yaml"), "--merge", "merged"]

    def answers(self, model_dir, options, name):
        # A toy model answers nothing that can be read, so what is compared is written here.
        assert (Path(model_dir) / "tokenizer.json").is_file()
        return rows(*[render_completion(name, [0], 0.9)] * 10)

    with monkeypatch.context() as patch:
        patch.setattr(Export, "answers", answers)
        with pytest.raises(StageError, match="10 of 10 answers .*: 'checkpoint' .0. became 'merged' .0."):
            train_sft.main(run)
    assert not list(trained.glob("*merged*"))

    train_sft.main(run)
    printed = capsys.readouterr()
    assert "none of 40 completions of the checkpoint has an answer to compare" in printed.out
    manifest = read_json(trained / "merged/run.json")
    assert manifest["merge"]["same_answers"] == 1.0 and manifest["merge"]["n_prompts"] == 40
    assert manifest["template"] == "default"
    # Its card is that of a model, which needs no base.
    card = (trained / "merged/README.md").read_text()
    assert "library_name: transformers" in card and "BASE =" not in card
    assert "--model-path merged" in printed.err


def test_a_gguf_file_read_back_is_the_same_model(make_model, tokenizer, tmp_path):
    model = make_model("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    write_gguf(tmp_path / "model", tmp_path / "model.gguf")
    read_gguf(tmp_path / "model.gguf", tmp_path / "back")
    text = 'Question: who? 1931\n{"answer": "Marie Curie", "citations": [0]}<eos>'
    ids = tokenizer(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(tmp_path / "back")(text)["input_ids"] == ids
    found = []
    for name in ("model", "back"):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32)
        with torch.inference_mode():
            found.append(loaded(torch.tensor([ids])).logits)
    # bfloat16 in, bfloat16 out: the same numbers, with the heads of queries and keys in their order.
    assert torch.equal(*found)


def test_other_architectures_are_sent_to_their_converter(tiny_gemma_dir, tmp_path):
    with pytest.raises(StageError, match="gemma2 models are not written here; convert the folder of --merge"):
        write_gguf(tiny_gemma_dir, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, value, message",
    [
        (
            "rope_parameters",
            {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            "positions of the kind",
        ),
        ("attention_bias", True, "biases of attention"),
    ],
)
def test_positions_and_biases_that_would_be_lost_are_sent_there_too(
    name, value, message, make_model, tokenizer, tmp_path
):
    make_model("llama").save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    config = tmp_path / "model/config.json"
    write_json(config, {**read_json(config), name: value})
    with pytest.raises(StageError, match=message):
        write_gguf(tmp_path / "model", tmp_path / "x.gguf")


@pytest.mark.parametrize(
    "family, name", [("llama-3", "llama-bpe"), ("gpt-neox", "gpt-2"), ("smollm2", "smollm")]
)
def test_the_rule_for_words_has_its_name(family, name):
    assert word_rule(FAMILIES[family].make(), 1000) == name


def test_a_tokenizer_whose_rule_for_words_has_no_name_here_is_not_written():
    with pytest.raises(StageError, match="rule for words is not known here; convert the folder of --merge"):
        word_rule(FAMILIES["qwen2.5"].make(), 1000)


def test_a_gguf_file_appears_when_its_answers_are_the_same(trained, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(trained))
    before = {path.name for path in (trained / "sft").iterdir()}
    with pytest.raises(StageError, match="gemma2 models are not written here"):
        train_sft.main(["-c", str(trained / "c.yaml"), "--export", "gguf"])
    assert {path.name for path in (trained / "sft").iterdir()} == before
