"""What the documents show is true: their configurations parse, their commands and options exist."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lab.pages import PAGES
from lab.support import ROOT, words_left
from lab.terminals.terminal import transcripts
from nightporter.cli import app
from nightporter.core import config, errors, limits
from nightporter.core.config import parse_config
from nightporter.core.expiry import parse_rfc3339
from nightporter.core.model import Claim, Identity, Refusal, Secret, SessionRecord, Token
from nightporter.issuers import VENDORS
from nightporter.operations.explain_vendors import to_table
from nightporter.operations.status import Status, to_json
from nightporter.stores import STORES

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "plugin/docs").glob("*.md"))]
TEXT = "\n".join(file.read_text() for file in DOCUMENTS)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_configuration_parses(file: Path) -> None:
    text = file.read_text()
    blocks = re.findall(r"<!-- checked: configuration -->\n```toml\n(.*?)```", text, re.S)
    assert len(blocks) == text.count("```toml")
    for block in blocks:
        assert parse_config(block, source=file.name, vendors=VENDORS, stores=STORES).profiles


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_screen_is_one_that_a_test_types(file: Path) -> None:
    assert file.read_text().count("```console") == len(transcripts(file))


def test_the_status_that_is_shown_has_the_members_of_the_real_one() -> None:
    block = re.search(
        r"<!-- checked: status -->\n```json\n(.*?)```",
        (ROOT / "plugin/docs/operations.md").read_text(),
        re.S,
    )
    assert block
    shown = json.loads(block[1])[0]
    session = shown["session"]
    claim = Claim(
        holder=session["claim"]["holder"], until=parse_rfc3339(session["claim"]["until"]), nonce="n"
    )
    refused = session["refused"]
    refusal = Refusal(
        credentials_version="7",
        until=parse_rfc3339(refused["until"]),
        count=refused["count"],
        error=refused["error"],
    )
    record = SessionRecord(
        identity=Identity(issuer="pitchpoint", token_endpoint="e", username=session["username"]),
        refresh_token=Secret("r"),
        issued_at=parse_rfc3339(session["issued_at"]),
        expires_at=parse_rfc3339(session["expires_at"]),
        generation=session["generation"],
        claim=claim,
        refused=refusal,
        by=session["by"],
    )
    expires_at_s = parse_rfc3339(shown["access_token"]["expires_at"])
    cached = Token(Secret("a"), token_type="Bearer", expires_at_s=expires_at_s, obtained_at_s=0)
    real = Status(
        profile="pitchpoint",
        issuer="pitchpoint",
        store="vault",
        path=shown["path"],
        cached=cached,
        record=record,
    )
    assert to_json(real) == shown


def test_every_command_that_is_named_exists() -> None:
    known = set(app.cli.commands)
    named = set(re.findall(r"(?:`|\$ )nightporter ([a-z][a-z-]+)", TEXT))
    assert {name for name in named if name not in known} == set()


PLACEHOLDERS = {
    "COMMAND": "token",
    "CLIENT": "git",
    "ROLE": "full",
    "SHELL": "bash",
    "PROTOCOL": "git",
    "SECONDS": "5",
    "CMD...": "true",
}


def parse(command: click.Command, words: list[str]) -> None:
    """As the command line parses it, without doing it."""
    context = command.make_context(command.name, words)
    rest = words_left(context)
    if isinstance(command, click.Group) and rest:
        _, found, words = command.resolve_command(context, rest)
        assert found is not None
        parse(found, words)


def commands_in_prose() -> list[str]:
    spans = re.findall(
        r"(?<!`)`(nightporter [^`]+)`(?!`)", re.sub(r"```.*?```", "", TEXT, flags=re.S)
    )
    return sorted({" ".join(span.split()) for span in spans})


@pytest.mark.parametrize("line", commands_in_prose())
def test_every_command_in_the_prose_parses(line: str) -> None:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line)[1:]]
    is_name_only = len(words) == 1 and words[0] in app.cli.commands
    if words and not is_name_only and "|" not in line:  # alternatives are for people
        with contextlib.suppress(click.exceptions.Exit):  # --version, --help
            parse(app.cli, words)


def test_every_script_and_file_that_is_named_exists() -> None:
    for name in re.findall(
        r"(?:\./)?(scripts/[a-z_-]+(?:\.[a-z]+)?|tests/[a-z_/]+\.py|plugin/[a-z_/.-]+)", TEXT
    ):
        assert (ROOT / name.rstrip(".")).exists(), name
    for link in re.findall(r"\]\((plugin/[^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link


def test_the_configuration_page_names_every_key_and_variable() -> None:
    page = (ROOT / "plugin/docs/configuration.md").read_text()
    methods = {
        name: method.keys
        for store in STORES.values()
        for name, method in store.auth_methods.items()
    }
    checks = [
        *(store.keys for store in STORES.values()),
        *methods.values(),
        config._PROFILE_KEYS,
        config._OPTION_KEYS,
    ]
    keys = {key for table in checks for key in table} | set(STORES) | set(methods) | set(VENDORS)
    code = "\n".join(file.read_text() for file in (ROOT / "plugin/nightporter").rglob("*.py"))
    names = set(re.findall(r"\bNIGHTPORTER_[A-Z_]*[A-Z]\b", code))
    names.discard("NIGHTPORTER_FENCE")  # a label in Secrets Manager
    assert {word for word in keys | names if not re.search(rf"\b{word}\b", page)} == set()


def test_the_page_names_every_command() -> None:
    page = (ROOT / "plugin/docs/commands.md").read_text()
    assert [
        name
        for name, command in app.cli.commands.items()
        if not command.hidden and not re.search(rf"^\|.*`{name}\b", page, re.M)
    ] == []


def test_every_decision_is_listed() -> None:
    pages = {file.name for file in (ROOT / "plugin/decisions").glob("0*.md")}
    listed = set(re.findall(r"\]\((0[^)]+)\)", (ROOT / "plugin/decisions/README.md").read_text()))
    assert pages == listed


@pytest.mark.parametrize("name", ["README.md", "plugin/docs/commands.md"])
def test_the_exit_codes_are_those_of_the_classes(name: str) -> None:
    table = {int(code) for code in re.findall(r"^\| (\d) \|", (ROOT / name).read_text(), re.M)}
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    assert table == {
        item.exit_code for item in classes if issubclass(item, errors.NightporterError)
    }


def test_every_error_has_a_reference_of_its_own_and_a_hint() -> None:
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    found = [item for item in classes if issubclass(item, errors.NightporterError)]
    assert len({item.reference for item in found}) == len(found)
    for item in found:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", item.reference)
        assert item("what happened").hint


def test_every_option_has_help() -> None:
    plain = ("output", "username", "password", "expires_in")
    for command in app.cli.commands.values():
        assert command.help
        options = [option for option in command.params if isinstance(option, click.Option)]
        assert [
            option.name for option in options if not option.help and option.name not in plain
        ] == []


def test_the_numbers_of_the_pages_are_the_code_s() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"A claim lives {limits.CLAIM_S} s ({limits.STRICT_CLAIM_S} s" in readme
    sessions = " ".join((ROOT / "plugin/docs/sessions.md").read_text().split())
    assert f"within the first {limits.SEND_WITHIN_S:.0f} s" in sessions
    assert f"{limits.EXCHANGE_S:.0f} s for a sign-in" in sessions
    assert f"{limits.LISTEN_S:.0f} s for a refresh token that may rotate" in sessions


def test_the_readme_can_be_read_in_one_go() -> None:
    """At most 1,800 words, screens and tables included; all else is in the pages."""
    assert len((ROOT / "README.md").read_text().split()) <= 1800


def test_no_page_installs_nightporter_from_an_index() -> None:
    """There is no release: whoever took the name would be run beside credentials."""
    from_index = re.compile(
        r"\b(pip|pipx|uv tool|uv pip) (install( -\S+)*|inject \S+)"
        r"\s'?nightporter(\[[\w,]+\])?+(?! @)(\W|$)"
    )
    assert [found[0] for found in from_index.finditer(TEXT)] == []


def test_every_page_is_linked() -> None:
    """From some other page."""
    linked = {
        (file.parent / link.partition("#")[0]).resolve()
        for file in DOCUMENTS
        for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text())
        if file.name != "first-hour.md"
    }
    assert [
        file.name for file in DOCUMENTS if file not in linked and file.name != "README.md"
    ] == []


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(file: Path) -> set[str]:
    """Those of a page's headings; what looks like one in a block is none."""
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.M | re.S)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("file", PAGES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_link_and_anchor_leads_somewhere(file: Path) -> None:
    """Links between pages, to directories and files, and the anchors in them."""
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        place = (file.parent / target).resolve() if target else file
        assert place.exists(), link
        assert not anchor or anchor in anchors(place), link


def test_a_dead_anchor_would_be_found() -> None:
    assert slug("The one window") in anchors(ROOT / "plugin/docs/security.md")
    assert "the-two-windows" not in anchors(ROOT / "plugin/docs/security.md")


def test_completions_are_the_command_s() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "nightporter", "completion", shell],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == (ROOT / f"plugin/completions/nightporter.{shell}").read_text()


def test_the_readmes_vendors_are_the_rows() -> None:
    """`scripts/error_page.py` writes the table."""
    table = to_table(VENDORS.values())
    assert f"<!-- generated: vendors -->\n{table}<!-- end -->" in (ROOT / "README.md").read_text()
    assert [vendor.name for vendor in VENDORS.values() if f"`{vendor.name}`" not in table] == []


VARIABLE = r"\.\.\.|\d+ s\b|: (read on|secretsmanager:).*|service control policy"


@pytest.mark.parametrize("page", ["vault", "secrets-manager", "local"])
def test_what_a_page_says_that_you_see_is_what_you_see(page: str) -> None:
    """The words of "What can go wrong" are the code's: people search for them."""
    text = (ROOT / f"plugin/docs/{page}.md").read_text().partition("## What can go wrong")[2]
    quoted = re.findall(r'"([^"]+)"', " ".join(re.findall(r"^\| (\".*?) \|", text, re.M)))
    code = "".join(file.read_text() for file in (ROOT / "plugin/nightporter").rglob("*.py"))
    code += "".join(os.strerror(number) for number in (errno.ENOKEY, errno.EKEYEXPIRED))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    assert len(quoted) > 4
    for words in quoted:
        for part in re.sub(VARIABLE, "\n", words).splitlines():
            assert part.strip() in code, words
