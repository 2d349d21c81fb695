"""The home that tests/test_mistakes.py makes its mistakes in: small files of every kind, right and wrong.

It knows no stage: a file here is only as real as a reader needs it to be.
"""

import gzip
import json
import struct
import zipfile
from pathlib import Path

CHUNKS = [
    {"title": "Marie Curie", "text": "Marie Curie was born in Warsaw."},
    {"title": "Pierre Curie", "text": "Pierre Curie was born in Paris."},
]
SAMPLE = {
    "id": "own:1",
    "source": "own",
    "question": "Where was Marie Curie born?",
    "evidence_chunks": CHUNKS,
    "answer": "Warsaw",
    "answer_aliases": ["Warsaw"],
    "answerable": True,
    "support_sets": [[0]],
    "support_spans": [0],
    "hard_negatives": [1],
    "group": "g1",
    "metadata": {},
}
# Of the test split: its question and its group are in no other split.
TEST_SAMPLE = {**SAMPLE, "id": "own:2", "group": "g2", "question": "In which city was Marie Curie born?"}
ANSWER = '{"answer": "Warsaw", "citations": [0], "confidence": 0.9}'
OTHER = '{"answer": "Paris", "citations": [1], "confidence": 0.9}'
PREDICTION = {"id": "own:2", "model": "sft", "completion": ANSWER}
COMPLETION = {"id": "c1", "question": SAMPLE["question"], "evidence_chunks": CHUNKS, "completion": ANSWER}
PREFERENCE = {
    "id": "own:1#0-1",
    "sample_id": "own:1",
    "source": "own",
    "group": "g1",
    "question": SAMPLE["question"],
    "answerable": True,
    "evidence_chunks": CHUNKS,
    "prompt": [{"role": "user", "content": "Where?"}],
    "chosen": [{"role": "assistant", "content": ANSWER}],
    "rejected": [{"role": "assistant", "content": OTHER}],
    "margin": 0.5,
    "score_chosen": 1.0,
    "score_rejected": 0.5,
    "chosen_model": "sft",
    "rejected_model": "base",
    "decided_by": "verifier",
    "judge": {},
}
RUN = {
    "status": "complete",
    "command": ["x"],
    "settings": {"test_data": "test.jsonl"},
    "seed": 42,
    "inputs": {},
    "packages": {},
    "git_commit": None,
}
RESULTS = {"sft": {}, "deltas": {}, "baselines": {}, "run": RUN}


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def weights(n_missing: int = 0) -> bytes:
    """A safetensors file with one tensor of 8 bytes, of which the last `n_missing` are cut off."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(8)
    return whole[: len(whole) - n_missing]


def changed(row: dict, **fields) -> str:
    """The row as a line of JSON with other values for some fields."""
    return lines({**row, **fields})


ADAPTER = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "embedded"})
MODEL = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
HEAD = json.dumps({"base_model": "embedded", "template": "default", "score_scale": {}, "penalty_weights": {}})
FEVER = {"id": 1, "label": "SUPPORTS", "claim": "A.", "evidence": [[[1, 1, "A", 0]]]}
HOTPOT = {"_id": "a", "question": "q?", "answer": "a", "supporting_facts": [], "context": []}
NOTHING_SHOWN = {"role": "assistant", "content": None}
NULL_PAIR = changed(PREFERENCE, chosen=[NOTHING_SHOWN])

FILES: dict[str, str | bytes] = {
    # --- right ones
    "data/processed/train.jsonl": lines(SAMPLE),
    "data/processed/val.jsonl": lines(SAMPLE),
    "data/processed/test.jsonl": lines(TEST_SAMPLE),
    "data/processed/run.json": json.dumps(RUN),
    "predictions.jsonl": lines(PREDICTION),
    "completions.jsonl": lines(COMPLETION),
    "results.json": json.dumps(RESULTS, indent=2),
    "prefs/preferences_a-b.jsonl": lines(PREFERENCE),
    "prefs/preference_stats_a-b.json": json.dumps({"n_pairs": 1, "mean_margin": 0.5}),
    "prefs/cache/abc/manifest.json": json.dumps({**RUN, "created": 1.0, "started": "x"}),
    "prefs/cache/abc/gens_sft.jsonl": lines({**PREDICTION, "n": 0}, {**PREDICTION, "n": 1}),
    "sft/checkpoint-best/adapter_config.json": ADAPTER,
    "sft/checkpoint-best/adapter_model.safetensors": weights(),
    "sft/checkpoint-10/adapter_config.json": ADAPTER,
    "sft/checkpoint-10/adapter_model.safetensors": weights(),
    "rm/best/config.json": HEAD,
    "rm/best/reward_head.safetensors": weights(),
    # --- folders that are no model
    "no_weights/adapter_config.json": ADAPTER,
    "cut_weights/config.json": MODEL,
    "cut_weights/model.safetensors": weights(n_missing=3),
    "lfs_weights/config.json": MODEL,
    "lfs_weights/model.safetensors": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "one_shard/config.json": MODEL,
    "one_shard/model-00001-of-00002.safetensors": weights(),
    "one_shard/model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ),
    "no_base/adapter_config.json": json.dumps({"peft_type": "LORA"}),
    "no_base/adapter_model.safetensors": weights(),
    "hub/models--a--b/snapshots/1/config.json": MODEL,
    "tokens/tokenizer.json": "{}",
    # --- rows that are wrong
    "odd/null_pair.jsonl": NULL_PAIR,
    "odd/text_pair.jsonl": changed(PREFERENCE, chosen="Warsaw"),
    "odd/same_pair.jsonl": changed(PREFERENCE, rejected=PREFERENCE["chosen"]),
    "odd/foreign_pair.jsonl": lines({"chosen": "a", "rejected": "b"}),
    "odd/margin.jsonl": changed(PREFERENCE, margin="0.5"),
    "odd/chunks_text.jsonl": changed(COMPLETION, evidence_chunks=["Marie Curie was born in Warsaw."]),
    "odd/no_title.jsonl": changed(COMPLETION, evidence_chunks=[{"text": "Born in Warsaw."}]),
    "odd/completion_null.jsonl": changed(COMPLETION, completion=None),
    "odd/question_number.jsonl": changed(COMPLETION, question=7),
    "odd/completion_object.jsonl": changed(COMPLETION, completion={"answer": "Warsaw"}),
    "odd/span_7.jsonl": changed(SAMPLE, support_spans=[7], support_sets=[[7]]),
    "odd/answerable_text.jsonl": changed(SAMPLE, answerable="true"),
    "odd/chunk_strings.jsonl": changed(SAMPLE, evidence_chunks=["a", "b"]),
    "odd/id_number.jsonl": changed(SAMPLE, id=1),
    "odd/twice.jsonl": lines(SAMPLE, SAMPLE),
    "odd/cut.jsonl": lines(SAMPLE) + lines(SAMPLE)[:50],
    "odd/nan.jsonl": lines({**SAMPLE, "metadata": {"x": float("nan")}}),
    "odd/confidence.jsonl": changed(PREDICTION, probability="high"),
    "odd/completion_dict.jsonl": changed(PREDICTION, completion={"answer": "Warsaw"}),
    "odd/nameless.jsonl": changed(PREDICTION, model=""),
    "odd/reserved.jsonl": changed(PREDICTION, model="always_refuse"),
    "odd/other_ids.jsonl": changed(PREDICTION, id="own:99"),
    "odd/levels.jsonl": lines({"suite": "noise", "level": "1%", **PREDICTION}),
    # --- files of other programs
    "odd/empty.jsonl": "",
    "odd/blank.jsonl": "\n\n  \n",
    "odd/utf16.jsonl": lines(SAMPLE).encode("utf-16"),
    "odd/latin.jsonl": lines(SAMPLE)
    .replace("Warsaw", "Zürich")
    .encode("latin-1")
    .replace(b"\\u00fc", b"\xfc"),
    "odd/damaged.jsonl.gz": gzip.compress(lines(SAMPLE).encode())[:-9],
    "odd/list.json": json.dumps([SAMPLE]),
    "odd/pretty.json": json.dumps(SAMPLE, indent=2),
    "odd/table.csv": "id,question,answer\n1,Where?,Warsaw\n",
    "odd/table.tsv": "id\tquestion\tanswer\n1\tWhere?\tWarsaw\n",
    "odd/table.parquet": b"PAR1\x15\x04\x15" + bytes(100),
    "odd/table.xlsx": b"PK\x03\x04" + bytes(100),
    "odd/paper.pdf": b"%PDF-1.7\n" + bytes(100),
    "odd/page.html": "<!DOCTYPE html>\n<html><body>Sign in</body></html>\n",
    "odd/plot.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "odd/pointer.jsonl": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "odd/pickle.pt": b"\x80\x02}q\x00." + bytes(20),
    "odd/notes.txt": "The capital of France is Paris.\n",
    "odd/fever.jsonl": lines(FEVER),
    "odd/hotpot.jsonl": lines(HOTPOT),
    "odd/squad.json": json.dumps({"version": "1.1", "data": []}),
    "odd/chat.jsonl": lines({"messages": [{"role": "user", "content": "Hi"}]}),
    "odd/notebook.ipynb": json.dumps({"cells": [], "nbformat": 4}, indent=1),
    "odd/scores.jsonl": lines({"id": "a", "reward": 1.0, "head_score": 1.0, "penalties": {}}),
    # --- templates
    "prompts/sft_no_question.txt": "Evidence: {evidence}\n",
    "prompts/sft_twice.txt": "{question} {evidence} {evidence}\n",
    "prompts/sft_latin.txt": "Réponds: {question} {evidence}\n".encode("latin-1"),
    "prompts/sft_default.txt": "{question}\n{evidence}\n",
    "prompts/judge_default.txt": "{question}\n{evidence}\n{answer_a}\n{answer_b}\n",
    # --- in the way
    "a_file": "x\n",
    "a_folder/x.txt": "x\n",
}


def make_world(home: Path) -> None:
    """Write FILES and some links into an empty folder."""
    for name, content in FILES.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (home / "empty_folder").mkdir()
    with zipfile.ZipFile(home / "odd/samples.zip", "w") as archive:
        archive.writestr("samples.jsonl", lines(SAMPLE))
    (home / "odd/gone.jsonl").symlink_to(home / "odd/never_there.jsonl")
    (home / "gone_model").symlink_to(home / "never_there")
