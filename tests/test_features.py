"""Features of a reward: which tokens say what, states at depths, probabilities with and without support."""

import functools
import json

import pytest
import torch

from models.distributed import Shards
from preferences import features
from preferences.completion_reader import CompletionReader, PromptSource, pooled
from preferences.feature_store import FeatureStore, row_key
from preferences.features import features_folder, load_features
from preferences.reward_config import DEFAULTS
from preferences.segments import token_segments
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from utils.completions import render_completion
from utils.progress import LogLines
from utils.text import REFUSAL
from utils.tokens import encode_completion


def said(tokenizer, text: str) -> dict[str, str]:
    ids = encode_completion(tokenizer, text)
    found = {}
    for name in ("answer", "citations", "rest"):
        kept = [i for i, segment in zip(ids, token_segments(tokenizer, ids)) if segment == name]
        found[name] = tokenizer.decode(kept)
    return found


def test_tokens_are_told_apart_by_what_they_say(tokenizer):
    found = said(tokenizer, render_completion("Warsaw in Poland", [0, 2], 0.9))
    assert "Warsaw in Poland" in found["answer"].replace("  ", " ") and "confidence" not in found["answer"]
    assert "0" in found["citations"] and "2" in found["citations"] and "Warsaw" not in found["citations"]
    assert "confidence" in found["rest"] and "answer" in found["rest"]
    assert said(tokenizer, "in prose")["answer"] == ""


def test_states_are_pooled_as_the_settings_say():
    hidden = torch.arange(24.0).reshape(2, 4, 3)
    segments = ["rest", "answer", "answer", "rest"]
    last = hidden[:, -1]
    assert torch.equal(pooled(hidden, segments, ["last"]), last.flatten())
    both = pooled(hidden, segments, ["last", "answer"])
    assert torch.equal(both, torch.cat([last, hidden[:, 1:3].mean(1)], -1).flatten())
    assert torch.equal(pooled(hidden, ["rest"] * 4, ["answer"]), hidden.mean(1).flatten())


@pytest.fixture
def config(tiny_gemma_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    rich = {"feature_layers": [0.5, 1.0], "pooling": ["mean", "answer"], "logprob_features": True}
    return {**DEFAULTS, "base_model": str(tiny_gemma_dir), "output_dir": "rm", "max_seq_length": 900, **rich}


PROMPTS = PromptSource("t", functools.partial(PromptBuilder, template=SFT_TEMPLATES["default"]))


def rows_of(samples, n):
    rows = []
    for sample in samples[:n]:
        for text in (render_completion("Warsaw", [0], 0.9), render_completion(REFUSAL, [], 0.0), "prose"):
            facts = {name: sample[name] for name in ("question", "evidence_chunks")}
            rows.append({"id": sample["id"], **facts, "completion": text})
    return rows


def test_the_answer_is_also_read_behind_its_citations_alone_and_without_evidence(config, samples):
    reader = CompletionReader.load(config, PROMPTS)
    [answered, refused, prose] = reader.read(rows_of(samples, 1))
    # Answer, citations, rest, mean of the answer; behind no evidence, behind the cited chunks.
    for row in (answered, refused):
        *sums, mean, alone, cited = row["features"][-6:].tolist()
        assert all(value < 0 for value in (sums[0], sums[2], mean, alone, cited))
    # A refusal cites nothing, so both prompts have no evidence.
    assert refused["features"][-1] == pytest.approx(refused["features"][-2].item(), abs=1e-4)
    assert prose["features"][-6] == prose["features"][-1] == 0
    whole = reader.read([{**rows_of(samples, 1)[0], "evidence_chunks": samples[0]["evidence_chunks"][:1]}])[0]
    assert answered["features"][-1] == pytest.approx(whole["features"][-6].item(), abs=1e-3)


def test_reading_shows_progress_within_a_file(config, samples, monkeypatch):
    monkeypatch.setattr(features, "_PROMPTS_PER_READ", 2)
    done = []

    class Bar(LogLines):
        def update(self, n: int = 1) -> None:
            done.append(n)

    monkeypatch.setattr(features, "progress", lambda total, *names: Bar(total))
    load_features(rows_of(samples, 5), config, PROMPTS, Shards())
    # Three completions of each of five prompts.
    assert done == [6, 6, 3]
    assert len(list(features_folder(config, "t").glob("*.safetensors"))) == 1


def test_features_are_read_once_per_completion_and_resume(config, samples, monkeypatch):
    monkeypatch.setattr(features, "_PROMPTS_PER_FILE", 2)
    rows = rows_of(samples, 5)
    read = []
    of_rows = CompletionReader.read

    def counted(self, rows):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(len(rows))
        return of_rows(self, rows)

    monkeypatch.setattr(CompletionReader, "read", counted)
    with pytest.raises(KeyboardInterrupt):
        load_features(rows, config, PROMPTS, Shards())
    folder = features_folder(config, "t")
    first = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    assert len(first) == 2 and len(FeatureStore(folder).read([row_key(rows[0])])["features"]) == 1
    monkeypatch.setattr(CompletionReader, "read", of_rows)
    found = load_features(rows, config, PROMPTS, Shards())
    assert found["features"].shape == (15, 2 * 2 * 32 + 6) or found["features"].shape[0] == 15
    for name, content in first.items():
        assert (folder / name).read_bytes() == content
    # Everything is there, in any order and number.
    monkeypatch.setattr(CompletionReader, "load", None)
    again = load_features([rows[7], rows[0], rows[7]], config, PROMPTS, Shards())
    assert torch.equal(again["features"], found["features"][[7, 0, 7]])
    assert json.dumps(sorted(again)) == json.dumps(sorted(found))


def test_log_probabilities_may_be_all_that_is_read(config, samples):
    alone = CompletionReader.load({**config, "pooling": []}, PROMPTS).read(rows_of(samples, 1))
    beside = CompletionReader.load(config, PROMPTS).read(rows_of(samples, 1))
    for row, other in zip(alone, beside):
        assert torch.equal(row["features"], other["features"][-6:])
