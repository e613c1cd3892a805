"""The parser of the ordinary forms never says another thing than click."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.cli import app, fast

WORDS = (
    "pitchpoint|-o|json|curl|xml|--output|--min-ttl|60|0|-1|1e3|--force-refresh|--config|f.toml|--timeout|5|-v"
    "|--verbose|--||-x|--help|--retry-refused|-ojson"
)
words = st.sampled_from(WORDS.split("|"))


@given(st.sampled_from(["token", "exec-credential"]), st.lists(words, max_size=6))
def test_both_parsers_agree(command: str, rest: list[str]) -> None:
    plain = fast.parse_plain([command, *rest])
    if plain is None:
        return
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "token", lambda options, ask: seen.append((options, ask)))
        patch.setattr(fast, "exec_credential", lambda options, ask: seen.append((options, ask)))
        assert app.run([command, *rest]) == 0
    assert seen == [plain]


@pytest.mark.parametrize(
    "argv",
    [
        *([], ["status"], ["--config", "f", "token"], ["token", "--help"], ["token", "a", "b"]),
        *(["token", "--timeout", "9" * 5000], ["token", "--min-ttl", "9" * 5000]),
    ],
)
def test_all_else_is_left_to_click(argv: list[str]) -> None:
    assert fast.parse_plain(argv) is None
