"""The documentation as a web site: made offline, every link and anchor leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from lab.clients import client
from lab.patience import patience
from lab.support import ROOT, clean_environment

pytestmark = pytest.mark.clients
SITE = ROOT / "dist/site"


class Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found["id"]} if "id" in found else set()
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe") and "src" in found:
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon"):
            self.loaded.append(found.get("href", ""))


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    done = subprocess.run(
        [ROOT / "scripts/site"],
        env={**clean_environment(), "HTTPS_PROXY": "http://127.0.0.1:1"} if _is_set_up() else None,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {file: Page(file.read_text()) for file in SITE.rglob("*.html")}


def _is_set_up() -> bool:
    """Then nothing may be fetched."""
    return (ROOT / ".site").exists()


def dead(site: dict[Path, Page]) -> Iterator[str]:
    for file, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (
                Path(os.path.normpath(file.parent / unquote(parts.path))) if parts.path else file
            )
            target = target / "index.html" if target.is_dir() else target
            if target not in site:
                if not target.exists():
                    yield f"{file.name}: {link}"
            elif parts.fragment and unquote(parts.fragment) not in site[target].ids:
                yield f"{file.name}: {link} (anchor)"


def test_every_link_and_anchor_leads_somewhere(site: dict[Path, Page]) -> None:
    assert sum(len(page.links) for page in site.values()) > 500
    assert list(dead(site)) == []


def test_a_dead_link_is_found(site: dict[Path, Page]) -> None:
    planted = dict(site)
    planted[SITE / "planted.html"] = Page('<a href="gone.html"></a><a href="index.html#gone"></a>')
    assert list(dead(planted)) == [
        "planted.html: gone.html",
        "planted.html: index.html#gone (anchor)",
    ]


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, Page]) -> None:
    for file, page in site.items():
        for address in page.loaded:
            assert not urlsplit(address).netloc, (file.name, address)


def test_every_page_is_in_the_navigation(site: dict[Path, Page]) -> None:
    first = {urlsplit(link).path for link in site[SITE / "index.html"].links}
    for source in (ROOT / "plugin/docs").glob("*.md"):
        assert f"{source.stem}.html" in first, source.name
    for caption in ("Start", "Operate", "Integrate", "Understand", "Refer", "Take part"):
        assert caption in (SITE / "index.html").read_text()


PROBE = """<script>addEventListener("load", () => {
document.title = `W${document.documentElement.scrollWidth} of ${innerWidth}` })</script></body>"""
WIDE = '<div style="width: 900px">x</div>'


def widths(page: Path, tmp_path: Path, more: str = "") -> tuple[int, int]:
    """How wide a page is in a narrow window of Chromium, and how wide the window is, in pixels."""
    probe = page.with_name(f"probe-{page.name}")
    probe.write_text(page.read_text().replace("</body>", more + PROBE))
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=420,900")
    try:
        done = subprocess.run(
            [
                client("chromium"),
                *flags,
                f"--user-data-dir={tmp_path}",
                "--dump-dom",
                probe.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=patience(60),
        )
    finally:
        probe.unlink()
    found = re.search(r"<title>W(\d+) of (\d+)", done.stdout)
    assert found, done.stderr
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("name", ["index", "first-hour", "lambda", "clients"])
def test_a_narrow_window_shows_whole_lines(
    name: str, site: dict[Path, Page], tmp_path: Path
) -> None:
    """Tables and blocks scroll by themselves; the page never does sideways."""
    page, window = widths(SITE / f"{name}.html", tmp_path)
    assert page <= window


def test_a_page_that_is_too_wide_is_found(site: dict[Path, Page], tmp_path: Path) -> None:
    page, window = widths(SITE / "index.html", tmp_path, WIDE)
    assert page > window
