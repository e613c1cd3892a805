"""Help: whole sentences, examples that parse, and the man page that is made from the same tree."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import click
import pytest

from lab.support import ROOT, Home, words_left
from nightporter import __version__
from nightporter.cli import app, helpers, setups
from nightporter.cli.frame import EXAMPLES, GLOBALS, PAGES, examples_of, page_of
from nightporter.cli.manual import render

PAGE = ROOT / "plugin/man/nightporter.1"


def every_command(group: click.Group, *above: str) -> Iterator[tuple[list[str], click.Command]]:
    for name, command in group.commands.items():
        if not command.hidden:
            yield [*above, name], command
            if isinstance(command, click.Group):
                yield from every_command(command, *above, name)


COMMANDS = list(every_command(app.cli))
NAMES = [" ".join(words) for words, _ in COMMANDS]


def test_the_list_of_commands_has_whole_sentences(empty_home: Home) -> None:
    empty_home.environment["COLUMNS"] = "80"
    shown = empty_home.run("--help").out
    rows = re.findall(r"^  ([a-z-]+)  +(.+)$", shown.split("Commands:")[1], re.M)
    assert [name for name, _ in rows] == sorted(
        name for name, command in app.cli.commands.items() if not command.hidden
    )
    for name, sentence in rows:
        assert re.fullmatch(r"[A-Z].*[^.]\.", sentence), (name, sentence)


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=NAMES)
def test_each_help_says_what_a_user_needs(
    words: list[str], command: click.Command, empty_home: Home
) -> None:
    shown = empty_home.run(*words, "--help").out
    assert "<=x" not in shown  # a range is for programs
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, (words, option.name)
            assert re.search(r"[.)]$", option.help), (words, option.help)
    own, _, rest = shown.partition("Global options:")
    assert "--timeout" in rest
    assert "--timeout" not in own
    assert "Examples:" in shown
    (page,) = re.findall(r"^Page: (\S+) of the repository\.$", rest, re.M)
    assert (ROOT / page).exists()
    assert "Exit codes" in shown or "exit codes" in shown


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=NAMES)
def test_each_description_is_whole_sentences(words: list[str], command: click.Command) -> None:
    """Of its first line and of each paragraph: it begins with a capital and ends with a stop."""
    paragraphs = (command.help or "").split("\n\n")
    assert paragraphs[0]
    for paragraph in map(str.strip, paragraphs):
        if paragraph.startswith("\b"):  # as it is typed
            continue
        assert re.match(r"[A-Z\-`]|npm ", paragraph), (words, paragraph)
        assert re.search(r"[.:]$", paragraph), (words, paragraph)


def test_a_page_of_a_command_speaks_of_it() -> None:
    """The page that the help names has the command's name."""
    assert set(PAGES) == {words[0] for words, _ in COMMANDS}
    for name in PAGES:
        assert re.search(rf"\b{name}\b", (ROOT / page_of(name)).read_text()), name


def example_commands() -> list[list[str]]:
    """Each command of ours in the examples, without what a shell would do before and after it."""
    found = []
    for text in EXAMPLES.values():
        for line in text.replace("\\\n", " ").strip().splitlines():
            typed = re.split(r" {3,}| &", line[line.index("nightporter ") :])[0]
            found.append(shlex.split(re.split(r" [<>]|\) ", typed)[0])[1:])
    return found


@pytest.mark.parametrize("words", example_commands(), ids=" ".join)
def test_every_example_parses(words: list[str]) -> None:
    command: click.Command = app.cli
    with contextlib.suppress(click.exceptions.Exit):
        while isinstance(command, click.Group):
            context = command.make_context(command.name, words)
            _, found, words = command.resolve_command(context, words_left(context))
            assert found is not None
            command = found
        command.make_context(command.name, words)


def test_every_command_has_an_example() -> None:
    assert {words[0] for words, _ in COMMANDS} == set(EXAMPLES)


def test_the_ways_to_ask_for_help(empty_home: Home) -> None:
    whole = empty_home.run("--help")
    assert empty_home.run() == whole
    assert empty_home.run("-h") == whole
    assert empty_home.run("help") == whole
    assert empty_home.run("help", "credentials", "set").out == (
        empty_home.run("credentials", "set", "--help").out
    )
    version = empty_home.run("--version")
    assert version.out == f"nightporter, version {__version__}\n"
    assert empty_home.run("-V") == empty_home.run("version") == version


def test_a_near_miss_is_answered_with_a_suggestion(empty_home: Home) -> None:
    said = empty_home.run("setup", "kubctl", "p")
    assert said.code == 2
    assert "did you mean 'kubectl'?" in said.err
    assert said.err.count("terraform") == 1
    assert "did you mean 'pitchpoint'?" in empty_home.run("init", "--issuer", "pitchpont").err


def test_the_words_that_can_be_given_are_listed(empty_home: Home) -> None:
    for command, words in (("setup", setups.CLIENTS), ("credential", helpers.PROTOCOLS)):
        shown = empty_home.run(command, "--help").out.replace("\n", " ")
        assert [word for word in words if not re.search(rf"\b{word}\b", shown)] == []


def test_the_man_page_is_of_this_tree() -> None:
    """`scripts/man_page.py` writes it."""
    assert PAGE.read_text() == render(app.cli, __version__)


def test_the_man_page_has_everything() -> None:
    page = PAGE.read_text().replace("\\-", "-").replace("\\e", "\\")
    for words, command in COMMANDS:
        assert f".SS nightporter {' '.join(words)}" in page
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in GLOBALS:
                assert max(option.opts, key=len) in page, (words, option.opts)
        for line in examples_of(words[0]):
            assert line in page
    for title in ("ENVIRONMENT", "EXIT CODES", "EXAMPLES", "FILES"):
        assert f".SH {title}" in page


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_man_page_is_good_roff() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-Wbreak", "-z", str(PAGE)],
        capture_output=True,
        text=True,
    )
    complaints = done.stderr.splitlines()
    assert (done.returncode, complaints) == (0, [])
