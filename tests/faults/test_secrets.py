"""Tokens and passwords reach no file and no message; manifests and reports name no folder of the machine."""

import http.server
import json
import threading
from pathlib import Path

import pytest

import build_data
from sources.download import NotFetched, fetch
from utils.addresses import split_login, without_secrets
from utils.config import load_config
from utils.public import public_value, public_word
from utils.run_changes import changed_settings
from utils.runs import describe_run

TOKENS = {
    "HF_TOKEN": "hf_plantedAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "HUGGING_FACE_HUB_TOKEN": "hf_plantedBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
    "WANDB_API_KEY": "planted0123456789012345678901234567890123",
}
USER = "anna"
SECRETS = ("planted", "swordfish", "opensesame")


@pytest.fixture
def server():
    """Serves one file to who sends the password; every request's path and headers are kept."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, dict(self.headers)))
            is_known = self.headers.get("Authorization") == "Basic YW5uYTpzd29yZGZpc2g="
            body = b'{"question": "who wrote it", "answer": ["Brann"]}\n'
            self.send_response(200 if is_known else 403)
            n_missing = 1000 if "short" in self.path else 0
            self.send_header("Content-Length", str(len(body) + n_missing if is_known else 0))
            self.end_headers()
            self.wfile.write(body if is_known else b"")

        def log_message(self, *args):
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{listening.server_port}", seen
    listening.shutdown()


def files_with(folder: Path, words) -> dict[str, list[str]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = str(path).encode() + path.read_bytes()
            hits = [word for word in words if word.encode() in content.removeprefix(str(path).encode())]
            if hits:
                found[str(path.relative_to(folder))] = hits
    return found


# --- addresses


def test_a_password_in_an_address_is_sent_as_a_header_and_to_nobody_else(server, tmp_path):
    host, seen = server
    path = tmp_path / "f.jsonl"
    fetch([f"http://{USER}:swordfish@{host}/f.jsonl?token=opensesame"], path)
    assert b"Brann" in path.read_bytes()
    ((asked, headers),) = seen
    assert asked == "/f.jsonl?token=opensesame"
    assert headers["Host"] == host


def test_what_a_download_leaves_behind_has_no_secret(server, tmp_path, monkeypatch):
    host, _ = server
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    # The connection ends too early, so that the part and its notes stay.
    with pytest.raises(NotFetched, match="got 50 of 1050 bytes") as caught:
        fetch([f"http://{USER}:swordfish@{host}/short.jsonl?token=opensesame"], tmp_path / "f.jsonl")
    assert (tmp_path / ".f.jsonl.part.json").is_file()
    assert not [word for word in SECRETS if word in str(caught.value)]
    assert files_with(tmp_path, SECRETS) == {}


ADDRESSES = [
    "http://anna:swordfish@127.0.0.1:1/f.jsonl?token=opensesame&x=1",
    "http://anna:swordfish@/f.jsonl",
    "http://anna:sword%20fish:swordfish@127.0.0.1:port/f.jsonl",
    "https://swordfish@127.0.0.1:1/f.jsonl?X-Amz-Signature=opensesame&sig=opensesame",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_no_message_about_an_address_has_its_secret(url, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(NotFetched) as caught:
        fetch([url], tmp_path / "f.jsonl")
    assert "***" in str(caught.value) and "f.jsonl" in str(caught.value)
    assert not [word for word in SECRETS if word in str(caught.value)]
    assert files_with(tmp_path, SECRETS) == {}


def test_addresses_without_secrets_stay_as_they_are():
    plain = "see https://host/a@b/f.jsonl?download=true&split=dev#x and mail anna@host.org"
    assert without_secrets(plain) == plain
    assert split_login("https://host/a@b/f.jsonl") == ("https://host/a@b/f.jsonl", None)


# --- manifests


def test_a_build_from_an_address_with_a_password_records_none(server, tmp_path, monkeypatch, capsys):
    host, _ = server
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = tmp_path / "s.yaml"
    url = f"http://{USER}:swordfish@{host}/f.jsonl?token=opensesame"
    entry = {"records": [{"url": url, "split": "train"}]}
    # Its rows have no evidence: with the other source, samples are built; that it is read is enough here.
    config.write_text(json.dumps({"sources": {"nq_open": entry}}))
    monkeypatch.setattr("sys.argv", ["build_data.py", "--sources-config", str(config)])
    try:
        build_data.main(["--sources-config", str(config), "--data-dir", str(tmp_path / "home/data")])
    except Exception as error:
        assert not [word for word in SECRETS if word in str(error)]
    printed = "".join(capsys.readouterr())
    assert not [word for word in SECRETS if word in printed]
    assert files_with(tmp_path / "home", SECRETS) == {}
    assert (tmp_path / "home/data/raw/nq_open/f.jsonl").is_file()
    run = describe_run({"config": json.loads(config.read_text())}, {}, 1)
    assert not [word for word in SECRETS if word in json.dumps(run)]


def test_a_manifest_names_no_folder_of_the_machine(tmp_path, monkeypatch):
    home = tmp_path / "anna/work"
    home.mkdir(parents=True)
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    monkeypatch.setenv("HOME", str(tmp_path / "anna"))
    words = [
        f"--output={home}/out.json",
        "--set",
        f"model_name={home.parent}/models/a",
        f"{home}/c.yaml",
        "-n",
    ]
    monkeypatch.setattr("sys.argv", [f"{home}/train_sft.py", *words])
    settings = {
        "model_name": f"{home.parent}/models/a",
        "data": {"paths": [f"{home}/data/train.jsonl", "data/val.jsonl"]},
        "text": "/answer\nas text",
        "rate": 0.5,
    }
    run = describe_run(settings, {}, 1)
    assert run["command"] == [
        *("train_sft.py", "--output=out.json", "--set", "model_name=~/models/a", "c.yaml", "-n")
    ]
    assert run["settings"] == {
        "model_name": "~/models/a",
        "data": {"paths": ["data/train.jsonl", "data/val.jsonl"]},
        "text": "/answer\nas text",
        "rate": 0.5,
    }
    # A manifest of an earlier version, which has the paths as they were given, is of the same run.
    assert changed_settings({**run, "settings": settings}, run) == []
    assert changed_settings({**run, "settings": {**settings, "rate": 0.6}}, run)


@pytest.mark.parametrize("flag", ["", "--set=", "--output=", "--set=data.train_path=", "a.b_c="])
def test_a_path_is_public_behind_any_flag_and_key(flag, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    assert public_word(f"{flag}{tmp_path}/a=b.jsonl") == f"{flag}a=b.jsonl"
    assert "word" not in public_word(f"{flag}https://me:word@host/f?x=1")


def test_words_and_values_of_other_kinds_stay():
    for word in ("a=b", "--x=1", "https://host/f?download=true", "~/models/a", "", "=", "x=/"):
        assert public_word(word) == word or word == "x=/"
    assert public_value([None, 1, True, ("a",)]) == [None, 1, True, ("a",)]


def test_the_config_of_a_recorded_command_is_found_from_anywhere(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "c.yaml").write_text("rate: 2\n")
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    assert load_config("c.yaml", {"rate": 1}, [])["rate"] == 2
    # What is in the working directory was meant.
    (tmp_path / "c.yaml").write_text("rate: 3\n")
    assert load_config("c.yaml", {"rate": 1}, [])["rate"] == 3


# --- all stages


def test_the_stages_write_no_token_and_no_folder(stage, tiny_gemma_dir, data_home, tmp_path):
    """Training, an evaluation and two errors, with tokens in the environment and absolute paths as flags."""
    user = tmp_path / USER
    home = user / "work"
    home.mkdir(parents=True)
    (user / "base").symlink_to(tiny_gemma_dir)
    (home / "data").symlink_to(data_home / "data")
    environment = {**TOKENS, "HOME": str(user), "HF_HOME": str(user / ".cache")}
    data = home / "data/processed"
    config = {
        "model_name": str(user / "base"),
        "output_dir": str(home / "sft"),
        "lora": {"r": 2},
        "training": {"max_steps": 1, "per_device_train_batch_size": 1, "max_seq_length": 1500},
        "data": {
            **{"train_path": str(data / "train.jsonl"), "val_path": str(data / "val.jsonl")},
            **{"max_samples": 4, "max_val_samples": 2, "max_calibration_samples": 2},
        },
    }
    (home / "c.yaml").write_text(json.dumps(config))
    checkpoint = str(home / "sft/checkpoint-best")
    test = ["--test-data", str(data / "test.jsonl"), "--limit", "2", "--max-new-tokens", "4"]
    commands = [
        ["train_sft.py", "-c", str(home / "c.yaml")],
        ["evaluate_sft_fast_robust.py", "--model-path", checkpoint, *test, "--output", str(home / "e.json")],
        ["train_sft.py", "-c", str(home / "c.yaml"), "--push-to-hub", "anna/model"],
        [
            "evaluate_sft_fast_robust.py",
            "--model-path",
            "anna/private",
            *test,
            "--output",
            str(home / "f.json"),
        ],
    ]
    printed = ""
    for command, is_ok in zip(commands, (True, True, False, False)):
        done = stage(*command, home=home, env=environment)
        assert (done.returncode == 0) == is_ok, done.stderr
        printed += done.stdout + done.stderr
    (home / "c.yaml").unlink()
    (home / "data").unlink()
    assert not [word for word in SECRETS if word in printed]
    assert files_with(user, [*SECRETS, str(tmp_path)]) == {}
    assert (home / "report.html").is_file() and (home / "sft/checkpoint-best/README.md").is_file()
