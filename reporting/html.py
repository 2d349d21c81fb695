"""Templates to HTML: one page that needs no network, with its style, its pictures and one script inside.

Jinja2 escapes everything that a model, a source or a user wrote; marks that turn the direction of writing,
which escaping leaves, are spelled out. The content security policy of the page names the hash of its script,
so nothing that got into a text can run.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from utils.terminal import literal

_TEMPLATES = Path(__file__).parent / "templates"


def _moment(text: str) -> str:
    """2026-11-27T12:51:14Z to the minute."""
    return str(text).replace("T", " ")[:16] + " UTC"


def _shown(value: Any) -> Any:
    """A value of a template before it is escaped: an answer must not be read backwards, nor hide a part."""
    return literal(value) if type(value) is str else value


class PageWriter:
    """The templates, loaded once for a page and its cards."""

    def __init__(self) -> None:
        # Imported here: the stages that write a page import this module before they know that they will.
        import jinja2
        from markupsafe import Markup, escape

        self.environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.markup = Markup
        # Metric names may break after an underscore, so that columns stay narrow.
        may_break = Markup("_<wbr>")
        self.environment.filters["breakable"] = lambda name: escape(literal(name)).replace("_", may_break)
        self.environment.filters["moment"] = _moment
        self.card_template = self.environment.get_template("card.html")

    def card(self, shown: dict) -> str:
        """One sample of the browser; `shown` is a `reporting.cards.card`."""
        return self.card_template.render(c=shown)

    def page(self, values: dict) -> str:
        """The whole page. `values["cards"]` are texts of `card`, which are escaped already."""
        script = (_TEMPLATES / "script.js").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        own = {
            "script": self.markup(script),
            "script_hash": digest,
            "style": self.markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
            "cards": [self.markup(text) for text in values["cards"]],
        }
        return self.environment.get_template("page.html").render(values | own)
