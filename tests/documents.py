"""Reads what the documents name: the texts, and the commands, paths, flags, targets and sections in them.

A document is a Markdown page, a docstring, a comment, a message or a help text. docs/log.md is left out: it
is history, and names files that have moved since. This module finds references and checks none.
"""

import argparse
import ast
import io
import itertools
import json
import re
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HISTORY = {"docs/log.md"}


def tracked_files() -> list[str]:
    """Files that git knows or would add, relative to the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in sorted(listed.splitlines()) if (ROOT / name).is_file()]


# --- the texts


@dataclass(frozen=True)
class Text:
    """A piece of a document and where it starts, as `file:line`."""

    place: str
    text: str


def is_message(node: ast.AST) -> bool:
    """True for a string with a space; one without is a key, a flag or part of a path: code, not text."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value


def texts_of_code(name: str, with_strings: bool) -> Iterator[Text]:
    """Comments and docstrings of a Python file; with strings, its messages and help texts too."""
    source = (ROOT / name).read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(f"{name}:{token.start[0]}", token.string)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            line = getattr(node, "lineno", 1)
            yield Text(f"{name}:{line}", ast.get_docstring(node) or "")
        elif with_strings and is_message(node):
            yield Text(f"{name}:{node.lineno}", node.value)


def texts_of_lines(name: str, comments_only: bool) -> Iterator[Text]:
    """The lines of a text file, or only their comments."""
    for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
        _, mark, comment = line.partition("#")
        text = mark + comment if comments_only else line
        if text:
            yield Text(f"{name}:{number}", text)


def texts_of_page(name: str) -> Iterator[Text]:
    """The lines of a Markdown page outside fenced blocks, which hold code: tests run it."""
    is_code = False
    for text in texts_of_lines(name, comments_only=False):
        if text.text.startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield text


def code_blocks(page: str) -> list[str]:
    """The Python code in the fenced blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def texts_of_notebook(name: str) -> Iterator[Text]:
    cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            yield Text(f"{name}:cell {number}", "".join(cell["source"]))


def read_documents() -> list[Text]:
    """Every text that users and maintainers read."""
    texts: list[Text] = []
    for name in tracked_files():
        if name in HISTORY:
            continue
        if name.endswith(".py"):
            # Strings in tests are test data: paths and flags there may be wrong on purpose.
            texts += texts_of_code(name, with_strings=not name.startswith("tests/"))
        elif name.endswith(".md"):
            texts += texts_of_page(name)
        elif name == "Makefile":
            texts += texts_of_lines(name, comments_only=False)
        elif name.endswith((".yaml", ".toml", ".txt")) and not name.startswith(("prompts/", "data/")):
            texts += texts_of_lines(name, comments_only=True)
        elif name.endswith(".ipynb"):
            texts += texts_of_notebook(name)
    return [text for text in texts if text.text.strip()]


# --- what they name

# Folders below which every slashed word is a path; elsewhere a slash may be "and/or", a model id or a unit.
OUTPUT_FOLDERS = {"checkpoints", "prefs", "demo"}
EXTENSIONS = "py|md|yaml|jsonl|json|txt|toml|ipynb|html|png|safetensors|cff|tsv"
PATH = re.compile(
    rf"(?<![\w/.:$<%-])(?:[\w.*{{}},<>-]+/)*[\w.*{{}},<>-]*\.(?:{EXTENSIONS})\b(?!\()"
    rf"|(?<![\w/.:$<%-])(?:[\w.*{{}},<>-]+/)+[\w.*{{}},<>-]*"
)


def expand_braces(path: str) -> list[str]:
    """`a.{b,c}` -> `a.b` and `a.c`."""
    parts = [part.split(",") for part in re.split(r"[{}]", path)]
    # Only every second part is inside braces; a comma outside them ends a path.
    parts = [part if i % 2 else part[-1:] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def is_path(word: str, folders: set[str]) -> bool:
    if word.split("/")[0] in folders:
        return True
    # A word such as `.json` is the end of a name, not a file.
    return re.search(rf"[\w*>}}]\.(?:{EXTENSIONS})$", word) is not None


def paths_in(text: str, folders: set[str]) -> set[str]:
    """Paths that a text names, as patterns for `fnmatch`: `<step>` becomes `*`, braces are expanded."""
    found = set()
    for match in PATH.finditer(text):
        # The regular expression takes a full stop or comma after a path along.
        word = match.group().rstrip(".,-")
        # Half a pair of braces comes from the code around a path in a message.
        if word.count("{") != word.count("}"):
            word = word.strip("{}")
        if is_path(word, folders):
            found |= {re.sub(r"<[\w-]*>", "*", path) for path in expand_braces(word)}
    return found


def flags_in(text: str) -> set[str]:
    """Flags (two dashes and a name) that a text names, without their values."""
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*\w(?![\w{-])", text))


def targets_in(text: str) -> set[str]:
    """Make targets that a text names, in backticks or at the start of a line of commands."""
    return set(re.findall(r"(?:`|^ {4,}|^#? ?)make ([a-z][\w-]*)", text, re.MULTILINE))


def sections_in(text: str) -> set[tuple[str, str]]:
    """(page, heading) for each mention of a page with a heading in quotes; README means README.md."""
    return set(re.findall(r'(README|[\w/]+\.md)`?,? (?:section )?"([^"]+)"', text))


def headings_of(page: str) -> set[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return {line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")}


def flags_of_parser(parser: argparse.ArgumentParser) -> set[str]:
    """Every flag that a parser or one of its subcommands accepts."""
    flags = set()
    for action in parser._actions:
        flags |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                flags |= flags_of_parser(subparser)
    return flags


def flags_of_code() -> set[str]:
    """Every flag that a benchmark or another small program of the project adds to its parser."""
    flags = set()
    for name in tracked_files():
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            # `add` is the usual short name of a group's `add_argument`.
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("add_argument", "add")):
                constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                flags |= {value for value in constants if str(value).startswith("--")}
    return flags


def modules_in(text: str) -> set[str]:
    """Modules that a text runs with `python -m`."""
    return set(re.findall(r"python -m ([\w.]+)", text))


def names_in_code(text: str) -> set[str]:
    """Identifiers that a Markdown text shows as code: the last part of `a.b`, without a call's arguments."""
    spans = re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`", text)
    return {span.rsplit(".", 1)[-1] for span in spans}


def words_of_code() -> set[str]:
    """Every word in the Python and YAML files of the project."""
    words: set[str] = set()
    for name in tracked_files():
        if name.endswith((".py", ".yaml", ".toml")):
            words |= set(re.findall(r"\w+", (ROOT / name).read_text(encoding="utf-8")))
    return words
