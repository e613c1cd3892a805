"""The Python interface: tokens, threads, forks, and nothing secret in a repr."""

from __future__ import annotations

import datetime
import os
import threading
from pathlib import Path

import pytest

import nightporter
from lab.patience import patience
from lab.worlds.vendor import Vendor
from nightporter.core.errors import NightporterError


def test_a_token(porter: nightporter.Porter, vendor: Vendor) -> None:
    token = porter.get_token("pitchpoint")
    assert vendor.world.is_live(token.value)
    assert token.token_type == "Bearer"
    assert token.expires_at.tzinfo is datetime.UTC
    assert token.value not in repr(token) + str(token) + f"{token}"
    assert porter.get_token() is token


def test_the_default_porter_reads_the_usual_places(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nightporter, "_porter", None)
    monkeypatch.setenv("NIGHTPORTER_CONFIG_TOML", "nonsense")
    monkeypatch.delenv("NIGHTPORTER_CONFIG", raising=False)
    with pytest.raises(nightporter.ConfigError):
        nightporter.get_token("pitchpoint")


def test_eight_threads_cause_one_sign_in(porter: nightporter.Porter, vendor: Vendor) -> None:
    vendor.world.latency_s = 0.1
    values: list[str] = []
    threads = [
        threading.Thread(target=lambda: values.append(porter.get_token().value)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(values) == 8
    assert len(set(values)) == 1
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 0)


def test_eight_threads_share_even_a_token_that_is_nearly_dead(
    porter: nightporter.Porter, vendor: Vendor
) -> None:
    vendor.world.latency_s, vendor.world.expires_in = 0.1, 30
    values: list[str] = []
    threads = [
        threading.Thread(target=lambda: values.append(porter.get_token().value)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(values)) == 1


def test_a_refused_token_is_not_served_again(porter: nightporter.Porter, vendor: Vendor) -> None:
    first = porter.get_token()
    porter.refuse("pitchpoint", first.value)
    assert porter.get_token().value != first.value


def test_a_fork_in_the_middle_of_an_exchange(porter: nightporter.Porter, vendor: Vendor) -> None:
    """The child must not wait for a lock that only a thread of the parent could free."""
    porter.get_token()
    vendor.world.latency_s = 1.0
    busy = threading.Thread(target=lambda: porter.get_token(force_refresh=True))
    busy.start()
    import time

    time.sleep(0.3)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            porter.broker_for("pitchpoint").access_token(min_ttl_s=3590, timeout_s=8)
            code = 0
        finally:
            os._exit(code)
    busy.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_an_error_says_whose_turn_it_is(porter: nightporter.Porter, vendor: Vendor) -> None:
    vendor.world.users = {}
    with pytest.raises(nightporter.CredentialsRefusedError) as refused:
        porter.get_token()
    assert refused.value.exit_code == 3
    assert refused.value.until is not None
    assert isinstance(refused.value, NightporterError)


def test_early_renewal_runs_in_a_thread(porter: nightporter.Porter, vendor: Vendor) -> None:
    vendor.world.expires_in = 70
    first = porter.get_token()  # over min_ttl, and in its last fifth with 60 s to go
    broker = porter.broker_for("pitchpoint")
    first.life_s += 1600
    vendor.world.expires_in = 3600
    assert broker.access_token(min_ttl_s=1) is first
    assert broker._renewer is not None
    broker._renewer.join(timeout=patience(20))
    assert broker.access_token(min_ttl_s=1).value != first.value
