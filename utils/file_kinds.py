"""The kinds of files that meet this pipeline: its own by their keys, those of other programs by first bytes.

A message uses them to name a file that a reader did not expect. `utils/recognition.py` tells the kind of a
file; whether each row is valid is known to `utils/rules.py`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FileKind:
    """`what` a file is, in words, and `remedy`: where it belongs, or how to make it readable."""

    name: str
    what: str
    remedy: str
    # Keys that every row or document of this kind has; of a config, keys that no other config has.
    keys: frozenset[str] = frozenset()


def _kinds(*rows: tuple[str, str, str, str]) -> tuple[FileKind, ...]:
    return tuple(FileKind(name, what, remedy, frozenset(keys.split())) for name, what, remedy, keys in rows)


_BUILD = "build samples from it with build_data.py (docs/data.md)"
_SAMPLES = "give it to --test-data, --data-path or data.train_path"
_SCORED = "robustness.py has scored it already"
_PAIRS = "the pairs are in prefs/preferences_*.jsonl"
_NO_EVIDENCE = "this pipeline needs samples with evidence"

# Rows of JSON lines with keys that nobody adds to another kind of row.
MARKED_ROWS = _kinds(
    ("preferences", "preference pairs", "give it to train_rm.py --prefs", "prompt chosen rejected judge"),
    (
        "pairs",
        "preference pairs of another tool",
        "make_prefs.py --import makes preferences of them",
        "chosen rejected",
    ),
    ("levels", "completions of perturbed samples", _SCORED, "suite level completion"),
    ("judgements", "judgements of make_prefs.py", _PAIRS, "verifier n_compared"),
    ("rewards", "rewards of train_rm.py --score", "no stage reads it", "reward head_score"),
)
# Other rows. The first kind that fits is taken, so those with more keys come first.
ROWS = _kinds(
    ("samples", "samples of build_data.py", _SAMPLES, "question evidence_chunks answerable"),
    (
        *("completions", "completions to score", "give it to train_rm.py --score"),
        "id question evidence_chunks completion",
    ),
    (
        *("candidates", "candidates of make_prefs.py", "judge it with make_prefs.py --phase judge"),
        "id model completion n",
    ),
    (
        *("predictions", "predictions", "give it to evaluate_sft_fast_robust.py --predictions"),
        "id model completion",
    ),
    ("samples", "samples of build_data.py", _SAMPLES, "question evidence_chunks"),
    ("hotpotqa", "raw HotpotQA rows", _BUILD, "supporting_facts context"),
    ("fever", "raw FEVER rows", _BUILD, "claim label"),
    ("pages", "raw wiki pages", "name it as `pages:` of a source in the sources config", "id text lines"),
    ("dpr", "questions with passages (DPR layout)", _BUILD, "question ctxs"),
    ("dpr", "questions with passages (DPR layout)", _BUILD, "question positive_ctxs"),
    ("questions", "raw questions with answers", _BUILD, "question answer"),
    ("questions", "raw questions with answers", _BUILD, "question answers"),
    ("chat", "chat conversations", _NO_EVIDENCE, "messages"),
    ("instructions", "instructions", _NO_EVIDENCE, "instruction output"),
)

_BESIDE = "its rows are in a .jsonl file beside it"
_FOLDER = "name its folder as the model"
_COMPARE = "give two of them to --compare; its completions are beside it in *_predictions.jsonl"

# JSON files of one object.
DOCUMENTS = _kinds(
    ("results", "results of an evaluation", _COMPARE, "baselines run"),
    ("robustness", "results of robustness.py", "look at the .png beside it", "suites run"),
    ("manifest", "the manifest of a run", "name a data file of its folder", "status settings"),
    ("manifest", "the manifest of a checkpoint", _FOLDER, "base_model files"),
    ("audit", "the audit of build_data.py", _BESIDE, "rules_broken n_samples"),
    ("statistics", "statistics of make_prefs.py", _BESIDE, "n_pairs mean_margin"),
    ("history", "a training history", "evaluate the checkpoint instead", "train_losses eval_metrics"),
    ("validation", "the validation of a reward model", "no stage reads it", "mean_penalties test"),
    ("calibration", "a calibration of train_sft.py", "no flag reads it", "isotonic answers"),
    ("adapter", "the config of an adapter", _FOLDER, "peft_type"),
    ("reward", "the config of a reward model", "name its folder with --checkpoint", "score_scale"),
    ("model", "the config of a model", _FOLDER, "model_type"),
    ("tokenizer", "a tokenizer", _FOLDER, "added_tokens model"),
    ("tokenizer", "the config of a tokenizer", _FOLDER, "tokenizer_class"),
    ("trainer", "the state of a training", _FOLDER, "log_history global_step"),
    ("schema", "a JSON schema", "prompt_schema.py parse applies it", "$schema"),
    ("notebook", "a notebook", "open it in Jupyter or Colab", "cells nbformat"),
    ("squad", "a data set in SQuAD layout", _BUILD, "data version"),
    ("answer", "an error of a web server", "download the file again", "message documentation_url"),
)

# YAML configs.
CONFIGS = _kinds(
    (
        *("sft_config", "a config of train_sft.py", "give it to train_sft.py -c"),
        "model_name full_finetuning bf16 lora training data",
    ),
    (
        *("dpo_config", "a config of train_dpo.py", "give it to train_dpo.py -c"),
        "sft_model objective keep bf16 lora training data",
    ),
    (
        *("rm_config", "a config of train_rm.py", "give it to train_rm.py -c"),
        "base_model batch_size num_epochs eval_batch_size citation_penalty_weight val_fraction",
    ),
    (
        *("sources_config", "a sources config", "give it to build_data.py --sources-config"),
        "sources evaluation_only respect_official_splits max_pool_pages",
    ),
    (
        *("accelerate_config", "a config of accelerate", "give it to `accelerate launch --config_file`"),
        "compute_environment distributed_type num_processes num_machines fsdp_config deepspeed_config",
    ),
    (
        *("prompts_config", "the settings that prompt_schema.py save writes", "no stage reads it"),
        "refusal_token sft_templates judge_templates",
    ),
)

# What a reader wants, in words.
EXPECTED = {
    "samples": "samples of build_data.py",
    "preferences": "preference pairs of make_prefs.py",
    "pairs": "pairs of another tool (rows of prompt, chosen and rejected)",
    "predictions": "predictions (rows of id, model and completion)",
    "completions": "rows to score (id, question, evidence_chunks and completion)",
    "results": "results of evaluate_sft_fast_robust.py",
    "sft_config": "a config of train_sft.py (YAML)",
    "rm_config": "a config of train_rm.py (YAML)",
    "dpo_config": "a config of train_dpo.py (YAML)",
    "sources_config": "a sources config (YAML)",
    "config": "a YAML config",
    "template": "a prompt template",
}

_UNPACK = "unpack it and name the file in it"
_LINES = "write it as JSON lines: one object per line"
_WEIGHTS = "name the folder of the model, with its config and tokenizer"
PICKLE = FileKind("pickle", "a Python pickle", "pickles can run code and are not read")

# Files of other programs by their first bytes. gzip is not among them, because it is unpacked.
SIGNATURES = (
    (b"PK\x03\x04", FileKind("zip", "a zip file", f"{_UNPACK} (an Excel table: save it as JSON lines)")),
    (b"BZh", FileKind("bzip2", "a bzip2 file", _UNPACK)),
    (b"\xfd7zXZ\x00", FileKind("xz", "an xz file", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind("zstd", "a zstd file", _UNPACK)),
    (b"7z\xbc\xaf", FileKind("7z", "a 7z archive", _UNPACK)),
    (b"Rar!", FileKind("rar", "a rar archive", _UNPACK)),
    (b"PAR1", FileKind("parquet", "a Parquet table", f"{_LINES} (pandas.read_parquet, to_json)")),
    (b"ARROW1", FileKind("arrow", "an Arrow table", f"{_LINES} (datasets.Dataset.to_json)")),
    (b"SQLite format 3", FileKind("sqlite", "an SQLite database", _LINES)),
    (b"%PDF", FileKind("pdf", "a PDF", "copy its text into rows")),
    (b"\x89PNG", FileKind("image", "an image", "name a data file")),
    (b"\xff\xd8\xff", FileKind("image", "an image", "name a data file")),
    (b"GGUF", FileKind("gguf", "weights of a model (GGUF)", _WEIGHTS)),
    (b"\x80\x02", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x93NUMPY", FileKind("numpy", "a NumPy array", _LINES)),
    (b"\x7fELF", FileKind("program", "a program", "name a data file")),
    (b"\xd0\xcf\x11\xe0", FileKind("office", "an old Office file", _LINES)),
    (b"version https://git-lfs", FileKind("lfs", "a Git LFS pointer", "run `git lfs pull` to get the file")),
)
TAR = FileKind("tar", "a tar archive", _UNPACK)
SAFETENSORS = FileKind("safetensors", "weights of a model (safetensors)", _WEIGHTS)
UTF16 = FileKind("utf16", "UTF-16 or binary data", "save the file as UTF-8 text")
PAGE = FileKind("page", "a web page", "the download failed or needs a login; download the file again")
XML = FileKind("xml", "XML", _LINES)
TABLE = FileKind("table", "a table (CSV or TSV)", f"{_LINES} (pandas.read_csv, to_json)")
TEMPLATE = FileKind("template", "a prompt template", "put it into prompts/ and name it with --template")
LIST = FileKind("list", "one JSON list", f"{_LINES} (`jq -c '.[]' FILE`)")
OBJECT = FileKind("object", "one JSON object over several lines", _LINES)
PROGRAM = FileKind("program", "a Python script", "name a data file")
YAML = FileKind("yaml", "YAML", _LINES)
TEXT = FileKind("text", "plain text", _LINES)
