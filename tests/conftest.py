"""Fixtures: stages as subprocesses, tiny random models with a tokenizer trained here, and a small data set.

Session fixtures are built once and shared, so a test must not change what they return.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.forked_stages import run_forked
from tests.slow_marks import is_slow

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# pytest-xdist's: how many processes run the tests. They share the cores, and so do their stages.
N_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if N_WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, os.cpu_count() // N_WORKERS)))

# Files of tests that take minutes. Begun last, one of them would run alone while the other processes wait.
LONG_FILES = ["test_printed_commands.py", "test_pipeline.py", "test_sft_runs.py", "test_kills.py"]
LONG_FILES += ["test_stage_kills.py", "test_places.py", "test_own_files.py"]


def pytest_collection_modifyitems(items):
    """Marks the tests that `make test-fast` leaves out; in several processes, the long ones come first."""
    for item in items:
        if is_slow(item):
            item.add_marker(pytest.mark.slow)
    if N_WORKERS > 1:
        items.sort(key=lambda item: item.path.name not in LONG_FILES)


# The slowest fast test takes 2 s. Processor time, because a busy machine stretches the time on the clock.
MAX_FAST_SECONDS = 15


@pytest.fixture(autouse=True)
def fast_tests_stay_fast(request, monkeypatch):
    """Fails a test that is not marked slow if it starts a process or takes long."""
    if request.node.get_closest_marker("slow"):
        yield
        return
    start_process = subprocess.Popen.__init__

    def start_git_only(self, args, *rest, **settings):
        # run.json names the git commit; asking for it takes milliseconds.
        assert args[0] == "git", f"{args}: name subprocess in the test itself, so that it is marked slow"
        start_process(self, args, *rest, **settings)

    monkeypatch.setattr(subprocess.Popen, "__init__", start_git_only)
    started = time.process_time()
    yield
    assert time.process_time() - started < MAX_FAST_SECONDS, "a fast test is slow: see tests/slow_marks.py"


# With these set, jemalloc does not start a stage again, and each stage would do so in a process of its own.
FORKED = {"LD_PRELOAD": os.environ.get("LD_PRELOAD", "")}


def run_stage(*args: str, home: Path, env: dict | None = None) -> subprocess.CompletedProcess:
    """`python <script> ...` in the repository with FACTUALITY_HOME=home."""
    arguments = list(map(str, args))
    environment = {**os.environ, "FACTUALITY_HOME": str(home), "HF_HUB_OFFLINE": "1", **(env or {})}
    if env is None and arguments[0].endswith(".py"):
        return run_forked(arguments[0], arguments[1:], {**environment, **FORKED}, seconds=900)
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)


# Two processes on CPU. `accelerate launch --cpu --num_processes 2` starts one without a word
# (accelerate 1.15); with --multi_gpu and ACCELERATE_USE_CPU torchrun starts two, which talk over gloo.
TWO_PROCESSES = [
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--main_process_port",
    "0",
]
TWO_PROCESSES_ENV = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def stage():
    return run_stage


@pytest.fixture(scope="session")
def data_home(tmp_path_factory):
    """A home with the bundled sample, built small: 30 rows of each source."""
    home = tmp_path_factory.mktemp("home")
    # Short evidence keeps prompts short, and with them every test that runs a model.
    evidence = "--max-chunks 3 --max-chunk-words 20"
    flags = f"--sample --data-dir data --limit 30 {evidence} --split 0.6,0.2,0.2"
    done = run_stage("build_data.py", *flags.split(), home=home)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(data_home, tmp_path, monkeypatch):
    """An empty home with the built sample data; what a stage writes by mistake is found here."""
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "data").symlink_to(data_home / "data")
    return tmp_path


@pytest.fixture(scope="session")
def samples(data_home):
    from utils.schema import read_samples

    rows = []
    for split in ("train", "val", "test"):
        rows += read_samples(data_home / f"data/processed/{split}.jsonl")
    return rows


def train_tokenizer(texts: list[str]):
    """A byte-level BPE tokenizer with BOS, EOS and pad tokens but no chat template, like a base model's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # The turn tokens are Gemma's: tests check that evidence cannot use them.
    specials = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # With all 256 bytes in the vocabulary, no text has an unknown token.
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    special_names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_names)


# Fewer key-value heads than heads, as in the real models: grouped-query attention is tested too.
TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def tiny_config(kind: str, vocab_size: int):
    """The real architecture class at toy size; Gemma-2 keeps soft-capping and sliding windows."""
    from transformers import Gemma2Config, Gemma3TextConfig, LlamaConfig, Qwen2Config

    # The ids of `specials` in train_tokenizer, in their order.
    tokens = {"vocab_size": vocab_size, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    if kind == "gemma2":
        soft_caps = {
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "sliding_window": 512,
            "query_pre_attn_scalar": 8,
        }
        return Gemma2Config(**TINY, **tokens, **soft_caps, head_dim=8)
    if kind == "gemma3_text":
        return Gemma3TextConfig(**TINY, **tokens, sliding_window=512, query_pre_attn_scalar=8, head_dim=8)
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](**TINY, **tokens)


@pytest.fixture(scope="session")
def tokenizer(samples):
    from prompt_schema import SFT_TEMPLATES
    from utils.completions import gold_completion

    texts = []
    for sample in samples:
        texts += [chunk["text"] for chunk in sample["evidence_chunks"]]
    # The template counts 20 times, so that its words become few tokens, as they are for a real model.
    texts += [SFT_TEMPLATES["default"]] * 20
    texts += [gold_completion(sample, list(range(len(sample["evidence_chunks"])))) for sample in samples]
    tokenizer = train_tokenizer(texts)
    tokenizer.padding_side = "left"
    return tokenizer


@pytest.fixture(scope="session")
def make_model(tokenizer):
    """Random causal LM of a kind, float32, eval mode."""
    import torch
    from transformers import AutoModelForCausalLM

    def make(kind: str):
        torch.manual_seed(0)
        # Gemma-2 has no SDPA path (soft-capping), so all kinds use the attention that each of them has.
        config = tiny_config(kind, len(tokenizer))
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()

    return make


@pytest.fixture(scope="session")
def tiny_gemma_dir(make_model, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-gemma2"
    make_model("gemma2").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def embedded_dir(tmp_path_factory):
    """The embedded model, converted once for all tests."""
    from models.embedded import embedded_dir
    from models.embedded_models import EMBEDDED

    # monkeypatch serves one test; a session fixture restores the variable itself.
    home = tmp_path_factory.mktemp("embedded")
    before = os.environ.get("FACTUALITY_HOME")
    os.environ["FACTUALITY_HOME"] = str(home)
    try:
        return embedded_dir(EMBEDDED)
    finally:
        os.environ.pop("FACTUALITY_HOME")
        if before is not None:
            os.environ["FACTUALITY_HOME"] = before


@pytest.fixture(scope="session")
def finished_demo(embedded_dir, tmp_path_factory):
    """A copy of the repository in which the notebook has run at tiny sizes. Shared: change nothing in it."""
    pytest.importorskip("nbclient")
    from tests.finished_demo import finish_demo

    return finish_demo(tmp_path_factory.mktemp("finished") / "checkout", embedded_dir)


@pytest.fixture
def sample():
    """An answerable sample, as a row of a file, with two alternative support sets."""
    # Chunk 2 supports in other words; chunk 1 shares a name with the question, chunk 3 shares nothing.
    chunks = [
        {"title": "Marie Curie", "text": "She was born in Warsaw in 1867."},
        {"title": "Pierre Curie", "text": "He taught in Paris."},
        {"title": "Warsaw", "text": "The birthplace of Marie Curie is now a museum in Warsaw."},
        {"title": "Radium", "text": "The element glows in the dark."},
    ]
    return {
        "id": "popqa:1",
        "source": "popqa",
        "question": "Where was Marie Curie born?",
        "evidence_chunks": chunks,
        "answer": "Warsaw",
        "answer_aliases": ["Warsaw", "Warszawa"],
        "answerable": True,
        "support_sets": [[0], [2]],
        "support_spans": [0, 2],
        "hard_negatives": [1, 3],
        "group": "g1",
        "metadata": {},
    }


@pytest.fixture
def unanswerable(sample):
    """The twin of `sample`: the same question without its support."""
    # A deep copy, so that a test may use both.
    row = json.loads(json.dumps(sample))
    row["evidence_chunks"] = [
        {"title": "Pierre Curie", "text": "He taught in Paris."},
        {"title": "Radium", "text": "The element glows in the dark."},
    ]
    row |= {
        "id": "popqa:1:unanswerable",
        "answer": "[INSUFFICIENT_EVIDENCE]",
        "answer_aliases": [],
        "answerable": False,
    }
    row |= {
        "support_sets": [],
        "support_spans": [],
        "hard_negatives": [0, 1],
        "metadata": {"twin_of": "popqa:1", "gold_aliases": ["Warsaw"]},
    }
    return row
