"""Models made by others: nothing in their files runs, and what would is refused in one line.

Each file that is read leaves a canary file behind if it runs. None may appear.
"""

import functools
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from models.directories import check_model_name
from models.loading import load_model, load_tokenizer
from models.manifest import describe_files
from tests.test_train_sft import config_text
from train_sft import main as train_sft
from utils.errors import DataError, StageError, UsageError
from utils.jsonl import read_json, write_json
from utils.tokens import ChatFrame


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def canary(tmp_path):
    """What runs makes this; the test fails if it is there at the end."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "a file made by others was run"


@pytest.fixture
def model(tiny_gemma_dir, tmp_path):
    return Path(shutil.copytree(tiny_gemma_dir, tmp_path / "model"))


@pytest.fixture
def adapter(tiny_gemma_dir, tmp_path):
    folder = tmp_path / "adapter"
    load = functools.partial(load_model, str(tiny_gemma_dir))
    get_peft_model(load(), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    change(folder / "adapter_config.json", base_model_name_or_path=str(tiny_gemma_dir))
    assert load_model(str(folder)).peft_config
    return folder


def change(path: Path, **values) -> None:
    write_json(path, {**read_json(path), **values})


def python(canary: Path) -> str:
    return f"import os\nos.mkdir({str(canary)!r})\nclass Planted: pass\ndef generate(*args, **kwargs): pass\n"


# --- weights


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_among_the_weights_is_refused(save, model, canary):
    (model / "model.safetensors").unlink()
    save({"model.norm.weight": Planted(canary)}, model / "pytorch_model.bin")
    with pytest.raises(DataError, match="model: its weights are a pickle .* safetensors"):
        load_model(str(model))


def test_a_pickle_of_tensors_alone_is_read(model):
    expected = load_model(str(model)).state_dict()
    torch.save(expected, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    found = load_model(str(model)).state_dict()
    assert all(torch.equal(found[name], weights) for name, weights in expected.items())


def test_a_pickle_as_adapter_is_refused(adapter, canary):
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"x": Planted(canary)}, adapter / "adapter_model.bin")
    with pytest.raises(DataError, match="adapter: its weights are a pickle"):
        load_model(str(adapter))


def test_weights_outside_of_the_folder_are_refused(model):
    names = list(load_model(str(model)).state_dict())
    shutil.move(model / "model.safetensors", model.parent / "other.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../other.safetensors")}
    write_json(model / "model.safetensors.index.json", index)
    with pytest.raises(DataError, match=r"weights outside of it \('../other.safetensors'\)"):
        check_model_name(str(model))


# --- code beside the weights


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
@pytest.mark.parametrize("model_type", ["planted", "gemma2"])
def test_code_that_a_config_names_does_not_run(load, model_type, model, canary):
    (model / "planted.py").write_text(python(canary))
    classes = {"AutoConfig": "planted.Planted", "AutoModelForCausalLM": "planted.Planted"}
    change(model / "config.json", model_type=model_type, auto_map=classes)
    change(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["planted.Planted", None]})
    # The library has its own class for a known type, and needs none of the folder.
    try:
        load(str(model))
    except StageError as error:
        assert "needs code from the hub" in str(error)


def test_code_that_replaces_generation_does_not_run(model, canary):
    (model / "custom_generate").mkdir()
    (model / "custom_generate/generate.py").write_text(python(canary))
    load_model(str(model)).generate(torch.tensor([[5, 6]]), max_new_tokens=1)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_of_the_hub_that_a_config_names_is_refused(key, model):
    change(model / "config.json", **{key: "somebody/kernel"})
    with pytest.raises(DataError, match="'somebody/kernel', code of the hub, which is not loaded"):
        load_model(str(model))


ADAPTER_CONFIGS = {
    "module": ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "megatron_config would load"),
    "file": ({"init_lora_weights": "corda", "corda_config": {"cache_file": "x.pt"}}, "corda_config would"),
    "kind": ({"peft_type": "PROMPT_TUNING", "tokenizer_kwargs": {"trust_remote_code": True}}, "only LORA"),
    "unknown kind": ({"peft_type": "PLANTED"}, "'PLANTED' are not read"),
    "settings": ({"init_lora_weights": "corda"}, "does not fit its weights or peft"),
}


@pytest.mark.parametrize("name", ADAPTER_CONFIGS)
def test_an_adapter_that_asks_for_more_than_weights_is_refused(name, adapter):
    values, words = ADAPTER_CONFIGS[name]
    change(adapter / "adapter_config.json", **values)
    with pytest.raises(DataError, match=words):
        load_model(str(adapter))


# --- chat templates

_MESSAGES = "{% for m in messages %}{{ m.content }}{% endfor %}"
TEMPLATES = {
    "classes of a text": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a global's module": "{{ cycler.__init__.__globals__.os.mkdir(CANARY) }}",
    "a function's globals": "{{ raise_exception.__globals__['__builtins__']['open'](CANARY, 'w') }}",
    "an attribute by name": "{{ (messages | attr('__class__')).__base__.__subclasses__() }}",
    "a format": "{{ '{0.__class__.__init__.__globals__}'.format(messages[0]) }}{{ 1 / 0 }}",
    "an import": "{% import 'os' as os %}",
    "a change of the messages": "{% set _ = messages.append(1) %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_template_runs_no_code(name, model, canary):
    tokenizer = load_tokenizer(str(model))
    tokenizer.chat_template = TEMPLATES[name].replace("CANARY", repr(str(canary))) + _MESSAGES
    with pytest.raises(UsageError, match="its chat template refuses the turns user"):
        ChatFrame(tokenizer, "Hello")


# --- a training that is resumed


def test_a_pickle_among_the_states_of_a_checkpoint_is_refused(home, tiny_gemma_dir, canary):
    config = home / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir, max_steps=2, save_steps=1, eval_steps=50))
    train_sft(["-c", str(config)])
    for folder in ("checkpoint-2", "checkpoint-best", "checkpoint-final"):
        shutil.rmtree(home / "sft" / folder, ignore_errors=True)
    change(home / "sft/run.json", status="running")
    checkpoint = home / "sft/checkpoint-1"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        written = (checkpoint / name).read_bytes()
        torch.save({"state": Planted(canary)}, checkpoint / name)
        # Somebody who plants a file also writes its size and hash into the manifest.
        manifest = read_json(checkpoint / "run.json")
        planted = describe_files([checkpoint / name])
        changed = {key: manifest[key] | planted[key] for key in ("files", "hashes")}
        change(checkpoint / "run.json", **changed)
        with pytest.raises(DataError, match="checkpoint-1: its optimizer, scheduler or random states"):
            train_sft(["-c", str(config), "--resume"])
        (checkpoint / name).write_bytes(written)
        change(checkpoint / "run.json", files=manifest["files"], hashes=manifest["hashes"])
