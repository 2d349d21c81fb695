"""Replies as HTML. Every text of a document, a model or a user is escaped: it is shown and never run."""

import html

from asking.quotes import Quote
from asking.reply import ANSWERED, WITHHELD, Reply, printable, printable_part

# For the page of asking/web.py; letters keep the color of the theme, which may be dark.
CSS = """
footer { display: none !important; }
.ask-reply { overflow-wrap: anywhere; }
.ask-reply + .ask-reply { margin-top: .75rem; }
.ask-reply h3 { margin: 0 0 .25rem; font-size: 1.3rem; }
.ask-reply .about { opacity: .75; margin: 0 0 .75rem; }
.ask-reply .doubt { border-left: 3px solid #d97706; padding-left: .6rem; margin: 0 0 .75rem; }
.ask-reply blockquote { border-left: 3px solid rgb(128 128 128 / 0.4); margin: 0 0 .75rem;
  padding: .1rem 0 .1rem .8rem; }
.ask-reply cite { display: block; font-style: normal; font-size: .85rem; opacity: .75; }
.ask-reply mark { background: #fde68a; color: #1c1917; border-radius: 2px; padding: 0 .1em; }
"""


_HINT = "Check each answer against its quotes: they show where it comes from, not that it is right."


def _marked(quote: Quote) -> str:
    """The text of a quote, `<mark>` around the answer's words, or around all of it."""
    parts = []
    place = 0
    for start, end in quote.marked or [(0, len(quote.text))]:
        parts.append(_escaped(quote.text[place:start]))
        parts.append(f"<mark>{_escaped(quote.text[start:end])}</mark>")
        place = end
    parts.append(_escaped(quote.text[place:]))
    return "".join(parts)


def _escaped(text: str) -> str:
    return html.escape(printable_part(text))


def _quote_html(quote: Quote, is_marked: bool) -> str:
    text = _marked(quote) if is_marked else _escaped(quote.text)
    return f"<blockquote>{text}<cite>{html.escape(printable(quote.place))}</cite></blockquote>"


def reply_html(reply: Reply) -> str:
    """A reply as a part of a page: question, headline, confidence or reason, quotes, what was looked at."""
    # A page may still show the reply before, while a new one is written.
    parts = [f'<p class="about">{html.escape(printable(reply.question))}</p>'] if reply.question else []
    parts += [f"<h3>{html.escape(printable(reply.headline))}</h3>"]
    # The reason of a refusal is its headline.
    about = reply.reason if reply.status == WITHHELD else None
    if reply.status == ANSWERED:
        about = reply.confidence_words
    if about:
        parts.append(f'<p class="about">{html.escape(about)}</p>')
    if reply.doubt:
        parts.append(f'<p class="doubt">{html.escape(reply.doubt)}</p>')
    if reply.nearest:
        parts.append('<p class="about">The nearest passages:</p>')
    # All of a quote is marked for a verdict, whose words no passage has.
    parts += [_quote_html(quote, bool(quote.marked) or reply.is_verdict) for quote in reply.quotes]
    parts += [_quote_html(quote, is_marked=False) for quote in reply.nearest]
    parts.append(f'<p class="about">{reply.looked_at}, {reply.seconds:.1f} s</p>')
    return f'<div class="ask-reply">{"".join(parts)}</div>'


def model_html(model: str) -> str:
    """What answers, and what the reader has to do."""
    name = f"Answers of {html.escape(printable(model))}. " if model else ""
    return f'<div class="ask-reply"><p class="about">{name}{_HINT}</p></div>'


def problem_html(problem: str) -> str:
    """A one-line error, or a note on a document."""
    return f'<div class="ask-reply"><p class="doubt">{html.escape(printable(problem))}</p></div>'
