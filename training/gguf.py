"""A merged model as one GGUF file for llama.cpp and what builds on it, and the way back to prove it.

Models of the Llama architecture with a byte-level BPE tokenizer (Llama-3, SmolLM) are written with the gguf
package. For others llama.cpp has its own converter. This module compares nothing; export.py does.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from utils.errors import StageError
from utils.tokens import end_id

# How Llama-3 cuts a text into words, of which bytes are merged.
_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_N_SMOLLM = 49152

_ELSEWHERE = "convert the folder of --merge DIR with the converter of llama.cpp"


def _check_kind(model: Any, tokenizer: Any) -> None:
    """StageError for an architecture or a tokenizer that is not written here."""
    kind = model.config.model_type
    backend = tokenizer.backend_tokenizer
    if kind != "llama":
        raise StageError(f"--export gguf: {kind} models are not written here; {_ELSEWHERE}")
    if type(backend.model).__name__ != "BPE" or "ByteLevel" not in str(backend.pre_tokenizer):
        raise StageError(f"--export gguf: this kind of tokenizer is not written here; {_ELSEWHERE}")
    rope = model.config.rope_parameters.get("rope_type", "default")
    if rope != "default" or getattr(model.config, "attention_bias", False):
        what = f"positions of the kind {rope}" if rope != "default" else "biases of attention"
        raise StageError(f"--export gguf: {what} are not written here; {_ELSEWHERE}")


def word_rule(tokenizer: Any, n_vocab: int) -> str:
    """llama.cpp's name for how the tokenizer cuts a text into words. StageError where it has none here.

    Under another name the model would read other tokens than it was trained on.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]
    parts = parts.get("pretokenizers", [parts])
    kinds = [part["type"] for part in parts]
    cuts_words = parts[-1].get("use_regex", True)
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and cuts_words:
        return "smollm"
    if kinds == ["ByteLevel"] and cuts_words:
        # SmolLM's vocabulary has no numbers of two digits, so its rule for digits need not be told.
        return "smollm" if n_vocab == _N_SMOLLM else "gpt-2"
    if kinds == ["Split", "ByteLevel"] and parts[0]["pattern"] == {"Regex": _LLAMA3_WORDS} and not cuts_words:
        return "llama-bpe"
    raise StageError(f"--export gguf: this tokenizer's rule for words is not known here; {_ELSEWHERE}")


def _interleaved(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Rows of a query or key projection as llama.cpp rotates them: pairs side by side, not in two halves."""
    n_rows, n_columns = weight.shape
    halves = weight.reshape(n_heads, 2, n_rows // n_heads // 2, n_columns)
    return halves.swapaxes(1, 2).reshape(n_rows, n_columns)


def _add_settings(writer: Any, config: Any, dtype: torch.dtype) -> None:
    import gguf

    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_vocab_size(config.vocab_size)
    kind = gguf.LlamaFileType.MOSTLY_BF16 if dtype == torch.bfloat16 else gguf.LlamaFileType.ALL_F32
    writer.add_file_type(kind)


def _add_tokenizer(writer: Any, tokenizer: Any, folder: Path, n_vocab: int) -> None:
    import gguf

    by_id = {i: token for token, i in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(n_vocab)]
    kinds = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(n_vocab)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(word_rule(tokenizer, n_vocab))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    gguf.SpecialVocab(folder, load_merges=True, n_vocab=n_vocab).add_to_gguf(writer)
    if end_id(tokenizer) != tokenizer.eos_token_id:
        writer.add_eot_token_id(end_id(tokenizer))


def write_gguf(folder: Path, path: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """The model in a folder as a GGUF file of this type. StageError for a kind that is not written here."""
    import gguf
    from gguf.quants import quantize

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    _check_kind(model, tokenizer)
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, "llama")
    _add_settings(writer, config, dtype)
    _add_tokenizer(writer, tokenizer, folder, config.vocab_size)
    for name, weight in model.state_dict().items():
        # Tied to the embeddings, which are there already.
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for part, n_heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:
                weight = _interleaved(weight, n_heads)
        array = weight.contiguous().numpy()
        kind = gguf.GGMLQuantizationType.F32
        if array.ndim > 1 and dtype == torch.bfloat16:
            kind = gguf.GGMLQuantizationType.BF16
        data = quantize(array, kind)
        tensor_name: Any = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(tensor_name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """The model and tokenizer of a GGUF file as a folder that transformers loads."""
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    quantization: Any = GgufConfig(dequantize=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, quantization_config=quantization
    )
    model.to(dtype).save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
