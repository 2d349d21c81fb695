"""Base models of other families: attention without sdpa, other layer names, missing special tokens."""

import copy
import types

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from generation.cache import attention_window
from generation.drafting import Drafter, FreeGuide
from generation.engine import GenerationSettings, generate
from generation.likelihood import next_token_logps
from generation.readings import Texts, read_completions
from models.hardware import choose_attention
from models.loading import LoadOptions, load_model, load_tokenizer
from models.lora import add_lora
from models.lora_targets import choose_targets, excluded_layers, layer_names
from tests.conftest import TINY
from training.logits import logits_after_prefix
from training.sft_config import DEFAULTS
from utils.errors import DataError, UsageError

PROJECTIONS = DEFAULTS["lora"]["target_modules"]
TOKENS = {"vocab_size": 200, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
LAYERS_OF_NEO = [[["global", "local"], 1]]
# The real architecture classes at toy size. Those of the first block have no sdpa.
CONFIGS = {
    "bloom": lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **TOKENS),
    "gpt_oss": lambda: transformers.GptOssConfig(**TINY, **TOKENS, **EXPERTS, head_dim=8),
    "gptj": lambda: transformers.GPTJConfig(**GPT, **TOKENS, rotary_dim=4),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, attention_types=LAYERS_OF_NEO, **TOKENS
    ),
    "phi3": lambda: transformers.Phi3Config(**TINY, **TOKENS),
    "gpt2": lambda: transformers.GPT2Config(**GPT, **TOKENS),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, **TOKENS
    ),
    "llama": lambda: transformers.LlamaConfig(**TINY, **TOKENS),
}
# GPT-J has it from transformers 5.24 on.
WITHOUT_SDPA = ["bloom", "gpt_oss", "gpt_neo"]
if not transformers.GPTJForCausalLM._supports_sdpa:
    WITHOUT_SDPA.append("gptj")


def gemma3(text_config):
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    return transformers.Gemma3Config(
        text_config=text_config, vision_config=vision, mm_tokens_per_image=4, eos_token_id=1
    )


# Windows narrower than a row, in all layers or in some.
NARROW = {"sliding_window": 16}
GEMMA = {**TINY, **TOKENS, "head_dim": 8, "query_pre_attn_scalar": 8}
SOME_LAYERS = {"layer_types": ["sliding_attention", "full_attention"]}
WINDOWED = {
    "mistral": lambda: transformers.MistralConfig(**TINY, **TOKENS, **NARROW),
    "phi3": lambda: transformers.Phi3Config(**TINY, **TOKENS, **NARROW),
    "gemma2": lambda: transformers.Gemma2Config(**GEMMA, **NARROW),
    "gemma3_text": lambda: transformers.Gemma3TextConfig(**GEMMA, **NARROW, **SOME_LAYERS),
    "gemma3": lambda: gemma3({**GEMMA, **NARROW, **SOME_LAYERS}),
    "qwen2": lambda: transformers.Qwen2Config(
        **TINY, **TOKENS, **NARROW, **SOME_LAYERS, use_sliding_window=True
    ),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, attention_types=LAYERS_OF_NEO, window_size=16, **TOKENS
    ),
}
UNWINDOWED = {
    "qwen3": lambda: transformers.Qwen3Config(**TINY, **TOKENS, head_dim=8),
    "gemma3": lambda: gemma3({**GEMMA, "sliding_window": 512}),
}

# Layers with a state in which all tokens are mixed.
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
LINEAR |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64, "mamba_d_state": 8}
RECURRENT = {
    "lfm2": lambda: transformers.Lfm2Config(**TINY, **TOKENS, layer_types=["conv", "full_attention"]),
    "qwen3_next": lambda: transformers.Qwen3NextConfig(
        **{**TINY, "num_hidden_layers": 4},
        **{**TOKENS, **LINEAR, "head_dim": 8, "num_experts": 2, "num_experts_per_tok": 1},
        **{"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    ),
    "falcon_h1": lambda: transformers.FalconH1Config(**TINY, **TOKENS, **MAMBA),
}


def make(kind, configs=CONFIGS):
    torch.manual_seed(0)
    config = configs[kind]()
    model = AutoModelForCausalLM.from_config(config, attn_implementation=choose_attention("auto", config))
    # Wide enough that attention matters.
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and not any(part in name for part in ("embed", "wte", "lm_head")):
            weight.data.normal_(std=weight.shape[-1] ** -0.5)
    return model.eval()


# --- attention


def test_a_class_without_sdpa_gets_eager_and_one_line(monkeypatch, capsys):
    monkeypatch.setattr("models.hardware._SAID", set())
    for kind, make_config in CONFIGS.items():
        expected = "eager" if kind in WITHOUT_SDPA else "sdpa"
        assert choose_attention("auto", make_config()) == expected
        choose_attention("auto", make_config())
        noted = capsys.readouterr().err
        assert noted.count("\n") == (kind in WITHOUT_SDPA)
        assert (f"{kind} models have no sdpa" in noted) == (kind in WITHOUT_SDPA)
    assert choose_attention("sdpa", CONFIGS["bloom"]()) == "eager"
    assert "sdpa is not available, using eager" in capsys.readouterr().err


def test_a_class_that_transformers_does_not_know_falls_back_when_it_is_loaded(tmp_path, monkeypatch, capsys):
    make("bloom").save_pretrained(tmp_path)
    # As for a class whose code comes with the model: nothing is known before it is loaded.
    monkeypatch.setattr("models.hardware.supported_attention", lambda config: {"sdpa"})
    model = load_model(str(tmp_path), LoadOptions(bf16=False))
    assert model.config._attn_implementation == "eager"
    assert "does not take sdpa, using eager" in capsys.readouterr().err


def test_the_window_is_that_of_the_text_model_and_of_the_layers_that_have_one():
    for kind in WINDOWED:
        assert attention_window(make(kind, WINDOWED)) == 16, kind
    assert attention_window(make("gemma3", UNWINDOWED)) == 512
    all_full = transformers.Gemma2Config(**GEMMA, **NARROW, layer_types=["full_attention"] * 2)
    for config in (CONFIGS["llama"](), all_full):
        assert attention_window(types.SimpleNamespace(config=config)) > 1 << 20


ALL = [(kind, configs) for configs in (CONFIGS, UNWINDOWED, WINDOWED) for kind in configs]


@pytest.mark.parametrize("kind, configs", ALL)
def test_tokens_equal_generate_and_logits_the_plain_pass(kind, configs):
    class Tokenizer:
        eos_token_id = 1
        pad_token_id = 0

    model = make(kind, configs)
    prefix = list(range(10, 40))
    suffixes = [list(range(50, 50 + n)) for n in (5, 17, 3)]
    found = {}
    settings = GenerationSettings(batch_size=3, max_new_tokens=8)
    guide = FreeGuide(Drafter(), lambda ids: False)
    for batch in generate(model, Tokenizer(), suffixes, lambda i: guide, prefix, settings):
        found |= {i: generated.ids for i, generated in batch}
    width = max(map(len, suffixes))
    ids = torch.tensor([[0] * (width - len(suffix)) + suffix for suffix in suffixes])
    mask = torch.tensor([[0] * (width - len(suffix)) + [1] * len(suffix) for suffix in suffixes])
    shared = logits_after_prefix(model, True)(model, prefix, ids, mask, 2)
    whole = logits_after_prefix(model, False)(model, prefix, ids, mask, 2)
    for i, suffix in enumerate(suffixes):
        prompt = torch.tensor([prefix + suffix])
        output = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False
        )
        expected = output[0, prompt.shape[1] :].tolist()
        assert found[i] == [token for token in expected if token != 1]
        logits = model(input_ids=prompt).logits[0, -2:]
        torch.testing.assert_close(shared[i], logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(whole[i], logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", RECURRENT)
def test_rows_that_end_apart_and_repeat_a_prompt_equal_generate(kind):
    class Tokenizer:
        eos_token_id = 1
        pad_token_id = 0

    class Guide(FreeGuide):
        """Ends after a number of tokens."""

        def __init__(self, n_tokens: int):
            super().__init__(Drafter(), lambda ids: len(ids) == n_tokens)

    model = make(kind, RECURRENT)
    prefix = list(range(10, 20))
    suffixes = [list(range(50, 50 + n)) for n in (5, 9, 5, 3)]
    n_tokens = [2, 8, 6, 4]
    found = {}
    settings = GenerationSettings(batch_size=4, max_new_tokens=8)
    for batch in generate(model, Tokenizer(), suffixes, lambda i: Guide(n_tokens[i]), prefix, settings):
        found |= {i: generated.ids for i, generated in batch}
    for i, suffix in enumerate(suffixes):
        prompt = torch.tensor([prefix + suffix])
        settings = {"max_new_tokens": n_tokens[i], "do_sample": False}
        output = model.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)
        assert found[i] == [token for token in output[0, prompt.shape[1] :].tolist() if token != 1]


@pytest.mark.parametrize("kind, configs", ALL)
def test_reading_a_row_does_not_depend_on_its_neighbors(kind, configs):
    model = make(kind, configs)
    start = list(range(10, 40))
    rows = [start + list(range(60, 60 + n)) for n in (4, 21, 9)]
    found = {}
    for batch in next_token_logps(model, rows, 0, 3, [0, 0, 1]):
        found |= dict(batch)
    read = {}
    texts = Texts(start[:20], [row[20:] for row in rows], [[70, 1]] * 3)
    for batch in read_completions(model, texts, 0, 3):
        read |= dict(batch)
    for i, row in enumerate(rows):
        with torch.no_grad():
            alone = model(torch.tensor([row])).logits[0, -1].log_softmax(-1)
            output = model(torch.tensor([[*row, 70, 1]]), output_hidden_states=True)
        torch.testing.assert_close(found[i], alone, rtol=0, atol=1e-4)
        torch.testing.assert_close(read[i].hidden[0, -1], output.hidden_states[-1][0, -1], rtol=0, atol=1e-4)
        logps = output.logits[0, -3:-1].log_softmax(-1)[range(2), [70, 1]]
        assert read[i].logps.mean().item() == pytest.approx(logps.mean().item(), abs=1e-4)


@pytest.mark.parametrize(
    "config, message",
    [
        (
            transformers.MptConfig(d_model=32, n_heads=4, n_layers=2),
            "mpt models in transformers count padding",
        ),
        (transformers.MiniMaxConfig(**TINY, **EXPERTS), "minimax models keep .* in a cache of their own"),
    ],
)
def test_architectures_that_cannot_be_run_are_refused_in_one_line(config, message, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=message):
        load_model(str(tmp_path))


# --- the layers that LoRA adapts


@pytest.mark.parametrize(
    "kind, wanted, adapted, said",
    [
        ("llama", PROJECTIONS, PROJECTIONS, None),
        (
            "phi3",
            PROJECTIONS,
            ["o_proj", "down_proj"],
            "no q_proj, k_proj, v_proj, gate_proj, up_proj;",
        ),
        ("phi3", PROJECTIONS, ["o_proj", "down_proj"], "other layers are qkv_proj, gate_up_proj"),
        ("gpt_oss", PROJECTIONS, PROJECTIONS[:4], "no gate_proj, up_proj, down_proj"),
        ("llama", ["q_proj", "foo"], ["q_proj"], "no foo; training q_proj alone"),
        ("gpt_neox", PROJECTIONS, ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"], "its own"),
        ("gpt2", PROJECTIONS, ["c_attn", "c_proj", "c_fc"], "its own layers instead: c_attn, c_proj, c_fc"),
        ("bloom", ["query_key_value"], ["query_key_value"], None),
    ],
)
def test_names_that_a_model_lacks_are_said_with_those_it_has(kind, wanted, adapted, said):
    found, line = choose_targets(make(kind), kind, wanted, PROJECTIONS)
    assert found == adapted
    assert line is None if said is None else said in line and "\n" not in line


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_name_found_is_an_error_that_names_the_layers(kind):
    model = make(kind)
    with pytest.raises(UsageError, match="has no foo, bar; its layers are") as caught:
        choose_targets(model, kind, ["foo", "bar"], PROJECTIONS)
    assert ", ".join(layer_names(model)) in str(caught.value)
    assert "lm_head" not in str(caught.value)


@pytest.mark.parametrize("kind", CONFIGS)
def test_only_the_layers_from_first_layer_on_are_trained(kind):
    config = copy.deepcopy(DEFAULTS)
    config["lora"]["first_layer"] = 1
    model = add_lora(make(kind), config["model_name"], config["lora"])
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained and all(".1." in name for name in trained)
    # PEFT takes an empty list of layers for all of them.
    config["lora"]["first_layer"] = 2
    with pytest.raises(UsageError, match="lora.first_layer: 2, but the layers of .* are 0 to 1"):
        add_lora(make(kind), config["model_name"], config["lora"])


@pytest.mark.parametrize("kind", CONFIGS)
def test_all_linear_layers_are_those_that_peft_finds(kind):
    config = copy.deepcopy(DEFAULTS)
    config["lora"]["target_modules"] = "all-linear"
    ours = add_lora(make(kind), config["model_name"], config["lora"])
    theirs = get_peft_model(make(kind), LoraConfig(target_modules="all-linear"))
    adapted = {name for name, _ in ours.named_parameters() if "lora_A" in name}
    assert adapted == {name for name, _ in theirs.named_parameters() if "lora_A" in name}
    assert not any("lm_head" in name for name in adapted)


@pytest.mark.parametrize("is_wanted, scaling", [(False, 32 / 16), (True, 32 / 16**0.5)])
def test_the_update_is_scaled_as_the_config_says(is_wanted, scaling):
    config = copy.deepcopy(DEFAULTS)
    config["lora"]["use_rslora"] = is_wanted
    model = add_lora(make("llama"), config["model_name"], config["lora"])
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    assert {layer.scaling["default"] for layer in layers} == {scaling}


@pytest.mark.parametrize("first_layer", [0, 1])
def test_the_image_part_of_a_model_gets_no_adapters(first_layer):
    config = copy.deepcopy(DEFAULTS)
    config["lora"]["first_layer"] = first_layer
    model = make("gemma3", UNWINDOWED)
    # Its image part has layers of the same names, and others that only it has.
    assert "fc1" not in layer_names(model) and "o_proj" in layer_names(model)
    with pytest.raises(UsageError, match="no fc1; its layers are q_proj"):
        choose_targets(model, "gemma3", ["fc1"], PROJECTIONS)
    model = add_lora(model, config["model_name"], config["lora"])
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == (2 - first_layer) * len(PROJECTIONS) * 2
    assert all("language_model" in name for name in trained)
    ids = torch.tensor([[5, 6, 7, 8]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
    assert excluded_layers(make("llama")) is excluded_layers(make("gpt2")) is None


def test_a_layer_that_lora_cannot_adapt_is_one_line():
    config = copy.deepcopy(DEFAULTS)
    config["lora"]["target_modules"] = ["input_layernorm"]
    with pytest.raises(UsageError, match="RMSNorm") as caught:
        add_lora(make("llama"), config["model_name"], config["lora"])
    assert "\n" not in str(caught.value)


# --- special tokens


@pytest.fixture
def save(tokenizer, tmp_path):
    """Saves a changed tokenizer beside a model with `n_embedded` embeddings. Returns the folder."""

    def save(n_embedded, **changes):
        changed = copy.deepcopy(tokenizer)
        for name, value in changes.items():
            setattr(changed, name, value)
        changed.save_pretrained(tmp_path)
        ids = {"eos_token_id": None, "pad_token_id": None, "bos_token_id": None}
        transformers.LlamaConfig(**TINY, vocab_size=n_embedded, **ids).save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def test_a_tokenizer_without_eos_is_refused(save, tokenizer):
    with pytest.raises(DataError, match="no EOS token.*set eos_token"):
        load_tokenizer(save(len(tokenizer), eos_token=None))


@pytest.mark.parametrize("name", ["eos", "bos"])
def test_a_token_without_embedding_is_refused(name, save, tokenizer):
    folder = save(len(tokenizer), **{f"{name}_token": "<new>"})
    with pytest.raises(DataError, match=f"its {name.upper()} token <new> has the id {len(tokenizer)}"):
        load_tokenizer(folder)


def test_a_turn_that_ends_without_embedding_is_refused(save, tokenizer):
    template = "{% for m in messages %}{{ m['content'] }}<|done|>{% endfor %}"
    changed = copy.deepcopy(tokenizer)
    changed.add_tokens(["<|done|>"], special_tokens=True)
    folder = save(len(tokenizer))
    changed.chat_template = template
    changed.save_pretrained(folder)
    with pytest.raises(DataError, match=f"ends a turn with <|done|>, id {len(tokenizer)}") as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pad", [None, "<new>"])
def test_eos_pads_where_the_pad_token_is_missing_or_has_no_embedding(pad, save, tokenizer):
    loaded = load_tokenizer(save(len(tokenizer), pad_token=pad))
    assert loaded.pad_token_id == loaded.eos_token_id == tokenizer.eos_token_id
    # With an embedding it is used: some tokenizers have one that no training row contains.
    if pad:
        assert load_tokenizer(save(len(tokenizer) + 1, pad_token=pad)).pad_token == pad
