"""Every event that is emitted has a name in `core.events`, and the sets of them are kept there."""

from __future__ import annotations

import re

from lab.support import ROOT
from nightporter.core.events import Event

EMITTED = re.compile(r'emit\(\s*(?:"([a-z-]+)")(?: if [^"]+ else "([a-z-]+)")?')


def test_every_event_that_is_emitted_is_one_of_the_list() -> None:
    """A name that is written as a string somewhere is a member of `Event`."""
    code = "\n".join(file.read_text() for file in (ROOT / "plugin/nightporter").rglob("*.py"))
    names = {name for found in EMITTED.findall(code) for name in found if name}
    assert {name for name in names if Event.parse(name) is None} == set()


def test_what_a_lost_or_failed_write_did_is_audited() -> None:
    """Results that were lost or written late are in the audit log; the single steps are not."""
    for name in ("write-back-failed", "spill-outlived", "claim-lost", "take-over", "saved"):
        found = Event.parse(name)
        assert found is not None
        assert found.is_audited
    assert not Event.READ.is_audited
    assert Event.parse("no-such-event") is None


def test_every_warning_is_audited_too() -> None:
    """What a person is told without -v can be found in the log later."""
    assert all(event.is_audited for event in Event if event.is_warning)
