"""Ask: a question about your own documents -> an answer with the passages it cites, or a refusal.

Reads text, Markdown, HTML and PDF files, cuts them as the checkpoint's training data was cut, and shows the
model the passages nearest to the question. A quote is looked up in its file again before it is printed.
Without --question it reads questions, one per line. `claim: ...` asks whether a claim is supported. --web
opens a page that takes documents and questions, on this machine alone. Writes nothing.

    python ask.py --model checkpoints/sft/demo/checkpoint-best --evidence data/ask/tide_mill.md \\
        --question "Who built the tide mill of Skarvik?"
    python ask.py --model checkpoints/sft/demo/checkpoint-best --evidence data/ask/tide_mill.md
    cat notes.txt | python ask.py --model checkpoints/sft/demo/checkpoint-best --evidence - --question "When?"
"""

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.base import base_for
from models.choices import (
    LoadOptions,
    add_attention_flag,
    add_bit_flags,
    add_decisions_flag,
    load_options,
)
from models.directories import check_adapter_dir
from models.embedded_models import EMBEDDED_MODELS
from utils.arguments import order_count, port_number, positive_int, share, stage_parser
from utils.errors import UsageError
from utils.runs import note
from utils.startup import before_imports, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    add = parser.add_argument_group("files").add_argument
    evidence = "documents to answer from: txt, md, html or pdf files, folders of them, or - for stdin"
    add("--evidence", nargs="+", action="extend", metavar="PATH", help=evidence)
    add("--encoding", help="encoding of text files that are not UTF-8, such as cp1252 (default: guessed)")

    model = parser.add_argument_group("model")
    add = model.add_argument
    add("--model", help="checkpoint directory of train_sft.py")
    add("--base-model", help="where the checkpoint's base model is (default: where the checkpoint says)")
    add_attention_flag(model)
    add_bit_flags(model, "the model")
    add_decisions_flag(model)
    add("--template", help="prompt template (default: the one in the checkpoint's run.json)")
    passages = "passages to show the model (default: as many as it was trained with)"
    add("--passages", type=positive_int, metavar="N", help=passages)
    orders = "answer with the passages in N orders (2-8) and take what they agree on (slower)"
    add("--orders", type=order_count, metavar="N", help=orders)

    add = parser.add_argument_group("questions").add_argument
    question = "a question, or `claim: ...`; may be given more than once (default: read from stdin)"
    add("--question", action="append", metavar="TEXT", help=question)
    confidence = "refuse answers of a lower calibrated confidence (0-1)"
    add("--min-confidence", type=share, default=0.0, metavar="P", help=confidence)
    add("--json", action="store_true", help="print one JSON object per question instead of text")
    add("--dry-run", action="store_true", help="read the documents, say what would be searched, and stop")

    add = parser.add_argument_group("web page").add_argument
    web = "serve a page for documents and questions on 127.0.0.1 (needs requirements-web.txt)"
    add("--web", action="store_true", help=web)
    port = "port of --web (default: the first free one from 7860 on)"
    add("--port", type=port_number, metavar="N", help=port)
    return parser


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    args = build_parser().parse_args(argv)
    if args.web and (args.question or args.json or args.dry_run):
        raise UsageError("--web takes its questions on the page; leave out --question, --json and --dry-run")
    if args.port and not args.web:
        raise UsageError("--port is the port of the page; add --web")
    if not args.evidence and not args.web:
        raise UsageError("name the documents to answer from with --evidence, for example --evidence notes/")
    if args.model in (None, "", *EMBEDDED_MODELS):
        example = "checkpoints/sft/demo/checkpoint-best (make demo trains one)"
        raise UsageError(f"--model needs a checkpoint of train_sft.py, such as {example}")
    if "-" in (args.evidence or []) and not args.question and not args.dry_run and not args.web:
        raise UsageError("--evidence - reads the documents from stdin, so give the question with --question")
    if any(not question.strip() for question in args.question or []):
        raise UsageError("--question is empty; write one, such as --question 'Who wrote the letter?'")
    args.model = check_adapter_dir(args.model)
    return args


if __name__ == "__main__":
    before_imports(lambda: read_arguments(None))

from asking.checkpoint import AskSettings, ask_settings
from asking.console import ask_each, ask_in_a_loop, questions_of_stdin
from asking.decoding import check_encoding
from asking.documents import Document, read_documents
from asking.passages import PassageIndex
from asking.reply import Reply
from prompt_schema import PromptBuilder

# --- the run


def load_asker(model_dir: str, settings: AskSettings, options: LoadOptions = LoadOptions()):
    """The checkpoint, ready to be asked (`asking.answering.Asker`)."""
    # Waiting threads must not spin: on a machine that does anything else, answers took ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Documents are read before the model libraries are imported: a wrong file is told within a second.
    from asking.answering import Asker

    return Asker(model_dir, settings, PromptBuilder, options)


def serve_page(args: argparse.Namespace, settings: AskSettings, documents: list[Document]) -> None:
    """Serve the page until Ctrl-C."""
    from asking.web import build_page, import_gradio, serve_until_stopped

    # Before the model is loaded, because gradio may not be installed.
    import_gradio()
    note(f"loading {args.model}")
    asker = load_asker(args.model, settings, load_options(args, args.base_model))
    page = build_page(asker.ask, documents, args.model, args.min_confidence)
    serve_until_stopped(page, args.port)


def show_page(model: str, evidence: str | Sequence[str] = (), port: int | None = None) -> str:
    """In a notebook: the page in the cell, for a checkpoint and the documents it starts with. Its address."""
    from asking.web import build_page, launch_page

    evidence = [evidence] if isinstance(evidence, str) else evidence

    model_dir = check_adapter_dir(model)
    asker = load_asker(model_dir, ask_settings(Path(model_dir)))
    return launch_page(build_page(asker.ask, read_documents(evidence), model_dir), port)


def print_plan(documents: list[Document], settings: AskSettings) -> None:
    index = PassageIndex(documents, settings.sizes.max_chunk_words)
    n_of = Counter(id(passage.document) for passage in index.passages)
    for document in documents:
        n_passages = n_of[id(document)]
        print(f"{document.name}: {document.kind}, {document.n_words:,} words, passages: {n_passages}")
    n_shown = min(settings.sizes.max_chunks, len(index.passages))
    orders = f", in {min(settings.orders, n_shown)} orders" if settings.orders > 1 else ""
    about = f"the nearest {n_shown} of {len(index.passages)} passages per question{orders}"
    print(f"would show {about}; writes nothing")


def main(argv: list[str] | None) -> None:
    args = read_arguments(argv)
    check_encoding(args.encoding)
    documents = read_documents(args.evidence or [], encoding=args.encoding)
    settings = ask_settings(
        Path(args.model), args.template, args.passages, args.min_confidence, args.decisions
    )
    settings = replace(settings, orders=args.orders or 1)
    if args.dry_run:
        print_plan(documents, settings)
        return
    piped = None if args.question or args.web else questions_of_stdin()
    # After the documents: it hashes the weights of the base, which a plan does not need.
    args.base_model = base_for(args.model, args.base_model)
    if args.web:
        serve_page(args, settings, documents)
        return
    n_words = sum(document.n_words for document in documents)
    note(f"documents: {len(documents)} ({n_words:,} words); loading {args.model}")
    asker = load_asker(args.model, settings, load_options(args, args.base_model))

    def ask(question: str) -> Reply:
        return asker.ask(question, documents)

    if args.question:
        ask_each(ask, args.question, args.json)
    else:
        ask_in_a_loop(ask, args.json, piped)


if __name__ == "__main__":
    run_main(main, interrupted="stopped; nothing was written")
