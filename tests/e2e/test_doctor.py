"""`doctor`, `explain` and the audit log: what they find, what they mend, and that nothing is spent
or told."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

import boto3
import pytest

from lab.patience import patience
from lab.servers.strict_aws import StrictAws, open_strict_aws
from lab.support import AWS_VARIABLES, BIN, ROOT, Home, OpenBao, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.core import errors
from nightporter.core.expiry import format_rfc3339
from nightporter.core.explanations import EXPLANATIONS
from nightporter.core.references import render_exits, render_page
from nightporter.operations.explain import explanation
from nightporter.stores.secrets_manager import derived_id


@pytest.fixture
def well(home: Home) -> Home:
    home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
    return home


def examined(home: Home, *words: str, code: int = 0, **variables: str) -> dict[str, list[str]]:
    """What doctor finds: references to what is said, `ok` among them."""
    done = home.run("doctor", "-o", "json", *words, **variables)
    assert done.code == code, done.out + done.err
    found: dict[str, list[str]] = {}
    for item in json.loads(done.out):
        found.setdefault(item["reference"], []).append(f"{item['level']}: {item['what']}")
        assert (item["todo"] != "") == (item["level"] != "ok")
    return found


def test_all_is_well_and_nothing_was_spent(well: Home, vendor: Vendor) -> None:
    well.run("token")
    before, counts = well.record(), dict(vendor.world.counts)
    assert set(examined(well)) == {"ok"}
    after = {name: vendor.count(name) for name in ("sign-in", "refresh")}
    assert after == {name: counts.get(name, 0) for name in after}
    assert well.record() == before
    said = well.run("doctor").out
    assert said.startswith("ok      nightporter ")
    assert said.splitlines()[-1] == "0 error(s), 0 warning(s)"


def test_a_broken_configuration_is_named_whole(well: Home) -> None:
    well.configure('[profiles.p]\nissuer = "pitchpont"\nhosts = ["*"]\n')
    found = examined(well, code=2)
    assert len(found["configuration"]) >= 2
    assert examined(well, "nobody", code=2)


def test_modes_are_found_and_mended(well: Home) -> None:
    well.run("token")
    (token,) = well.cached()
    token.chmod(0o644)
    assert len(examined(well)["file-mode"]) == 1
    assert any("repaired" in text for text in examined(well, "--repair")["ok"])
    assert "file-mode" not in examined(well)
    assert not token.exists()  # others might have written it


def test_left_over_files_and_a_directory_that_is_a_link(well: Home) -> None:
    well.run("token")
    left = well.cache / ".123.abc.tmp"
    left.write_text("x")
    os.utime(left, (1, 1))
    assert "file-mode" in examined(well)
    examined(well, "--repair")
    assert not left.exists()
    well.cache.rename(well.path / "elsewhere")
    well.cache.symlink_to(well.path / "elsewhere")
    assert "is a link" in examined(well)["file-mode"][0]


def test_a_session_that_ends_soon_a_claim_and_a_refusal(well: Home) -> None:
    well.run("token")
    now = time.time()
    claim = {"holder": "other/1/2", "until": format_rfc3339(int(now) + 60), "nonce": "n"}
    refused = {
        "credentials_version": "1",
        "until": format_rfc3339(int(now) + 600),
        "count": 2,
        "error": "access_denied",
    }
    well.set_record(expires_at=format_rfc3339(int(now) + 3600), claim=claim, refused=refused)
    found = examined(well, code=3)
    assert {"session-old", "session-claimed", "session-refused"} <= set(found)
    well.set_record(issuer="another")
    assert "foreign-record" in examined(well)


def test_no_way_in_without_a_person(well: Home, vendor: Vendor) -> None:
    well.configure(pitchpoint_config(vendor.address, more='role = "refresh-only"'))
    assert "login-required" in examined(well, code=4)


def test_an_issuer_that_is_away_and_a_clock_that_is_wrong(well: Home, vendor: Vendor) -> None:
    vendor.world.clock_offset_s = 120
    assert "behind" in examined(well)["clock-skew"][0]
    well.configure(pitchpoint_config("http://127.0.0.1:1"))
    assert "issuer-unreachable" in examined(well, code=6)


def test_commands_that_are_missing_and_what_docker_keeps_to_itself(
    well: Home, vendor: Vendor
) -> None:
    well.configure(pitchpoint_config(vendor.address, more='hosts = ["reg.example.com"]'))
    well.run("setup", "docker", "pitchpoint")
    assert any(
        "docker asks nightporter for reg.example.com" in text for text in examined(well)["ok"]
    )
    vendor.world.users = {}
    well.run("credential", "docker", "get", stdin="reg.example.com")
    found = examined(well, code=3, PATH="/usr/bin:/bin")
    assert any(
        "docker asks docker-credential-nightporter" in text for text in found["command-missing"]
    )
    assert "docker" in found["helper-failed"][0]


def test_two_profiles_for_one_host(well: Home, vendor: Vendor) -> None:
    two = (
        '\n[profiles.two]\nissuer = "pitchpoint"\ncredentials = "prod/pitchpoint"\nrefresh_token ='
        ' "r"\n'
    )
    hosts = 'hosts = ["git.example.com"]'
    well.configure(
        f"{pitchpoint_config(vendor.address, more=hosts)}{two}{hosts}\nbase_url ="
        f' "{vendor.address}"\n'
    )
    assert "is in `hosts` of 'pitchpoint' and of 'two'" in examined(well)["host-not-allowed"][0]


def test_rights_in_a_real_vault(empty_home: Home, vendor: Vendor, openbao: OpenBao) -> None:
    mount = openbao.mount()
    openbao.put(mount, "prod/pitchpoint", {"username": "svc-acme", "password": "correct-horse"})
    store = f'[stores.vault]\ntype = "vault"\nmount = "{mount}"\n'
    empty_home.configure(pitchpoint_config(vendor.address, stores=store))
    empty_home.environment |= {
        "VAULT_ADDR": openbao.address,
        "VAULT_TOKEN": openbao.token,
        "PATH": f"{BIN}:{empty_home.environment['PATH']}",
    }
    assert set(examined(empty_home)) == {"ok"}
    full = openbao.token_with(empty_home.run("policy", "pitchpoint", "--role", "full").out)
    assert set(examined(empty_home, VAULT_TOKEN=full)) == {"ok"}
    less = openbao.token_with(f'path "{mount}/data/prod/pitchpoint" {{ capabilities = ["read"] }}')
    found = examined(empty_home, code=5, VAULT_TOKEN=less)["store-denied"]
    assert any(
        f"create, read and update on {mount}/data/prod/pitchpoint/refresh-token" in text
        for text in found
    )
    assert "store-unreachable" in examined(empty_home, code=5, VAULT_ADDR="http://127.0.0.1:1")
    assert vendor.count("sign-in") == 0


def test_a_label_that_was_moved_back_is_moved_again(
    empty_home: Home, vendor: Vendor, moto: str
) -> None:
    path = f"doctor/{time.monotonic_ns()}"
    store = f'[stores.s]\ntype = "aws-secrets-manager"\nendpoint_url = "{moto}"\n'
    text = pitchpoint_config(vendor.address, stores=store, more='store = "s"').replace(
        "prod/pitchpoint", path
    )
    empty_home.configure(text)
    empty_home.environment |= {**AWS_VARIABLES, "PATH": f"{BIN}:{empty_home.environment['PATH']}"}
    empty_home.set_credentials(username="svc-acme", password="correct-horse")
    assert empty_home.run("token").code == 0
    client = boto3.client(
        "secretsmanager",
        endpoint_url=moto,
        region_name="eu-west-1",
        aws_access_key_id="AKIAFULL",
        aws_secret_access_key="not-a-real-secret",
    )
    record = f"{path}/refresh-token"
    newest = client.get_secret_value(SecretId=record, VersionStage="AWSCURRENT")["VersionId"]
    older = derived_id(record)
    assert newest != older
    client.update_secret_version_stage(
        SecretId=record,
        VersionStage="AWSCURRENT",
        MoveToVersionId=older,
        RemoveFromVersionId=newest,
    )
    assert "moved back" in examined(empty_home, code=5)["store-rolled-back"][0]
    examined(empty_home, "--repair")
    assert (
        client.get_secret_value(SecretId=record, VersionStage="AWSCURRENT")["VersionId"] == newest
    )
    assert set(examined(empty_home)) == {"ok"}
    client.close()


def test_the_bundle_holds_no_secret(well: Home, vendor: Vendor) -> None:
    token = well.run("token").out.strip()
    file = well.path / "report.json"
    assert well.run("doctor", "--bundle", str(file), VAULT_TOKEN="planted-secret").code == 0
    text = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    for secret in (token, "correct-horse", "planted-secret", well.record()["refresh_token"]):
        assert secret not in text
    assert json.loads(text)["findings"]


# References.


def test_every_reference_is_explained_and_the_page_is_the_code_s() -> None:
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    raised = {item.reference for item in classes if issubclass(item, errors.NightporterError)}
    assert raised <= set(EXPLANATIONS)
    assert (ROOT / "plugin/docs/errors.md").read_text() == render_page()
    assert (
        f"<!-- generated: exits -->\n{render_exits()}<!-- end -->"
        in (ROOT / "plugin/docs/commands.md").read_text()
    )


def test_every_explanation_is_of_something_that_is_said() -> None:
    sources = [
        file
        for file in (ROOT / "plugin/nightporter").rglob("*.py")
        if file.name != "explanations.py"
    ]
    code = "\n".join(file.read_text() for file in sources)
    assert [name for name in EXPLANATIONS if f'"{name}"' not in code] == []


def test_explain(home: Home) -> None:
    assert home.run("explain", "claim-busy").out.startswith("claim-busy\n\nAnother machine")
    assert home.run("explain").out.split() == list(EXPLANATIONS)
    done = home.run("explain", "claim-bussy")
    assert done.code == 2
    assert "claim-busy" in done.err


def test_explain_names_the_only_profile(home: Home) -> None:
    """What can be typed is printed so, and in one line each."""
    out = home.run("explain", "store-denied").out
    assert "`nightporter policy pitchpoint --role full`" in out
    assert "PROFILE" not in out
    assert "ROLE" not in out


def test_explain_says_what_is_left_to_fill_in(home: Home) -> None:
    """With two profiles, with none, and with a file that is no configuration."""
    text = home.config_file.read_text()
    second = text[text.index("[profiles.") :].replace("pitchpoint]", "second]", 1)
    home.config_file.write_text(f"{text}\n{second}refresh_token = 'prod/second'\n")
    out = home.run("explain", "session-rejected").out
    assert "`nightporter login PROFILE`" in out
    assert "PROFILE stands for the profile (pitchpoint, second)." in out
    for broken in ("[profiles", None):
        home.config_file.unlink()
        if broken is not None:
            home.config_file.write_text(broken)
        done = home.run("explain", "store-denied")
        assert done.code == 0, done.err
        assert "PROFILE stands for the profile (`nightporter config show` lists them)." in done.out
        assert "ROLE stands for the role of the profile (full, refresh-only, read-only)" in done.out
        home.config_file.touch()


@pytest.mark.parametrize("reference", EXPLANATIONS)
def test_a_command_that_is_explained_is_not_broken_into_lines(reference: str) -> None:
    """A command over two lines can't be copied."""
    commands = re.findall("`[^`]+`", EXPLANATIONS[reference].remedy)
    assert all(command in explanation(reference, None) for command in commands)


# The audit log.


def events(home: Home) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home.path / "audit.log").read_text().splitlines()]


def test_what_happens_to_a_session_is_one_line_each(home: Home, vendor: Vendor) -> None:
    home.environment["NIGHTPORTER_LOG"] = str(home.path / "audit.log")
    home.environment["NIGHTPORTER_TIMEOUT"] = str(patience(30))
    home.run("token")
    home.run("token")  # from the cache: nothing happens to the session
    names = [event["event"] for event in events(home)]
    assert names == ["answered", "saved", "served"]
    home.drop_cache()
    vendor.world.users = {"svc-acme": "changed"}
    vendor.world.revoke(lambda _grant: True)
    home.run("token")
    assert {"refresh-rejected", "refused"} <= {event["event"] for event in events(home)}
    text = (home.path / "audit.log").read_text()
    secrets = ["correct-horse", *vendor.world.access_tokens, *vendor.world.refresh_tokens]
    assert not any(secret in text for secret in secrets)
    assert (home.path / "audit.log").stat().st_mode & 0o777 == 0o600
    assert all(event["profile"] == "pitchpoint" for event in events(home))


def test_a_stale_answer_is_noted_and_a_log_that_can_t_be_written_stops_nobody(
    home: Home, vendor: Vendor
) -> None:
    first = home.run("token").out
    (cached,) = home.cached()
    entry = json.loads(cached.read_text())
    cached.write_text(json.dumps({**entry, "ends": entry["ends"] - 3560}))  # 40 s are left
    vendor.fail(*({"kind": "status", "status": 503, "times": 50} for _ in range(1)))
    done = home.run("token", "--timeout", "2", NIGHTPORTER_LOG=str(home.path / "audit.log"))
    assert done.out == first
    assert "stale" in [event["event"] for event in events(home)]
    vendor.world.faults.clear()
    home.set_record(busy=None)  # the vendor's wish to be left alone is the fleet's
    assert home.run("token", "--force-refresh", NIGHTPORTER_LOG="/nowhere/at/all").code == 0
    assert home.run("token", "--force-refresh", NIGHTPORTER_LOG="relative").code == 2
    noted = home.run("token", "--force-refresh", NIGHTPORTER_LOG="stderr")
    assert '"event": "answered"' in noted.err


# What others must have done.


def test_a_reader_without_a_published_token_is_no_healthy_one(home: Home, vendor: Vendor) -> None:
    both = pitchpoint_config(vendor.address, more='publish_access_token = "prod/access"')
    home.configure(f'{both}role = "read-only"\n')
    assert "[nothing-published]" in home.run("doctor", "pitchpoint").out
    shown = home.run("status", "pitchpoint")
    assert shown.code == 5
    assert "no live access token is published" in shown.out
    home.configure(both)
    assert home.run("rotate", "--access").code == 0
    home.configure(f'{both}role = "read-only"\n')
    assert home.run("doctor", "pitchpoint").code == 0
    assert re.search(r"published +\[#+\.*\] in ", home.run("status", "pitchpoint").out)
    done = home.run("logout", "pitchpoint", "--everywhere")
    assert done.code == 2
    assert "read-only" in done.err


class Slow(StrictAws):
    """One that takes its time for a read, once it is asked to."""

    pause_s = 0.0

    def do_get_secret_value(self, asked: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.pause_s)
        return super().do_get_secret_value(asked)


def test_a_reader_waits_for_a_slow_store(home: Home, vendor: Vendor) -> None:
    """A look for a published token is short where there is none, not where the answer is slow."""
    aws = Slow()
    with open_strict_aws(aws) as address:
        stores = f'[stores.default]\ntype = "aws-secrets-manager"\nendpoint_url = "{address}"\n'
        more = 'publish_access_token = "prod/access"\n'
        home.configure(pitchpoint_config(vendor.address, more=more, stores=stores))
        home.environment |= AWS_VARIABLES
        members = '{"username": "svc-acme", "password": "correct-horse"}'
        assert home.run("credentials", "set", "pitchpoint", stdin=members).code == 0
        assert home.run("rotate", "--access").code == 0
        home.configure(
            pitchpoint_config(vendor.address, more=f'{more}role = "read-only"', stores=stores)
        )
        aws.pause_s = 1.2
        for words in ("status", "doctor"):
            done = home.run(words, "pitchpoint")
            assert done.code == 0, done.out + done.err
        assert "published" in home.run("status", "pitchpoint").out


def test_a_client_s_secret_that_is_not_there_is_found_before_the_log_in(
    empty_home: Home, vendor: Vendor
) -> None:
    profile = (
        f'[profiles.p]\nissuer = "perspio"\nbase_url = "{vendor.address}"\ncredentials = "c"\n'
    )
    empty_home.configure(profile)
    assert "[credentials-absent]" in empty_home.run("doctor", "p").out
    empty_home.set_credentials("p", client_id="demo-client", client_secret="demo-secret")
    seen = empty_home.run("doctor", "p").out
    assert "the client's secret is at 'c'" in seen
    assert "Run `nightporter login p`." in seen


def test_usage_errors_and_no_configuration_say_where_to_go_on(empty_home: Home) -> None:
    assert "Run `nightporter init`" in empty_home.run("token").err
    assert "reference: usage" in empty_home.run("tokn").err
    assert "nightporter init" in empty_home.run("--help").out
