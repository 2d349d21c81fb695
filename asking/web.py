"""The web page of ask.py: documents and a question in, the reply of the terminal as a page out.

It listens on this machine alone, sends no statistics, and loads no font or script from elsewhere. It knows
Gradio, and nothing about how a question is answered.
"""

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asking.decoding import MAX_BYTES
from asking.documents import GUESSES, Document, read_document
from asking.judging import CLAIM_START
from asking.reply import Reply
from asking.web_html import CSS, model_html, problem_html, reply_html
from utils.errors import DataError, StageError, Terminated, UsageError
from utils.runs import note

# (question, documents, minimal confidence or None) -> reply
Ask = Callable[[str, list[Document], float | None], Reply]

HOST = "127.0.0.1"
_INSTALL = "the web page needs gradio; run `pip install -c constraints.txt -r requirements-web.txt`"
# Fonts that a system has. Those of Gradio's own themes come from a server of Google.
_FONTS = ["system-ui", "sans-serif"]
_MONO_FONTS = ["ui-monospace", "monospace"]


def import_gradio() -> Any:
    """The gradio module, told to send nothing home. StageError with the command if it is not installed."""
    # Both are read at import, so they have to be set before.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Gradio's own folder for uploads is one that all users of a machine share, and it outlives the page.
    if "GRADIO_TEMP_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="ask-")
        os.environ["GRADIO_TEMP_DIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        import gradio
    except ImportError as error:
        raise StageError(_INSTALL) from error
    return gradio


def _read_upload(path: Path, say: Callable[[str], None]) -> Document:
    """An uploaded document, under its own name: the page keeps it in a folder that nobody needs to know."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name}: is no longer there; upload it again") from error
    document = read_document(path.name, data, path)
    if document.encoding in GUESSES:
        say(f"{path.name}: not UTF-8, read as {document.encoding}; save it as UTF-8 where that is wrong")
    return document


class Desk:
    """The documents on the page: those of the command line, uploaded ones, and a pasted text."""

    def __init__(self, ask: Ask, documents: Sequence[Document] = ()):
        self.ask = ask
        self._given = list(documents)
        # The documents of the last question and what was said of them, under what they were read from.
        self._last: tuple[tuple, list[Document], list[str]] | None = None

    def _documents(self, paths: list[str], pasted: str) -> tuple[list[Document], list[str]]:
        """(all documents, what was said of them); the same list as long as nothing changed."""
        key = (*paths, pasted)
        if self._last and self._last[0] == key:
            return self._last[1:]
        said: list[str] = []
        uploaded = [_read_upload(Path(path), said.append) for path in paths]
        documents = [*self._given, *uploaded]
        if pasted.strip():
            documents.append(read_document("pasted text", pasted.encode("utf-8")))
        if not documents:
            raise UsageError("there is no document yet: upload one, or paste a text")
        self._last = (key, documents, said)
        return documents, said

    def respond(
        self,
        paths: list[str] | None,
        pasted: str,
        question: str,
        is_claim: bool,
        min_confidence: float | None = None,
    ) -> str:
        """The reply to a question, as HTML; a problem of the user's as HTML too."""
        question = (question or "").strip()
        try:
            if min_confidence is not None and not 0 <= min_confidence <= 1:
                raise UsageError(f"lowest confidence: expected a number from 0 to 1, found {min_confidence}")
            documents, said = self._documents(paths or [], pasted or "")
            is_marked = question.lower().startswith(CLAIM_START)
            asked = f"{CLAIM_START} {question}" if is_claim and question and not is_marked else question
            reply = self.ask(asked, documents, min_confidence)
        except StageError as error:
            return problem_html(str(error))
        return "".join(problem_html(line) for line in said) + reply_html(reply)


def build_page(
    ask: Ask, documents: Sequence[Document] = (), model: str = "", min_confidence: float = 0.0
) -> Any:
    """The page as gradio.Blocks. `ask`: `Asker.ask`; `documents`, `min_confidence`: what it starts with."""
    gradio = import_gradio()
    desk = Desk(ask, documents)
    given = ", ".join(document.name for document in documents)
    with gradio.Blocks(title="Ask your documents", analytics_enabled=False) as page:
        gradio.Markdown("# Ask your documents")
        gradio.HTML(model_html(model))
        if given:
            gradio.Textbox(given, label="Documents from the command line", interactive=False)
        with gradio.Row():
            uploads = gradio.File(
                label="Documents (txt, md, html, pdf)",
                file_count="multiple",
                height=160,
            )
            pasted = gradio.Textbox(label="or paste a text", lines=5, max_lines=12)
        question = gradio.Textbox(label="Question", placeholder="Who wrote the letter?", max_lines=3)
        is_claim = gradio.Checkbox(label="This is a claim: is it supported or refuted?")
        # Without limits, whose errors would leave the reply to the question before on the page.
        lowest = gradio.Number(min_confidence, label="Lowest confidence of an answer (0-1)", step=0.05)
        button = gradio.Button("Ask", variant="primary")
        answer = gradio.HTML(label="Answer", min_height=60)
        inputs = [uploads, pasted, question, is_claim, lowest]
        gradio.on(
            [button.click, question.submit],
            desk.respond,
            inputs,
            answer,
            api_name="ask",
            # One model answers one question at a time.
            concurrency_limit=1,
        )
    return page


def launch_page(page: Any, port: int | None = None) -> str:
    """Serve a page on this machine and return its address; in a notebook it is shown in the cell.

    UsageError if the port is in use. Without a port, the first free one from 7860 on is taken.
    """
    gradio = import_gradio()
    # Indigo, because the white letters of a button cannot be read on the default orange.
    theme = gradio.themes.Default(primary_hue="indigo", font=_FONTS, font_mono=_MONO_FONTS)
    try:
        _, address, _ = page.launch(
            server_name=HOST,
            server_port=port,
            theme=theme,
            css=CSS,
            # A public tunnel is what Gradio opens in a notebook unless it is told not to.
            share=False,
            # The other mode starts a server of its own.
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            # A larger file is refused while it arrives, not when it is read.
            max_file_size=MAX_BYTES,
            # In a notebook: room for an answer below the form.
            height=800,
        )
    except OSError as error:
        which = f"--port {port}" if port else "each port from 7860 on"
        raise UsageError(f"{which}: in use; name another one with --port") from error
    return address


def serve_until_stopped(page: Any, port: int | None = None) -> None:
    """Serve a page until Ctrl-C."""
    address = launch_page(page, port)
    note(f"open {address} in a browser on this machine; Ctrl-C stops")
    try:
        threading.Event().wait()
    except Terminated:
        raise
    except KeyboardInterrupt:
        note("stopped")
    finally:
        page.close(verbose=False)
