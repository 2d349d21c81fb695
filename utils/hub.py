"""The model hub: whether it can be reached, and the upload of a finished model.

Before an upload the id and the login are checked; it is of one folder.

Everything goes through huggingface_hub. A token is read by it alone: nothing here sees or prints one.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from utils.errors import StageError, UsageError
from utils.hub_names import split_revision

# What is uploaded of a model's folder: weights, tokenizer, configs and the card. What a run needs to resume
# (optimizer, random states) are pickles and stay here.
_UPLOADED = (
    *("README.md", "config.json", "generation_config.json", "adapter_config.json"),
    *("*.safetensors", "*.safetensors.index.json", "*.jinja"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "merges.txt", "calibration.json"),
)
_HTTP_LIBRARIES = ("httpx", "httpcore", "requests", "urllib3")
# A slow connection answers within this time.
_PATIENCE_SECONDS = 10
_TOKEN = re.compile(r"hf_[A-Za-z0-9]+")


def check_repo_id(repo_id: str) -> str:
    """The id, as argparse wants a type: UsageError for one that the hub would refuse."""
    # 0.1 s, which only a run with this flag pays.
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    problem = ""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        problem = str(error).splitlines()[0]
    if not problem and repo_id.count("/") != 1:
        problem = "write it as owner/name"
    if problem:
        problem = f"no id of the hub ({problem})"
        raise UsageError(f"--push-to-hub {repo_id}: {problem}; example: your-name/my-model")
    return repo_id


@contextlib.contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    """Replaces every error of the hub or the network by one line without a token."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    start = f"--push-to-hub {repo_id}"
    again = "nothing that was trained is lost: run the same command again"
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UsageError(f"{start}: not logged in; run `hf auth login`, or set HF_TOKEN") from error
    except OfflineModeIsEnabled as error:
        raise UsageError(f"{start}: HF_HUB_OFFLINE is set; unset it to upload") from error
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else None
        if code == 401:
            raise UsageError(f"{start}: the token is not valid; run `hf auth login` again") from error
        if code == 403:
            raise UsageError(f"{start}: your token may not write there; use one with write access") from error
        raise StageError(f"{start}: the hub refused ({_first_line(error)}); {again}") from error
    except Exception as error:
        if not _is_network_error(error):
            raise
        raise StageError(f"{start}: the hub cannot be reached ({_first_line(error)}); {again}") from error


def _first_line(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return _TOKEN.sub("hf_***", text)[:160]


def _is_network_error(error: Exception) -> bool:
    """Whether an error is of the connection; huggingface_hub's HTTP library changes with its versions."""
    return isinstance(error, OSError) or type(error).__module__.startswith(_HTTP_LIBRARIES)


def check_reachable(model: str) -> None:
    """OSError for a model id that is not in the cache, in this revision, while the hub cannot be reached.

    huggingface_hub would find that out file by file, and try each for half a minute.
    """
    from huggingface_hub import constants, get_session, is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    hub_id, revision = split_revision(model)
    names = ("config.json", "adapter_config.json")
    try:
        cached = [try_to_load_from_cache(hub_id, name, revision=revision) for name in names]
    except HFValidationError:
        # Whoever loads it says what is wrong with the id.
        return
    if is_offline_mode() or any(isinstance(path, str) for path in cached):
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE_SECONDS)
    except Exception as error:
        if not _is_network_error(error):
            raise
        raise OSError(f"the hub cannot be reached: {_first_line(error)}") from error


def check_hub_access(repo_id: str) -> None:
    """Before hours of training: UsageError without a login, StageError without a connection."""
    from huggingface_hub import HfApi

    with _hub_errors(repo_id):
        HfApi().whoami()


def push_folder(repo_id: str, folder: Path, changed: dict[str, str], public: bool) -> str:
    """Upload a model's folder, with the texts of `changed` (file name -> text) in place of its own files.

    The repository is created if it is missing, private unless `public`. Returns its address.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        for pattern in _UPLOADED:
            for path in folder.glob(pattern):
                # A link, because a model may be larger than the temporary disk.
                (staged / path.name).symlink_to(path.resolve())
        for file_name, text in changed.items():
            (staged / file_name).unlink(missing_ok=True)
            (staged / file_name).write_text(text, encoding="utf-8")
        with _hub_errors(repo_id):
            api = HfApi()
            url = api.create_repo(repo_id, private=not public, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=staged, commit_message="Upload model and card")
    return str(url)
