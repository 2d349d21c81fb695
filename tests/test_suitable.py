"""Models that the stages cannot use, or whose files are damaged, are refused in one line."""

import json

import pytest
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BertConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    T5Config,
)

from models.loading import load_model, load_tokenizer
from training.logits import cached_prefix_logits, logits_after_prefix, whole_row_logits
from utils.errors import DataError, UsageError


@pytest.fixture
def folder(make_model, tokenizer, tmp_path):
    """A whole model with its tokenizer."""
    make_model("llama").save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def change(path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def drop_weights(path, wanted) -> None:
    """Take the first tensor whose name has `wanted` in it out of a file."""
    weights = load_file(path)
    weights.pop(next(name for name in weights if wanted in name))
    save_file(weights, path, metadata={"format": "pt"})


def test_weights_that_are_in_no_file_are_named(folder, make_model):
    drop_weights(folder / "model.safetensors", "layers.1.self_attn.q_proj")
    with pytest.raises(DataError, match=r"lack 1 weights of Llama, model\.layers\.1\.self_attn\.q_proj"):
        load_model(str(folder))
    config = make_model("llama").config
    LlamaForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(DataError, match="lm_head.weight for one, so they would be random"):
        load_model(str(folder))


def test_a_quantized_model_that_is_not_read_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "q_proj" in name)
    weights[name.replace("weight", "qweight")] = weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(DataError, match=r"they are quantized \(gptq\), which is not read here"):
        load_model(str(folder))


def test_an_adapter_that_lacks_weights_is_refused(folder, make_model):
    adapter = folder.parent / "adapter"
    model = get_peft_model(make_model("llama"), LoraConfig(target_modules=["q_proj"]))
    model.peft_config["default"].base_model_name_or_path = str(folder)
    model.save_pretrained(adapter)
    assert isinstance(load_model(str(adapter)), PeftModel)
    drop_weights(adapter / "adapter_model.safetensors", "lora_B")
    with pytest.raises(DataError, match="its files lack weights of the adapter"):
        load_model(str(adapter))


@pytest.mark.parametrize(
    "config, words",
    [
        (T5Config(), "t5 is an encoder with a decoder"),
        (BartConfig(), "bart is an encoder with a decoder"),
        (BertConfig(), "bert is an encoder, whose tokens see those that follow"),
    ],
)
def test_models_that_cannot_write_an_answer_are_refused_before_they_are_loaded(config, words, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=words):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    "file, text",
    [
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("tokenizer.json", '{"version": "1.0"'),
        ("tokenizer.json", '{"version": "1.0"}'),
        ("tokenizer_config.json", "["),
    ],
)
def test_a_damaged_file_is_one_line(file, text, folder):
    (folder / file).write_text(text)
    with pytest.raises(DataError, match="copy or download it again|check name and revision"):
        load_tokenizer(str(folder))
        load_model(str(folder))


@pytest.mark.parametrize(
    "values", [{"hidden_size": 64}, {"num_attention_heads": 0}, {"model_type": "foonet"}]
)
def test_a_config_that_does_not_fit_is_one_line(values, folder):
    change(folder / "config.json", **values)
    with pytest.raises(DataError, match="copy or download it again, or choose another model"):
        load_tokenizer(str(folder))
        load_model(str(folder))


TURN = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"


def test_of_several_chat_templates_the_default_is_taken(folder):
    templates = [{"name": "default", "template": TURN}, {"name": "tool_use", "template": "x"}]
    change(folder / "tokenizer_config.json", chat_template=templates)
    assert load_tokenizer(str(folder)).chat_template == TURN
    change(folder / "tokenizer_config.json", chat_template=templates[1:])
    with pytest.raises(DataError, match="chat templates tool_use, and none named default"):
        load_tokenizer(str(folder))


def test_an_added_word_without_an_embedding_is_named(folder, tokenizer):
    again = PreTrainedTokenizerFast.from_pretrained(folder)
    again.add_tokens(["engineer"])
    again.save_pretrained(folder)
    change(folder / "config.json", vocab_size=len(again) - 1)
    with pytest.raises(DataError, match="has the token 'engineer'"):
        load_tokenizer(str(folder))


def test_a_tokenizer_that_changes_a_completion_is_refused(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="so no answer could be read"):
        load_tokenizer(str(folder))


def test_layers_that_keep_a_state_read_the_prefix_in_each_row(make_model):
    from transformers import Lfm2Config, Lfm2ForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    kinds = ["conv", "full_attention"]
    hybrid = Lfm2ForCausalLM(Lfm2Config(vocab_size=64, num_key_value_heads=2, layer_types=kinds, **shape))
    assert logits_after_prefix(hybrid, share_prefix=True) is whole_row_logits
    plain = make_model("llama")
    assert logits_after_prefix(plain, share_prefix=True).shared is cached_prefix_logits
