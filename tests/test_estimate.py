"""The memory of plans: against arithmetic by hand, what autograd keeps, and whole processes."""

import re
from ctypes.util import find_library

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

import train_sft
from models import estimate, hardware
from models.choices import LoadOptions
from models.footprint import Passes, row_bytes
from models.lora_keys import LORA_TARGETS
from models.planned_memory import generation_memory, planned_passes, training_memory
from models.shape import find_shape, shape_of_config
from models.training_footprint import Trained, layer_bytes, trained_bytes, training_bytes
from tests.test_sft_runs import write_config
from training import plan
from utils.jsonl import read_json

WIDTHS = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
}


def make(kind: str, n_layers: int, attention: str, full: bool, half: bool, dropout: float):
    """A model as `load_trainable` makes it on a GPU, without the layers that are for CPUs."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, LlamaConfig

    configs = {"llama": LlamaConfig, "gemma2": Gemma2Config, "gemma3_text": Gemma3TextConfig}
    config = configs[kind](**WIDTHS, num_hidden_layers=n_layers)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    if full:
        return model
    lora = LoraConfig(r=4, lora_dropout=dropout, target_modules=LORA_TARGETS, task_type="CAUSAL_LM")
    return get_peft_model(model.bfloat16() if half else model, lora, autocast_adapter_dtype=True)


def kept_bytes(model, n_tokens: int, half: bool) -> int:
    """Bytes of the tensors that autograd keeps of one row, without weights and their copies."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    of_weights = {tuple(p.shape) for p in model.parameters()}
    of_weights |= {shape[::-1] for shape in of_weights}
    kept = {}

    def pack(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in weights and tuple(tensor.shape) not in of_weights:
            # The tensor too, so that no other one gets its place.
            kept[place] = tensor.detach()
        return tensor

    ids = torch.arange(n_tokens)[None] % 200
    model.train()
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=half)
    with saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
        model(input_ids=ids, use_cache=False, logits_to_keep=torch.tensor([n_tokens - 1]))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("half", [True, False], ids=["bf16", "float32"])
@pytest.mark.parametrize("trains", ["lora", "lora dropout", "full"])
@pytest.mark.parametrize(
    "kind, attention",
    [("llama", "sdpa"), ("llama", "eager"), ("gemma2", "eager"), ("gemma3_text", "sdpa")],
)
def test_a_layer_keeps_what_the_arithmetic_says(kind, attention, trains, half):
    n_tokens = 96
    full = trains == "full"
    dropout = 0.1 if "dropout" in trains else 0.0
    models = [make(kind, n_layers, attention, full, half, dropout) for n_layers in (2, 4)]
    # Two layers more, so that embeddings, the last norm and what layers share are left out.
    two, four = (kept_bytes(model, n_tokens, half) for model in models)
    shape = shape_of_config(models[0].config.to_dict())
    # Not on a GPU, for the masks of dropout; of no type that the CPU's own layers are for.
    passes = Passes(shape, 16 if half else 32, half, attention, on_gpu=not dropout)
    trained = Trained(1, n_tokens, 0, 1, [] if full else LORA_TARGETS, 4, bool(dropout), 4)
    assert (four - two) / 2 == pytest.approx(layer_bytes(passes, trained) * n_tokens, rel=0.1)


@pytest.fixture(scope="module")
def wide(tokenizer, tmp_path_factory):
    """The directory of a random Llama of 52 M parameters with the tests' tokenizer."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 12}
    special = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    config = LlamaConfig(**sizes, vocab_size=8000, tie_word_embeddings=True, **special)
    folder = tmp_path_factory.mktemp("models") / "wide"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_arithmetic_of_nine_billion_parameters():
    # google/gemma-2-9b: 42 layers of width 3584, 16 heads of 256, 256,000 tokens; a row of 2,048 tokens.
    shape = find_shape("google/gemma-2-9b")
    assert shape.n_parameters == pytest.approx(9.24e9, rel=0.01)
    embeddings = 256_000 * 3584 * 2
    four_bits = 8.32e9 * 0.516
    passes = Passes(shape, 4, True, "eager", on_gpu=True)
    assert passes.weights == pytest.approx(embeddings + four_bits, rel=0.01)
    # Rank 16 on all seven matrices: 1.29 M weights per layer, each in float32 with two moments.
    trained = Trained(1, 2048, 0, 25, LORA_TARGETS, 16, True, 42, 1.0, accumulates=True)
    assert trained_bytes(passes, trained) == pytest.approx(42 * 1.286e6 * 12, rel=0.01)
    # Inputs of 42 layers; one layer again, of which the scores are the largest part: 8 bytes kept and 8 of
    # gradients for each of 16 x 2,048 x 2,048.
    inputs = 42 * 2048 * 3584 * 2
    scores = 16 * 2048 * 2048 * 16
    gradients = 42 * 1.286e6 * 4
    others = 0.28e6 * 2048 + 0.22e9 + gradients
    assert training_bytes(passes, trained) == pytest.approx(inputs + scores + others, rel=0.2)
    said = training_memory(passes, trained, 1)
    total = float(re.match(r"about ([\d.]+) GB of memory", said)[1])
    assert total == pytest.approx(6.1 + 0.9 + 0.6 + 1.1 + 0.8 + 0.7, rel=0.2)
    # Without checkpointing, every layer keeps its own: more than a card of 24 GB has.
    kept = Trained(1, 2048, 0, 25, LORA_TARGETS, 16, True, 42)
    assert training_bytes(passes, kept) > 40e9
    # FlashAttention writes out no scores.
    flash = Passes(shape, 4, True, "flash_attention_2", on_gpu=True)
    assert training_bytes(flash, trained) < training_bytes(passes, trained) - 0.8 * scores


# More were measured by hand (docs/gpu.md); each of these is a whole run.
CASES = {
    "float32": ["training.gradient_checkpointing=true"],
    "4 bits": ["load_in_4bit=true"],
    "full": ["full_finetuning=true"],
}


@pytest.fixture
def known_tokens(tokenizer, samples, monkeypatch):
    """Plans that know how long a token is: the tests' tokenizer has few words."""
    texts = [chunk["text"] for sample in samples for chunk in sample["evidence_chunks"]]
    n_chars = sum(map(len, texts)) / sum(len(tokenizer(text)["input_ids"]) for text in texts)
    for module in (estimate, plan):
        monkeypatch.setattr(module, "CHARS_PER_TOKEN", n_chars)


@pytest.fixture
def malloc(request, monkeypatch):
    """Plans and runs with this library preloaded; an empty name keeps a training from choosing one."""
    if request.param is None:
        pytest.skip("this machine has no jemalloc")
    monkeypatch.setenv("LD_PRELOAD", request.param)


@pytest.mark.usefixtures("known_tokens", "malloc")
@pytest.mark.parametrize(
    "case, malloc",
    [*((case, "") for case in CASES), ("float32", find_library("jemalloc"))],
    indirect=["malloc"],
)
def test_a_run_takes_what_its_plan_says(case, stage, wide, home, capsys):
    # Wide enough that the model counts beside the libraries, and no wider: the test has to end.
    config = write_config(home, wide, max_steps=2, eval_steps=2, save_steps=2)
    size = ["training.per_device_train_batch_size=4", "data.max_calibration_samples=2", "bf16=false"]
    flags = []
    for setting in [*size, *CASES[case]]:
        flags += ["--set", setting]
    train_sft.main(["-c", str(config), *flags, "--dry-run"])
    planned = capsys.readouterr().out
    said = float(re.search(r"about ([\d.]+) GB of memory", planned)[1])
    done = stage("train_sft.py", "-c", config, *flags, home=home)
    assert done.returncode == 0, done.stderr
    run = read_json(home / "sft/run.json")
    assert said == pytest.approx(run["peak_memory_gb"], rel=0.2), planned


@pytest.mark.parametrize("on_gpu, n", [(False, 1024), (True, 4096)])
def test_the_first_product_is_no_measure_of_the_speed(on_gpu, n, monkeypatch):
    # On a GPU it loads the library and its kernels.
    clock = [0.0]
    seconds = iter([0.3, *[0.01] * 100])
    ones = torch.ones

    def multiply(a, b):
        assert a.shape == (n, n)
        clock[0] += next(seconds)

    monkeypatch.setattr(hardware, "has_cuda", lambda: on_gpu)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch, "ones", lambda *size, device, **options: ones(*size, **options))
    monkeypatch.setattr(torch.Tensor, "__matmul__", multiply)
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: clock[0])
    assert estimate.measured_flops(torch.float32) == pytest.approx(2 * n**3 / 0.01)


def test_caches_of_a_row_are_in_its_bytes():
    shape = find_shape("google/gemma-2-9b")
    passes = Passes(shape, 16, True, "flash_attention_2", on_gpu=True)
    cache = 2 * 42 * 8 * 256 * 2
    per_token = row_bytes(passes, 2000, 1) - row_bytes(passes, 1000, 1)
    assert per_token / 1000 == pytest.approx(cache + 8 * 3584 + 6 * 14336, rel=0.01)


def test_shapes_come_from_files_names_and_sizes(tiny_gemma_dir, make_model):
    model = make_model("gemma2")
    shape = find_shape(str(tiny_gemma_dir))
    # Tied weights are stored once.
    assert shape.n_parameters == model.num_parameters()
    assert shape.soft_capped and shape.file_bytes > 4 * shape.n_parameters
    assert find_shape("Qwen/Qwen2.5-3B-Instruct").n_parameters == pytest.approx(3.09e9, rel=0.01)
    guessed = find_shape("someone/new-13b")
    assert guessed.n_parameters == pytest.approx(13e9, rel=0.01)
    assert 30 < guessed.n_layers < 60
    assert find_shape("someone/new") is None
    # Plans are asked for before the checkpoint is there.
    assert find_shape("checkpoints/sft/mine/checkpoint-best") is None
    assert find_shape("no..name") is None
    assert generation_memory("someone/new", LoadOptions(), 8, 500, 30) is None
    assert planned_passes("someone/new", LoadOptions()) is None
