"""The attention page in a real browser: Chromium without a window, spoken to over a pipe (DevTools protocol)."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import select
import shutil
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vision_repro.explorer import html, write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
PATIENCE = 60.0  # seconds: machines that test are busy


class Browser:
    """One page of a headless Chromium. Messages are JSON, each ended by a zero byte, on descriptors 3 and 4."""

    def __init__(self, profile: Path) -> None:
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()
        assert CHROMIUM is not None
        options = [
            "--headless",
            "--hide-scrollbars",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--remote-debugging-pipe",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}', CHROMIUM, *options, "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        page = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Returns the browser's answer to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            assert ready, "Chromium does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def run(self, script: str) -> Any:
        """Returns the value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < end, f"{script} did not become true; failure: {self.failure()}"
            time.sleep(0.05)

    def failure(self) -> str:
        """Returns what the page says has gone wrong."""
        return str(self.run("(document.getElementById('failure') || {}).textContent"))

    def open(self, file: Path, width: int = 1280, height: int = 1000, scheme: str = "light") -> None:
        """Opens a page from the file system and waits until it has drawn itself."""
        self.events.clear()
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=file.resolve().as_uri())
        self.wait("document.body && document.body.dataset.ready")

    def key(self, name: str) -> None:
        """Presses a key."""
        codes = {
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Tab": 9,
            "Enter": 13,
            "Home": 36,
            "End": 35,
            "PageUp": 33,
            "PageDown": 34,
        }
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=codes[name])

    def screenshot(self, file: Path) -> None:
        """Writes a picture of the whole page."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[Any]:
        """Returns errors and warnings of the console, exceptions, and requests that left the file."""
        found: list[Any] = []
        for event in self.events:
            kind, params = event.get("method"), event.get("params", {})
            if kind in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                found.append(params)
            elif kind == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
                found.append(params["request"]["url"])
        return found

    def close(self) -> None:
        """Ends the browser."""
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait(PATIENCE)


class Page:
    """A page in the browser, and the numbers that are in its file."""

    def __init__(self, browser: Browser, file: Path) -> None:
        self.browser, self.file = browser, file
        found = re.search(r'id="data">(.*?)</script>', file.read_text(encoding="utf-8"), re.DOTALL)
        assert found is not None
        self.data = json.loads(found[1])

    def text(self, name: str) -> str:
        """Returns the text of an element, with plain spaces."""
        return str(self.browser.run(f"document.getElementById({name!r}).textContent")).replace("\xa0", " ")

    def at(self, image: int, layer: int, head: int, row: int, column: int) -> None:
        """Waits until the page shows a place; all are counted from 0."""
        self.browser.wait(f"document.body.dataset.ready === '{image} {layer} {head} {row} {column}'")

    def expected(self, image: int, layer: int, head: int, row: int, column: int, from_class: bool = False) -> str:
        """Returns what the page should say there, from its own numbers."""
        side, prefix, heads = self.data["grid"], self.data["prefix"], self.data["heads"][layer]
        tokens = side * side + prefix
        raw = zlib.decompress(base64.b64decode(self.data["blocks"][layer][image]))
        steps = np.frombuffer(raw, "<f4", heads * tokens).reshape(heads, tokens)
        far = np.frombuffer(raw, "<f4", heads * side * side, 4 * heads * tokens).reshape(heads, side * side)
        codes = np.frombuffer(raw, np.uint8, offset=4 * heads * (tokens + side * side)).reshape(heads, tokens, tokens)
        patch = row * side + column
        query = 0 if from_class else prefix + patch
        weights = codes[head, query] * float(steps[head, query])
        best, before = int(weights[prefix:].argmax()), float(weights[:prefix].sum())
        first = f"row {best // side + 1}, column {best % side + 1} ({_percent(weights[prefix + best])})"
        if before > weights[prefix + best]:
            first = f"the class token ({_percent(before)}), then to {first}"
        if from_class:
            return f"class token attends mostly to {first}; it has no place of its own, so no distance"
        distance = f"{far[head, patch]:.1f} px"
        return f"patch row {row + 1}, column {column + 1} attends mostly to {first}; mean distance {distance}"

    def colours(self, canvas: str) -> int:
        """Returns how many colours a canvas has, each channel cut to 4 bits."""
        found = self.browser.run(f"""(() => {{ const c = document.getElementById({canvas!r});
            const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data, seen = new Set();
            for (let i = 0; i < d.length; i += 4) seen.add((d[i] >> 4) * 256 + (d[i + 1] >> 4) * 16 + (d[i + 2] >> 4));
            return seen.size; }})()""")
        return int(found)


def _percent(value: float) -> str:
    return f"{100 * value:.{0 if value >= 0.0995 else 1}f} %"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser; skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: `apt install chromium`")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose second picture has the worst of names."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISION_REPRO_CACHE", str(folder / "cache"))
        shown = write.content(write.Options(model="vit-32x3/2", image_size=8, dataset="digits", images=3))
    shown["images"][1].update(name=HOSTILE, label=HOSTILE, predicted={"label": HOSTILE, "probability": 0.5})
    path = folder / "attention of vit #1.html"
    path.write_text(html.render(shown), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Page:
    browser.open(file)
    return Page(browser, file)


def test_it_opens_and_draws(page: Page) -> None:
    page.at(0, 2, 0, 2, 2)
    assert page.text("live") == page.expected(0, 2, 0, 2, 2)
    assert page.text("model") == "vit-32x3/2"
    assert "random weights" in page.text("about")
    assert not page.browser.run("document.getElementById('random').hidden")
    assert min(page.colours(name) for name in ("heat", "rollout", "legend")) > 16
    assert page.browser.run("document.querySelectorAll('#chart circle').length") == 6
    best = int(np.argmax(page.data["images"][0]["rollout"]))
    assert f"most on row {best // 4 + 1}, column {best % 4 + 1} (" in page.text("rollout-text")
    error = f"{page.data['error']:.1e}".replace("e-0", "e-")
    assert f"the largest error of a weight on this page is {error}" in page.text("notes")
    assert page.browser.complaints() == []


def test_the_keyboard_alone_goes_everywhere(page: Page) -> None:
    browser, seen = page.browser, []
    for _ in range(12):
        browser.key("Tab")
        seen.append(browser.run("document.activeElement.id"))
        at = "document.activeElement"
        style = f"getComputedStyle({at}.type === 'radio' ? {at}.nextElementSibling : {at})"
        assert browser.run(f"{style}.outlineStyle === 'solid' && parseFloat({style}.outlineWidth) >= 3"), seen
        if seen[-1] == "stage":
            break
    assert seen == ["", "choice-0", "layer", "head", "query", "scale", "mix", "stage"]
    moves = {
        "ArrowRight": (2, 3),
        "ArrowUp": (1, 3),
        "Home": (1, 0),
        "ArrowLeft": (1, 0),
        "ArrowDown": (2, 0),
        "End": (2, 3),
    }
    said = {page.text("live")}
    for key, place in moves.items():
        browser.key(key)
        page.at(0, 2, 0, *place)
        assert page.text("live") == page.expected(0, 2, 0, *place)
        said.add(page.text("live"))
    assert len(said) == 5
    browser.key("PageUp")
    page.at(0, 1, 0, 2, 3)
    assert page.text("live") == page.expected(0, 1, 0, 2, 3)
    best = re.search(r"mostly to .*?row (\d), column (\d)", page.text("live"))
    assert best is not None
    browser.key("Enter")
    page.at(0, 1, 0, int(best[1]) - 1, int(best[2]) - 1)
    assert page.browser.complaints() == []


def test_the_selects_choose_layer_and_head(page: Page) -> None:
    for name, key in (("layer", "ArrowUp"), ("head", "ArrowDown")):
        page.browser.run(f"document.getElementById({name!r}).focus()")
        page.browser.key(key)
    page.at(0, 1, 1, 2, 2)
    assert page.text("live") == page.expected(0, 1, 1, 2, 2)
    distance = page.data["distances"][1][1]
    assert f"head 2, marked: {distance:.1f} px" in page.text("chart-text")
    assert f"head{distance:.1f} px" in page.text("numbers")
    page.browser.run("document.getElementById('query').focus()")
    page.browser.key("ArrowDown")
    page.browser.wait("document.getElementById('live').textContent.startsWith('class token')")
    assert page.text("live") == page.expected(0, 1, 1, 2, 2, from_class=True)


def test_the_pointer_moves_the_patch(page: Page) -> None:
    box = json.loads(page.browser.run("JSON.stringify(document.getElementById('stage').getBoundingClientRect())"))
    before = page.browser.run("document.getElementById('heat').toDataURL()")
    x, y = box["left"] + 0.3 * box["width"], box["top"] + 0.1 * box["height"]
    page.browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.at(0, 2, 0, 0, 1)
    assert page.text("live") == page.expected(0, 2, 0, 0, 1)
    assert page.browser.run("document.getElementById('heat').toDataURL()") != before


def test_the_brightest_patch_is_the_most_attended(page: Page) -> None:
    page.browser.run("{ const m = document.getElementById('mix'); m.value = 0; m.dispatchEvent(new Event('input')); }")
    page.at(0, 2, 0, 2, 2)
    rows = page.browser.run("""(() => { const c = document.getElementById("rollout"), s = c.width / 4;
        const at = (i) => c.getContext("2d").getImageData((i % 4 + .5) * s, (Math.floor(i / 4) + .5) * s, 1, 1).data;
        return Array.from({length: 16}, (_, i) => { const d = at(i); return d[0] + d[1] + d[2]; }); })()""")
    rollout = np.array(page.data["images"][0]["rollout"])
    assert int(np.argmax(rows)) == int(rollout.argmax())
    assert np.corrcoef(rows, rollout)[0, 1] > 0.9


def test_hostile_names_are_shown_and_not_run(page: Page) -> None:
    page.browser.run("document.getElementById('choice-1').click()")
    page.at(1, 2, 0, 2, 2)
    assert page.text("caption") == f"{HOSTILE}: {HOSTILE}; the model says {HOSTILE} (50 %)"
    assert HOSTILE in page.text("stage-name")
    assert page.text("live") == page.expected(1, 2, 0, 2, 2)
    assert not [event for event in page.browser.events if event["method"] == "Page.javascriptDialogOpening"]
    assert page.browser.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800, 400])
def test_it_fits_any_window(browser: Browser, file: Path, tmp_path: Path, width: int, scheme: str) -> None:
    browser.open(file, width, 900, scheme)
    assert browser.run("document.documentElement.scrollWidth") <= width
    shot = tmp_path / f"{width}-{scheme}.png"
    browser.screenshot(shot)
    picture = np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("L"), dtype=float)
    assert picture.shape[1] == width
    assert picture.std() > 10
    assert (picture[:5].mean() > 128) == (scheme == "light")
    assert browser.complaints() == []


def test_an_old_browser_is_told(browser: Browser, file: Path) -> None:
    script = browser.send("Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream")
    try:
        browser.send("Page.navigate", url=file.resolve().as_uri())
        browser.wait("document.getElementById('failure') && !document.getElementById('failure').hidden")
        assert "too old: it has no DecompressionStream" in browser.failure()
    finally:
        browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
