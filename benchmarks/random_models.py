"""What benchmarks/gpu_check.py runs on: Gemma-2 with random weights, a new tokenizer, longer evidence.

Random weights cost what trained ones cost, and need no download. Nothing here knows what is measured.
"""

import copy
from pathlib import Path

import torch

from benchmarks.sft import add_chunks
from models.hardware import choose_dtype, device
from prompt_schema import SFT_TEMPLATES
from utils.schema import read_samples

_TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
# All samples that any section reads.
_N_SAMPLES = 256
_VOCABULARY = 4096
SIZES = {
    # That of google/gemma-2-2b.
    "2b": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 256_000,
        "query_pre_attn_scalar": 256,
    },
    # FlexAttention on a GPU wants heads of 16 dimensions or more.
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": _VOCABULARY,
        "query_pre_attn_scalar": 32,
    },
}


def gemma_config(size: str):
    """Gemma-2's config: soft-capped scores, and windows that slide in every second layer."""
    from transformers import Gemma2Config

    return Gemma2Config(**SIZES[size], **_TOKENS, sliding_window=4096, max_position_embeddings=8192)


def long_samples(path: Path, n_chunks: int = 8) -> list[dict]:
    """The first samples of a file, each with `n_chunks` chunks of evidence."""
    samples = copy.deepcopy(read_samples(path)[:_N_SAMPLES])
    add_chunks(samples, n_chunks)
    for sample in samples:
        # What was added supports nothing. With it a stage accepts the samples too.
        supports = sample["support_spans"]
        sample["hard_negatives"] = [k for k in range(n_chunks) if k not in supports]
    return samples


def train_tokenizer(samples: list[dict]):
    """A byte-level tokenizer of the samples' own words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [chunk["text"] for sample in samples for chunk in sample["evidence_chunks"]]
    # Often enough that the template's words become single tokens.
    texts += list(SFT_TEMPLATES.values()) * 5
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    special_names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_names)


def write_models(folder: Path, sizes: set[str], samples: list[dict]) -> dict[str, int]:
    """A model directory `folder/<size>` of each size. Returns the number of parameters of each."""
    from transformers import AutoModelForCausalLM

    tokenizer = train_tokenizer(samples)
    counts = {}
    for size in sorted(sizes):
        torch.manual_seed(0)
        # Built where it is fast: two billion random numbers take a CPU a minute.
        with torch.device(device()):
            model = AutoModelForCausalLM.from_config(gemma_config(size), dtype=choose_dtype())
        model.save_pretrained(folder / size)
        tokenizer.save_pretrained(folder / size)
        counts[size] = sum(parameter.numel() for parameter in model.parameters())
        del model
    return counts
