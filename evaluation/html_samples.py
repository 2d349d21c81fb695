"""The samples of an evaluation as HTML: evidence with gold support, citations and answers marked. Whatever a model or a source wrote is escaped."""

from html import escape

from utils.scoring import outcome
from utils.text import answer_pattern, tokenize

_GOOD = {"right answer", "right refusal"}
# Chunks that are neither support nor cited are cut to so many characters, the first that lets the page fit.
_CUTS = (100_000, 300, 120, 0)


def mark_answers(text: str, accepted: list[str], given: list[str]) -> str:
    """Escaped text with accepted answers in <mark> and other answers that a model gave in <mark class="w">."""
    accepted_pattern = answer_pattern(accepted)
    pattern = answer_pattern([*accepted, *given])
    if pattern is None:
        return escape(text)
    pieces = []
    end = 0
    for match in pattern.finditer(text):
        is_accepted = accepted_pattern is not None and accepted_pattern.fullmatch(match[0])
        pieces += [
            escape(text[end : match.start()]),
            "<mark>" if is_accepted else '<mark class="w">',
            escape(match[0]),
            "</mark>",
        ]
        end = match.end()
    return "".join(pieces) + escape(text[end:])


def badge(words: str) -> str:
    return f'<span class="o {"good" if words in _GOOD else "bad"}">{escape(words)}</span>'


def _completion_html(name: str, parsed, completion: str, sample: dict) -> str:
    """One model's line: outcome, answer, citations, confidence; the raw text where it was not valid as it stood."""
    line = f"<li><b>{escape(name)}</b> {badge(outcome(parsed, sample))}"
    if parsed.answer is not None:
        cited = ", ".join("not shown" if c < 0 else str(c) for c in parsed.citations) or "none"
        confidence = "not stated" if parsed.confidence is None else f"{parsed.confidence:g}"
        line += f"{escape(parsed.answer)} <span class='soft'>cites {cited}, confidence {confidence}</span>"
    if parsed.answer is None or not parsed.is_valid:
        line += f"<br><code>{escape(completion[:400]) or '(empty)'}</code>"
    return line + "</li>"


def _chunk_html(i: int, chunk: dict, sample: dict, cited_by: list[str], given: list[str], cut: int) -> str:
    is_support = i in sample["support_spans"]
    tags = '<span class="tag g">gold support</span> ' if is_support else ""
    if cited_by:
        tags += f'<span class="tag c">cited by {escape(", ".join(cited_by))}</span> '
    text = chunk["text"]
    if not is_support and not cited_by and len(text) > cut:
        text = text[:cut] + " …"
    kinds = " ".join(kind for kind, holds in (("g", is_support), ("c", cited_by)) if holds)
    marked = mark_answers(text, sample["answer_aliases"], given)
    return f'<li class="{kinds}">[{i}] {tags}<b>{escape(chunk["title"])}</b>: {marked}</li>'


def sample_html(sample: dict, parsed: dict, completions: dict[str, str], cut: int = _CUTS[0]) -> str:
    """One sample as a <details>. `parsed` and `completions`: by model name, the one that the summary line judges first."""
    main = next(iter(parsed))
    found = outcome(parsed[main], sample)
    given = [p.answer for p in parsed.values() if p.is_answer and len(tokenize(p.answer)) <= 12]
    gold = escape(sample["answer"])
    if not sample["answerable"] and (removed := sample["metadata"].get("gold_aliases")):
        gold += f" <span class='soft'>(support of “{escape(removed[0])}” removed)</span>"
    lines = "".join(_completion_html(name, p, completions[name], sample) for name, p in parsed.items())
    chunks = "".join(
        _chunk_html(i, chunk, sample, [name for name, p in parsed.items() if i in p.citations], given, cut)
        for i, chunk in enumerate(sample["evidence_chunks"])
    )
    return (
        f'<details class="s" data-s="{escape(sample["source"])}" data-o="{escape(found)}"><summary>{badge(found)}{escape(sample["question"])}</summary>'
        f'<div><span class="soft">{escape(sample["id"])}</span><br>gold: <b>{gold}</b><ul class="m">{lines}</ul><ol class="e">{chunks}</ol></div></details>\n'
    )


def samples_html(
    samples: list[dict], parsed: dict[str, list], completions: dict[str, dict[str, str]], max_bytes: int
) -> tuple[str, str]:
    """(all samples as HTML of at most `max_bytes`, what was left out). Chunks of no interest are cut first, then samples at even steps left out."""
    for cut in _CUTS:
        cards = [
            sample_html(
                sample,
                {name: rows[i] for name, rows in parsed.items()},
                {name: completions[name][sample["id"]] for name in parsed},
                cut,
            )
            for i, sample in enumerate(samples)
        ]
        size = sum(len(card.encode()) for card in cards)
        if size <= max_bytes:
            note = (
                ""
                if cut == _CUTS[0]
                else f"chunks that are neither support nor cited are cut to {cut} characters"
            )
            return "".join(cards), note
    n_kept = max(1, int(len(cards) * max_bytes / size))
    while (
        sum(len(cards[i * len(cards) // n_kept].encode()) for i in range(n_kept)) > max_bytes and n_kept > 1
    ):
        n_kept = n_kept * 9 // 10
    kept = [cards[i * len(cards) // n_kept] for i in range(n_kept)]
    return (
        "".join(kept),
        f"{n_kept} of {len(cards)} samples, at even steps through the file; chunks that are neither support nor cited are cut",
    )
