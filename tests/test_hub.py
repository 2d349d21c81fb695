"""--push-to-hub with a hub made here: what is uploaded, what it says, and errors of one line."""

import json
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

import train_sft
from evidence.reserved import ids_problem, train_ids
from models.loading import load_tokenizer
from tests.test_cards import trained
from utils.errors import DataError, StageError, UsageError
from utils.hub import check_hub_access, check_reachable, check_repo_id
from utils.jsonl import write_json

TOKEN = "hf_abcdefghijklmnop"

__all__ = ["trained"]


class Hub:
    """Takes the place of HfApi: keeps what was asked for, and raises `problem` if there is one."""

    calls: list[tuple] = []
    files: dict[str, bytes] = {}
    problem: Exception | None = None

    def whoami(self):
        if Hub.problem:
            raise Hub.problem
        Hub.calls.append(("whoami",))

    def create_repo(self, repo_id, private, exist_ok):
        Hub.calls.append(("create_repo", repo_id, private, exist_ok))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, repo_id, folder_path, commit_message):
        Hub.calls.append(("upload_folder", repo_id))
        Hub.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(Hub, "calls", [])
    monkeypatch.setattr(Hub, "files", {})
    monkeypatch.setattr(Hub, "problem", None)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return Hub


def test_a_finished_run_is_uploaded_without_training_again(hub, trained, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(trained))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    evaluated = {"settings": {"model_path": "sft/checkpoint-best", "test_data": "data/processed/test.jsonl"}}
    write_json(trained / "results.json", {"sft": {"net_score": 0.25, "n": 40}, "run": evaluated})
    train_sft.main(["-c", str(trained / "c.yaml"), "--push-to-hub", "someone/answers"])
    printed = capsys.readouterr()
    assert "nothing to do" in printed.out
    assert "uploaded checkpoint-best to https://huggingface.co/someone/answers (private)" in printed.out
    # The login is checked before anything else.
    assert hub.calls == [
        ("whoami",),
        ("create_repo", "someone/answers", True, True),
        ("upload_folder", "someone/answers"),
    ]
    card = ModelCard(hub.files["README.md"].decode())
    on_test = [result for result in card.data.eval_results if result.dataset_split == "test"]
    assert [(result.metric_type, result.metric_value) for result in on_test] == [("net_score", 0.25)]
    assert 'MODEL = "someone/answers"' in card.text
    assert "README.md" in hub.files and "adapter_model.safetensors" in hub.files
    # Neither pickles nor what only a resumed run needs.
    assert not [name for name in hub.files if name.endswith((".pt", ".pth", ".bin")) or "trainer" in name]
    everything = b"".join(hub.files.values())
    for word in (TOKEN, str(trained), str(Path.home())):
        assert word.encode() not in everything
    assert TOKEN not in printed.out + printed.err
    assert json.loads(hub.files["adapter_config.json"])["base_model_name_or_path"] == "tiny"
    # Whoever evaluates it is warned of the samples that it has seen.
    for name, content in hub.files.items():
        (trained / "downloaded").mkdir(exist_ok=True)
        (trained / "downloaded" / name).write_bytes(content)
    assert ids_problem("downloaded") is None and train_ids("downloaded") == train_ids("sft/checkpoint-best")

    train_sft.main(["-c", str(trained / "c.yaml"), "--push-to-hub", "someone/answers", "--public"])
    assert hub.calls[-2] == ("create_repo", "someone/answers", False, True)


def response(code: int):
    return SimpleNamespace(status_code=code, headers={}, request=None, url="", text="")


def refused(code: int) -> HfHubHTTPError:
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    error.response = response(code)
    error.args = (f"{code} for {TOKEN}",)
    error._message = f"{code} for {TOKEN}"
    return error


@pytest.mark.parametrize(
    ("problem", "kind", "words"),
    [
        (LocalTokenNotFoundError("no token"), UsageError, "not logged in; run `hf auth login`"),
        (OfflineModeIsEnabled("offline"), UsageError, "HF_HUB_OFFLINE is set"),
        (refused(401), UsageError, "the token is not valid"),
        (refused(403), UsageError, "may not write there"),
        (refused(500), StageError, "the hub refused"),
        (
            ConnectionError(f"no route\nto the host {TOKEN}"),
            StageError,
            "the hub cannot be reached (no route)",
        ),
    ],
)
def test_what_the_hub_refuses_is_one_line_without_a_token(problem, kind, words, hub):
    hub.problem = problem
    with pytest.raises(kind) as raised:
        check_hub_access("someone/answers")
    message = str(raised.value)
    assert words in message and message.startswith("--push-to-hub someone/answers: ")
    assert "\n" not in message and TOKEN not in message


def test_a_bug_is_no_error_of_the_hub(hub):
    hub.problem = TypeError("a bug")
    with pytest.raises(TypeError):
        check_hub_access("someone/answers")


@pytest.mark.parametrize("repo_id", ["answers", "a/b/c", "some one/answers", "someone/--", "/x", "./x/y", ""])
def test_an_id_that_the_hub_would_refuse_stops_before_anything_is_read(repo_id):
    with pytest.raises(UsageError, match="no id of the hub"):
        check_repo_id(repo_id)
    assert check_repo_id("someone/answers-2.0") == "someone/answers-2.0"


def test_a_hub_that_cannot_be_reached_is_found_out_with_one_request(monkeypatch):
    requests = []

    class Session:
        def head(self, url, timeout):
            requests.append(url)
            raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    with pytest.raises(DataError, match="^no-one/such: cannot be loaded .*cannot be reached: no route"):
        load_tokenizer("no-one/such")
    assert len(requests) == 1
    # The libraries say themselves what is wrong with an id, or that they are told to stay offline.
    check_reachable("not an id")
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
    check_reachable("no-one/such")
    assert len(requests) == 1
