"""The bundled sample: sizes, formats, variety, and no entity of a test question in a training page."""

import json
import re
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml

import build_data
from utils.schema import read_samples
from utils.text import contains_tokens, tokenize

RAW = Path(__file__).resolve().parent.parent / "data/sample/raw"


def jsonl(name):
    return [json.loads(line) for line in (RAW / name).read_text().splitlines()]


def test_it_is_large_varied_and_small_on_disk():
    fever = jsonl("fever/train.jsonl") + jsonl("fever/shared_task_dev.jsonl")
    hotpot = []
    for name in ("train_v1.1", "dev_distractor_v1"):
        hotpot += json.loads((RAW / f"hotpotqa/hotpot_{name}.json").read_text())
    nq = jsonl("nq_open/NQ-open.train.jsonl") + jsonl("nq_open/NQ-open.dev.jsonl")
    popqa = (RAW / "popqa/popQA.tsv").read_text().splitlines()[1:]
    assert len(fever) + len(hotpot) + len(nq) + len(popqa) >= 700
    assert Counter(row["label"] for row in fever).keys() == {"SUPPORTS", "REFUTES", "NOT ENOUGH INFO"}
    assert {row["type"] for row in hotpot} == {"bridge", "comparison"}
    assert {"yes", "no"} <= {row["answer"] for row in hotpot}
    assert sum(file.stat().st_size for file in RAW.rglob("*") if file.is_file()) <= 3_000_000

    pages = []
    with zipfile.ZipFile(RAW / "fever/wiki-pages.zip") as archive:
        for name in archive.namelist():
            pages += [json.loads(line) for line in archive.read(name).decode().splitlines()]
    assert len(pages) >= 300
    assert all(set(page) == {"id", "text", "lines"} for page in pages)
    # Pages of one name are no negatives of each other's questions; the sample must have such cases.
    bases = Counter(re.sub(r"_-LRB-.*", "", page["id"]) for page in pages)
    assert sum(n > 1 for n in bases.values()) >= 8, "pages that share a name"


def test_eight_domains_and_six_phrasings_of_every_relation():
    domains = [yaml.safe_load(path.read_text()) for path in (RAW.parent / "facts").glob("*.yaml")]
    assert len(domains) >= 8
    for domain in domains:
        for kind, spec in domain["kinds"].items():
            for name, relation in spec["relations"].items():
                assert len(set(relation["questions"])) >= 6, (domain["domain"], kind, name)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The splits as `make demo` builds them, by name."""
    home = tmp_path_factory.mktemp("sample")
    # The fixture `monkeypatch` serves one test; this one serves the module.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTUALITY_HOME", str(home))
        build_data.main(
            ["--sample", "--max-chunks", "3", "--max-chunk-words", "20", "--split", "0.7,0.1,0.2"]
        )
    return {split: read_samples(home / f"data/processed/{split}.jsonl") for split in ("train", "val", "test")}


def test_entities_of_test_questions_appear_in_no_training_page(built):
    train_pages = set()
    for sample in built["train"]:
        train_pages |= {(chunk["title"], chunk["text"]) for chunk in sample["evidence_chunks"]}
    texts = [tokenize(f"{title}. {text}") for title, text in train_pages]
    words = [set(text) for text in texts]
    entities = set()
    for sample in built["test"]:
        for i in sample["support_spans"]:
            entities.add(re.sub(r"\s*\([^)]*\)$", "", sample["evidence_chunks"][i]["title"]))
    assert len(entities) > 50

    found = []
    for entity in entities:
        tokens = tokenize(entity)
        for text, known in zip(texts, words):
            # The set of words first: most texts lack one, and a set tells it fast.
            if known.issuperset(tokens) and contains_tokens(text, tokens):
                found.append(entity)
    assert found == []


def test_the_test_split_serves_the_demo(built):
    test = built["test"]
    n_unanswerable = sum(not s["answerable"] for s in test)
    # The default share of unanswerable samples is 0.33.
    assert len(test) >= 200
    assert 0.3 <= n_unanswerable / len(test) <= 0.36
    assert {s["source"] for s in test} == {"fever", "hotpotqa", "nq_open", "popqa"}
