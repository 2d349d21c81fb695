"""The families of models that users take, at toy size: real tokenizers, chat templates, architectures.

The templates are our own, and write for turns of user and assistant what the published ones write. A folder
is loaded as a model of the hub is.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM

from tests.conftest import TINY
from tests.tokenizer_kinds import BYTES, texts

# How words and numbers are told apart before byte-level BPE: Llama-3 takes three digits at once, Qwen one.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Family:
    """One family: `make()` gives its tokenizer, `config(**sizes)` that of its model.

    `template` is what its chat model has, None for a base model; `end` is the token that ends a completion.
    """

    make: object
    config: object
    end: str
    template: str | None = None


# --- vocabularies


def _train(tokenizer: Tokenizer, specials: list[str], alphabet: list[str], size: int) -> dict:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    # The words that questions begin with are single tokens, as in real vocabularies.
    questions = ["Question: Where was he born?\nQuestion: Who wrote it?"] * 20
    tokenizer.train_from_iterator(texts() + questions, trainer)
    return json.loads(tokenizer.to_str())["model"]


def _sentencepiece(specials: list[str], prepends: bool) -> dict:
    """Vocabulary and merges with "▁" for a space and a token per byte; no token reaches over a space."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    steps = [normalizers.Prepend("▁")] if prepends else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    lines = pre_tokenizers.Split(Regex("\n+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.Split("▁", "merged_with_next")])
    model = _train(tokenizer, [*specials, *BYTES], ["▁", "\n"], 950)
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def _byte_level(specials: list[str], pre_tokenizer) -> dict:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    model = _train(tokenizer, specials, pre_tokenizers.ByteLevel.alphabet(), 750)
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def _split_words(digits: str):
    pattern = Regex(_WORDS.format(digits=digits))
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), bytes_alone])


def _add_control(tokenizer, *tokens: str, **options):
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False, **options) for token in tokens])
    return tokenizer


# --- tokenizers


def _gemma():
    parts = _sentencepiece(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"], prepends=False)
    tokenizer = transformers.GemmaTokenizer(**parts, add_bos_token=True)
    return _add_control(tokenizer, "<start_of_turn>", "<end_of_turn>")


def _llama2():
    parts = _sentencepiece(["<unk>", "<s>", "</s>"], prepends=True)
    return transformers.LlamaTokenizer(**parts, legacy=True, add_bos_token=True)


def _mistral():
    parts = _sentencepiece(["<unk>", "<s>", "</s>"], prepends=True)
    tokenizer = transformers.LlamaTokenizer(**parts, legacy=False, add_bos_token=True)
    return _add_control(tokenizer, "[INST]", "[/INST]")


def _phi3():
    parts = _sentencepiece(["<unk>", "<s>", "</s>"], prepends=True)
    tokenizer = transformers.LlamaTokenizer(**parts, legacy=False)
    tokenizer.add_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    # These take the white space behind them away.
    _add_control(tokenizer, "<|assistant|>", "<|system|>", "<|end|>", "<|user|>", rstrip=True)
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    return tokenizer


def _llama3(eos: str):
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    specials += ["<|start_header_id|>", "<|end_header_id|>"]
    pre_tokenizer = _split_words(r"\p{N}{1,3}")
    tokenizer = Tokenizer(models.BPE(**_byte_level(specials, pre_tokenizer), ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token=eos,
        add_bos_token=True,
        clean_up_tokenization_spaces=True,
    )


def _qwen(eos: str):
    parts = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], _split_words(r"\p{N}"))
    tokenizer = transformers.Qwen2Tokenizer(**parts, eos_token=eos)
    _add_control(tokenizer, "<|im_start|>", "<|im_end|>")
    # In Qwen3 these are tokens of the vocabulary, but no special ones.
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return tokenizer


def _gpt_neox():
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return transformers.GPTNeoXTokenizer(**_byte_level(["<|endoftext|>", "<|padding|>"], pre_tokenizer))


def _smollm2():
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    digits = pre_tokenizers.Digits(individual_digits=True)
    pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer = Tokenizer(models.BPE(**_byte_level(specials, pre_tokenizer)))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


# --- chat templates

_TRIMMED = "{{ m['content'] | trim }}"
# Gemma-3 takes a text or a list of parts.
_TEXT_OR_PARTS = (
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}"
    "{% for p in m['content'] %}{{ p['text'] | trim }}{% endfor %}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    + _TRIMMED
    + "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token }}[INST] {{ m['content'].strip() }} [/INST]"
    "{% else %} {{ m['content'].strip() }} {{ eos_token }}{% endif %}{% endfor %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}[/INST]"
    "{% else %} {{ m['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
_LLAMA3 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
    "Today Date: {{ strftime_now('%d %b %Y') }}\n\n"
    "<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    + _TRIMMED
    + "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)


def _chatml(system: str) -> str:
    opening = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return (
        opening
        + "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


_QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)

# --- the matrix

_GEMMA_SIZES = {"head_dim": 8, "query_pre_attn_scalar": 8}


def _gemma2_config(**sizes):
    return transformers.Gemma2Config(**sizes, **_GEMMA_SIZES, sliding_window=4096)


def _gemma3_config(**sizes):
    vision = {
        **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"image_size": 28, "patch_size": 14},
    }
    text = {**sizes, **_GEMMA_SIZES, "sliding_window": 64}
    return transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)


def _neox_config(num_key_value_heads, **sizes):
    # It has as many key heads as heads.
    return transformers.GPTNeoXConfig(**sizes)


FAMILIES = {
    "gemma-2": Family(_gemma, _gemma2_config, "<eos>"),
    "gemma-2-it": Family(_gemma, _gemma2_config, "<end_of_turn>", _GEMMA),
    "gemma-3": Family(_gemma, _gemma3_config, "<eos>"),
    "gemma-3-it": Family(_gemma, _gemma3_config, "<end_of_turn>", _GEMMA.replace(_TRIMMED, _TEXT_OR_PARTS)),
    "llama-2": Family(_llama2, transformers.LlamaConfig, "</s>"),
    "llama-2-chat": Family(_llama2, transformers.LlamaConfig, "</s>", _LLAMA2),
    "llama-3": Family(lambda: _llama3("<|end_of_text|>"), transformers.LlamaConfig, "<|end_of_text|>"),
    "llama-3-it": Family(lambda: _llama3("<|eot_id|>"), transformers.LlamaConfig, "<|eot_id|>", _LLAMA3),
    # The base model of Qwen2.5 comes with a chat template too, and its EOS is the end of a text.
    "qwen2.5": Family(lambda: _qwen("<|endoftext|>"), transformers.Qwen2Config, "<|im_end|>", _chatml("Q")),
    "qwen2.5-it": Family(lambda: _qwen("<|im_end|>"), transformers.Qwen2Config, "<|im_end|>", _chatml("Q")),
    "qwen3": Family(lambda: _qwen("<|im_end|>"), transformers.Qwen3Config, "<|im_end|>", _QWEN3),
    "mistral": Family(_mistral, transformers.MistralConfig, "</s>"),
    "mistral-it": Family(_mistral, transformers.MistralConfig, "</s>", _MISTRAL),
    "phi-3": Family(_phi3, transformers.Phi3Config, "<|end|>", _PHI3),
    "gpt-neox": Family(_gpt_neox, _neox_config, "<|endoftext|>"),
    "smollm2": Family(_smollm2, transformers.LlamaConfig, "<|im_end|>", _chatml("Be S.")),
}


def save_family(name: str, folder: Path) -> Path:
    """Write a tiny random model of a family, with its tokenizer."""
    family = FAMILIES[name]
    tokenizer = family.make()
    tokenizer.chat_template = family.template
    tokenizer.save_pretrained(folder)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(family.config(**TINY, **ids, vocab_size=len(tokenizer)))
    # Wide enough that attention matters.
    for key, weight in model.named_parameters():
        if weight.dim() > 1 and not any(part in key for part in ("embed", "lm_head")):
            weight.data.normal_(std=weight.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    return folder
