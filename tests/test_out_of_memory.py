"""Too little memory: batches halve, nothing is lost or kept alive; what never fits is named in one line."""

import re
import weakref
from itertools import count

import pytest
import torch

from generation import batch_queue
from generation.answering import predict
from generation.choice import token_logps
from generation.engine import GenerationSettings
from generation.likelihood import next_token_logps
from generation.readings import Texts, read_completions
from models import loading, memory
from models.footprint import Passes, row_bytes
from models.shape import shape_of_config
from prompt_schema import Prompt
from training import adapters
from utils.errors import OutOfMemory, StageError, is_out_of_memory
from utils.startup import run_main

PROMPTS = [[2, *range(5, 5 + n)] for n in (9, 8, 7, 6, 5, 4, 3, 12)]
PREFIX = [2, 3]
COMPLETIONS = [[30, 31, 1], [33, 1], [30, 1], [30, 34, 35, 1], [1], [36, 1], [37, 38, 1], [39, 1]]


def generated(model, tokenizer) -> dict:
    prompts = {i: Prompt(PREFIX, ids, [], []) for i, ids in enumerate(PROMPTS)}
    rows = []
    for batch in predict(model, tokenizer, prompts, "x", GenerationSettings(8, 5)):
        rows += [(row["id"], row["completion"], row["n_tokens"]) for row in batch]
    return {i: rest for i, *rest in rows}


def judged(model, tokenizer) -> dict:
    found = {}
    for batch in next_token_logps(model, PROMPTS, 0, 8, [0, 0, 0, 0, 1, 1, 1, 1]):
        found |= {i: logps.tolist() for i, logps in batch}
    return found


def features(model, tokenizer) -> dict:
    found = {}
    for batch in read_completions(model, Texts(PREFIX, PROMPTS, COMPLETIONS), 0, 8):
        found |= {i: [*read.hidden.flatten().tolist(), *read.logps.tolist()] for i, read in batch}
    return found


READERS = [generated, judged, features]


def full_memory(kind: str) -> Exception:
    """An error as torch on a GPU, torch on a CPU, cuBLAS and Python raise it."""
    return {
        "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        "python": MemoryError(),
    }[kind]


class SmallMemory:
    """A model whose passes fail with more than `n_rows` rows, after they have made tensors."""

    def __init__(self, model, n_rows: int, kind: str = "cuda"):
        self.sizes: list[int] = []
        self.tensors: list[weakref.ref] = []
        forward = model.forward

        def small(**inputs):
            size = len(inputs["input_ids"])
            self.sizes.append(size)
            if size > n_rows:
                activations = torch.ones(size, 8)
                self.tensors.append(weakref.ref(activations))
                raise full_memory(kind)
            return forward(**inputs)

        model.forward = small


@pytest.mark.parametrize("kind", ["cuda", "cpu", "cublas", "python"])
@pytest.mark.parametrize("read", READERS)
def test_batches_halve_and_lose_nothing(read, kind, make_model, tokenizer):
    model = make_model("llama")
    expected = read(model, tokenizer)
    memory = SmallMemory(model, 2, kind)
    found = read(model, tokenizer)
    assert found.keys() == expected.keys()
    for i in expected:
        assert found[i] == pytest.approx(expected[i], abs=1e-4) if read is not generated else expected[i]
    # 8 fails, 4 fails, 2 fits; later batches start at what fitted.
    assert len([n for n in memory.sizes if n > 2]) <= 2


@pytest.mark.parametrize("read", READERS)
def test_the_failed_pass_is_freed_before_the_next(read, make_model, tokenizer, monkeypatch):
    # Inside of the except block the traceback keeps its tensors, and the allocator has nothing to give back.
    model = make_model("llama")
    memory = SmallMemory(model, 2)
    alive = []

    def release():
        alive.append([tensor() for tensor in memory.tensors if tensor() is not None])

    monkeypatch.setattr(batch_queue, "release_memory", release)
    read(model, tokenizer)
    assert alive
    assert not any(alive)


@pytest.mark.parametrize("read", READERS)
def test_a_row_that_does_not_fit_alone_is_named(read, make_model, tokenizer):
    model = make_model("llama")
    n_passes = count(1)
    forward = model.forward

    def fails(**inputs):
        # The beginning that all rows share is read first, in a pass of its own.
        if next(n_passes) > 1:
            raise full_memory("cuda")
        return forward(**inputs)

    model.forward = fails
    with pytest.raises(OutOfMemory) as caught:
        read(model, tokenizer)
    line = str(caught.value)
    assert re.search(r"one row of \d\d tokens does not fit on this machine; .*4 or 8 bits", line)
    assert "\n" not in line
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("kind", ["cuda", "cpu", "cublas", "python"])
def test_any_other_pass_that_does_not_fit_is_one_line(kind, capsys):
    def stage(argv):
        raise full_memory(kind)

    with pytest.raises(SystemExit) as ended:
        run_main(stage)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory; use a smaller batch size, load the model in 4 or 8 bits")
    assert said.count("\n") == 1


def test_a_model_that_does_not_fit_is_named(tiny_gemma_dir, tmp_path, monkeypatch):
    def from_pretrained(*args, **kwargs):
        raise full_memory("cuda")

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(OutOfMemory, match=r"tiny-gemma2: does not fit on this machine; load it in 4 or 8"):
        loading.load_model(str(tiny_gemma_dir))
    # A merge computes in float32, so fewer bits are no remedy there.
    with pytest.raises(StageError, match="CUDA_VISIBLE_DEVICES= before the command"):
        adapters._load_adapter(tiny_gemma_dir, loading.LoadOptions(bf16=False))


@pytest.mark.parametrize("read", READERS)
def test_batches_fit_the_free_memory(read, make_model, tokenizer, monkeypatch):
    model = make_model("llama")
    expected = read(model, tokenizer)
    widest = max(map(len, PROMPTS)) + (5 if read is generated else 0)
    passes = Passes(shape_of_config(model.config.to_dict()), 16, False, "eager", on_gpu=True)

    def rows_at_once(n_free: float) -> int:
        sizes = SmallMemory(model, 99).sizes
        monkeypatch.setattr(memory, "free_memory", lambda: int(n_free))
        found = read(model, tokenizer)
        assert found.keys() == expected.keys()
        return max(sizes)

    # Room for two or three of the longest rows; without room one is tried, or as many tokens in short ones.
    room = row_bytes(passes, widest + len(PREFIX), 5) * 2.5 / 0.8
    assert 1 < rows_at_once(room) <= 4
    assert rows_at_once(1) <= 3
    assert rows_at_once(1e12) == 8


def test_other_errors_are_no_matter_of_memory(make_model, tokenizer):
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    model = make_model("llama")

    def broken(**inputs):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model.forward = broken
    with pytest.raises(RuntimeError, match="mat1"):
        features(model, tokenizer)


def test_the_mean_is_that_of_the_whole_softmax():
    logits = torch.randn(5, 700).bfloat16()
    ids = torch.tensor([3, 699, 0, 41, 41])
    expected = logits.float().log_softmax(-1).gather(1, ids[:, None]).mean()
    assert token_logps(logits, ids).mean() == pytest.approx(expected.item(), abs=1e-6)
