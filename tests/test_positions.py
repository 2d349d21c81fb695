"""Texts longer than a model's positions: refused, or cut and said."""

import pytest
import transformers
from transformers import AutoModelForCausalLM

from generation.answering import predict
from generation.engine import GenerationSettings
from generation.likelihood import next_token_logps
from models.loading import load_model, load_tokenizer
from models.positions import n_positions, prompt_limit
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests.conftest import TINY
from utils.errors import UsageError


def llama(**options):
    return transformers.LlamaConfig(**{**TINY, **options})


def phi3(**options):
    factors = [1.0] * (TINY["hidden_size"] // TINY["num_attention_heads"] // 2)
    rope = {"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "rope_theta": 1e4}
    return transformers.Phi3Config(**{**TINY, "rope_parameters": rope, "pad_token_id": 0, **options})


def yarn(trained, factor):
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": trained,
        "rope_theta": 1e4,
    }


@pytest.mark.parametrize(
    "config, expected",
    [
        (transformers.GPT2Config(n_positions=128), 128),
        (transformers.BloomConfig(), None),
        (transformers.Gemma2Config(), 8192),
        (transformers.Gemma3Config(text_config={"max_position_embeddings": 640}), 640),
        (llama(max_position_embeddings=256), 256),
        # Qwen counts the positions of the training, others those after the stretching.
        (llama(max_position_embeddings=512, rope_parameters=yarn(512, 4.0)), 2048),
        (llama(max_position_embeddings=2048, rope_parameters=yarn(512, 4.0)), 2048),
        # Beyond the first positions all are rotated otherwise, by the longest text of a pass.
        (phi3(max_position_embeddings=2048, original_max_position_embeddings=512), 512),
    ],
)
def test_the_positions_of_a_config(config, expected):
    assert n_positions(config) == expected


@pytest.fixture
def folder(tokenizer, tmp_path):
    """A model with learned positions, of which it has few."""
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    config = transformers.GPT2Config(n_positions=400, n_embd=32, n_layer=2, n_head=4, **ids)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_training_on_longer_rows_than_the_model_has_positions_is_refused(folder):
    with pytest.raises(
        UsageError, match="max_seq_length: 401, but .* has 400 positions; set it to 400"
    ) as caught:
        load_tokenizer(folder, max_seq_length=401)
    assert "\n" not in str(caught.value)
    assert load_tokenizer(folder, max_seq_length=400)


def test_prompts_leave_room_for_their_completions(folder, sample, monkeypatch, capsys):
    monkeypatch.setattr("models.hardware._SAID", set())
    model = load_model(folder)
    tokenizer = load_tokenizer(folder)
    sentences = " ".join(f"He saw {i} ships in the harbour." for i in range(40))
    long = {**sample, "evidence_chunks": [*sample["evidence_chunks"], {"title": "Log", "text": sentences}]}
    assert prompt_limit(model, 300, 100) == 300
    limit = prompt_limit(model, 4096, 60)
    assert limit == 340
    assert "prompts: 340 tokens at most; gpt2 has 400 positions" in capsys.readouterr().err
    prompt = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], limit).build(long)
    assert len(prompt.ids) <= 340
    settings = GenerationSettings(batch_size=1, max_new_tokens=60)
    ((row,),) = predict(model, tokenizer, {"a": prompt}, "sft", settings)
    assert row["n_tokens"] <= 60


def test_a_judge_or_reward_refuses_what_it_cannot_read(folder):
    model = load_model(folder)
    with pytest.raises(UsageError, match="a text of 401 tokens is too long for this gpt2 model") as caught:
        list(next_token_logps(model, [[5] * 30, [5] * 401], 0, 2))
    assert "\n" not in str(caught.value)
    assert list(next_token_logps(model, [[5] * 400], 0, 2))


def test_a_completion_that_leaves_no_position_for_a_prompt_is_refused(make_model):
    model = make_model("llama")
    n = n_positions(model.config)
    assert prompt_limit(model, 8 * n, n - 1) == 1
    with pytest.raises(UsageError, match=f"--max-new-tokens {n}: .* a prompt needs some"):
        prompt_limit(model, 8 * n, n)
