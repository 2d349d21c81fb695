"""What a browser does with pages that contain text of others: nothing of it may run, or ask another host.

Opens the report of an evaluation and replies of ask.py in Chromium, where there is one. Each hostile text
would mark the page's first element, which shows in the page as the browser leaves it.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import evaluate_sft_fast_robust as evaluation
from asking.documents import read_document
from asking.passages import passages_of
from asking.quotes import quote_passage
from asking.reply import Reply
from asking.web_html import model_html, reply_html
from tests.canned import canned_rows
from tests.test_ask_web import hosts_asked
from utils.completions import render_completion
from utils.jsonl import write_jsonl
from utils.schema import read_samples

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium")

MARK = "document.documentElement.setAttribute('data-owned',1)"
SCRIPTS = [
    f"<script>{MARK}</script>",
    f"</script><script>{MARK}</script>",
    f"</style></title></textarea></template></noscript><script>{MARK}</script>",
    f"<img src=x onerror={MARK}>",
    f"\"><img src=x onerror='{MARK}'>",
    f"' autofocus onfocus='{MARK}' tabindex=1 x='",
    f'" onmouseover="{MARK}" autofocus onfocus="{MARK}" tabindex="1',
    f"<svg/onload={MARK}>",
    f"<svg><style><img src=x onerror={MARK}></style></svg>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={MARK}>",
    f"<iframe srcdoc='<script>parent.{MARK}</script>'></iframe>",
    f"<details open ontoggle={MARK}>",
    f"<body onload={MARK}>",
    f'<a href="javascript:{MARK}">press</a>',
    f"<meta http-equiv=refresh content='0;url=javascript:{MARK}'>",
    f"--><script>{MARK}</script><!--",
    f"<![CDATA[<script>{MARK}</script>]]>",
    f"&lt;script&gt;{MARK}&lt;/script&gt;",
    f"\\u003cscript\\u003e{MARK}\\u003c/script\\u003e",
    f"${{{MARK}}} {{{{ {MARK} }}}} `+{MARK}+`",
    "<link rel=stylesheet href=http://evil.example/x.css><img src=http://evil.example/y>",
    "<style>@import 'http://evil.example/z.css';</style>",
]


def opened(page: Path, profile: Path) -> tuple[str, set[str]]:
    """(the page as the browser leaves it, the hosts that it asked)."""
    log = profile / "net.json"
    quiet = ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    where = [f"--user-data-dir={profile}", f"--log-net-log={log}", "--virtual-time-budget=5000"]
    command = [CHROMIUM, "--headless", "--no-sandbox", *quiet, *where, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout, hosts_asked(json.loads(log.read_text())) - {None}


def is_owned(html: str) -> bool:
    return "data-owned" in html.split(">", 2)[0] + html.split(">", 2)[1]


def without_policy(page: str) -> str:
    """The page without its Content-Security-Policy, which would stop scripts that were not escaped."""
    changed, n_found = re.subn(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    assert n_found == 1
    return changed


@pytest.mark.parametrize("number", [0, 3, 7, 8, 11])
def test_the_mark_shows_where_a_text_is_not_escaped(number, tmp_path):
    text = SCRIPTS[number]
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><body>{text}</body></html>")
    assert is_owned(opened(page, tmp_path / "profile")[0])


def test_a_request_for_another_host_is_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><body>{SCRIPTS[-2]}</body></html>")
    assert opened(page, tmp_path / "profile")[1] == {"evil.example"}


@pytest.fixture(scope="module")
def report(data_home, tmp_path_factory):
    """The report of an evaluation in which every text that is not ours is hostile."""
    home = tmp_path_factory.mktemp("hostile")
    samples = read_samples(data_home / "data/processed/test.jsonl")
    samples = [sample for sample in samples if sample["answerable"]][:24]
    for i, sample in enumerate(samples):
        text = SCRIPTS[i % len(SCRIPTS)]
        sample["question"] = f"{sample['question']} {text}"
        sample["answer_aliases"] = [*sample["answer_aliases"], text]
        for chunk in sample["evidence_chunks"]:
            chunk["title"] = text
            chunk["text"] = f"{chunk['text']} {text}"
    write_jsonl(home / "test.jsonl", samples)
    rows = canned_rows(samples, "sft", 0.3, 1)
    for i, row in enumerate(rows):
        text = SCRIPTS[i % len(SCRIPTS)]
        # In an answer that can be parsed, and as a completion that cannot.
        row["completion"] = render_completion(text, [1], 0.9) if i % 2 else text
    rows += canned_rows(samples, "<svg/onload=x>", 0.3, 1)
    write_jsonl(home / "p.jsonl", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTUALITY_HOME", str(home))
        flags = "--predictions p.jsonl --test-data test.jsonl --output a.json --report a.html"
        evaluation.main(flags.split())
    return home / "a.html"


@pytest.mark.parametrize("has_policy", [True, False])
def test_the_report_runs_nothing_and_asks_nobody(report, has_policy, tmp_path):
    page = tmp_path / "page.html"
    text = report.read_text()
    page.write_text(text if has_policy else without_policy(text))
    html, hosts = opened(page, tmp_path / "profile")
    assert "<h1" in html
    # All of the texts are shown, as text.
    assert html.count("&lt;svg/onload=document") > 1
    assert not is_owned(html)
    assert hosts == set()


# The page of ask.py is Gradio's: its script puts the reply into the page that is open already.
INSERTED = """<!doctype html><html><body><div id=here></div>
<script>document.getElementById("here").innerHTML = {text}</script></body></html>"""


@pytest.mark.parametrize("is_inserted", [True, False])
def test_a_reply_runs_nothing_and_asks_nobody(is_inserted, tmp_path):
    parts = [model_html(SCRIPTS[3])]
    for text in SCRIPTS:
        [passage, *_] = passages_of(read_document("a.txt", f"It was built in 1784. {text}".encode()), 40)
        quotes = [quote_passage(passage, passage.text, text)]
        answered = {"status": "answered", "answer": text, "confidence": 0.8, "quotes": quotes}
        parts.append(reply_html(Reply(question=text, **answered)))
        parts.append(reply_html(Reply(question=text, status="withheld", reason=text, nearest=quotes)))
    html = "\n".join(parts)
    page = tmp_path / "page.html"
    # In a script, "</" would end it.
    inserted = INSERTED.format(text=json.dumps(html).replace("</", "<\\/").replace("<!--", "<\\!--"))
    page.write_text(inserted if is_inserted else f"<!doctype html><html><body>{html}</body></html>")
    html, hosts = opened(page, tmp_path / "profile")
    assert html.count("&lt;svg/onload=document") > 1
    assert not is_owned(html)
    assert hosts == set()
