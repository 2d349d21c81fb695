"""Tokenizers of every kind that models come with, trained here on a few texts.

They differ in how they treat spaces: put before every text, before the first one or never, joined to the word
behind it or not.
"""

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

from prompt_schema import SFT_TEMPLATES
from utils.completions import render_completion
from utils.text import REFUSAL

_NAMES = "Brann Tolv Kesk Odran Pelt Vorn Hask Lund Mirel Sarno Quell Drav Ystad".split()
_SPECIALS = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def texts() -> list[str]:
    rows = [
        f"{a} Lighthouse was designed by {b} in {1700 + i}." for i, a in enumerate(_NAMES) for b in _NAMES
    ]
    rows += [SFT_TEMPLATES["default"]] * 20
    rows += [render_completion(name, [i % 3], 0.9) for i, name in enumerate(_NAMES)] * 5
    return rows + [render_completion(REFUSAL, [], 0.0)] * 9


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    # A trainer takes byte tokens only as special ones; in real vocabularies they are plain.
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = parts["added_tokens"][: len(_SPECIALS)]
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(parts)), **names)


def _sentencepiece(normalizer, trained_with, used_with, strips: bool):
    """BPE with byte fallback and "▁" for a space, as converted from SentencePiece models."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = trained_with
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if strips:
        parts.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(parts)
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=_SPECIALS + BYTES)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.pre_tokenizer = used_with
    return _wrap(tokenizer)


def _words():
    return pre_tokenizers.Split("▁", "merged_with_next")


def _prepend():
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    return _sentencepiece(normalizers.Sequence(steps), _words(), None, strips=True)


def _gemma():
    return _sentencepiece(normalizers.Replace(" ", "▁"), _words(), None, strips=False)


def _metaspace(scheme: str, split_in_training: bool = True):
    trained_with = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split_in_training)
    used_with = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return _sentencepiece(None, trained_with, used_with, strips=scheme != "never")


def _unigram(scheme: str):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    alphabet = [chr(i) for i in range(33, 127)] + ["\n"]
    trainer = trainers.UnigramTrainer(
        vocab_size=400,
        special_tokens=_SPECIALS,
        unk_token="<unk>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return _wrap(tokenizer)


def _byte_level(puts_space: bool, use_regex: bool = True):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=puts_space, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=_SPECIALS, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts(), trainer)
    return _wrap(tokenizer)


def _llama(**options):
    model = json.loads(_prepend().backend_tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return LlamaTokenizer(vocab=model["vocab"], merges=merges, **options)


# Name -> (maker, whether the tokenizer puts a space before every text).
KINDS = {
    "llama-2 with legacy": (lambda: _llama(legacy=True), True),
    "llama-2": (lambda: _llama(legacy=False), True),
    "llama without space": (lambda: _llama(add_prefix_space=False), False),
    "mistral, phi-3": (_prepend, True),
    "gemma": (_gemma, False),
    "metaspace always": (lambda: _metaspace("always"), True),
    "metaspace first": (lambda: _metaspace("first"), True),
    "metaspace never": (lambda: _metaspace("never"), False),
    "metaspace across words": (lambda: _metaspace("first", split_in_training=False), True),
    "unigram always": (lambda: _unigram("always"), True),
    "unigram first": (lambda: _unigram("first"), True),
    "unigram never": (lambda: _unigram("never"), False),
    "llama-3, qwen, gpt-neox": (lambda: _byte_level(False), False),
    "byte-level with space": (lambda: _byte_level(True), True),
    "byte-level across words": (lambda: _byte_level(False, use_regex=False), False),
}
# Their tokens span words, so what is encoded in pieces can differ from the whole text.
ACROSS_WORDS = ("metaspace across words", "byte-level across words")
