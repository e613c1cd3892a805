"""What setup writes into the files of others, as text: nothing of theirs is lost."""

from __future__ import annotations

import pytest

from nightporter.cli.init_config import Answers, has_profile, render
from nightporter.cli.setups.merge import BEGIN, END, set_block
from nightporter.core.errors import ConfigError

ONE, OTHER = BEGIN.format("terraform"), END.format("terraform")
BLOCK = f"{ONE}\nx\n{OTHER}\n"


@pytest.mark.parametrize(
    ("there", "rest"),
    [
        ("", ""),
        ("a\n", "a\n"),
        ("a", "a"),
        (f"a\n{BLOCK}b\n", "a\nb\n"),
        (f"a\n{ONE}\nx\n{OTHER}", "a\n"),
        (f"a\r\n{ONE} \r\nx\r\n{OTHER}\t\r\nb", "a\r\nb"),
        (f"{BLOCK}a\n{BLOCK}", "a\n"),
        (f"{ONE}\nmine\n", "mine\n"),
        (f"mine\n{OTHER}\n", "mine\n"),
        (f"{ONE}\nmine\n{BLOCK}also\n{OTHER}\n", "mine\nalso\n"),
        (f"{ONE}\nmine\n{OTHER} no\n", f"mine\n{OTHER} no\n"),
        (f" {ONE}\nmine\n", f" {ONE}\nmine\n"),
    ],
)
def test_a_block_comes_and_goes_and_leaves_what_is_the_user_s(there: str, rest: str) -> None:
    """A mark alone, whose other one was edited away, claims no line."""
    assert set_block(there, "terraform", None) == rest
    new = set_block(there, "terraform", "x")
    assert new == f"{rest}{'' if not rest or rest.endswith(chr(10)) else chr(10)}{BLOCK}"
    assert set_block(new, "terraform", "x") == new
    other = BEGIN.format("bazel") + "\ny\n" + END.format("bazel") + "\n"
    assert set_block(other + there, "terraform", None) == other + rest


@pytest.mark.parametrize(
    "there",
    [
        "profiles = 1979-05-27T07:32:00Z\n",
        "profiles = [[]]\n",
        "[profiles]\nissuer = 1979-05-27T07:32:00Z\n",
        '[profiles]\nissuer = "pitchpoint"\n',
        "stores = 5\n",
        "[stores]\ndefault = []\n",
        "[[profiles]]\n",
    ],
)
def test_init_tells_a_file_that_holds_no_tables(there: str) -> None:
    answers = Answers(
        profile="new", vendor="pitchpoint", store="vault", credentials="c", existing=there
    )
    for ask in (lambda: render(answers), lambda: has_profile(there, "new")):
        with pytest.raises(ConfigError, match="must hold tables"):
            ask()
