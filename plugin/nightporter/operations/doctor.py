"""`nightporter doctor`: what can be found out without spending anything.

Nothing is exchanged here: stores are read, rights are asked for, the issuer gets one GET. Each
finding has a level, a reference, what is so and what to do; the exit code is the lowest class among
the errors. `--repair` does what is safe: modes, left-over files, a result that waits for its store,
a label that a person moved back.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from nightporter import __version__
from nightporter.client.broker import Broker
from nightporter.client.configuration import load_config
from nightporter.client.identity import open_helper_failures
from nightporter.client.porter import Porter
from nightporter.core.errors import (
    ConfigError,
    CredentialsRefusedError,
    LoginRequiredError,
    NightporterError,
    SessionRejectedError,
    StoreLifeError,
    with_profile,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.limits import STRICT_CLAIM_S
from nightporter.core.model import Ask, Config, Profile, Role, SessionRecord
from nightporter.core.record import idle_end
from nightporter.core.told import NOTHING
from nightporter.core.values import asdict, replace
from nightporter.machine.access_cache import is_reply
from nightporter.machine.files import lock_error
from nightporter.machine.installation import path_hint
from nightporter.machine.places import all_cache_directories, cache_directories, data_directory
from nightporter.machine.trust import is_lifted
from nightporter.operations import kubeconfig
from nightporter.operations.doctor_watching import watching_findings
from nightporter.operations.findings import (
    Finding,
    configuration_findings,
    failure,
    fault,
    ok,
    warning,
)
from nightporter.operations.policies import needed_paths
from nightporter.operations.show_config import render_effective
from nightporter.operations.status import Paint, relative, unstyled
from nightporter.session import transitions
from nightporter.session.exchange import remedy
from nightporter.session.repository import Session, new_lineage
from nightporter.session.telling import narrowed, other_user
from nightporter.session.transitions import Snapshot
from nightporter.stores import STORES
from nightporter.stores.capabilities import Expiring, Inspected, Labelled, Located

SKEW_S = 5
SHORT_S = 6 * 3600  # what is left of a session that ends soon
LONG_WARNING_S = 14 * 86_400  # ... where a person must begin another, at most
COMMANDS = (
    "nightporter",
    "git-credential-nightporter",
    "docker-credential-nightporter",
    "cargo-credential-nightporter",
)
CALL_S = 10.0


CLIENT = "the client is named in the profile, and needs no secret"


class Doctor:
    """One examination of this machine and of some profiles."""

    def __init__(
        self, config: str | None, environment: Mapping[str, str], *, is_repair: bool
    ) -> None:
        self._config = config
        self._environment = environment
        self._is_repair = is_repair

    def examine(self, names: tuple[str, ...]) -> Iterator[Finding]:
        """Every finding, in the order in which they are found."""
        yield ok(
            f"nightporter {__version__}, Python {platform.python_version()},"
            f" {platform.platform(terse=True)}"
        )
        yield from self._files()
        yield from self._commands()
        try:
            config = load_config(self._config, self._environment)
        except NightporterError as exc:
            problems = getattr(exc, "problems", ())
            yield failure(exc)
            for problem in problems:
                what, todo = str(problem), "Correct it, and look again: nightporter config check"
                yield Finding(
                    level="error",
                    reference=exc.reference,
                    what=what,
                    todo=todo,
                    exit_code=exc.exit_code,
                )
            return
        yield ok(
            f"{config.source}: {len(config.profiles)} profile(s), {len(config.stores)} store(s)"
        )
        for finding in configuration_findings(config, self._environment):
            if not names or finding.profile in (None, *names):
                yield finding
        yield from self._clusters(config, names)
        yield from self._variables(config)
        yield from watching_findings(config, self._environment)
        yield from self._mishaps(names)
        notes: list[str] = []
        with Porter(self._config, is_library=False, notify=notes.append) as porter:
            for name in names or tuple(config.profiles):
                yield from self._profile(porter, name)
                yield from (warning("store-note", note, name) for note in dict.fromkeys(notes))
                notes.clear()

    # This machine.

    def _files(self) -> Iterator[Finding]:
        with contextlib.suppress(ConfigError):  # it is said where the configuration is read
            if is_lifted(self._environment) and self._environment.get("NIGHTPORTER_TRUST"):
                yield warning("trust-lifted", "NIGHTPORTER_TRUST=all: any file is obeyed")
        for directory in all_cache_directories(self._environment):
            if os.path.lexists(directory):
                yield from self._directory(directory)
        named = self._environment.get("NIGHTPORTER_CACHE_DIR")
        if named and not cache_directories(self._environment):
            yield warning(
                "cache-unusable", "NIGHTPORTER_CACHE_DIR is a relative path, which is not used"
            )
        usable = [path for path in cache_directories(self._environment) if _can_hold(path)]
        if self._environment.get("NIGHTPORTER_CACHE", "file") == "file" and not usable:
            yield warning("cache-unusable", "no directory can hold cached tokens")
        if usable and os.path.isdir(usable[0]) and (problem := lock_error(usable[0])):
            yield warning(
                "cache-unusable",
                f"{usable[0]} takes no locks ({problem.strerror}): each process of this machine"
                " exchanges for itself",
                todo="Set NIGHTPORTER_CACHE_DIR to a directory on a local disk.",
            )
        spill = os.path.join(data_directory(), "spill")
        if os.path.isdir(spill):
            yield from self._directory(spill)

    def _directory(self, directory: str) -> Iterator[Finding]:
        if os.path.islink(directory):
            yield warning("file-mode", f"{directory} is a link, which is not trusted")
            return
        yield from self._closed(directory, 0o077)
        try:
            names = sorted(os.listdir(directory))
        except OSError as exc:
            yield warning("cache-unusable", f"{directory} can't be read ({exc.strerror})")
            return
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(".tmp") and time.time() - os.lstat(path).st_mtime > 3600:
                yield from self._left_over(path)
            elif not name.endswith((".lock", ".tmp")):
                yield from self._closed(path, 0o077, quiet=True)

    def _closed(self, path: str, forbidden: int, *, quiet: bool = False) -> Iterator[Finding]:
        try:
            status = os.lstat(path)
        except OSError:
            return
        mode = stat.S_IMODE(status.st_mode)
        if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
            yield warning(
                "file-mode",
                f"{path} belongs to another user",
                todo="Remove it, or take it over with chown.",
            )
        elif mode & forbidden and os.name != "nt":
            if not self._is_repair:
                yield warning("file-mode", f"{path} has mode {mode:04o}")
                return
            yield self._close(path, status)
        elif not quiet:
            yield ok(f"{path}: mode {mode:04o}")

    @staticmethod
    def _close(path: str, status: os.stat_result) -> Finding:
        """Closes what others could read. What they could write may be theirs by now: of a cache it
        is thrown away, anything else is left to a person."""
        mode = stat.S_IMODE(status.st_mode)
        is_cached = is_reply(os.path.basename(path)) or path.endswith(
            (".token", ".failure", ".refused", ".tried")
        )
        if is_cached:
            os.unlink(path)
        elif mode & 0o022 and not stat.S_ISDIR(status.st_mode):
            return warning(
                "file-mode",
                f"{path} could be written by others (mode {mode:04o}), so it is not used",
                todo="Look at what is in it, then run `chmod 600` on it, or remove it.",
            )
        else:
            os.chmod(path, mode & ~0o077)
        return ok(f"repaired: {path} was open to others (mode {mode:04o})")

    def _left_over(self, path: str) -> Iterator[Finding]:
        if self._is_repair:
            os.unlink(path)
            yield ok(f"repaired: {path}, which a killed process left, is removed")
        else:
            yield warning("file-mode", f"{path} was left by a killed process")

    def _commands(self) -> Iterator[Finding]:
        here = os.path.dirname(sys.executable)
        for name in COMMANDS:
            found = shutil.which(name, path=self._environment.get("PATH"))
            if found is None:
                yield warning("command-missing", f"{name} is not on PATH", todo=path_hint(name))
            elif os.path.dirname(os.path.realpath(found)) != os.path.realpath(here):
                yield warning(
                    "command-missing",
                    f"{name} on PATH is {found}, of another installation than this one",
                )
        yield from self._clients()

    def _clients(self) -> Iterator[Finding]:
        """What `setup` writes for docker names a command that must be there: docker wouldn't say
        so."""
        home = os.path.expanduser("~")
        directory = self._environment.get("DOCKER_CONFIG") or os.path.join(home, ".docker")
        try:
            with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
                document: Any = json.load(file)
            helpers = document.get("credHelpers") or {}
        except (OSError, ValueError, AttributeError):
            return
        hosts = (
            [host for host, name in helpers.items() if name == "nightporter"]
            if isinstance(helpers, dict)
            else []
        )
        if not hosts:
            return
        if shutil.which("docker-credential-nightporter", path=self._environment.get("PATH")):
            yield ok(f"docker asks nightporter for {', '.join(hosts)}")
        else:
            yield warning(
                "command-missing",
                f"docker asks docker-credential-nightporter for {', '.join(hosts)}",
            )

    def _clusters(self, config: Config, names: tuple[str, ...]) -> Iterator[Finding]:
        """What kubectl's own configuration could be exchanged for: a CA that is not pinned."""
        chosen = (config.profiles.get(name) for name in names or config.profiles)
        wanted = [profile for profile in chosen if profile is not None and profile.hosts]
        document = kubeconfig.parse(_kubectl_view(self._environment)) if wanted else {}
        for profile in wanted:
            pinned = profile.helper_options["kubernetes"].get("ca_sha256")
            for cluster in kubeconfig.used_clusters(document, profile):
                if cluster.authorities and not pinned:
                    what = f"the CA of kubectl's cluster {cluster.name!r} is not pinned"
                    yield warning("cluster-not-pinned", what, profile.name)

    def _variables(self, config: Config) -> Iterator[Finding]:
        """Names only: a value may be a secret."""
        stores = {profile.store.name: profile.store for profile in config.profiles.values()}
        kinds = sorted({store.type for store in stores.values()})
        names = [
            name
            for store in stores.values()
            for name in (
                *STORES[store.type].identity_of(store.options),
                *STORES[store.type].secret_variables,
            )
        ]
        own = [name for name in sorted(self._environment) if name.startswith("NIGHTPORTER_")]
        proxies = [name for name in sorted(self._environment) if name.lower().endswith("_proxy")]
        found = [
            name for name in [*own, *dict.fromkeys(names), *proxies] if self._environment.get(name)
        ]
        if found:
            yield ok(f"set in the environment: {', '.join(found)}")
        unread = [name for kind in kinds for name in STORES[kind].unread_variables]
        if ignored := [name for name in dict.fromkeys(unread) if self._environment.get(name)]:
            yield warning(
                "store-note",
                f"{', '.join(ignored)} is not read here, though the store's own client reads it",
                todo="plugin/docs/configuration.md names what is read; CA files: `ca_cert`.",
            )

    def _mishaps(self, names: tuple[str, ...]) -> Iterator[Finding]:
        now = time.time()
        for note in open_helper_failures(self._environment).load(now):
            if not names or note.profile in (None, *names):
                what = (
                    f"{note.protocol}, {relative(note.at - now)}: {note.message} [{note.reference}]"
                )
                yield warning("helper-failed", what, note.profile)

    # A profile.

    def _profile(self, porter: Porter, name: str) -> Iterator[Finding]:
        try:
            broker = porter.broker_for(name)
        except NightporterError as exc:
            yield failure(exc, name)
            return
        role = broker.profile.role.value
        for finding in itertools.chain(self._guarded(broker), self._issuer(broker)):
            yield replace(finding, todo=with_profile(finding.todo, name, role))

    def _guarded(self, broker: Broker) -> Iterator[Finding]:
        try:
            yield from self._session(broker)
        except NightporterError as exc:
            yield failure(exc, broker.profile.name)

    def _session(self, broker: Broker) -> Iterator[Finding]:
        profile, session = broker.profile, broker.session
        deadline = time.monotonic() + CALL_S
        reads, writes = needed_paths(profile)
        store = session.store
        missing: list[str] = []
        if isinstance(store, Inspected):
            missing = store.missing_rights(reads, writes, timeout_s=CALL_S)
        if missing:
            for right in missing:
                yield Finding(
                    level="error",
                    reference="store-denied",
                    what=f"missing permission: {right}",
                    todo=(
                        f"`nightporter policy {profile.name} --role {profile.role.value}` prints"
                        " what is needed."
                    ),
                    profile=profile.name,
                    exit_code=5,
                )
            return
        if isinstance(store, Located):
            yield ok(f"the store is {store.whereabouts()}", profile.name)
        yield ok(
            f"store {profile.store.name!r} is reachable, with all permissions of role"
            f" {profile.role.value}",
            profile.name,
        )
        if profile.signs_in_unattended and profile.credentials:
            session.load_credentials(deadline)
            named = "client_id" in profile.options
            what = CLIENT if named else f"the credentials are at {profile.credentials!r}"
            yield ok(what, profile.name)
        elif profile.role is Role.FULL and profile.needs_client:
            session.load_client(deadline)
            place = profile.client or profile.credentials
            yield ok(f"the client's secret is at {place!r}" if place else CLIENT, profile.name)
        if profile.role is Role.READ_ONLY:
            session.published(Ask(deadline=time.monotonic() + 1.0))
            yield ok(
                f"an access token is published at {profile.publish_access_token!r}", profile.name
            )
            return
        yield from self._labels(session, profile)
        yield from self._spilled(session, profile, deadline)
        snapshot = session.read(deadline)
        yield from self._life(session, profile)
        if snapshot.now is not None:
            whom = f"the store {profile.store.name!r}"
            yield from _skewed(snapshot.now - time.time(), whom, profile.name)
        if snapshot.foreign is not None:
            yield warning(
                "record-newer" if snapshot.foreign.is_newer else "foreign-record",
                f"{profile.refresh_token!r}: {snapshot.foreign.reason}",
                profile.name,
            )
        elif snapshot.record is None:
            yield from self._no_session(profile)
        else:
            yield from self._record(session, profile, snapshot, snapshot.record)
            yield from self._lineage(session, profile, snapshot, snapshot.record)

    def _life(self, session: Session, profile: Profile) -> Iterator[Finding]:
        """Whether the store deletes by itself what a session needs."""
        if not isinstance(session.store, Expiring) or not profile.refresh_token:
            return
        found = session.store.life_limit(profile.refresh_token, timeout_s=CALL_S)
        if found is not None and found[1] < STRICT_CLAIM_S:
            what, seconds = found
            error = StoreLifeError(
                f"{what} lets the store delete what is written after {seconds} s, and a claim must"
                f" live for up to {STRICT_CLAIM_S}"
            )
            yield failure(error, profile.name)

    def _no_session(self, profile: Profile) -> Iterator[Finding]:
        if profile.signs_in_unattended:
            yield ok("no session yet: the first token signs in", profile.name)
        else:
            error = LoginRequiredError(
                "no session yet, and none can be begun without a person", hint=remedy(profile)
            )
            yield failure(error, profile.name)

    def _lineage(
        self, session: Session, profile: Profile, snapshot: Snapshot, record: SessionRecord
    ) -> Iterator[Finding]:
        """Whether this machine has seen a newer state of the session than the store holds."""
        if record.lineage is None:
            return
        highest = session.journal.highest(record.lineage)
        if record.generation >= highest:
            return
        if self._is_repair and not session.is_claim_alive(snapshot):
            renamed = replace(record, lineage=new_lineage(), claim=None, sent=None)
            session.overwrite(snapshot, renamed, by_person=True)
            yield ok("repaired: the session goes on from what the store holds", profile.name)
            return
        yield fault(
            "store-rolled-back",
            f"the store holds generation {record.generation} of the session, and this machine"
            f" has seen generation {highest}: the store was set back",
            profile.name,
            exit_code=5,
        )

    def _record(
        self, session: Session, profile: Profile, snapshot: Snapshot, record: SessionRecord
    ) -> Iterator[Finding]:
        now, name = session.records.now(snapshot), profile.name
        if not record.identity.matches(session.identity(None)):
            yield warning(
                "foreign-record", f"{profile.refresh_token!r} is another identity's session", name
            )
            return
        if record.refresh_token is not None:
            yield _left(profile, record, now)
        elif record.refused is None or record.refused.until <= now:  # that has a line of its own
            yield from self._no_session(profile)
        idle, life_s = idle_end(record, profile), profile.idle_life_s
        if idle is not None and life_s is not None and idle - now < life_s / 5:
            what = f"the session dies {relative(idle - now)}, if nobody refreshes it"
            yield warning("session-idle", what, name)
        if record.claim and session.is_claim_alive(snapshot):
            yield warning("session-claimed", f"claimed by {record.claim.holder}", name)
        if record.refused and record.refused.until > now:
            until = format_rfc3339(record.refused.until)
            error = CredentialsRefusedError(
                f"refused {record.refused.count} time(s) ({record.refused.error}), not tried again"
                f" before {until}{_said_by_issuer(record)}"
            )
            yield fault("session-refused", error.message, name, exit_code=error.exit_code)
        if record.busy and record.busy.until > now:
            until = format_rfc3339(record.busy.until)
            what = f"the issuer asked not to be called again ({record.busy.call}) before {until}"
            yield warning("issuer-busy", what, name)
        yield from self._told(profile, record)
        yield from self._budget(session, record, name)

    def _told(self, profile: Profile, record: SessionRecord) -> Iterator[Finding]:
        """What the issuer's replies told."""
        told = record.told or NOTHING
        if told.words and not record.refused and not record.rejected:
            what = f"the last exchange brought no token{_said_by_issuer(record)}"
            yield warning("issuer-reply", what, profile.name)
        if transitions.is_marked(record) and record.rejected:
            error = SessionRejectedError(
                f"the issuer refused the refresh token ({record.rejected.error}), and it is not"
                f" sent again{_said_by_issuer(record)}",
                hint=remedy(profile),
            )
            yield failure(error, profile.name)
        if told.missing:
            yield warning("scope-narrowed", narrowed(told), profile.name)
        if told.is_other_user:
            yield warning("other-user", other_user(told, profile), profile.name)

    def _budget(self, session: Session, record: SessionRecord, name: str) -> Iterator[Finding]:
        per_day, writes = session.store.versions_per_day, record.unknown.get("writes")
        if (
            per_day is None
            or not isinstance(writes, dict)
            or not isinstance(writes.get("count"), (int, float))
        ):
            return
        what = f"{writes['count']:.0f} of {per_day} versions of the last day are used"
        yield (
            warning("write-budget", what, name) if writes["count"] > per_day / 2 else ok(what, name)
        )

    def _labels(self, session: Session, profile: Profile) -> Iterator[Finding]:
        store = session.store
        if not isinstance(store, Labelled):
            return
        for path in filter(None, (profile.refresh_token, profile.publish_access_token)):
            found = store.newer_than_current(path)
            if found is None:
                continue
            current, newest = found
            if self._is_repair:
                store.move_current(path, newest, current)
                yield ok(
                    f"repaired: AWSCURRENT of {path!r} is at its newest version again", profile.name
                )
            else:
                what = f"AWSCURRENT of {path!r} was moved back by hand, so nothing can be written"
                yield fault("store-rolled-back", what, profile.name, exit_code=5)

    def _spilled(self, session: Session, profile: Profile, deadline: float) -> Iterator[Finding]:
        if not session.journal.load():
            return
        if self._is_repair:
            session.settle_pending(deadline)
        if not session.journal.load():
            yield ok("repaired: the result that waited for its store is there now", profile.name)
        else:
            yield warning(
                "result-spilled", "a pending result waits here for its store", profile.name
            )

    def _issuer(self, broker: Broker) -> Iterator[Finding]:
        profile, session = broker.profile, broker.session
        if profile.role is Role.READ_ONLY:
            return
        try:
            address, reply = session.probe(time.monotonic() + CALL_S)
        except NightporterError as exc:
            yield failure(exc, profile.name)
            return
        way = "TLS chain and proxy are fine" if address.startswith("https:") else "plain http"
        yield ok(f"the issuer answers at {address} ({way})", profile.name)
        if reply.skew_s is not None:
            yield from _skewed(reply.skew_s, "the issuer", profile.name)


def _skewed(skew_s: float, whom: str, profile: str) -> Iterator[Finding]:
    """`skew_s`: by how many seconds the other clock is ahead of this machine's."""
    if abs(skew_s) > SKEW_S:
        side = "behind" if skew_s > 0 else "ahead of"
        yield warning("clock-skew", f"this machine is {abs(skew_s):.0f} s {side} {whom}", profile)


def _left(profile: Profile, record: SessionRecord, now: float) -> Finding:
    """Who has begun the session, and for how long it lasts."""
    if record.expires_at is None:
        ends, is_short = "has no stated end", False
    else:
        ends = f"ends {relative(record.expires_at - now)}"
        is_short = record.expires_at - now < _short_s(profile, record)
    if is_short:
        return warning("session-old", f"the refresh token {ends}", profile.name)
    by = record.by or "unknown"
    return ok(f"session of generation {record.generation}, by {by}; it {ends}", profile.name)


def _short_s(profile: Profile, record: SessionRecord) -> float:
    """Returns with how many seconds left a session is said to end soon. Where only a person can
    begin another, that is a fifth of its life, so that somebody is there in time."""
    if profile.signs_in_unattended or record.expires_at is None or record.issued_at is None:
        return SHORT_S
    return max(SHORT_S, min(LONG_WARNING_S, (record.expires_at - record.issued_at) / 5))


def _said_by_issuer(record: SessionRecord) -> str:
    """The issuer's own words about its last refusal, as the record keeps them."""
    return f'; the issuer says: "{record.told.words}"' if record.told and record.told.words else ""


def _kubectl_view(environment: Mapping[str, str]) -> str | None:
    """Returns the kubeconfig as kubectl reads it; None where there is no kubectl, or it fails."""
    client = shutil.which("kubectl", path=environment.get("PATH"))
    for view in kubeconfig.VIEWS if client else ():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(  # noqa: S603 - the user's own kubectl
                [str(client), *view],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CALL_S,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout.decode(errors="replace")
    return None


def _can_hold(directory: str) -> bool:
    """Whether it is there and ours, or can be made."""
    while not os.path.lexists(directory) and os.path.dirname(directory) != directory:
        directory = os.path.dirname(directory)
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)


def exit_code(findings: list[Finding]) -> int:
    """The lowest class among the errors; 0 without any."""
    return min((finding.exit_code for finding in findings if finding.level == "error"), default=0)


def summary(findings: list[Finding]) -> str:
    """Returns the last line for people: how much there is to do."""
    levels = [finding.level for finding in findings]
    return f"{levels.count('error')} error(s), {levels.count('warning')} warning(s)"


def to_json(findings: list[Finding]) -> str:
    """Returns the findings as a JSON array of objects."""
    members = [
        {key: value for key, value in asdict(item).items() if key != "exit_code"}
        for item in findings
    ]
    return json.dumps(members, indent=2)


def to_text(findings: list[Finding], *, paint: Paint = unstyled) -> str:
    """For people: one line a finding, what to do below it."""
    lines = []
    for item in findings:
        mark = paint(item.level, item.level)
        pad = " " * (8 - len(item.level))
        owner = f"{item.profile}: " if item.profile else ""
        reference = "" if item.level == "ok" else f" [{item.reference}]"
        lines.append(f"{mark}{pad}{owner}{item.what}{reference}")
        if item.todo and item.level != "ok":
            lines.append(f"        what to do: {item.todo}")
    return "\n".join(lines)


_FREE = re.compile(r"^(\s*(?:extra_parameters|authorization_parameters|auth)\b[^=]*=).*")


def _shareable(line: str) -> str:
    """Without values that may be secrets after all: parameters of the user's own, and how the store
    is logged in to."""
    return _FREE.sub(r"\1 (left out)", line)


def bundle(findings: list[Finding], config: str | None, environment: Mapping[str, str]) -> str:
    """A report for a ticket: findings, the effective configuration (which holds no secret), names
    of variables."""
    try:
        effective = render_effective(load_config(config, environment), {}, STORES)
    except NightporterError as exc:
        effective = f"(not readable: {exc.reference})"
    names = sorted(
        name
        for name in environment
        if name.startswith(("NIGHTPORTER_", "AWS_", "VAULT_", "BAO_", "XDG_"))
    )
    document = {
        "made_at": format_rfc3339(int(time.time())),
        "findings": json.loads(to_json(findings)),
        "configuration": [_shareable(line) for line in effective.splitlines()],
        "variables": names,
    }
    return json.dumps(document, indent=2) + "\n"
