"""Draws docs/example.svg, the picture of the README, from what `ask.py --json` printed.

    python ask.py --model checkpoints/sft/demo/checkpoint-best --evidence data/ask/tide_mill.md --json \\
        --question "Who built the tide mill?" \\
        --question "What does a ticket for the museum cost?" | python docs/draw_example.py

The colors follow the reader's light or dark mode. It draws what it is given, and runs no model.
"""

import json
import sys
import textwrap
from html import escape
from pathlib import Path

PICTURE = Path(__file__).resolve().parent / "example.svg"
WIDTH = 720
# Around the cards, only as much as their borders need; and between a card's border and its text.
MARGIN = 1
PADDING = 24
GAP = 16
LINE = 21
# Of 14-pixel monospaced text, the widest common font takes 8.45 pixels per character.
COLUMNS = 78

STYLE = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1f2328; white-space: pre; }
.small { font-size: 12px; fill: #59636e; }
.big { font-size: 17px; font-weight: 600; }
.card { fill: #ffffff; stroke: #d1d9e0; }
.cited { fill: #1a7f37; }
.unused { fill: #d1d9e0; }
.mark { fill: #116329; font-weight: 700; text-decoration: underline; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .small { fill: #9198a1; }
  .card { fill: #0d1117; stroke: #3d444d; }
  .cited { fill: #3fb950; }
  .unused { fill: #3d444d; }
  .mark { fill: #56d364; }
}
"""


class Drawing:
    """Lines of text from top to bottom, and the shapes behind them."""

    def __init__(self):
        self.shapes: list[str] = []
        self.y = MARGIN

    def text(self, spans: str, kind: str = "", indent: int = 0, step: int = LINE) -> None:
        self.y += step
        self.shapes.append(
            f'<text x="{MARGIN + PADDING + indent}" y="{self.y}" class="{kind}">{spans}</text>'
        )

    def bar(self, top: int, kind: str) -> None:
        height = self.y - top + 6
        self.shapes.append(
            f'<rect x="{MARGIN + PADDING}" y="{top}" width="4" height="{height}" rx="2" class="{kind}"/>'
        )


def marked_lines(text: str, ranges: list[list[int]]) -> list[str]:
    """The text in lines that fit, with the marked words in spans of their own."""
    flat = text.replace("\n", " ")
    lines = textwrap.wrap(flat, COLUMNS - 4)
    drawn = []
    start = 0
    for line in lines:
        # Wrapping drops the space at the end of a line.
        start = flat.index(line, start)
        parts = []
        done = start
        for begin, end in ranges:
            first = max(begin, start)
            last = min(end, start + len(line))
            if first < last:
                parts.append(escape(flat[done:first]))
                parts.append(f'<tspan class="mark">{escape(flat[first:last])}</tspan>')
                done = last
        parts.append(escape(flat[done : start + len(line)]))
        drawn.append("".join(parts))
        start += len(line)
    return drawn


def draw_reply(drawing: Drawing, reply: dict) -> None:
    """A card: the question, the answer or the refusal, and the passages behind it."""
    top = drawing.y
    drawing.text(escape(f"? {reply['question']}"), step=LINE + 6)
    answer = reply["answer"] or "The text does not say."
    drawing.text(escape(answer), "big", step=LINE + 8)
    if reply["answer"]:
        drawing.text(
            escape(f"probability {reply['confidence_shown']:.2f}, calibrated on validation answers"), "small"
        )
    passages = reply["quotes"] or reply["nearest"]
    heading = "cited:" if reply["quotes"] else "nearest passages:"
    drawing.text(heading, "small", step=LINE + 6)
    for passage in passages:
        drawing.y += 8
        bar_top = drawing.y + 2
        drawing.text(escape(f"{passage['document']}:{passage['line']}"), "small", indent=14, step=16)
        for line in marked_lines(passage["text"], passage["marked"]):
            drawing.text(line, indent=14)
        drawing.bar(bar_top, "cited" if reply["quotes"] else "unused")
    looked_at = f"looked at {reply['passages_shown']} of {reply['passages']} passages"
    drawing.text(looked_at, "small", step=LINE + 10)
    height = drawing.y - top + 16
    card = (
        f'<rect x="{MARGIN}" y="{top}" width="{WIDTH - 2 * MARGIN}" height="{height}" rx="10" class="card"/>'
    )
    drawing.shapes.insert(0, card)
    drawing.y = top + height + GAP


def draw(replies: list[dict]) -> str:
    """The SVG."""
    drawing = Drawing()
    for reply in replies:
        draw_reply(drawing, reply)
    height = drawing.y - GAP + MARGIN
    title = "Questions to a document: the answer with the quote that it rests on, and a refusal"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            *drawing.shapes,
            "</svg>\n",
        ]
    )


def main() -> None:
    replies = [json.loads(line) for line in sys.stdin]
    PICTURE.write_text(draw(replies), encoding="utf-8")
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
