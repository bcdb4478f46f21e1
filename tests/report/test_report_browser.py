"""The pages in a real browser: headless Chromium over its DevTools pipe, so that no further package is needed."""

import base64
import io
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vision_repro.report.site import build

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Chromium wants its pipe at these two descriptors; first out of the way, in case they are among the given ones.
ON_3_AND_4 = """
import fcntl, os, sys
own = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3]]
os.dup2(own[0], 3)
os.dup2(own[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt install chromium)"),
]


class Browser:
    """One headless Chromium with one page; `trouble` collects errors of the page, `requests` what it loaded."""

    def __init__(self, profile: Path) -> None:
        command_read, command_write = os.pipe()
        answer_read, answer_write = os.pipe()
        words = [
            str(CHROMIUM),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-extensions",
            "--hide-scrollbars",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_3_AND_4, str(command_read), str(answer_write), *words],
            pass_fds=(command_read, answer_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(answer_write)
        self.commands, self.answers = command_write, answer_read
        self.buffer = b""
        self.numbers = itertools.count(1)
        self.session: str | None = None
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        os.close(self.commands)
        os.close(self.answers)
        self.process.terminate()
        self.process.wait(20)

    def call(self, method: str, **parameters: Any) -> Any:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def receive(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            assert select.select([self.answers], [], [], 60)[0], "Chromium does not answer"
            part = os.read(self.answers, 1 << 20)
            assert part, "Chromium ended"
            self.buffer += part
        text, _, self.buffer = self.buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        event, facts = message.get("method"), message.get("params", {})
        if event == "Runtime.exceptionThrown":
            self.trouble.append(str(facts["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
            self.trouble.append(str(facts["args"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.trouble.append(str(facts["entry"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif event == "Page.loadEventFired":
            self.loaded = True
        return message

    def open(self, page: Path, *, width: int = 1280, dark: bool = False, script: bool = True, media: str = "") -> None:
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.loaded = False
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not self.loaded:
            self.receive()

    def value(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self) -> Image.Image:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return Image.open(io.BytesIO(base64.b64decode(shot["data"])))

    def key(self, name: str) -> None:
        codes = {"Tab": 9, "ArrowRight": 39, "Escape": 27}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=codes[name])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "site"
    build(ROOT / "results", out.parent / "no outputs", out)
    return out


def ink(picture: Image.Image) -> float:
    """Returns the fraction of pixels that differ from the most frequent colour."""
    colors = picture.convert("RGB").getcolors(1 << 24)
    assert colors is not None
    return 1 - max(count for count, _ in colors) / (picture.width * picture.height)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_every_page_opens_without_trouble(browser: Browser, site: Path, width: int, dark: bool) -> None:
    browser.trouble.clear()
    browser.requests.clear()
    for page in sorted(site.glob("*.html")):
        browser.open(page, width=width, dark=dark)
        assert browser.value("document.title")
        assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 100)")
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert ink(browser.picture()) > 0.02
        light = browser.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] > 128")
        assert light is not dark
    assert browser.trouble == []
    assert [address for address in browser.requests if not address.startswith(("file:", "data:"))] == []


def test_charts_and_figures_are_not_blank(browser: Browser, site: Path) -> None:
    browser.open(site / "data_scaling-cpu.html")
    boxes = browser.value(
        "[...document.querySelectorAll('.paper-card')].map(e => { const b = e.getBoundingClientRect();"
        " return [b.left + 8, b.top + scrollY + 8, b.width - 16, b.height - 16] })"
    )
    assert len(boxes) >= 4
    for x, y, width, height in boxes:
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        shot = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        picture = Image.open(io.BytesIO(base64.b64decode(shot["data"])))
        colors = picture.convert("RGB").getcolors(1 << 24)
        assert ink(picture) > 0.03
        assert colors is not None
        assert len(colors) > 30


def test_filters_show_what_they_say(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    shown = "[...document.querySelectorAll('tr.claim')].filter(r => r.getClientRects().length)"
    everything = browser.value(f"{shown}.length")

    def choose(name: str, value: str) -> None:
        browser.value(
            f"(() => {{ const e = document.querySelector('#filters [name={name}]'); e.value = {json.dumps(value)};"
            " e.dispatchEvent(new Event('input', {bubbles: true})) })()"
        )

    choose("verdict", "holds")
    holds = browser.value(f"{shown}.map(r => r.dataset.verdict)")
    assert set(holds) == {"holds"}
    assert browser.value("document.getElementById('shown').textContent") == f"{len(holds)} of {everything} claims"
    assert f"{len(holds)} holds" in browser.value("document.querySelector('.tally').textContent")
    choose("preset", "cpu")
    assert set(browser.value(f"{shown}.map(r => r.parentElement.dataset.preset)")) == {"cpu"}
    choose("words", "no such words")
    assert browser.value(f"{shown}.length") == 0
    assert browser.value("document.getElementById('nothing').hidden") is False
    browser.value("document.querySelector('#filters button').click()")
    assert browser.value(f"new Promise(done => setTimeout(() => done({shown}.length), 50))") == everything
    choose("paper", "ViT")
    papers = browser.value(f"{shown}.map(r => r.dataset.paper)")
    assert set(papers) == {"ViT"}


def test_points_say_their_values_to_pointer_and_keyboard(browser: Browser, site: Path) -> None:
    browser.open(site / "data_scaling-cpu.html")
    browser.value("document.querySelector('svg.chart').scrollIntoView({block: 'center'})")
    browser.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    x, y, label = browser.value(
        "(() => { const p = document.querySelectorAll('.point')[3]; const b = p.getBoundingClientRect();"
        " return [b.left + b.width / 2, b.top + b.height / 2, p.getAttribute('aria-label')] })()"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 1, y=y)
    assert browser.value("document.getElementById('tip').textContent") == label
    assert browser.value("document.getElementById('tip').hidden") is False
    browser.key("Escape")
    assert browser.value("document.getElementById('tip').hidden") is True
    browser.value("document.querySelector('.point').focus()")
    first = browser.value("document.getElementById('tip').textContent")
    browser.key("ArrowRight")
    second = browser.value("document.getElementById('tip').textContent")
    assert first != second
    assert second == browser.value("document.activeElement.getAttribute('aria-label')")
    browser.value("scrollBy(0, 40)")
    assert (
        browser.value(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() =>"
            " done(document.getElementById('tip').hidden))))"
        )
        is False
    )  # what the keyboard chose stays, though the page moves
    browser.key("Tab")
    assert browser.value("document.activeElement.closest('svg') !== document.querySelector('svg.chart')")


def test_the_first_stop_of_the_keyboard_skips_to_the_content(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    browser.key("Tab")
    assert browser.value("document.activeElement.className") == "skip"
    assert browser.value("document.activeElement.getBoundingClientRect().left >= 0")
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_script_the_table_and_the_values_are_there(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html", script=False)
    root = browser.call("DOM.getDocument", depth=1)["root"]["nodeId"]
    text = browser.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
    assert text.count('class="claim"') >= 28
    assert '<form id="filters" class="filters" hidden' in text
    assert ink(browser.picture()) > 0.02
    assert (
        "<title>vit-32x4/2, train_size=20: 23.0 % [21.0, 25.0], 5 seeds</title>"
        in (site / "data_scaling-cpu.html").read_text()
    )


def test_a_page_prints_with_everything_unfolded(browser: Browser, site: Path) -> None:
    browser.open(site / "data_scaling-cpu.html")
    data = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    assert data.startswith(b"%PDF-")
    assert len(data) > 50_000
    browser.open(site / "data_scaling-cpu.html", media="print")
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.value("dispatchEvent(new Event('beforeprint'))")
    assert browser.value("document.querySelectorAll('details:not([open])').length") == 0
    browser.value("dispatchEvent(new Event('afterprint'))")
    assert browser.value("document.querySelectorAll('details:not([open])').length") > 0


def test_no_script_runs_but_the_pages_own(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    browser.value(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.evil = 1';"
        " document.body.append(s); document.body.insertAdjacentHTML('beforeend', '<img src=data:, onerror=\"evil=2\">')"
        "; fetch('https://example.invalid/').catch(() => {}) })()"
    )
    assert browser.value("new Promise(done => setTimeout(() => done(typeof window.evil), 100))") == "undefined"
    browser.trouble.clear()
