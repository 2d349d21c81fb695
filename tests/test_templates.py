"""Templates as text files: the shipped ones are pinned, a user's edits are honored and kept."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import prompt_schema
from prompt_schema import PromptBuilder, load_template, save_prompts
from tests.whole_prompts import WHOLE_PROMPTS
from utils.errors import UsageError
from utils.templates import JUDGE_TEMPLATES, SFT_TEMPLATES, TEMPLATES, fill_template

ROOT = Path(prompt_schema.__file__).parent
DEFAULT_HASH = "ec8e2d5f8cbe"


@pytest.mark.parametrize("kind, name", WHOLE_PROMPTS)
def test_each_prompt_whole(kind, name, sample):
    values = {
        "evidence": prompt_schema.render_evidence(sample["evidence_chunks"]),
        "question": sample["question"],
        "answer_a": "A1",
        "answer_b": "B2",
    }
    assert fill_template(TEMPLATES[kind][name], **values) == WHOLE_PROMPTS[kind, name]


@pytest.mark.parametrize(
    "kind, name, expected",
    [
        ("sft", "default", DEFAULT_HASH),
        ("sft", "structured", "ef1f09b5f2c2"),
        ("sft", "fewshot", "0a50bc045888"),
        ("sft", "evidence_first", "f756150df996"),
        ("sft", "brief", "44fed0e0b8ce"),
        ("judge", "default", "fb483a6ad0f6"),
        ("judge", "simple", "dfbba47d1f8e"),
    ],
)
def test_the_shipped_templates_are_the_ones_that_models_were_trained_with(kind, name, expected):
    # A checkpoint's run.json records this hash; a changed byte makes every earlier run another experiment.
    assert prompt_schema.template_hash(TEMPLATES[kind][name]) == expected


def test_the_examples_are_read_once_for_all_samples(tokenizer, sample):
    # Examples behind the first slot would be part of every sample's own prompt, and cost as much as evidence.
    builders = {name: PromptBuilder(tokenizer, SFT_TEMPLATES[name], 4000) for name in ("default", "fewshot")}
    prompts = {name: builder.build(sample) for name, builder in builders.items()}
    assert prompts["fewshot"].suffix == prompts["default"].suffix
    assert "The Glass Orchard" in tokenizer.decode(prompts["fewshot"].prefix)


def test_examples_take_no_room_from_the_evidence(tokenizer, sample):
    own = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 4000)
    # As short as a prompt can be that shows the evidence whole.
    own.max_tokens = len(own.build(sample).ids)
    fewshot = own.beside(SFT_TEMPLATES["fewshot"])
    assert len(fewshot.prefix) > len(own.prefix)
    assert fewshot.build(sample).suffix == own.build(sample).suffix
    # The other way round no room is lost either.
    assert fewshot.beside(SFT_TEMPLATES["default"]).max_tokens == fewshot.max_tokens


def test_every_shipped_file_is_a_known_template():
    names = {path.name for path in (ROOT / "prompts").glob("*.txt")}
    assert names == {f"{kind}_{name}.txt" for kind, name in WHOLE_PROMPTS}


def test_one_final_newline_belongs_to_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "prompts").mkdir()
    # `structured` ends in a newline itself, so its file ends in two.
    for ending, expected in (("", ""), ("\n", ""), ("\n\n", "\n")):
        (tmp_path / "prompts/sft_mine.txt").write_text("{question} {evidence}" + ending)
        assert load_template("sft", "mine") == "{question} {evidence}" + expected


def test_a_slot_name_inside_a_value_stays_text():
    assert fill_template("{a}-{b}", a="{b}", b="x") == "{b}-x"


def test_saved_templates_are_read_back_and_missing_ones_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    save_prompts(tmp_path / "prompts")
    assert load_template("sft", "default") == SFT_TEMPLATES["default"]
    (tmp_path / "prompts/sft_default.txt").write_text("E {evidence} Q {question}")
    assert load_template("sft", "default") == "E {evidence} Q {question}"

    (tmp_path / "prompts/sft_default.txt").write_text("Q {question} E")
    with pytest.raises(
        UsageError, match="an SFT template must contain {question} and exactly one {evidence}"
    ):
        load_template("sft", "default")
    with pytest.raises(UsageError, match="did you mean 'structured'"):
        load_template("sft", "structurd")
    schema = json.loads((tmp_path / "prompts/output_schema.json").read_text())
    assert schema["required"] == ["answer", "citations", "confidence"]


def test_an_edited_template_is_kept_unless_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    prompt_schema.main(["save"])
    assert "wrote 9 files" in capsys.readouterr().out
    path = tmp_path / "prompts/judge_simple.txt"
    path.write_text("mine")
    with pytest.raises(
        UsageError, match="judge_simple.txt differ from the shipped templates; add --overwrite"
    ):
        prompt_schema.main(["save"])
    assert path.read_text() == "mine"
    prompt_schema.main(["save", "--overwrite"])
    assert path.read_text() == JUDGE_TEMPLATES["simple"] + "\n"

    # Saved again, no template differs, so none is written.
    before = path.stat().st_mtime_ns
    capsys.readouterr()
    prompt_schema.main(["save"])
    assert path.stat().st_mtime_ns == before
    assert "wrote 2 files" in capsys.readouterr().out


def test_saving_into_the_shipped_folder_leaves_git_clean(tmp_path):
    """The notebook's own command in a clone: the home is the repository root, so both folders are one."""
    for name in ("prompt_schema.py", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("utils", "evidence"):
        shutil.copytree(ROOT / name, tmp_path / name)
    # Only the templates: a developer's prompts/ may contain what `save` adds.
    (tmp_path / "prompts").mkdir()
    for path in ROOT.glob("prompts/*.txt"):
        shutil.copy(path, tmp_path / "prompts")

    def run(*command: str) -> str:
        env = {**os.environ, "FACTUALITY_HOME": "."}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("git", "init", "-q")
    run("git", "add", ".")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "all")
    run(sys.executable, "prompt_schema.py", "save", "--prompts-dir", "prompts")
    assert (tmp_path / "prompts/run.json").is_file()
    assert run("git", "status", "--porcelain") == ""

    # An edit of the shipped file is what later stages read, and saving again keeps it.
    edited = tmp_path / "prompts/sft_default.txt"
    edited.write_text("E {evidence} Q {question}\n")
    run(sys.executable, "prompt_schema.py", "save", "--prompts-dir", "prompts")
    code = "import prompt_schema as p; print(p.load_template('sft', 'default'))"
    assert run(sys.executable, "-c", code) == "E {evidence} Q {question}\n"


def test_shipped_templates_are_found_from_any_working_directory(tmp_path):
    # Neither the working directory nor the home has a prompts/ folder.
    code = "import prompt_schema as p; print(p.template_hash(p.load_template('sft', 'default')))"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FACTUALITY_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == DEFAULT_HASH, done.stderr


def test_a_folder_without_templates_of_a_kind_names_the_command_that_writes_them(tmp_path):
    (tmp_path / "sft_default.txt").write_text(SFT_TEMPLATES["default"])
    with pytest.raises(UsageError, match="no judge template 'default' in .*; prompt_schema.py save"):
        load_template("judge", "default", tmp_path)
    with pytest.raises(UsageError, match="no sft template 'defualt' in .*; did you mean 'default'"):
        load_template("sft", "defualt", tmp_path)
