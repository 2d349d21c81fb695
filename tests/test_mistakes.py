"""Real mistakes, each run as a process: exit code, few lines on stderr, the words that name it, no output.

A mistake costs a fraction of a second, because stages look for it before they import a model library. Those
that can only be told by a library cost seconds, and there are few of them.
"""

import ctypes
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mistake_world import make_world

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 3

EVALUATE = "evaluate_sft_fast_robust.py --test-data data/processed/test.jsonl"
MODEL = "--model-path sft/checkpoint-best"
CHECKPOINT = f"{EVALUATE} {MODEL}"
RESCORE = f"{EVALUATE} --predictions"
ROBUST = f"robustness.py --test-data data/processed/test.jsonl {MODEL}"
PREFS = "make_prefs.py --sft-model sft/checkpoint-best --data-path data/processed/train.jsonl"
ASKED = "ask.py --model sft/checkpoint-best"
SFT = "train_sft.py -c configs/demo/sft.yaml"
RM = "train_rm.py -c configs/demo/rm.yaml --prefs prefs/preferences_a-b.jsonl"
SCORE = "train_rm.py -c configs/demo/rm.yaml --set output_dir=rm --score"
SAMPLE = "build_data.py --sample"
RENDER = "prompt_schema.py render --data-path"


def one_file(path: str, source: str = "own", split: str = "any") -> str:
    """A sources config of one source with one file."""
    return f"sources: {{{source}: {{records: [{{path: '{path}', split: {split}}}]}}}}"


# (command, exit code, words on stderr). "{home}" is FACTUALITY_HOME, where relative paths start.
FLAGS = [
    (f"{SAMPLE} --max-chunk 3", 2, ["--max-chunk", "did you mean --max-chunks"]),
    (f"{SAMPLE} --max_chunks 3", 2, ["--max_chunks", "did you mean --max-chunks"]),
    (f"{SAMPLE} -limit 5", 2, ["-limit", "--limit"]),
    (f"{SAMPLE} –seed 1", 2, ["typographic dash", "--seed"]),
    (f"{SAMPLE} --limit", 2, ["--limit", "expected a value"]),
    (f"{SAMPLE} --limit ten", 2, ["--limit", "whole number", "'ten'"]),
    (f"{SAMPLE} --limit 1e3", 2, ["--limit", "'1e3'"]),
    (f"{SAMPLE} --limit -1", 2, ["--limit", "-1"]),
    (f"{SAMPLE} --max-per-source -1", 2, ["--max-per-source", "-1"]),
    (f"{SAMPLE} --max-chunks 1", 2, ["--max-chunks", "from 2 on"]),
    (f"{SAMPLE} --max-chunk-words 0", 2, ["--max-chunk-words", "from 1 on"]),
    (f"{SAMPLE} --workers 0", 2, ["--workers", "from 1 on"]),
    (f"{SAMPLE} --workers 1.5", 2, ["--workers", "'1.5'"]),
    (f"{SAMPLE} --seed -1", 2, ["--seed", "-1"]),
    (f"{SAMPLE} --seed 99999999999", 2, ["--seed", "99999999999"]),
    (f"{SAMPLE} --unanswerable-fraction 33", 2, ["--unanswerable-fraction", "33"]),
    (f"{SAMPLE} --unanswerable-fraction 0,33", 2, ["--unanswerable-fraction", "'0,33'"]),
    (f"{SAMPLE} --unanswerable-fraction nan", 2, ["--unanswerable-fraction", "nan"]),
    (f"{SAMPLE} --split 80,10,10", 2, ["--split 80,10,10", "add up to 1"]),
    (f"{SAMPLE} --split 0.8", 2, ["--split 0.8", "three"]),
    (f"{SAMPLE} --split 1,0,0", 2, ["--split 1,0,0", "val"]),
    (f"{SAMPLE} --split 0,0,1", 2, ["--split 0,0,1", "train"]),
    (f"{SAMPLE} --sources fevr", 2, ["'fevr'", "did you mean 'fever'"]),
    (f"{SAMPLE} --sources fever;popqa", 2, ["fever;popqa"]),
    (f"{SAMPLE} data", 2, ["'data'", "no flag"]),
    ("evaluate_sft_fast_robust.py", 2, ["--test-data"]),
    (EVALUATE, 2, ["--model-path", "--predictions"]),
    (f"{CHECKPOINT} --batch-size -4", 2, ["--batch-size", "-4"]),
    (f"{CHECKPOINT} --batch-size 0", 2, ["--batch-size", "0"]),
    (f"{CHECKPOINT} --batch-size 8.0", 2, ["--batch-size", "'8.0'"]),
    (f"{CHECKPOINT} --max-new-tokens 0", 2, ["--max-new-tokens"]),
    (f"{CHECKPOINT} --limit -1", 2, ["--limit", "-1"]),
    (f"{CHECKPOINT} --temperature -0.5", 2, ["--temperature", "-0.5"]),
    (f"{CHECKPOINT} --temperature inf", 2, ["--temperature", "inf"]),
    (f"{CHECKPOINT} --confidence-threshold 70", 2, ["--confidence-threshold", "0 to 1"]),
    (f"{CHECKPOINT} --confidence-threshold 70%", 2, ["--confidence-threshold", "'70%'"]),
    (
        f"{CHECKPOINT} --wanted-precision 0.9 --confidence-threshold 0.5",
        2,
        ["--wanted-precision", "give one"],
    ),
    (f"{CHECKPOINT} --confidence-kind raw", 2, ["--confidence-kind", "stated"]),
    (f"{CHECKPOINT} --buckets 512;1024", 2, ["--buckets", "512,1024"]),
    (f"{CHECKPOINT} --buckets 0,512", 2, ["--buckets"]),
    (f"{CHECKPOINT} --attn-impl flash", 2, ["--attn-impl", "did you mean flash2"]),
    (f"{CHECKPOINT} --compare results.json", 2, ["--compare", "2 arguments"]),
    (f"{CHECKPOINT} --model sft", 2, ["--model", "--model-path"]),
    (f"{ROBUST} --suite noize", 2, ["'noize'", "did you mean 'noise'"]),
    ("robustness.py --test-data data/processed/test.jsonl", 2, ["--model-path"]),
    ("make_prefs.py --phase generate", 2, ["--sft-model"]),
    (f"{PREFS} --phase judg", 2, ["--phase", "did you mean judge"]),
    (f"{PREFS} --judge llm", 2, ["--judge llm", "--judge-model"]),
    (f"{PREFS} --judge verifier --judge-model owner/name", 2, ["--judge-model:", "--judge verifier"]),
    (f"{PREFS} --judge-use-4bit", 2, ["--judge-use-4bit:", "--judge verifier", "llm, hybrid"]),
    (f"{PREFS} --judge-template simple", 2, ["--judge-template:", "--judge verifier"]),
    (f"{PREFS} --min-label-share 0.9", 2, ["--min-label-share:", "--judge verifier"]),
    (f"{PREFS} --judge reward --judge-model rm --judge-use-4bit", 2, ["--judge-use-4bit:", "--judge reward"]),
    (f"{PREFS} --min-margin 3", 2, ["--min-margin", "0 to 1"]),
    (f"{PREFS} --min-margin -0.1", 2, ["--min-margin", "-0.1"]),
    (f"{PREFS} --top-p 1.5", 2, ["--top-p", "1.5"]),
    (f"{PREFS} --top-k -1", 2, ["--top-k", "-1"]),
    (f"{PREFS} --n-generations 0", 2, ["--n-generations"]),
    (f"{PREFS} --use-4bits", 2, ["--use-4bits", "--use-4bit"]),
    ("train_sft.py", 2, ["--config"]),
    ("train_sft.py configs/demo/sft.yaml", 2, ["--config"]),
    (f"{SFT} --limit -5", 2, ["--limit", "-5"]),
    (f"{SFT} --batch-size 4", 2, ["--batch-size"]),
    ("train_rm.py --score completions.jsonl", 2, ["--config"]),
    ("prompt_schema.py", 2, ["save"]),
    ("prompt_schema.py sav", 2, ["sav", "save"]),
    ("prompt_schema.py render", 2, ["--data-path"]),
    ("prompt_schema.py parse --n-chunks -1", 2, ["--n-chunks", "-1"]),
]
SET = [
    (f"{SFT} --set training.seed", 2, ["training.seed", "key=value"]),
    (f"{SFT} --set training.seed = 1", 2, ["="]),
    (f"{SFT} --set =1", 2, ["key=value"]),
    (f"{SFT} --set seed=1", 2, ["'seed'", "did you mean 'training.seed'"]),
    (f"{SFT} --set training.learning_rat=1", 2, ["'training.learning_rat'", "did you mean 'learning_rate'"]),
    (f"{SFT} --set learning_rate=1e-4", 2, ["'learning_rate'", "'training.learning_rate'"]),
    (f"{SFT} --set training.bf16=true", 2, ["'training.bf16'", "did you mean 'bf16'"]),
    (f"{SFT} --set training=1", 2, ["'training' must be a block"]),
    (f"{SFT} --set lora.r.x=1", 2, ["lora.r", "expected int"]),
    (f"{SFT} --set lora.r=abc", 2, ["lora.r", "expected int", "'abc'"]),
    (f"{SFT} --set lora.target_modules=[q_proj", 2, ["lora.target_modules", "not closed"]),
    (f"{SFT} --set bf16=no!", 2, ["bf16", "expected bool", "true or false"]),
    (f"{SFT} --set training.eval_steps=0", 2, ["training.eval_steps", "from 1 on"]),
    (f"{SFT} --set training.learning_rate=-1", 2, ["learning_rate", "above 0"]),
    (f"{SFT} --set data.template=fewshots", 2, ["'fewshots'"]),
    (f"{SFT} --set training.report_to=wandbb", 2, ["report_to", "wandb"]),
    (f"{SFT} --set training.metric_for_best=accuracy", 2, ["metric_for_best", "accuracy"]),
    (f"{SFT} --set model_name=embeded", 3, ["embeded", "did you mean embedded"]),
    (f"{RM} --set val_fraction=0.9", 2, ["val_fraction", "less than 1"]),
    (f"{RM} --set lr=1", 2, ["'lr'", "known"]),
    (f"{RM} --set batch_size=0", 2, ["batch_size", "from 1 on"]),
    (f"{RM} --set warmup_ratio=3", 2, ["warmup_ratio", "0 to 1"]),
    (f"{SFT} --set training.lr_scheduler_type=cosin", 2, ["lr_scheduler_type", "did you mean 'cosine'"]),
    (f"{SFT} --set attn_implementation=flash", 2, ["attn_implementation", "'flash"]),
    (f"{SFT} --set lora.dropout=5", 2, ["lora.dropout", "0 to 0.99"]),
    (f"{SFT} --set lora.r=0", 2, ["lora.r", "from 1 on"]),
    (f"{SFT} --set lora.target_modules=[]", 2, ["lora.target_modules", "names of layers"]),
    (f"{SFT} --set training.learning_rate=nan", 2, ["learning_rate", "finite"]),
    (f"{RM} --set learning_rate=-1", 2, ["learning_rate", "above 0"]),
]

SFT_YAML = "model_name: embedded\noutput_dir: out\n"
# (content of the YAML, words). Each is given to train_sft.py.
YAML = {
    "empty": ("", ["is empty"]),
    "comments": ("# model_name: embedded\n", ["only comments"]),
    "tab": (f"{SFT_YAML}training:\n\tseed: 1\n", [":4:", "a tab"]),
    "no_colon": (f"model_name embedded\n{SFT_YAML}", [":1:", "lacks a colon"]),
    "no_space": ("model_name:embedded\n", ["key: value", "model_name:embedded"]),
    "no_space_inside": (f"{SFT_YAML}training:\n  seed:1\n", ["'training'", "block", "seed:1"]),
    "not_indented": (f"{SFT_YAML}training:\nseed: 1\n", ["'training", "seed"]),
    "indented": (f"{SFT_YAML}training:\n  seed: 1\n    max_steps: 2\n", [":5:", "spaces in front"]),
    "outdented": (f"{SFT_YAML}training:\n    seed: 1\n  max_steps: 2\n", [":5:", "spaces in front"]),
    "two_colons": ("model_name: a: b\n", [":1:", "second colon"]),
    "open_quote": ('model_name: "embedded\noutput_dir: out\n', [":1:", "quote that is not closed"]),
    "backslash": ('output_dir: "C:\\Users\\me"\n', [":1:", "backslash", "single quotes"]),
    "at": ("model_name: @embedded\n", [":1:", "in quotes"]),
    "star": ("output_dir: *.out\n", [":1:", "in quotes"]),
    "tag": ("model_name: !!python/object:os.system x\n", [":1:", "tags"]),
    "placeholder": ("model_name: {{ model }}\n", [":1:", "{{...}}"]),
    "open_bracket": (f"{SFT_YAML}lora:\n  target_modules: [q_proj, k_proj\n", ["bracket that is not closed"]),
    "two_documents": ("model_name: embedded\n---\nbf16: true\n", [":2:", "second document"]),
    "list": ("- model_name: embedded\n", ["expected a block", "list"]),
    "list_for_block": (f"{SFT_YAML}training:\n  - seed: 1\n", ["'training'", "block", "dashes"]),
    "twice": ("bf16: true\nbf16: false\n", [":2:", "'bf16'", "twice"]),
    "quoted_bool": ('bf16: "false"\n', ["'bf16'", "expected bool", "without quotes"]),
    "comma": ("training:\n  seed: 1,\n", ["training.seed", "expected int", "'1,'"]),
    "none": ("data:\n  max_samples: None\n", ["data.max_samples", "null", "'None'"]),
    "text_number": ("training:\n  seed: one\n", ["training.seed", "expected int", "'one'"]),
    "unknown_key": ("modelname: embedded\n", ["'modelname'", "did you mean 'model_name'"]),
    "wrong_block": ("lora:\n  seed: 1\n", ["'lora.seed'", "did you mean 'training.seed'"]),
    "date": ("output_dir: 2024-13-45\n", ["not valid YAML", "quotes"]),
    "nul": ("model_name: a\0b\n", ["not valid YAML"]),
    "utf16": (SFT_YAML.encode("utf-16"), ["UTF-16", "UTF-8"]),
    "latin": (f"{SFT_YAML}# Zürich\n".encode("latin-1"), [":3:", "not UTF-8"]),
}

CONFIGS = [
    ("train_sft.py -c configs/demo/rm.yaml", 2, ["a config of train_rm.py", "train_rm.py -c"]),
    ("train_sft.py -c configs/sources.yaml", 2, ["sources config", "--sources-config"]),
    ("train_sft.py -c configs/accelerate/fsdp.yaml", 2, ["accelerate", "--config_file"]),
    ("train_sft.py -c prompts/sft_default.txt", 2, ["a prompt template", "a config of train_sft.py"]),
    ("train_sft.py -c train_sft.py", 2, ["a Python script", "a config of train_sft.py"]),
    ("train_sft.py -c {home}/data/processed/train.jsonl", 2, ["samples of build_data.py"]),
    ("train_sft.py -c {home}/data/processed/run.json", 2, ["the manifest of a run"]),
    ("train_sft.py -c {home}/sft/checkpoint-best", 3, ["is a folder"]),
    ("train_sft.py -c configs/demo", 3, ["is a folder", "sft.yaml"]),
    ("train_sft.py -c sft.yaml", 3, ["sft.yaml: no such file", "configs"]),
    ("train_sft.py -c configs/demo/stf.yaml", 3, ["did you mean configs/demo/sft.yaml"]),
    ("train_sft.py -c /dev/null", 3, ["a pipe or device"]),
    ("train_rm.py -c configs/demo/sft.yaml", 2, ["a config of train_sft.py", "train_sft.py -c"]),
    ("train_rm.py -c {home}/rm/best/config.json", 2, ["the config of a reward model"]),
    ("train_rm.py -c {home}/odd/paper.pdf", 2, ["a PDF", "a config of train_rm.py"]),
    ("build_data.py --sources-config configs/demo/sft.yaml", 2, ["a config of train_sft.py"]),
    ("build_data.py --sources-config {home}/odd/empty.jsonl", 2, ["is empty"]),
    ("build_data.py --sources-config {home}/nowhere.yaml", 3, ["no such file"]),
]

# A file of another kind where samples are needed, and what it is called.
NO_SAMPLES = {
    "predictions.jsonl": ["found predictions", "--predictions"],
    "results.json": ["results of an evaluation", "--compare"],
    "prefs/preferences_a-b.jsonl": ["preference pairs", "--prefs"],
    "prefs/preference_stats_a-b.json": ["statistics of make_prefs.py"],
    "prefs/cache/abc/gens_sft.jsonl": ["candidates of make_prefs.py"],
    "completions.jsonl": ["completions to score", "--score"],
    "odd/scores.jsonl": ["rewards of train_rm.py"],
    "data/processed/run.json": ["the manifest of a run"],
    "sft/checkpoint-best/adapter_config.json": ["the config of an adapter"],
    "odd/fever.jsonl": ["raw FEVER rows", "build_data.py"],
    "odd/hotpot.jsonl": ["raw HotpotQA rows", "build_data.py"],
    "odd/squad.json": ["SQuAD"],
    "odd/chat.jsonl": ["chat"],
    "odd/notebook.ipynb": ["a notebook"],
    "odd/list.json": ["one JSON list", "one object per line"],
    "odd/pretty.json": ["one JSON object over several lines"],
    "odd/table.csv": ["a table (CSV or TSV)"],
    "odd/table.parquet": ["a Parquet table"],
    "odd/table.xlsx": ["a zip file", "Excel"],
    "odd/samples.zip": ["a zip file", "unpack it"],
    "odd/damaged.jsonl.gz": ["damaged gzip"],
    "odd/paper.pdf": ["a PDF"],
    "odd/page.html": ["a web page"],
    "odd/plot.png": ["an image"],
    "odd/pointer.jsonl": ["Git LFS", "git lfs pull"],
    "odd/pickle.pt": ["a Python pickle"],
    "odd/utf16.jsonl": ["UTF-16", "UTF-8"],
    "odd/latin.jsonl": [":1:", "not UTF-8"],
    "odd/empty.jsonl": ["no rows"],
    "odd/blank.jsonl": ["no rows"],
    "odd/notes.txt": ["plain text"],
    "odd/span_7.jsonl": [":1:", "support_spans", "7"],
    "odd/answerable_text.jsonl": [":1:", "'answerable' must be bool", "'true'"],
    "odd/chunk_strings.jsonl": [":1:", "evidence_chunks[0]", "'a'"],
    "odd/id_number.jsonl": [":1:", "'id' must be str", "1"],
    "odd/twice.jsonl": [":2:", "duplicate id", "line 1"],
    "odd/cut.jsonl": [":2:", "not a JSON object"],
    "odd/nan.jsonl": [":1:", "NaN"],
    "odd/gone.jsonl": ["a link to", "never_there.jsonl"],
    "data/processed": ["is a folder", "test.jsonl"],
    "data/processed/tset.jsonl": ["did you mean", "test.jsonl"],
    "data/test.jsonl": ["did you mean", "processed/test.jsonl"],
    "nowhere/test.jsonl": ["nowhere/test.jsonl: no such file"],
    "a_file/test.jsonl": ["no such file", "a_file is a file"],
    "https://example.com/test.jsonl": ["urls are not read"],
    "'data/processed/test.jsonl '": ["did you mean"],
    "-": ["stdin"],
}

FILES = [
    (
        f"{RESCORE} results.json",
        3,
        ["results of an evaluation", "expected predictions", "_predictions.jsonl"],
    ),
    (f"{RESCORE} data/processed/test.jsonl", 3, ["samples of build_data.py", "expected predictions"]),
    (f"{RESCORE} completions.jsonl", 3, ["completions to score", "expected predictions"]),
    (f"{RESCORE} odd/levels.jsonl", 3, ["completions of perturbed samples"]),
    (f"{RESCORE} prefs/preferences_a-b.jsonl", 3, ["preference pairs", "train_rm.py --prefs"]),
    (f"{RESCORE} sft/checkpoint-best", 3, ["is a folder"]),
    (
        "evaluate_sft_fast_robust.py --compare results.json predictions.jsonl",
        3,
        ["predictions.jsonl: found pred"],
    ),
    ("evaluate_sft_fast_robust.py --compare results.json nope.json", 3, ["nope.json: no such file"]),
    ("evaluate_sft_fast_robust.py --compare data/processed/test.jsonl results.json", 3, ["samples of build"]),
    (f"{SFT} --set data.train_path=nowhere.jsonl", 3, ["data.train_path", "nowhere.jsonl: no such file"]),
    (f"{SFT} --set data.val_path=predictions.jsonl", 3, ["data.val_path", "found predictions"]),
    (f"{SFT} --set model_name=./no/such/model", 3, ["no such checkpoint"]),
    (
        f"{RM} --prefs data/processed/train.jsonl",
        3,
        ["samples of build_data.py", "expected preference pairs"],
    ),
    (f"{RM} --prefs prefs", 3, ["is a folder", "preferences_a-b.jsonl"]),
    (f"{RM} --prefs odd/null_pair.jsonl", 3, [":1:", "chosen[0].content must be str", "None"]),
    (f"{RM} --prefs odd/text_pair.jsonl", 3, [":1:", "'chosen' must be list", "'Warsaw'"]),
    (f"{RM} --prefs odd/same_pair.jsonl", 3, [":1:", "same text"]),
    (f"{RM} --prefs odd/foreign_pair.jsonl", 3, ["preference pairs of another tool"]),
    (f"{RM} --prefs odd/margin.jsonl", 3, [":1:", "'margin' must be float"]),
    ("train_rm.py -c configs/demo/rm.yaml --prefs-dir empty_folder", 3, ["run make_prefs.py first"]),
    (f"{SCORE} predictions.jsonl", 3, ["found predictions", "rows to score"]),
    (f"{SCORE} odd/chunks_text.jsonl", 3, [":1:", "evidence_chunks[0]", "'title' and 'text'"]),
    (f"{SCORE} odd/no_title.jsonl", 3, [":1:", "evidence_chunks[0]", "'title' and 'text'"]),
    (f"{SCORE} odd/completion_null.jsonl", 3, [":1:", "'completion' must be str", "None"]),
    (f"{SCORE} odd/completion_object.jsonl", 3, [":1:", "'completion' must be str", "answer"]),
    (f"{SCORE} odd/question_number.jsonl", 3, [":1:", "'question' must be str", "7"]),
    (f"{SCORE} completions.jsonl --checkpoint sft/checkpoint-best", 3, ["a checkpoint of train_sft.py"]),
    (f"{SCORE} completions.jsonl --checkpoint rm", 3, ["name one of", "rm/best"]),
    (f"{SCORE} completions.jsonl --checkpoint final", 3, ["rm/final", "rm/best"]),
    (f"{RENDER} data/processed", 3, ["is a folder", "train.jsonl"]),
    (f"{RENDER} predictions.jsonl", 3, ["found predictions"]),
    (f"{RENDER} data/processed/test.jsonl --template fewshots", 2, ["'fewshots'"]),
    (f"{RENDER} data/processed/test.jsonl --template no_question", 2, ["sft_no_question.txt", "{question}"]),
    (f"{RENDER} data/processed/test.jsonl --template twice", 2, ["exactly one {evidence}"]),
    (f"{RENDER} data/processed/test.jsonl --template latin", 2, ["sft_latin.txt", "UTF-8"]),
    (f"{RENDER} data/processed/test.jsonl --prompts-dir a_file", 2, ["a_file"]),
    (f"{PREFS} --phase judge --judge-model owner/name --judge-template simpel", 2, ["'simpel'"]),
    (f"{PREFS} --phase judge --cache-sig nope", 3, ["abc"]),
    ("build_data.py --check predictions.jsonl", 3, ["found predictions"]),
    ("build_data.py --check odd/span_7.jsonl", 3, ["1 fault(s)", "support_spans"]),
]

# What is named as a checkpoint, and what is said of it.
NO_MODELS = {
    "sft": ["a run of train_sft.py", "checkpoint-10, checkpoint-best"],
    "sft/checkpoint-35": ["no such checkpoint", "checkpoint-10, checkpoint-best"],
    "checkpoint-best": ["no such checkpoint", "sft/checkpoint-best"],
    "rm/best": ["a reward model of train_rm.py", "neither an adapter"],
    "rm": ["a run of train_rm.py"],
    "data": ["data of build_data.py"],
    "prefs": ["preferences of make_prefs.py"],
    "prompts": ["prompt templates"],
    "tokens": ["a tokenizer without a model"],
    "hub/models--a--b": ["a cache of the hub"],
    "empty_folder": ["a folder without files"],
    "a_folder": ["x.txt"],
    "gone_model": ["a link to"],
    "data/processed/test.jsonl": ["samples of build_data.py", "the folder of a model"],
    "sft/checkpoint-best/adapter_model.safetensors": ["weights of a model", "name its folder"],
    "no_weights": ["no weights", "copy the whole folder"],
    "cut_weights": ["incomplete weights"],
    "lfs_weights": ["Git LFS", "git lfs pull"],
    "one_shard": ["model-00002-of-00002.safetensors"],
    "embedded": ["base model", "--base-model"],
    "google/gemma-2-9b": ["no such checkpoint", "--base-model"],
}
MODELS = [
    (f"{CHECKPOINT} --compare-baseline --base-model ./nope", 3, ["nope", "no such checkpoint"]),
    (f"{CHECKPOINT} --base-model rm/best", 3, ["a reward model"]),
    (f"{CHECKPOINT} --base-model data/processed/test.jsonl", 3, ["samples of build_data.py"]),
    (f"{CHECKPOINT} --base-model 'google/gemma 2'", 3, ["google/gemma 2", "hub id"]),
    (f"{CHECKPOINT} --template structred", 2, ["'structred'"]),
    (f"{PREFS} --judge-model ./nope", 3, ["no such checkpoint"]),
    (
        "make_prefs.py --sft-model no_base --data-path data/processed/train.jsonl",
        3,
        ["base_model_name_or_path"],
    ),
    ("make_prefs.py --sft-model rm/best --data-path data/processed/train.jsonl", 3, ["a reward model"]),
    (
        "robustness.py --test-data sft/checkpoint-best --model-path data/processed/test.jsonl",
        3,
        ["is a folder"],
    ),
]
ASK = [
    ("ask.py", 2, ["--evidence"]),
    (f"{ASKED} --question Who? --evidence nowhere.md", 3, ["nowhere.md: no such file"]),
    (f"{ASKED} --question Who? --evidence empty_folder", 3, ["empty_folder"]),
    (f"{ASKED} --question Who? --evidence odd/plot.png", 3, ["plot.png"]),
    (f"{ASKED} --question Who? --evidence odd/table.xlsx", 3, ["table.xlsx"]),
    (f"{ASKED} --question Who? --evidence odd/empty.jsonl", 3, ["empty.jsonl"]),
    (f"{ASKED} --question Who? --evidence odd/gone.jsonl", 3, ["gone.jsonl"]),
    (f"{ASKED} --question Who? --evidence odd/paper.pdf", 3, ["paper.pdf", "PDF"]),
    (f"{ASKED} --question '' --evidence odd/notes.txt", 2, ["--question is empty"]),
    (f"{ASKED} --evidence -", 2, ["--question"]),
    (
        f"{ASKED} --question Who? --evidence odd/notes.txt --min-confidence 80",
        2,
        ["--min-confidence", "0 to 1"],
    ),
    (f"{ASKED} --question Who? --evidence odd/notes.txt --passages 0", 2, ["--passages"]),
    (
        f"{ASKED} --question Who? --evidence odd/notes.txt --encoding utf9",
        2,
        ["text is named utf9"],
    ),
    (f"{ASKED} --question Who? --evidence odd/notes.txt --port 8000", 2, ["--port", "--web"]),
    (f"{ASKED} --question Who? --evidence odd/notes.txt --template nope", 2, ["'nope'"]),
    ("ask.py --model rm/best --evidence odd/notes.txt --question Who?", 3, ["a reward model"]),
    (
        "ask.py --model embedded --evidence odd/notes.txt --question Who?",
        2,
        ["--model needs a checkpoint", "make demo"],
    ),
    ("ask.py --evidence odd/notes.txt --question Who?", 2, ["--model"]),
]
OUTPUTS = [
    (f"{CHECKPOINT} --output a_folder", 2, ["a_folder: is a folder", "name a file"]),
    (f"{CHECKPOINT} --output a_file/results.json", 2, ["a_file is a file"]),
    (f"{CHECKPOINT} --report a_folder", 2, ["a_folder: is a folder"]),
    (f"{CHECKPOINT} --output gone_model/x.json", 2, ["link"]),
    (f"{CHECKPOINT} --output /proc/results.json", 2, ["/proc"]),
    (f"{ROBUST} --output a_folder", 2, ["a_folder: is a folder"]),
    (f"{SAMPLE} --data-dir a_file", 2, ["a_file", "is a file"]),
    (f"{PREFS} --prefs-dir a_file", 2, ["a_file", "is a file"]),
    (f"{SFT} --set output_dir=a_file", 2, ["a_file", "is a file"]),
    (f"{RM} --set output_dir=a_file/rm", 2, ["a_file is a file"]),
    ("prompt_schema.py save --prompts-dir a_file", 2, ["a_file", "is a file"]),
]

COMMANDS = [*FLAGS, *SET, *CONFIGS, *FILES, *MODELS, *ASK, *OUTPUTS]
for name, words in NO_SAMPLES.items():
    COMMANDS.append((f"evaluate_sft_fast_robust.py --test-data {name} {MODEL}", 3, words))
for name, words in NO_MODELS.items():
    COMMANDS.append((f"{EVALUATE} --model-path {name}", 3, words))

# (content of a sources config, exit code, words).
SOURCES = {
    "variable": (one_file("${NO_SUCH_FOLDER}/a.jsonl"), 3, ["NO_SUCH_FOLDER", "export"]),
    "path": (one_file("nowhere.jsonl"), 3, ["nowhere.jsonl: no such file"]),
    "folder": (one_file("{home}/data"), 3, ["is a folder"]),
    "predictions": (one_file("{home}/predictions.jsonl"), 3, [":1:", "neither in sample layout"]),
    "pdf": (one_file("{home}/odd/paper.pdf"), 3, ["a PDF"]),
    "page": (one_file("{home}/odd/page.html"), 3, ["a web page"]),
    "table": (one_file("{home}/odd/table.csv"), 3, ["table.csv:1"]),
    "empty": (one_file("{home}/odd/empty.jsonl"), 3, ["no rows"]),
    "popqa": (one_file("{home}/odd/table.tsv", source="popqa"), 3, ["not a PopQA table"]),
    "key": ("sources: {own: {record: [{path: a.jsonl}]}}", 2, ["'record'", "did you mean 'records'"]),
    "list": ("sources: [own]", 2, ["sources", "block"]),
    "text": ("sources: {own: {records: a.jsonl}}", 2, ["records", "a list"]),
    "split": (one_file("a.jsonl", split="validation"), 2, ["validation", "dev"]),
    "none": ("sources: {}", 2, ["no sources"]),
    "url": ("sources: {own: {records: [{url: example.com/a.jsonl}]}}", 2, ["url", "https://"]),
}

# A package that is missing, and a command that needs it.
PACKAGES = [
    ("torch", CHECKPOINT),
    ("transformers", CHECKPOINT),
    ("yaml", f"{SFT} --dry-run"),
    ("numpy", f"{SFT} --dry-run"),
    ("numpy", SAMPLE),
]


# --- running a mistake


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("world")
    make_world(home)
    return home


def state(home: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything in the home."""
    found = {str(path.relative_to(home)): path.lstat() for path in home.rglob("*")}
    return {name: (about.st_size, about.st_mtime_ns) for name, about in found.items()}


def run(command: str, home: Path, **settings) -> subprocess.CompletedProcess:
    words = shlex.split(command.replace("{home}", str(home)))
    environment = {**os.environ, "FACTUALITY_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment |= settings.pop("env", {})
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **{"stdin": subprocess.DEVNULL, **settings},
    )


def check(command: str, code: int, words: list[str], home: Path, **settings) -> None:
    before = state(home)
    done = run(command, home, **settings)
    assert done.returncode == code, done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= MAX_LINES, done.stderr
    assert state(home) == before


# --- the tables


@pytest.mark.parametrize("command, code, words", COMMANDS, ids=[command for command, *_ in COMMANDS])
def test_a_mistake_is_named(command, code, words, world):
    check(command, code, words, world)


@pytest.mark.parametrize("name", YAML)
def test_a_slip_in_a_config_is_named(name, world, tmp_path):
    content, words = YAML[name]
    path = tmp_path / f"{name}.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    check(f"train_sft.py -c {path}", 2, [path.name, *words], world)


@pytest.mark.parametrize("name", SOURCES)
def test_a_slip_in_a_sources_config_is_named(name, world, tmp_path):
    content, code, words = SOURCES[name]
    path = tmp_path / f"{name}.yaml"
    path.write_text(content.replace("{home}", str(world)))
    data_dir = tmp_path / "data"
    check(
        f"build_data.py --sources-config {path} --data-dir {data_dir} --accept-new-hash", code, words, world
    )
    assert not list(data_dir.rglob("*.jsonl"))
    # A file that has to be corrected needs no new pin then.
    assert not (data_dir / "source_hashes.json").exists()


def test_there_are_more_than_enough_mistakes():
    assert len(COMMANDS) + len(YAML) + len(SOURCES) >= 120
    # One command twice would be no new mistake.
    assert len({command for command, *_ in COMMANDS}) == len(COMMANDS)


# --- the machine


@pytest.mark.parametrize("package, command", PACKAGES)
def test_a_missing_package_is_named_with_the_command_that_installs_it(package, command, world, tmp_path):
    stub = tmp_path / package / "__init__.py"
    stub.parent.mkdir()
    stub.write_text(f'raise ModuleNotFoundError("No module named {package}", name="{package}")\n')
    words = [package, "pip install -r", "requirements.txt"]
    check(command, 1, words, world, env={"PYTHONPATH": str(tmp_path)})


def without_privileges() -> None:
    """Root may read and write everything; without these capabilities it is bound by permissions too."""
    drop_capability = 24
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(drop_capability, capability, 0, 0, 0)


@pytest.fixture
def locked(tmp_path):
    """A home of which a test locks a part."""
    make_world(tmp_path)
    yield tmp_path
    for path in [tmp_path, *tmp_path.iterdir()]:
        if not path.is_symlink():
            path.chmod(0o755)


PERMISSIONS = [
    ("data/processed/test.jsonl", 0o000, CHECKPOINT, 3, ["test.jsonl", "ermission denied"]),
    ("data/processed", 0o000, CHECKPOINT, 3, ["test.jsonl", "ermission denied"]),
    ("results.json", 0o444, f"{CHECKPOINT} --output results.json", 2, ["results.json", "read-only"]),
    ("a_folder", 0o555, f"{CHECKPOINT} --output a_folder/results.json", 2, ["a_folder is read-only"]),
    (".", 0o555, f"{SFT} --set output_dir=new", 2, ["read-only", "FACTUALITY_HOME"]),
    (".", 0o555, f"{SAMPLE} --data-dir new", 2, ["read-only", "FACTUALITY_HOME"]),
    ("prefs", 0o555, f"{PREFS} --prefs-dir prefs", 2, ["prefs is read-only"]),
]


@pytest.mark.parametrize("name, mode, command, code, words", PERMISSIONS)
def test_what_may_not_be_read_or_written_is_named(name, mode, command, code, words, locked):
    (locked / name).chmod(mode)
    done = run(command, locked, preexec_fn=without_privileges)
    (locked / name).chmod(0o755)
    assert done.returncode == code, done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert len(done.stderr.splitlines()) == 1


def run_mounted(options: str, folder: Path, command: str) -> subprocess.CompletedProcess:
    """A command with a file system of its own mounted at a folder; skips where that is not allowed."""
    script = f"mount -t tmpfs -o {options} none {folder} && exec {command}"
    environment = {**os.environ, "FACTUALITY_HOME": str(folder)}
    unshared = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(unshared, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("file systems cannot be mounted here")
    return done


@pytest.mark.parametrize("options, words", [("size=1060k", "o space left"), ("ro", "ead-only")])
def test_a_disk_that_is_full_or_read_only_is_named(options, words, tmp_path):
    done = run_mounted(options, tmp_path, f"{sys.executable} {SAMPLE} --limit 90")
    assert done.returncode in (1, 2), done.stderr
    assert words in done.stderr and str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_stdin_is_named(world):
    check("prompt_schema.py parse", 3, ["stdin"], world, stdin=None, preexec_fn=lambda: os.close(0))
