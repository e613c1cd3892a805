"""Paths that begin with `~`, and what their refusals say."""

from __future__ import annotations

import pytest

from nightporter.core.errors import ConfigError
from nightporter.machine.places import expand


def test_a_home_of_somebody_unknown_is_named() -> None:
    """To set HOME would not help: the refusal names whose home is not known."""
    with pytest.raises(ConfigError) as caught:
        expand("~no-such-user/config.toml", "NIGHTPORTER_CONFIG")
    assert (
        str(caught.value.message)
        == "NIGHTPORTER_CONFIG: no passwd entry says what '~no-such-user' is"
    )
    assert "HOME" not in caught.value.hint


@pytest.mark.parametrize("path", ["~", "~/config.toml"])
def test_no_home_at_all(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no HOME and no passwd entry, HOME can be set."""
    monkeypatch.setattr("os.path.expanduser", lambda given: given)
    with pytest.raises(ConfigError, match="neither HOME nor a passwd entry") as caught:
        expand(path, "--config")
    assert caught.value.hint.startswith("Set HOME")
