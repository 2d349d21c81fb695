"""Which attention runs where, with a pretended GPU: by card, installed kernels, model and flag."""

import sys
import types

import pytest
import torch
import transformers

from generation.batches import pad_left
from generation.engine import GenerationSettings, generate
from generation.likelihood import next_token_logps
from generation.readings import Texts, read_completions
from models import hardware
from models.choices import ATTENTION_NAMES, attention_settings, load_options
from models.hardware import choose_attention, weights_precision
from models.loading import LoadOptions, load_model
from preferences.adapter_scores import AdapterScorer
from preferences.cache import cache_key
from preferences.features import features_folder
from preferences.judges import judge_key, judge_settings
from preferences.reward_config import DEFAULTS
from tests.conftest import TINY, tiny_config
from tests.flash_on_cpu import pretend_flash, use_flash
from training.logits import logits_after_prefix
from utils.errors import UsageError
from utils.run_changes import changed_settings

GEMMA = tiny_config("gemma2", 100)
LLAMA = transformers.LlamaConfig(num_hidden_layers=1, head_dim=64)
# What is installed: (the package flash_attn, the package kernels with the kernels of the hub).
NOTHING = (False, False)
PACKAGE = (True, False)
HUB = (False, True)


@pytest.fixture
def machine(monkeypatch):
    """A function that pretends a GPU of a compute capability, and what is installed."""

    def pretend(capability, installed, function=lambda q, k, v, softcap=0.0: q):
        package, hub = installed
        monkeypatch.setattr(hardware, "_SAID", set())
        monkeypatch.setattr(hardware, "has_cuda", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(
            "transformers.utils.is_flash_attn_2_available",
            lambda kernels_fallback_ok=False: package or (hub and kernels_fallback_ok),
        )
        module = types.SimpleNamespace(flash_attn_func=function)
        monkeypatch.setitem(sys.modules, "flash_attn", module if package else None)

    return pretend


@pytest.mark.parametrize(
    "capability, installed, gemma, llama",
    [
        # T4 and V100 have no kernels, whatever is installed.
        ((7, 5), PACKAGE, "eager", "sdpa"),
        ((7, 0), HUB, "eager", "sdpa"),
        ((8, 0), NOTHING, "eager", "sdpa"),
        # A100, L4, H100: the package or, without it, the hub's kernels.
        ((8, 0), PACKAGE, "flash_attention_2", "flash_attention_2"),
        ((8, 9), HUB, "flash_attention_2", "flash_attention_2"),
        ((9, 0), PACKAGE, "flash_attention_2", "flash_attention_2"),
    ],
)
def test_auto_goes_by_card_and_kernels_and_never_takes_flex(capability, installed, gemma, llama, machine):
    machine(capability, installed)
    assert choose_attention("auto", GEMMA) == gemma
    assert choose_attention("auto", LLAMA) == llama
    # What the notebook asks for runs on every card.
    assert choose_attention("flash2", GEMMA) == gemma
    assert choose_attention("flash_attention_2", LLAMA) == llama
    # In float32 there are no such kernels anywhere.
    assert choose_attention("auto", GEMMA, half=False) == "eager"
    assert choose_attention("flash2", LLAMA, half=False) == "sdpa"
    assert choose_attention("flex", LLAMA) == "flex_attention"


def test_a_fallback_is_one_note_with_the_reason_and_the_install_line(machine, capsys):
    for flag in ("flash2", "auto"):
        machine((8, 0), NOTHING)
        choose_attention(flag, GEMMA)
        choose_attention(flag, GEMMA)
        noted = capsys.readouterr().err
        assert noted.count("\n") == 1
        assert "pip install kernels" in noted
        assert "eager" in noted
    # No command helps a card without the instructions, so none is shown, and auto says nothing.
    machine((7, 5), NOTHING)
    choose_attention("auto", GEMMA)
    assert capsys.readouterr().err == ""
    choose_attention("flash2", GEMMA)
    assert "needs compute capability 8.0, this GPU has 7.5" in capsys.readouterr().err


def test_the_install_line_names_a_version_that_transformers_takes(machine, capsys, monkeypatch):
    monkeypatch.setattr("transformers.utils.import_utils.KERNELS_MIN_VERSION", "0.16.0")
    machine((8, 0), NOTHING)
    choose_attention("flash2", LLAMA)
    assert "pip install kernels~=0.16.0" in capsys.readouterr().err


def test_kernels_that_would_answer_otherwise_or_not_at_all_are_not_taken(machine, capsys):
    # An old flash_attn has no soft cap, and transformers would leave it out without a word.
    machine((8, 0), PACKAGE, lambda q, k, v: q)
    assert choose_attention("auto", GEMMA) == "eager"
    assert "pip install -U flash-attn" in capsys.readouterr().err
    assert choose_attention("auto", LLAMA) == "flash_attention_2"
    # A wheel of another torch is "installed", and fails when it is imported.
    machine((8, 0), PACKAGE)
    sys.modules["flash_attn"] = None
    assert choose_attention("auto", LLAMA) == "sdpa"
    assert "cannot be imported" in capsys.readouterr().err
    # Heads wider than any kernel.
    machine((9, 0), PACKAGE)
    assert choose_attention("auto", transformers.LlamaConfig(head_dim=512)) == "sdpa"
    # Flex needs blocks of 16, and the tiny Gemma has heads of 8.
    assert choose_attention("flex", GEMMA) == "flash_attention_2"


@pytest.mark.parametrize(
    "flag, model", [("eager", GEMMA), ("eager", LLAMA), ("sdpa", LLAMA), ("flex", LLAMA)]
)
def test_who_asks_for_other_attention_loads_no_flash_kernels(flag, model, machine, monkeypatch):
    machine((9, 0), HUB)

    def look_up(**options):
        raise AssertionError("this may load kernels from the hub")

    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", look_up)
    assert choose_attention(flag, model) == ATTENTION_NAMES.get(flag, flag)


def test_a_refused_implementation_falls_back_to_the_next_slower_one(tiny_gemma_dir, monkeypatch, capsys):
    asked = []

    def refuses_flash(*args, attn_implementation, **kwargs):
        asked.append(attn_implementation)
        if attn_implementation != "eager":
            raise ImportError(f"{attn_implementation}: undefined symbol in flash_attn_2_cuda.so")
        return torch.nn.Identity(), {}

    monkeypatch.setattr(hardware, "_SAID", set())
    monkeypatch.setattr("models.loading.choose_attention", lambda *args, **kwargs: "flash_attention_2")
    monkeypatch.setattr("models.loading.AutoModelForCausalLM.from_pretrained", refuses_flash)
    load_model(str(tiny_gemma_dir))
    assert asked == ["flash_attention_2", "sdpa", "eager"]
    assert "does not take sdpa, using eager" in capsys.readouterr().err


# --- FlashAttention around holes and windows


def rows_of_lengths(lengths):
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, 200, (n,), generator=generator).tolist() for n in lengths]


def windowed(kind: str, **layers):
    """A random model whose window is narrower than the rows of these tests."""
    tokens = {"vocab_size": 200, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, **layers}
    torch.manual_seed(0)
    config = {
        "gemma2": lambda: transformers.Gemma2Config(**TINY, **tokens, sliding_window=24, head_dim=8),
        "gemma3": lambda: transformers.Gemma3TextConfig(**TINY, **tokens, sliding_window=24, head_dim=8),
        "mistral": lambda: transformers.MistralConfig(**TINY, **tokens, sliding_window=24),
    }[kind]()
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


@pytest.mark.parametrize("kind", ["gemma2", "gemma3", "mistral"])
def test_flash_attention_reads_around_holes_so_drafts_stay_on_in_long_rows(kind, monkeypatch):
    class Tokenizer:
        eos_token_id = 1
        pad_token_id = 0

    prefix, *suffixes = rows_of_lengths([30, 5, 21, 40, 9])
    settings = GenerationSettings(batch_size=4, max_new_tokens=12)

    def complete(model, drafts):
        found = {}
        passes = []
        handle = model.register_forward_pre_hook(lambda module, inputs: passes.append(1))
        guide = lambda i: types.SimpleNamespace(  # noqa: E731
            draft=lambda ids: drafts(i, len(ids)), allowed=lambda ids: None, stop=lambda ids: False
        )
        for batch in generate(model, Tokenizer(), suffixes, guide, prefix, settings):
            found |= {i: generated.ids for i, generated in batch}
        handle.remove()
        return [found[i] for i in range(len(suffixes))], len(passes)

    model = windowed(kind)
    expected, n_plain = complete(model, lambda i, n: [])
    pretend_flash(monkeypatch)
    use_flash(model)
    # Right for a while, then wrong: the cache gets holes of other sizes in every row.
    found, n_drafted = complete(model, lambda i, n: [*expected[i][n : n + 2 + i], 7, 8])
    assert found == expected
    assert n_drafted < n_plain
    # The same logits in training, where the prefix comes before the padding.
    ids, mask = pad_left(suffixes, 0, "cpu")
    for share_prefix in (True, False):
        logits = logits_after_prefix(model, share_prefix)(model, prefix, ids, mask, 2)
        for i, suffix in enumerate(suffixes):
            alone = model(input_ids=torch.tensor([prefix + suffix])).logits[0, -2:]
            torch.testing.assert_close(logits[i], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["gemma2", "gemma3", "mistral"])
@pytest.mark.parametrize("n_shared", [10, 40])
def test_flash_attention_shares_a_beginning_longer_than_the_window(kind, n_shared, monkeypatch):
    common, *ends = rows_of_lengths([n_shared, 5, 9, 6])
    rows = [common + end for end in ends]
    # Of two layers, Gemma-3 has none without a window unless it is told so; those of Mistral are all alike.
    layers = {} if kind == "mistral" else {"layer_types": ["sliding_attention", "full_attention"]}
    model = windowed(kind, **layers)
    # As they are made, random weights hardly let a token attend to another.
    for weight in model.parameters():
        if weight.dim() > 1 and weight is not model.get_input_embeddings().weight:
            weight.data *= 8
    pretend_flash(monkeypatch)
    use_flash(model)
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in rows]
    whole = [row.log_softmax(-1) for row in logits]
    found = {}
    for batch in next_token_logps(model, rows, 0, 2):
        found |= dict(batch)
    for i, logps in enumerate(whole):
        torch.testing.assert_close(found[i], logps[-1], rtol=0, atol=1e-4)
    # Completions of one prompt, as reward features and --best-of read them, and as train_rm.py scores them.
    texts = Texts(common[:3], [common[3:]] * len(ends), ends)
    for batch in read_completions(model, texts, 0, 4):
        for i, reading in batch:
            n = len(ends[i])
            told = whole[i][-n - 1 : -1].gather(1, torch.tensor(ends[i])[:, None])[:, 0]
            torch.testing.assert_close(reading.logps, told, rtol=0, atol=1e-4)
    scorer = AdapterScorer(model, 0)
    torch.nn.init.normal_(scorer.direction)
    with torch.no_grad():
        shared = scorer.scores(common, ends)
        scorer.reads_prefix = False
        expected = scorer.scores(common, ends)
    torch.testing.assert_close(shared, expected, rtol=0, atol=1e-4)


def test_flash_attention_is_not_taken_for_local_layers_that_it_ignores(machine):
    # Its module asks whether flash_attn is installed when it is imported, so before that is pretended.
    assert transformers.GPTNeoForCausalLM
    machine((9, 0), PACKAGE)
    layers = {"num_layers": 2, "hidden_size": 128, "num_heads": 2}
    config = transformers.GPTNeoConfig(**layers, attention_types=[[["global", "local"], 1]])
    assert choose_attention("auto", config) == "eager"
    config = transformers.GPTNeoConfig(**layers, attention_types=[[["global"], 2]])
    assert choose_attention("auto", config) == "flash_attention_2"


# --- the flags


def flags(script: str, *given):
    """The parsed flags of a script, with what it needs beside the given ones."""
    needed = {
        "evaluate_sft_fast_robust": ["--test-data", "t.jsonl", "--model-path", "m"],
        "robustness": ["--test-data", "t.jsonl", "--model-path", "m"],
        "make_prefs": [],
        "ask": [],
        "train_rm": ["-c", "configs/rm.yaml"],
    }
    module = __import__(script)
    return module.build_parser().parse_args([*needed[script], *given])


SCRIPTS = ["evaluate_sft_fast_robust", "robustness", "make_prefs", "ask", "train_rm"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_stage_that_runs_a_model_takes_an_attention(script):
    assert flags(script, "--attn-impl", "flash2").attn_impl == "flash2"
    with pytest.raises(UsageError, match="--attn-impl"):
        flags(script, "--attn-impl", "flash9")


@pytest.mark.parametrize("script", SCRIPTS[:4])
def test_four_and_eight_bits_exclude_each_other_before_torch(script):
    options = load_options(flags(script, "--use-4bit", "--attn-impl", "eager"))
    assert options == LoadOptions(load_in_4bit=True, attention="eager")
    assert load_options(flags(script)) == LoadOptions()
    with pytest.raises(UsageError, match="--use-8bit"):
        flags(script, "--use-4bit", "--use-8bit")


@pytest.mark.parametrize("script", SCRIPTS[:2])
def test_results_of_before_a_flag_are_those_of_its_default(script):
    # The flags that came later; in a manifest of before they are missing.
    new = vars(flags(script))
    old = {name: value for name, value in new.items() if name not in ("engine", "use_4bit", "use_8bit")}
    decided = [{name: run.get(name) for name in __import__(script).DECIDING} for run in (old, new)]
    assert changed_settings({"settings": decided[0]}, {"settings": decided[1]}) == []


def test_the_fast_flags_of_the_notebook_leave_drafts_and_shared_prefixes_on(monkeypatch):
    import evaluate_sft_fast_robust as evaluation

    # What a run asks of the engine decides on every device; buckets once went there, and switched both off.
    asked = []

    def predict(model, tokenizer, prompts, name, settings, constrained):
        asked.append(settings)
        return iter([])

    monkeypatch.setattr(evaluation, "predict", predict)
    log = types.SimpleNamespace(shards=types.SimpleNamespace(n_processes=1), rows=list)
    models = types.SimpleNamespace(model=None, tokenizer=None)
    fast = ["--fast", "--buckets", "2048,3072,4096,5120,6144,7168,7936"]
    for given in ([], fast):
        args = flags("evaluate_sft_fast_robust", *given)
        evaluation.run_model(models, "sft", {"a": None}, args, log, [])
    assert asked[0] == asked[1]


def test_the_flag_of_the_reward_model_overrides_its_yaml():
    import train_rm

    given = ["-c", "configs/rm.yaml", "--dry-run"]
    assert train_rm.read_settings(given)[1]["attn_implementation"] == "auto"
    args, config = train_rm.read_settings([*given, "--attn-impl", "eager"])
    assert config["attn_implementation"] == "eager"
    # Printed commands repeat what was set.
    assert args.set == ["attn_implementation=eager"]


def test_attention_and_bits_decide_what_may_be_read_from_a_cache(monkeypatch):
    assert attention_settings("flash2") == attention_settings("flash_attention_2")
    assert attention_settings("auto") == attention_settings(None) == {}
    names = set()
    for options in (LoadOptions(), LoadOptions(load_in_4bit=True), LoadOptions(load_in_8bit=True)):
        names.add(weights_precision(options))
    assert len(names) == 3

    monkeypatch.setattr("preferences.judges.model_key", str)
    judging = {"judge_model": "owner/name", "judge_use_8bit": False, "judge_use_4bit": False}
    judging["judge_template"] = "default"
    keys = [
        judge_key(judge_settings("llm", judging | {"attn_impl": flag}, str)) for flag in ("auto", "eager")
    ]
    assert keys[0] != keys[1]
    # Caches of before there was a flag keep their names.
    assert keys[0] == judge_key(judge_settings("llm", judging, str))
    assert cache_key({"seed": 1} | attention_settings("eager")) != cache_key({"seed": 1})

    config = DEFAULTS | {"base_model": "owner/name"}
    paths = {
        features_folder(config | {"attn_implementation": flag}, "t") for flag in ("auto", "eager", "flex")
    }
    assert len(paths) == 3
