"""The scheduled job with the real command: what it does, reports, and leaves alone."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lab.patience import patience, until, within
from lab.support import Done, Home, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.core.expiry import format_rfc3339


def lines(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def many(home: Home, vendor: Vendor, count: int) -> None:
    home.configure(
        "".join(
            f'[profiles.p{number}]\nissuer = "pitchpoint"\ncredentials = "prod/pitchpoint"\n'
            f'refresh_token = "prod/p{number}/rt"\nbase_url = "{vendor.address}"\n'
            for number in range(count)
        )
    )


def test_it_signs_in_where_there_is_no_session_and_then_nothing(home: Home, vendor: Vendor) -> None:
    report = lines(home.run("rotate"))[0]
    assert (report["did"], report["error"], report["exit_code"]) == ("sign-in", None, 0)
    assert report["refresh_expires_at"] == home.record()["expires_at"]
    home.set_record(expires_at=format_rfc3339(time.time() + 200_000))  # whatever the time of day
    assert lines(home.run("rotate"))[0]["did"] == "nothing"
    assert home.run("token").code == 0
    assert vendor.count("sign-in") == 1


def test_it_signs_in_again_while_the_session_still_lives(home: Home, vendor: Vendor) -> None:
    home.run("token")
    before = home.record()
    home.set_record(expires_at=format_rfc3339(time.time() + 3600))
    assert lines(home.run("rotate", "pitchpoint"))[0]["did"] == "sign-in"
    after = home.record()
    assert after["generation"] == before["generation"] + 1
    assert after["refresh_token"] != before["refresh_token"]
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (2, 0)


def test_a_refused_sign_in_keeps_the_session_that_lives(home: Home, vendor: Vendor) -> None:
    home.run("token")
    token = home.record()["refresh_token"]
    home.set_record(expires_at=format_rfc3339(time.time() + 3600))
    vendor.world.users = {"svc-acme": "changed"}
    done = home.run("rotate")
    assert done.code == 3
    assert home.record()["refresh_token"] == token
    home.drop_cache()
    assert home.run("token").code == 0
    assert home.run("rotate").code == 3
    assert vendor.count("sign-in") == 2


def test_a_dry_run_does_nothing(home: Home, vendor: Vendor) -> None:
    report = lines(home.run("rotate", "--dry-run"))[0]
    assert (report["did"], report["dry_run"]) == ("sign-in", True)
    assert vendor.count("sign-in") == 0
    assert not home.record_file().exists()


def test_one_failure_never_stops_the_others(home: Home, vendor: Vendor) -> None:
    many(home, vendor, 6)
    with home.config_file.open("a") as file:
        file.write(
            '[profiles.bad]\nissuer = "pitchpoint"\ncredentials = "nowhere"\nbase_url ='
            f' "{vendor.address}"\n'
        )
        file.write('[profiles.worse]\nissuer = "pitchpoint"\ncredentials = "prod/pitchpoint"\n')
        file.write('refresh_token = "prod/worse"\nbase_url = "http://127.0.0.1:1"\n')
    done = home.run("rotate", "--jobs", "3", "--timeout", "8")
    found = {report["profile"]: report for report in lines(done)}
    assert done.code == 4  # the lowest class met
    assert found["bad"]["error"] == "credentials-absent"
    assert found["worse"]["error"] == "issuer-unreachable"
    assert all(found[f"p{number}"]["did"] == "sign-in" for number in range(6))


def test_text_for_people(home: Home) -> None:
    done = home.run("rotate", "-o", "text")
    assert done.out.startswith("pitchpoint: sign-in, session until ")


def test_shards(home: Home, vendor: Vendor) -> None:
    many(home, vendor, 12)
    seen = [
        report["profile"]
        for index in range(3)
        for report in lines(home.run("rotate", "--shard", f"{index}/3"))
    ]
    assert sorted(seen) == sorted(f"p{number}" for number in range(12))
    assert vendor.count("sign-in") == 12
    by_engine = lines(home.run("rotate", "--dry-run", "--shard", "3", JOB_COMPLETION_INDEX="1"))
    assert {report["profile"] for report in by_engine} < set(seen)
    assert home.run("rotate", "--shard", "3/3").code == 2


@pytest.mark.parametrize("processes", ["1", "2"])
def test_killed_half_way_it_does_only_what_is_left(
    processes: str, home: Home, vendor: Vendor
) -> None:
    many(home, vendor, 12)
    vendor.world.latency_s = 0.3
    process = home.start("rotate", "--jobs", "2", "--processes", processes)
    until(lambda: vendor.count("sign-in") >= 5)
    process.kill()
    process.communicate()
    vendor.world.latency_s = 0
    assert home.run("rotate", "--jobs", "4").code == 0
    # What was on its way when it was killed may have been lost; nothing that was saved is done
    # again.
    assert 12 <= vendor.count("sign-in") <= 14


@pytest.mark.parametrize("processes", ["1", "2"])
def test_sigterm_ends_what_has_begun_and_begins_nothing_new(
    processes: str, home: Home, vendor: Vendor
) -> None:
    many(home, vendor, 12)
    vendor.world.latency_s = 0.5
    process = home.start("rotate", "--jobs", "2", "--processes", processes)
    until(lambda: vendor.count("sign-in") >= 2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=patience(60))
    assert process.returncode == 130
    done = [json.loads(line) for line in out.splitlines()]
    assert len(done) == vendor.count("sign-in") < 12
    assert {report["did"] for report in done} == {"sign-in"}


# Published access tokens, and who reads them.


@pytest.fixture
def publishing(home: Home, vendor: Vendor) -> Home:
    home.configure(
        pitchpoint_config(vendor.address, more='publish_access_token = "prod/pitchpoint/access"')
    )
    return home


def reader(home: Home, vendor: Vendor) -> str:
    more = 'publish_access_token = "prod/pitchpoint/access"\nrole = "read-only"'
    return pitchpoint_config(vendor.address, more=more)


def test_access_is_minted_and_published_for_readers(publishing: Home, vendor: Vendor) -> None:
    assert lines(publishing.run("rotate"))[0]["did"] == "sign-in"
    published = json.loads((publishing.data / "prod%2Fpitchpoint%2Faccess.json").read_text())[
        "value"
    ]
    assert vendor.world.is_live(published["access_token"])
    assert {"schema", "issuer", "token_endpoint", "token_type", "expires_at", "generation"} <= set(
        published
    )
    assert (
        lines(publishing.run("rotate", "--access"))[0]["did"] == "nothing"
    )  # over half an hour is left
    (publishing.data / "prod%2Fpitchpoint.json").unlink()
    publishing.configure(reader(publishing, vendor))
    assert publishing.run("token").out.strip() == published["access_token"]
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 0)


def test_access_that_ends_soon_is_minted_anew(publishing: Home, vendor: Vendor) -> None:
    vendor.world.expires_in = 600
    publishing.run("rotate")
    vendor.world.expires_in = 3600
    report = lines(publishing.run("rotate", "--access"))[0]
    assert report["did"] == "publish"
    published = json.loads((publishing.data / "prod%2Fpitchpoint%2Faccess.json").read_text())[
        "value"
    ]
    assert published["expires_at"] == report["access_expires_at"]


def test_a_reader_without_a_live_token_says_when_and_by_whom(
    publishing: Home, vendor: Vendor
) -> None:
    publishing.run("rotate")
    publishing.configure(reader(publishing, vendor))
    began = time.monotonic()
    with within(15):
        done = publishing.run("token", "--min-ttl", "7200")
    assert (done.code, done.out) == (5, "")
    assert time.monotonic() - began > 4
    assert "was published at 20" in done.err
    assert " by " in done.err
    assert "rotate --access" in done.err
    assert publishing.run("rotate", "pitchpoint").code == 2


# Sweeping.


def test_what_has_expired_is_swept(home: Home, vendor: Vendor) -> None:
    """By a machine that can't sign in: nothing else takes the bytes away there."""
    home.run("token")
    token = home.record()["refresh_token"]
    home.set_record(expires_at="2026-01-01T00:00:00Z")
    home.configure(pitchpoint_config(vendor.address, more='role = "refresh-only"'))
    done = home.run("rotate")
    assert (lines(done)[0]["did"], lines(done)[0]["swept"]) == ("nothing", True)
    assert token not in home.record_file().read_text()
    assert vendor.count("sign-in") == 1


def test_a_publication_that_fails_is_a_failure_of_the_job(publishing: Home, vendor: Vendor) -> None:
    publishing.run("rotate")
    file = publishing.data / "prod%2Fpitchpoint%2Faccess.json"
    file.unlink()
    file.mkdir()
    done = publishing.run("rotate", "--access", "--timeout", "5")
    assert done.code == 5
    assert lines(done)[0]["error"] == "store"


def test_a_profile_named_twice_is_done_once(home: Home, vendor: Vendor) -> None:
    assert len(lines(home.run("rotate", "pitchpoint", "pitchpoint"))) == 1
    assert vendor.count("sign-in") == 1


def test_readers_are_left_out_unless_they_are_named(publishing: Home, vendor: Vendor) -> None:
    publishing.configure(
        publishing.config_file.read_text()
        + reader(publishing, vendor).replace("[profiles.pitchpoint]", "[profiles.reader]")
    )
    assert [report["profile"] for report in lines(publishing.run("rotate"))] == ["pitchpoint"]
    assert publishing.run("rotate", "reader").code == 2
    assert publishing.run("status", "reader").code == 0


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_processes_share_the_work_and_one_reports(home: Home, vendor: Vendor) -> None:
    many(home, vendor, 20)
    with home.config_file.open("a") as file:
        file.write('[profiles.bad]\nissuer = "pitchpoint"\ncredentials = "nowhere"\n')
        file.write(f'base_url = "{vendor.address}"\n')
    vendor.world.latency_s = 0.2
    process = home.start("rotate", "--jobs", "7", "--processes", "3")
    until(lambda: vendor.count("sign-in") >= 4)
    workers = children_of(process.pid)
    out, err = process.communicate(timeout=patience(60))
    assert len(workers) == 3
    found = {report["profile"]: report for report in map(json.loads, out.splitlines())}
    assert len(out.splitlines()) == len(found) == 21
    assert (process.returncode, found["bad"]["error"]) == (4, "credentials-absent"), err
    assert [report["did"] for name, report in found.items() if name != "bad"] == ["sign-in"] * 20
    assert vendor.count("sign-in") == 20


def test_a_process_that_dies_fails_its_own_profiles_alone(home: Home, vendor: Vendor) -> None:
    many(home, vendor, 12)
    vendor.world.latency_s = 0.3
    process = home.start("rotate", "--jobs", "2", "--processes", "2")
    until(lambda: vendor.count("sign-in") >= 4)
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    out, _ = process.communicate(timeout=patience(60))
    found = {report["profile"]: report for report in map(json.loads, out.splitlines())}
    lost = {name for name, report in found.items() if report["did"] == "failed"}
    assert len(found) == 12
    assert 0 < len(lost) < 6
    assert process.returncode == 1
    assert lost <= {f"p{number}" for number in range(0, 12, 2)}


def test_no_process_outlives_the_one_that_reports(home: Home, vendor: Vendor) -> None:
    many(home, vendor, 12)
    vendor.world.latency_s = 0.3
    process = home.start("rotate", "--jobs", "2", "--processes", "2")
    until(lambda: vendor.count("sign-in") >= 4)
    workers = children_of(process.pid)
    process.kill()
    process.communicate()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert vendor.count("sign-in") < 12
