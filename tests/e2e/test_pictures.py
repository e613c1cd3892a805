"""The pictures, as a browser draws them: every text inside the frame, none over another."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.patience import patience
from lab.support import ROOT, Home, clean_environment

pytestmark = pytest.mark.clients
CHROMIUM = shutil.which("chromium")
MEASURE = """
const svg = document.querySelector("svg"), frame = svg.getBoundingClientRect();
const boxes = [...svg.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
const isInside = (box) => box.left >= 0 && box.top >= 0 && box.right <= frame.right && box.bottom <= frame.bottom;
const outside = boxes.filter((box) => !isInside(box));
const meets = (a, b) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
const over = boxes.filter((box, at) => boxes.slice(at + 1).some((other) => meets(box, other)));
document.title = JSON.stringify({width: frame.width, texts: boxes.length, outside: outside.length, over: over.length});
"""


@pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (./scripts/test clients does it, as root)"
)
@pytest.mark.parametrize("which", ["start", "timeline"])
def test_a_picture_can_be_read(which: str, home: Home, tmp_path: Path) -> None:
    picture = ROOT / "plugin/docs/pictures/start.svg"
    if which == "timeline":
        picture = home.path / "timeline.svg"
        home.run("token")
        assert home.run("timeline", "--svg", str(picture)).code == 0
    page = tmp_path / "page.html"
    page.write_text(f'<body style="margin: 0">{picture.read_text()}<script>{MEASURE}</script>')
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-sync",
    ]
    command = [
        CHROMIUM,
        *flags,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=900,600",
        "--dump-dom",
    ]
    done = subprocess.run(
        [*map(str, command), page.as_uri()],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=patience(120),
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    seen = json.loads(title[1])
    assert seen["texts"] >= 8
    assert seen["width"] <= 880  # what a README's column shows without shrinking it
    assert (seen["outside"], seen["over"]) == (0, 0), seen
