"""The samples of an evaluation as HTML: evidence with support, citations and answers marked, and filters.

Whatever a model or a source wrote is escaped here, once; the page around the samples is `html_report.py`.
"""

from html import escape

from utils.scoring import outcome
from utils.text import answer_pattern, tokenize

_GOOD = {"right answer", "right refusal"}
# Character limits for chunks that are neither support nor cited, tried in turn until the page fits.
_CUTS = (100_000, 300, 120, 0)
# A longer answer of a model is not marked in the evidence: it would color most of the chunk it copies.
_MAX_MARKED_TOKENS = 12


def mark_answers(text: str, accepted: list[str], given: list[str]) -> str:
    """Escaped text with accepted answers in <mark> and other answers of a model in <mark class="w">."""
    accepted_pattern = answer_pattern(accepted)
    pattern = answer_pattern([*accepted, *given])
    if pattern is None:
        return escape(text)
    pieces = []
    end = 0
    # Matched before escaping: in escaped text an answer "2" would match inside "&#x27;".
    for match in pattern.finditer(text):
        is_accepted = accepted_pattern is not None and accepted_pattern.fullmatch(match[0])
        tag = "<mark>" if is_accepted else '<mark class="w">'
        pieces.append(f"{escape(text[end : match.start()])}{tag}{escape(match[0])}</mark>")
        end = match.end()
    return "".join(pieces) + escape(text[end:])


# --- one sample


def badge(words: str) -> str:
    return f'<span class="o {"good" if words in _GOOD else "bad"}">{escape(words)}</span>'


def _completion_html(name: str, parsed, completion: str, sample: dict) -> str:
    """One model's line: outcome, answer, citations, confidence; the raw text of an invalid completion."""
    line = f"<li><b>{escape(name)}</b> {badge(outcome(parsed, sample))}"
    if parsed.answer is not None:
        numbers = ["not shown" if c < 0 else str(c) for c in parsed.citations]
        cited = ", ".join(numbers) or "none"
        confidence = "not stated" if parsed.confidence is None else f"{parsed.confidence:g}"
        about = f"cites {cited}, confidence {confidence}"
        line += f"{escape(parsed.answer)} <span class='soft'>{about}</span>"
    if parsed.answer is None or not parsed.is_valid:
        line += f"<br><code>{escape(completion[:400]) or '(empty)'}</code>"
    return line + "</li>"


def _chunk_html(i: int, sample: dict, cited_by: list[str], given: list[str], cut: int) -> str:
    chunk = sample["evidence_chunks"][i]
    is_support = i in sample["support_spans"]
    tags = ""
    kinds = []
    if is_support:
        kinds.append("g")
        tags += '<span class="tag g">gold support</span> '
    if cited_by:
        kinds.append("c")
        tags += f'<span class="tag c">cited by {escape(", ".join(cited_by))}</span> '
    text = chunk["text"]
    if not kinds and len(text) > cut:
        text = text[:cut] + " …"
    marked = mark_answers(text, sample["answer_aliases"], given)
    return f'<li class="{" ".join(kinds)}">[{i}] {tags}<b>{escape(chunk["title"])}</b>: {marked}</li>'


def _gold_html(sample: dict) -> str:
    gold = escape(sample["answer"])
    removed = sample["metadata"].get("gold_aliases")
    if not sample["answerable"] and removed:
        gold += f" <span class='soft'>(support of “{escape(removed[0])}” removed)</span>"
    return gold


def sample_html(sample: dict, parsed: dict, completions: dict[str, str], cut: int = _CUTS[0]) -> str:
    """One sample as a <details>. `parsed` and `completions` are by model name.

    The summary line shows the outcome of the first model.
    """
    main = next(iter(parsed))
    found = outcome(parsed[main], sample)
    answers = [p.answer for p in parsed.values() if p.is_answer]
    given = [answer for answer in answers if len(tokenize(answer)) <= _MAX_MARKED_TOKENS]
    lines = "".join(_completion_html(name, p, completions[name], sample) for name, p in parsed.items())
    chunks = ""
    for i in range(len(sample["evidence_chunks"])):
        cited_by = [name for name, p in parsed.items() if i in p.citations]
        chunks += _chunk_html(i, sample, cited_by, given, cut)

    data = f'data-s="{escape(sample["source"])}" data-o="{escape(found)}"'
    summary = f"<summary>{badge(found)}{escape(sample['question'])}</summary>"
    head = f'<span class="soft">{escape(sample["id"])}</span><br>gold: <b>{_gold_html(sample)}</b>'
    body = f'<div>{head}<ul class="m">{lines}</ul><ol class="e">{chunks}</ol></div>'
    return f'<details class="s" {data}>{summary}{body}</details>\n'


# --- all samples


def _size(cards: list[str]) -> int:
    return sum(len(card.encode()) for card in cards)


def _evenly(cards: list[str], n: int) -> list[str]:
    """`n` cards at even steps, so that they come from all parts of the file."""
    return [cards[i * len(cards) // n] for i in range(n)]


def samples_html(
    samples: list[dict], parsed: dict[str, list], completions: dict[str, dict[str, str]], max_bytes: int
) -> tuple[str, str]:
    """(samples as HTML of at most `max_bytes`, what was cut, in words).

    Chunks that are neither support nor cited are shortened first; then samples are left out at even steps.
    """
    cards: list[str] = []
    for cut in _CUTS:
        cards = []
        for i, sample in enumerate(samples):
            own = {name: rows[i] for name, rows in parsed.items()}
            texts = {name: completions[name][sample["id"]] for name in parsed}
            cards.append(sample_html(sample, own, texts, cut))
        if _size(cards) <= max_bytes:
            note = f"chunks that are neither support nor cited are cut to {cut} characters"
            return "".join(cards), "" if cut == _CUTS[0] else note

    # Estimated from the mean size, then lowered: the cards kept can be larger than the others.
    n_kept = max(1, int(len(cards) * max_bytes / _size(cards)))
    while n_kept > 1 and _size(_evenly(cards, n_kept)) > max_bytes:
        n_kept = n_kept * 9 // 10
    note = (
        f"{n_kept} of {len(cards)} samples, at even steps through the file; "
        "chunks that are neither support nor cited are cut"
    )
    return "".join(_evenly(cards, n_kept)), note


def _options(values: set[str]) -> str:
    return "".join(f'<option value="{escape(value)}">{escape(value)}</option>' for value in sorted(values))


def browser_html(
    samples: list[dict], parsed: dict[str, list], predictions: list[dict], max_bytes: int
) -> tuple[str, str]:
    """(the samples with a legend and filters, what was cut). The script of the page uses the filters' ids.

    `parsed`: model name -> parsed completions in the order of `samples`.
    """
    completions: dict[str, dict[str, str]] = {}
    for row in predictions:
        completions.setdefault(row["model"], {})[row["id"]] = row["completion"]
    cards, note = samples_html(samples, parsed, completions, max_bytes)

    # The filter for outcomes is about the first model, as the summary lines are.
    main = next(iter(parsed))
    sources = _options({sample["source"] for sample in samples})
    outcomes = _options({outcome(p, s) for p, s in zip(parsed[main], samples)})
    tags = '<span class="tag g">gold support</span> <span class="tag c">cited</span>'
    marks = '<mark>accepted answer</mark> <mark class="w">other answer given</mark>'
    any_outcome = f'<option value="">all outcomes of {escape(main)}</option>'
    tools = f"""<div class="tools">
<select id="source" aria-label="source"><option value="">all sources</option>{sources}</select>
<select id="outcome" aria-label="outcome">{any_outcome}{outcomes}</select>
<input id="words" type="search" placeholder="search the samples" aria-label="search the samples">
<button id="open" type="button">open first 50</button> <button id="close" type="button">close all</button>
<span id="count" class="soft"></span></div>"""
    cut = f'<p class="soft">Cut to fit: {note}.</p>' if note else ""
    return f"<h2>Samples</h2><p>{tags} {marks}</p>{tools}{cut}{cards}", note
