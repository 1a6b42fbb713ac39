"""A headless Chromium that opens a file: width, colour scheme, keys, console, requests and pictures of the page.

It is controlled over a pipe (``--remote-debugging-pipe``), so that no port is opened.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps", "--no-pings"),
    *("--hide-scrollbars", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"),
)
TIMEOUT_SECONDS = 120.0
QUIET_SECONDS = 0.3


def find_chromium() -> str:
    """Return the browser's path; the test is skipped where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not installed (apt-get install chromium): reports are not opened in a browser here")
    return found


def without_network() -> list[str]:
    """Return a prefix that starts a command where there is no network at all; empty where that is not allowed.

    A browser looks for updates, time and a route on its own, whatever page it shows; a page must not, with or without.
    """
    for prefix in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        if shutil.which("unshare") and not subprocess.run([*prefix, "true"], capture_output=True).returncode:
            return prefix
    return []


class Browser:
    """One page of a browser.

    Attributes:
        requests: addresses of everything that the page asked for, data URIs left out.
        problems: errors and warnings of the console, and exceptions.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._buffer = write, read, b""
        self._number, self._session = 0, ""
        self.requests: list[str] = []
        self.problems: list[str] = []
        pages = self._call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in pages if one["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._call(f"{domain}.enable")

    def show(self, file: Path, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        """Open a file and wait until it is loaded."""
        self.requests.clear()
        self.problems.clear()
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._loaded = False
        self._call("Page.navigate", url=file.resolve().as_uri())
        end = time.monotonic() + TIMEOUT_SECONDS
        while not self._loaded and time.monotonic() < end:
            self._receive(0.1)
        assert self._loaded, f"{file} was not loaded within {TIMEOUT_SECONDS:.0f} s"
        end = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < end:
            self._receive(0.05)

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key."""
        text = {"Enter": "\r"}.get(key)
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def save_picture(self, file: Path) -> None:
        """Write a picture of the complete page."""
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < end:
            for answer in self._receive(1.0):
                if answer.get("id") == self._number:
                    assert "error" not in answer, (method, answer)
                    found: dict[str, Any] = answer["result"]
                    return found
        raise AssertionError(f"{method}: no answer within {TIMEOUT_SECONDS:.0f} s")

    def _receive(self, seconds: float) -> list[dict[str, Any]]:
        if b"\0" not in self._buffer and select.select([self._read], [], [], seconds)[0]:
            self._buffer += os.read(self._read, 1 << 20)
        *messages, self._buffer = self._buffer.split(b"\0")
        answers = [json.loads(message) for message in messages]
        for answer in answers:
            self._note(answer.get("method", ""), answer.get("params", {}))
        return answers

    def _note(self, event: str, values: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            if not (url := values["request"]["url"]).startswith("data:"):
                self.requests.append(url)
        elif event == "Runtime.exceptionThrown":
            self.problems.append(str(values["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
            self.problems.append(str(values["args"]))
        elif event == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.problems.append(str(values["entry"]))


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it."""
    chromium = find_chromium()
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    # the browser reads from descriptor 3 and writes to 4
    script = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
    command = [
        *without_network(),
        "bash",
        "-c",
        script,
        chromium,
        *FLAGS,
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
    ]
    process = subprocess.Popen(
        [*command, "about:blank"],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield Browser(write, read)
    finally:
        process.kill()
        process.wait()
        for descriptor in (to_browser, write, read, from_browser):
            os.close(descriptor)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a process."""
    with open_browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened
