"""What goes wrong: message, exit code, and what must not change."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from lab.patience import within
from lab.support import Home, free_port, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.core.expiry import format_rfc3339
from nightporter.machine.process import boot_time


def fails(
    home: Home, code: int, *words: str, args: tuple[str, ...] = ("exec-credential", "pitchpoint")
) -> str:
    done = home.run(*args)
    assert (done.code, done.out) == (code, ""), done.err
    for word in (*words, "what to do:", "reference:"):
        assert word in done.err
    assert "Traceback" not in done.err
    return done.err


def forget_failure(home: Home) -> None:
    for file in home.cache.glob("*.failure"):
        file.unlink()


def test_a_wrong_password_is_tried_once_and_remembered(home: Home, vendor: Vendor) -> None:
    vendor.world.users = {"svc-acme": "changed"}
    fails(home, 3, "refused the sign-in", "not tried again before")
    forget_failure(home)
    fails(home, 3, "not tried again before")
    fails(home, 3, args=("token", "--force-refresh"))
    assert vendor.count("sign-in") == 1
    refused = home.record()["refused"]
    assert (refused["count"], refused["error"]) == (1, "access_denied")
    assert home.record()["refresh_token"] is None


def test_a_corrected_password_is_tried_at_once(home: Home, vendor: Vendor) -> None:
    vendor.world.users = {"svc-acme": "changed"}
    fails(home, 3)
    home.set_credentials(password="changed")
    assert home.run("token").code == 0
    assert home.record()["refused"] is None


def test_a_password_corrected_in_the_store_itself_is_tried_at_once(
    home: Home, vendor: Vendor
) -> None:
    vendor.world.users = {"svc-acme": "changed"}
    fails(home, 3)
    forget_failure(home)
    file = home.data / "prod%2Fpitchpoint.json"
    document = json.loads(file.read_text())
    file.write_text(
        json.dumps(
            {
                "version": document["version"] + 1,
                "value": {**document["value"], "password": "changed"},
            }
        )
    )
    assert home.run("token").code == 0


def test_the_back_off_doubles(home: Home, vendor: Vendor) -> None:
    vendor.world.users = {"svc-acme": "changed"}
    fails(home, 3)
    for count, seconds in ((2, 600), (3, 1200)):
        home.set_record(refused={**home.record()["refused"], "until": "2026-01-01T00:00:00Z"})
        forget_failure(home)
        fails(home, 3)
        refused = home.record()["refused"]
        assert refused["count"] == count
        expected = time.time() + seconds
        assert format_rfc3339(expected - 20) < refused["until"] <= format_rfc3339(expected + 1)
    assert vendor.count("sign-in") == 3


def test_retry_refused_is_for_terminals(home: Home) -> None:
    fails(home, 2, "terminal", args=("token", "--retry-refused"))


def test_too_many_attempts_never_lead_to_another(home: Home, vendor: Vendor) -> None:
    vendor.fail(
        {
            "kind": "status",
            "status": 400,
            "body": {"error": {"message": "TOO_MANY_ATTEMPTS_TRY_LATER"}},
        }
    )
    fails(home, 3, "takes no more attempts")
    forget_failure(home)
    fails(home, 3, "TOO_MANY_ATTEMPTS_TRY_LATER")
    assert vendor.count("sign-in") == 1


def test_an_absent_credentials_secret(empty_home: Home, vendor: Vendor) -> None:
    empty_home.configure(pitchpoint_config(vendor.address))
    fails(empty_home, 4, "no secret at 'prod/pitchpoint'", "credentials set")
    assert not empty_home.record_file().exists()


def test_a_credentials_secret_without_a_password(empty_home: Home, vendor: Vendor) -> None:
    empty_home.configure(pitchpoint_config(vendor.address))
    empty_home.set_credentials(username="svc-acme")
    fails(empty_home, 4, "lacks the member 'password'")


def test_an_unreachable_issuer(home: Home) -> None:
    home.configure(pitchpoint_config(f"http://127.0.0.1:{free_port()}"))
    fails(home, 6, "can't be reached")
    assert home.record()["claim"] is None


def test_a_failure_is_remembered_for_a_moment(home: Home, vendor: Vendor) -> None:
    """kubectl runs a failing plugin four times."""
    vendor.fail({"kind": "html", "times": 9})
    fails(home, 6)
    seen = vendor.count("sign-in")
    fails(home, 6, "not a JSON object")
    assert vendor.count("sign-in") == seen
    forget_failure(home)
    fails(home, 6)
    assert vendor.count("sign-in") == seen + 1


# Not from a token endpoint, or with a token: nobody knows what became of the sign-in.
REPLIES: list[tuple[dict[str, Any], str]] = [
    ({"kind": "html"}, "not a JSON object"),
    ({"kind": "huge"}, "more than 1048576 bytes"),
    ({"kind": "redirect"}, "redirect"),
    (
        {"kind": "status", "status": 200, "body": {"access_token": "a", "expires_in": -3}},
        "senseless expires_in",
    ),
    ({"kind": "status", "status": 200, "body": [1]}, "not a JSON object"),
]
# A token endpoint's no, in whatever words.
NOES: list[tuple[dict[str, Any], str]] = [
    ({"kind": "html", "status": 403}, "can't be used"),
    ({"kind": "status", "status": 404, "body": {}}, "can't be used (404)"),
    ({"kind": "status", "status": 422, "body": {"message": "bad"}}, "can't be used (422)"),
    ({"kind": "status", "status": 401, "body": {"message": "Bad credentials"}}, "(401)"),
    ({"kind": "status", "status": 200, "body": {"success": False}}, "no usable access_token"),
    ({"kind": "status", "status": 200, "body": {"access_token": "a\nb"}}, "no usable access_token"),
    ({"kind": "status", "status": 400, "body": {"error": "invalid_request"}}, "wrong"),
]


@pytest.mark.parametrize(("fault", "word"), REPLIES, ids=[word for _, word in REPLIES])
def test_an_answer_that_can_not_be_used(
    home: Home, vendor: Vendor, fault: dict[str, Any], word: str
) -> None:
    vendor.fail(fault)
    fails(home, 6, word)
    assert vendor.count("sign-in") == 1
    assert home.record()["refresh_token"] is None
    assert home.record()["claim"] is None
    forget_failure(home)
    assert home.run("token").code == 0


@pytest.mark.parametrize(("fault", "word"), NOES)
def test_any_answer_without_a_token_is_a_refusal(
    home: Home, vendor: Vendor, fault: dict[str, Any], word: str
) -> None:
    """A fleet with a wrong password makes a handful of attempts, whatever the vendor's words."""
    vendor.fail({**fault, "times": 99})
    fails(home, 3, word, "not tried again before")
    for _ in range(3):
        forget_failure(home)
        fails(home, 3, "not tried again before")
    assert vendor.count("sign-in") == 1
    assert home.record()["refused"]["count"] == 1


@pytest.mark.parametrize(("fault", "word"), [*REPLIES, *NOES])
def test_a_session_outlives_a_useless_answer(
    home: Home, vendor: Vendor, fault: dict[str, Any], word: str
) -> None:
    home.run("token")
    before = home.record()
    home.drop_cache()
    vendor.fail(fault)
    fails(home, 6, word)
    assert home.record() == before


@pytest.mark.parametrize("kind", ["truncated", "close", "lost"])
def test_a_lost_answer_to_a_sign_in_is_made_up_for_under_a_new_claim(
    home: Home, vendor: Vendor, kind: str
) -> None:
    vendor.fail({"kind": kind})
    assert home.run("token").code == 0
    assert vendor.count("sign-in") == 2


@pytest.mark.parametrize("kind", ["truncated", "close", "lost"])
def test_answers_that_stay_lost_end_in_an_error(home: Home, vendor: Vendor, kind: str) -> None:
    vendor.fail({"kind": kind, "times": 9})
    fails(home, 6)
    assert vendor.count("sign-in") == 2


def test_a_busy_issuer_is_asked_again_when_it_says(home: Home, vendor: Vendor) -> None:
    vendor.fail({"kind": "status", "status": 429, "headers": {"Retry-After": "1"}, "body": {}})
    began = time.monotonic()
    assert home.run("token").code == 0
    assert time.monotonic() - began > 1
    assert vendor.count("sign-in") == 2


def test_a_wait_beyond_the_time_is_not_begun(home: Home, vendor: Vendor) -> None:
    vendor.fail({"kind": "status", "status": 503, "headers": {"Retry-After": "3600"}, "body": {}})
    with within(10):
        fails(home, 6, "busy")
    assert "asked again not before then" in home.run("status").out
    assert "asked not to be called again (sign-in)" in home.run("doctor").out


def test_an_answer_that_drips_is_cut_at_the_time(home: Home, vendor: Vendor) -> None:
    home.run("token")
    home.drop_cache()
    vendor.fail({"kind": "drip", "times": 5})
    with within(8):
        fails(home, 6, "no whole answer", args=("--timeout", "3", "token"))


def test_a_dead_refresh_token_leads_to_one_sign_in(home: Home, vendor: Vendor) -> None:
    home.run("token")
    vendor.world.revoke_all()
    home.drop_cache()
    assert home.run("token").code == 0
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (2, 1)
    assert home.record()["generation"] == 2


def test_a_refresh_token_past_its_time_is_not_sent(home: Home, vendor: Vendor) -> None:
    home.run("token")
    home.set_record(expires_at="2026-01-01T00:00:00Z")
    home.drop_cache()
    assert home.run("token").code == 0
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (2, 0)
    assert home.record()["generation"] > 1


FOREIGN: list[dict[str, Any]] = [
    {"username": "somebody-else"},
    {"issuer": "vault-ist"},
    {"token_endpoint": "https://elsewhere.example"},
    {"useralias": "another"},
    {"schema": "1"},
    {"generation": "many"},
    {"expires_at": "tomorrow"},
]


@pytest.mark.parametrize("change", FOREIGN, ids=[next(iter(change)) for change in FOREIGN])
def test_a_record_that_is_not_ours_is_never_used(
    home: Home, vendor: Vendor, change: dict[str, Any]
) -> None:
    home.set_credentials(useralias="mine")
    home.run("token")
    home.set_record(**change)
    home.drop_cache()
    done = home.run("token")
    assert done.code == 0
    assert "foreign-record" in done.err
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (2, 0)
    assert home.record()["username"] == "svc-acme"


def test_a_named_user_needs_no_look_at_the_credentials(empty_home: Home, vendor: Vendor) -> None:
    empty_home.configure(pitchpoint_config(vendor.address, more='username = "svc-acme"'))
    empty_home.set_credentials(username="svc-acme", password="correct-horse")
    empty_home.run("token")
    empty_home.drop_cache()
    (empty_home.data / "prod%2Fpitchpoint.json").unlink()
    assert empty_home.run("token").code == 0
    empty_home.drop_cache()
    empty_home.set_record(username="somebody-else")
    fails(empty_home, 4)
    assert vendor.count("refresh") == 1


def test_a_corrupt_record_file_is_replaced_by_a_sign_in(home: Home, vendor: Vendor) -> None:
    home.run("token")
    home.record_file().write_text('{"version": 3, "val')
    home.drop_cache()
    assert home.run("token").code == 0
    assert vendor.count("sign-in") == 2
    assert home.record()["refresh_token"]


# The cache.


def test_a_corrupt_cache_file_is_a_miss(home: Home, vendor: Vendor) -> None:
    for content in (
        b"",
        b"{",
        b"[]",
        b'{"schema": 1}',
        b"\xff\x00",
        b'{"schema": 1, "access_token": 7}',
    ):
        home.run("token")
        for file in home.cached():
            file.write_bytes(content)
        assert home.run("token").code == 0
    assert vendor.count("sign-in") == 1


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_a_cache_file_of_a_wider_mode_is_not_trusted_and_replaced(
    home: Home, vendor: Vendor, mode: int
) -> None:
    first = home.run("token").out
    file = home.cached()[0]
    file.chmod(mode)
    assert home.run("token").out != first
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_cache_file_behind_a_link_is_not_trusted_and_replaced(home: Home, tmp_path: Path) -> None:
    first = home.run("token").out
    file = home.cached()[0]
    elsewhere = file.rename(tmp_path / "elsewhere")
    file.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert home.run("token").out != first
    assert not file.is_symlink()
    assert elsewhere.read_bytes() == before


def test_a_hard_link_is_not_trusted(home: Home, tmp_path: Path) -> None:
    first = home.run("token").out
    os.link(home.cached()[0], tmp_path / "second-name")
    assert home.run("token").out != first


def test_a_cache_directory_that_others_may_enter_is_closed_and_emptied(home: Home) -> None:
    first = home.run("token").out
    home.cache.chmod(0o755)
    assert home.run("token").out != first
    assert home.cache.stat().st_mode & 0o777 == 0o700


def test_a_cache_directory_that_is_a_link_is_replaced(home: Home, tmp_path: Path) -> None:
    first = home.run("token").out
    moved = home.cache.rename(tmp_path / "moved")
    home.cache.symlink_to(moved)
    assert home.run("token").out != first
    assert not home.cache.is_symlink()


def test_the_umask_is_not_trusted(home: Home) -> None:
    before = os.umask(0)
    try:
        home.run("token")
    finally:
        os.umask(before)
    assert home.cache.stat().st_mode & 0o777 == 0o700
    files = [*home.cache.iterdir(), *home.data.iterdir()]
    assert {file.stat().st_mode & 0o777 for file in files if file.is_file()} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_cache_of_another_user_is_not_trusted(home: Home, vendor: Vendor) -> None:
    first = home.run("token").out
    for file in home.cached():
        os.chown(file, 12345, 12345)
    second = home.run("token").out
    assert second != first
    os.chown(home.cache, 12345, 12345)
    third = home.run("token").out
    assert third not in (first, second)
    assert home.cache.stat().st_uid == 12345


def test_no_writable_home_means_memory_only(home: Home, vendor: Vendor, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a directory should be")
    for _ in range(2):
        done = home.run("token", XDG_CACHE_HOME=str(blocked))
        assert (done.code, done.err) == (0, "")
    assert vendor.count("refresh") == 1


def test_the_cache_can_be_off(home: Home, vendor: Vendor) -> None:
    for _ in range(2):
        assert home.run("token", NIGHTPORTER_CACHE="off").code == 0
    assert not home.cached()
    assert vendor.count("refresh") == 1
    assert home.run("token", NIGHTPORTER_CACHE="sometimes").code == 2


def test_the_cache_is_off_in_lambda(home: Home) -> None:
    assert home.run("token", AWS_LAMBDA_FUNCTION_NAME="f").code == 0
    assert not home.cached()


def test_a_changed_configuration_never_gets_the_old_token(home: Home, vendor: Vendor) -> None:
    first = home.run("token").out
    home.configure(pitchpoint_config(vendor.address, more='helper_username = "other"'))
    assert home.run("token").out != first


def test_a_clock_set_back_over_a_reboot_makes_the_cache_a_miss(home: Home) -> None:
    first = home.run("token").out
    file = home.cached()[0]
    entry = json.loads(file.read_text())
    file.write_text(json.dumps({**entry, "obtained_at": time.time() + 600, "boot": "another"}))
    assert home.run("token").out != first


def test_no_wall_clock_makes_a_cached_token_live_longer(home: Home, vendor: Vendor) -> None:
    """Its age is the time since boot: a clock set back does not lengthen its life."""
    first = home.run("token").out
    file = home.cached()[0]
    entry = json.loads(file.read_text())
    file.write_text(json.dumps({**entry, "ends": boot_time() - 1}))
    assert home.run("token").out != first
    assert vendor.count("refresh") == 1


# Store and issuer away.


def age_cache(home: Home, left_s: int) -> None:
    file = home.cached()[0]
    entry = json.loads(file.read_text())
    now = time.time()
    ends = {"expires_at": int(now + left_s), "ends": boot_time() + left_s}
    file.write_text(json.dumps({**entry, "obtained_at": now - 3600 + left_s, **ends}))


def test_a_token_that_lives_is_served_while_the_issuer_is_away(home: Home, vendor: Vendor) -> None:
    first = home.run("token").out
    age_cache(home, 40)
    vendor.fail({"kind": "status", "status": 503, "times": 99, "body": {}})
    done = home.run("token")
    assert (done.code, done.out) == (0, first)
    assert "serving the cached token" in done.err
    home.set_record(busy=None)
    client = home.run("exec-credential", "pitchpoint")
    assert (client.code, client.err) == (0, "")
    assert first.strip() in client.out


def test_a_token_that_lives_is_served_while_the_store_is_away(home: Home) -> None:
    first = home.run("token").out
    age_cache(home, 40)
    home.record_file().unlink()
    home.record_file().mkdir()
    done = home.run("token")
    assert (done.code, done.out) == (0, first)


def test_a_token_that_is_all_but_dead_is_not(home: Home, vendor: Vendor) -> None:
    home.run("token")
    age_cache(home, 4)
    vendor.fail({"kind": "status", "status": 503, "times": 99, "body": {}})
    fails(home, 6)


def test_an_early_renewal_that_fails_is_left_for_a_minute(home: Home, vendor: Vendor) -> None:
    first = home.run("token").out
    age_cache(home, 300)
    vendor.fail(
        {"kind": "status", "status": 400, "times": 99, "body": {"error": "invalid_request"}}
    )
    for _ in range(3):
        done = home.run("token")
        assert (done.code, done.out, done.err) == (0, first, "")
    assert vendor.count("refresh") == 1


def test_an_early_renewal_that_works(home: Home, vendor: Vendor) -> None:
    first = home.run("token").out
    age_cache(home, 300)
    second = home.run("token").out
    assert second != first
    assert home.run("token").out == second
