"""`nightporter init`: from nothing to a working token, each answer tried as it is given.

What a flag answers is not asked. Where somebody is at the terminal, an answer that does not work is
explained and asked for again; where nobody is, or the same thing fails twice, it is the command's
error. The file is written once store, secret and clients are known to do. A profile is added to a
configuration that exists; a profile that is there already is checked again, and never changed. A
session that is in the store already is used, and never replaced. `--no-check` contacts nobody.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from nightporter.cli import init_config, init_file, setups
from nightporter.cli.init_config import Answers, Setting, Settings
from nightporter.cli.terminal import Options, open_porter, show_error
from nightporter.client.broker import Broker
from nightporter.client.configuration import config_place
from nightporter.client.porter import Porter
from nightporter.core import vendor_table
from nightporter.core.checks import one_of
from nightporter.core.config import parse_config
from nightporter.core.errors import (
    CommandLineError,
    ConfigError,
    CredentialsRefusedError,
    IssuerError,
    NightporterError,
    SecretNotFoundError,
    StoreDeniedError,
    with_profile,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.model import Grant, Profile, Role, Vendor
from nightporter.core.store_description import Question, StoreDescription
from nightporter.core.values import dataclass, field, replace
from nightporter.issuers import DEFAULT_VENDOR, VENDORS
from nightporter.machine.installation import check_library
from nightporter.machine.places import data_directory, read_environment
from nightporter.machine.trust import check_configuration
from nightporter.operations import account
from nightporter.operations.findings import host_findings
from nightporter.operations.login import Person
from nightporter.stores import STORES

T = TypeVar("T")
YES_NO = ("yes", "no")
NOBODY = "none"
TRIAL = "the new configuration"
TRY_S = 10.0
MAX_NAME = 64  # it is part of the names of files
_POLICY = re.compile(r"nightporter policy PROFILE --role ([\w-]+)")
TRIAL_PATH = (  # used for the secret until its path is known; read, never written
    "nightporter/trial"
)


def _grant_of(word: object) -> Grant | None:
    """The grant that a flag or an answer names; None where there is no such grant."""
    return next((grant for grant in Grant if grant.value == word), None)


class Interview(Protocol):
    """The source of answers. `is_there`: a person is at the terminal."""

    is_there: bool
    person: Person

    def ask(self, question: str, *, default: str | None = None, choices: Sequence[str] = ()) -> str:
        """An answer; never empty, but for a default that is."""

    def read_members(self, profile: Profile) -> dict[str, str]:
        """What the credentials secret is to hold: asked for, or JSON on standard input.

        Raises: ConfigError.
        """

    def read_refresh_token(self) -> str:
        """Asked for, or standard input."""

    def say(self, text: str) -> None:
        """Shows a line of progress."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the flags say. None and empty: not given."""

    profile: str | None = None
    vendor: str | None = None
    store: str | None = None
    credentials: str | None = None
    hosts: Sequence[str] = ()
    clients: Sequence[str] = ()
    store_options: Mapping[str, str] = field(default_factory=dict)
    auth: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    is_checked: bool = True

    @property
    def is_name_only(self) -> bool:
        """Whether nothing but a profile's name (and clients to set up) is given."""
        return not (
            self.vendor
            or self.store
            or self.credentials
            or self.hosts
            or self.store_options
            or self.auth
            or self.settings
        )


class Onboarding:
    """One run of `init`."""

    def __init__(self, given: Given, interview: Interview, options: Options) -> None:
        self._given = given
        self._interview = interview
        self._options = options
        self._environment = read_environment()
        self._existing = ""
        self._has_asked = False
        self._has_talked = False
        self._tried: Answers | None = None

    def run(self) -> None:
        """Raises: any NightporterError, before anything is written unless it came of the first
        token."""
        place = config_place(self._options.config, self._environment)
        check_configuration(place, self._environment)
        self._existing = init_file.read_existing(place)
        name = self._given.profile
        if name and init_config.has_profile(self._existing, name) and self._given.is_name_only:
            self._finish(name)
            return
        init_file.check_can_write(place)
        answers = self._until_it_works(self._choose_vendor)
        answers = self._until_it_works(lambda: self._choose_name(answers))
        answers = self._until_it_works(lambda: self._choose_store(answers))
        answers = self._until_it_works(lambda: self._choose_hosts(answers))
        for client in self._given.clients:
            self._check_client(answers, client)
        answers = self._until_it_works(lambda: self._choose_secret(answers))
        if not self._is_there_already(answers):
            self._write(place, answers)
        self._finish(answers.profile)

    def _finish(self, name: str) -> None:
        """The first token, and the clients."""
        if self._given.is_checked:
            self._begin(name)
        self._offer_clients(name)

    def _is_there_already(self, answers: Answers) -> bool:
        """Whether the configuration holds this very profile.

        Raises: ConfigError where it holds another one of the same name.
        """
        if not init_config.has_profile(self._existing, answers.profile):
            return False
        there = init_config.existing_profile(self._existing, answers.profile)
        if there != init_config.profile_of(answers):
            raise ConfigError(
                f"there is another profile called {answers.profile!r}; it is not written over",
                hint=(
                    "Give the new profile another name: `nightporter init NAME`. `nightporter"
                    f" init {answers.profile}` alone checks the one that is there."
                ),
            )
        return True

    def _write(self, place: str, answers: Answers) -> None:
        """Adds the profile; to what another run has written meanwhile, where that is so."""
        with init_file.turn():
            now = init_file.read_existing(place)
            if now != self._existing:  # an interview takes its time
                self._existing = now
                if self._is_there_already(answers):
                    return
                answers = replace(answers, existing=now)
                self._trial(answers).close()
            init_file.write_all(place, init_config.render(answers))
        self._interview.say(
            f"added profile {answers.profile!r} to {place}" if now else f"wrote {place}"
        )

    def _until_it_works(self, step: Callable[[], T]) -> T:
        """A step whose questions can be answered differently is done again."""
        before = ""
        while True:
            self._has_asked = False
            try:
                return step()
            except NightporterError as exc:
                self._fit(exc)
                if not self._has_asked or str(exc) == before:
                    raise
                show_error(exc)
                before = str(exc)

    def _fit(self, error: NightporterError) -> None:
        """Lets a remedy fit where the profile is not in the file yet: `policy` takes the answers as
        options then."""
        if (answers := self._tried) is None:
            return
        options = " ".join(map(shlex.quote, init_config.policy_options(answers)))
        error.hint = _POLICY.sub(rf"nightporter policy --role \1 {options}", error.hint)
        role = str(answers.settings.get("role", Role.FULL.value))
        error.hint = with_profile(error.hint, answers.profile, role)

    def _ask(
        self, flag: str, question: str, default: str | None = None, choices: Sequence[str] = ()
    ) -> str:
        """An answer that must be had."""
        if not self._interview.is_there:
            raise CommandLineError(
                f"{flag} is needed where nobody is at the terminal",
                hint="Give the option, or run init at a terminal, where it asks.",
            )
        return self._question(question, default=default, choices=choices)

    def _question(
        self, question: str, *, default: str | None = None, choices: Sequence[str] = ()
    ) -> str:
        self._has_asked = self._has_talked = True
        return self._interview.ask(question, default=default, choices=choices)

    def _trial(self, answers: Answers) -> Porter:
        """Brokers of a configuration that is not written yet."""
        self._tried = answers
        text = init_config.render(answers)
        try:
            parse_config(text, source=TRIAL, vendors=VENDORS, stores=STORES)
        except ConfigError as exc:
            found = (
                "; ".join(problem.removeprefix(f"{TRIAL}: ") for problem in exc.problems)
                or exc.message
            )
            raise ConfigError(
                found, hint="Correct the answer or the flag that this names, and try again."
            ) from exc
        return Porter(text, is_library=False, notify=self._interview.say)

    def _timeout_s(self) -> float:
        return self._options.timeout_s(TRY_S)

    # The issuer.

    def _choose_vendor(self) -> Answers:
        own = self._own_rows()
        known = [*sorted(VENDORS), *own]
        vendor = self._given.vendor or self._ask("--issuer", "Token issuer", DEFAULT_VENDOR, known)
        if problem := one_of(*known)(vendor):
            raise CommandLineError(
                f"--issuer {problem}", hint="`nightporter explain vendors` lists them."
            )
        settings = {**self._settings_of(self._row_of(vendor)), **self._given.settings}
        answers = Answers(
            profile=self._free_name(vendor) if vendor in own else vendor,
            vendor=vendor,
            existing=self._existing if vendor in own else "",
            store="local",
            options={"path": data_directory()},  # the usual one, also where no home is known
            credentials=TRIAL_PATH,
            settings=self._with_published(settings),
        )
        if not self._given.is_checked:
            self._trial(answers).close()
            return answers
        return self._look_for_issuer(answers)

    def _own_rows(self) -> Mapping[str, Vendor]:
        """The rows of the configuration that a profile is added to."""
        return parse_config(self._existing, source=TRIAL, vendors=VENDORS, stores=STORES).vendors

    def _row_of(self, vendor: str) -> Vendor:
        return self._own_rows().get(vendor) or VENDORS[vendor]

    def _with_published(self, settings: Settings) -> Settings:
        """A reader must know where the access tokens are published."""
        if settings.get("role") != Role.READ_ONLY.value or "publish_access_token" in settings:
            return settings
        path = self._ask("--set publish_access_token=PATH", "Path of the published access token")
        return {**settings, "publish_access_token": path}

    def _look_for_issuer(self, answers: Answers) -> Answers:
        """Tries the issuer; where it can't be reached, a person may name another URL."""
        while True:
            try:
                with self._trial(answers) as porter:
                    session = porter.broker_for(answers.profile).session
                    url, _ = session.probe(time.monotonic() + self._timeout_s())
            except IssuerError as exc:
                self._interview.say(exc.message)
                other = self._other_url(answers)
                if other is not None:
                    answers = replace(answers, settings={**answers.settings, "base_url": other})
                elif self._is_passed_over():
                    return answers
                else:
                    self._has_asked = False  # an end, and not an answer to be asked for again
                    raise
            else:
                self._interview.say(f"issuer reachable ({url})")
                return answers

    def _other_url(self, answers: Answers) -> str | None:
        """Another base URL; None where none is given, or the flags have named it."""
        usual = answers.settings.get("base_url") or self._row_of(answers.vendor).base_url
        if not self._interview.is_there or not usual or "base_url" in self._given.settings:
            return None
        url = self._question("Base URL of the issuer (Enter: keep it)", default=str(usual))
        return url if url != usual else None

    def _is_passed_over(self) -> bool:
        """Whether a person goes on without the issuer. Without a person the first token decides."""
        if not self._interview.is_there:
            return True
        return self._question("Continue anyway?", default="no", choices=YES_NO) == "yes"

    def _settings_of(self, vendor: Vendor) -> dict[str, Setting]:
        """What only this vendor's profiles hold, where somebody can be asked."""
        given, found = self._given.settings, dict[str, Setting]()
        if not self._interview.is_there:
            return found
        if "grant" in vendor.options and "grant" not in given and len(vendor.grants) > 1:
            found["grant"] = self._question(
                "Grant type",
                default=vendor.grants[0].value,
                choices=[grant.value for grant in vendor.grants],
            )
        grant = _grant_of(found.get("grant", given.get("grant")))
        found |= self._addresses_of(vendor, grant)
        if "tenant" in vendor.options and "tenant" not in given:
            usual = str(vendor.preset["tenant"])  # Microsoft's `common` is for people
            default = None if usual == "common" and grant is Grant.CLIENT_CREDENTIALS else usual
            found["tenant"] = self._question("Tenant", default=default)
        if "partner_id" in vendor.options and "partner_id" not in given:
            found["partner_id"] = self._question("Partner id")
        if "scopes" in vendor.options and "scopes" not in given and not vendor.call_scopes:
            scopes = self._question("Scopes, separated by spaces (empty: none)", default="")
            found |= {"scopes": scopes} if scopes else {}
        return found

    def _addresses_of(self, vendor: Vendor, grant: Grant | None) -> dict[str, str]:
        """The addresses that neither the vendor's row nor a flag names."""
        given = self._given.settings
        if not vendor_table.addresses(vendor, given).keys() & {"token_endpoint", "issuer_url"}:
            if grant is None or not grant.needs_person:
                return {"token_endpoint": self._question("Token endpoint URL")}
            # They need more addresses than one.
            question = "Issuer URL, from which the endpoints are discovered (RFC 8414)"
            return {"issuer_url": self._question(question)}
        base_url = given.get("base_url", vendor.base_url)
        if vendor_table.needs_base_url(vendor, given) and not base_url:
            return {"base_url": self._question("Base URL of the issuer")}
        return {}

    def _choose_name(self, answers: Answers) -> Answers:
        name = self._given.profile
        if name is None and self._interview.is_there:
            name = self._question("Profile name", default=self._free_name(answers.vendor))
            if init_config.has_profile(self._existing, name):
                raise ConfigError(
                    f"there is a profile called {name!r} already",
                    hint=f"Choose another name. `nightporter init {name}` checks that one.",
                )
        name = name or answers.vendor
        if len(name) > MAX_NAME:
            raise ConfigError(
                f"a profile's name of {len(name)} characters is too long; {MAX_NAME} are allowed",
                hint="Choose a short name, such as the vendor's.",
            )
        is_new = not init_config.has_profile(self._existing, name)
        answers = replace(answers, profile=name, existing=self._existing if is_new else "")
        self._trial(answers).close()
        return answers

    def _free_name(self, vendor: str) -> str:
        names = [vendor, *(f"{vendor}-{number}" for number in range(2, 100))]
        return next(
            (name for name in names if not init_config.has_profile(self._existing, name)), vendor
        )

    # The store.

    def _choose_store(self, answers: Answers) -> Answers:
        kind = self._given.store or self._ask("--store", "Secret store", "local", tuple(STORES))
        if problem := one_of(*STORES)(kind):
            raise CommandLineError(f"--store {problem}")
        description = STORES[kind]
        if self._given.is_checked:
            check_library(description)
        options: dict[str, str | Mapping[str, str]] = dict(self._given.store_options)
        for asked in description.questions:
            if asked.key not in options and self._interview.is_there:
                given = self._store_key(description, asked)
                options |= {asked.key: given} if given else {}
        if description.auth_methods or self._given.auth:
            options |= self._auth(description)
        answers = replace(
            answers, store=kind, options=options, credentials=self._given.credentials or TRIAL_PATH
        )
        if not self._given.is_checked:
            self._trial(answers).close()
            return answers
        with self._trial(answers) as porter:
            session = porter.broker_for(answers.profile).session
            # The path may not be the true one yet, which is tried next.
            with contextlib.suppress(StoreDeniedError):
                session.read(time.monotonic() + self._timeout_s())
                self._interview.say(f"store reachable ({kind})")
        return answers

    def _store_key(self, description: StoreDescription, asked: Question) -> str:
        """An answer; empty where the environment has one, or may have."""
        variables = description.variables.get(asked.key, ())
        source = next((name for name in variables if self._environment.get(name)), None)
        if source is None and asked.is_needed:
            return self._question(asked.text)
        elsewhere = source or "from the environment"
        return self._question(f"{asked.text} (empty: {elsewhere})", default="")

    def _auth(self, description: StoreDescription) -> dict[str, Mapping[str, str]]:
        """How to log in to the store; nothing for its usual way."""
        auth: dict[str, str] = {}
        if self._given.auth:
            return {"auth": self._given.auth}
        if self._interview.is_there:
            usual, *_ = description.auth_methods
            auth["method"] = self._question(
                "Auth method", default=usual, choices=sorted(description.auth_methods)
            )
            for key in description.auth_methods[auth["method"]].asked:
                auth[key] = self._question(key)
            if auth == {"method": usual}:
                return {}
        return {"auth": auth} if auth else {}

    # The secret.

    def _choose_secret(self, answers: Answers) -> Answers:
        with self._trial(answers) as porter:
            broker = porter.broker_for(answers.profile)
            role = broker.profile.role
            reads_secret = role is Role.FULL and account.needs_secret(broker)
        usual = f"nightporter/{answers.profile}"
        if reads_secret or self._given.credentials:
            path = self._given.credentials or self._ask(
                "--credentials", "Path of the secret", usual
            )
            answers = replace(answers, credentials=self._own_path(answers, path))
        else:
            record = {"refresh_token": f"{usual}/refresh-token", **answers.settings}
            if role is Role.READ_ONLY:  # it never reads the session record
                record = dict(answers.settings)
            answers = replace(answers, credentials=None, settings=record)
        if not self._given.is_checked or role is Role.READ_ONLY:
            self._trial(answers).close()
            return answers
        with self._trial(answers) as porter:
            broker = porter.broker_for(answers.profile)
            broker.session.read(time.monotonic() + self._timeout_s())
            fields = self._see_credentials(broker) if reads_secret else {}
        if fields:
            answers = replace(answers, settings={**answers.settings, "fields": fields})
        return answers

    def _own_path(self, answers: Answers, path: str) -> str:
        """The path without what Vault's API and UI put before it, where a person agrees.

        Raises: ConfigError for an answer that was meant for another question.
        """
        if self._interview.is_there and " " in path and not self._given.credentials:
            raise ConfigError(
                f"{path!r} holds a space: is it a path?",
                hint="Answer with one path such as prod/pitchpoint (--credentials takes any).",
            )
        mount = str(answers.options.get("mount", "secret"))
        found = re.match(rf"(?:v1/)?{re.escape(mount)}/(?:(?:meta)?data/)?(?=.)", path.lstrip("/"))
        if answers.store != "vault" or found is None:
            return path
        shorter = path.lstrip("/")[found.end() :]
        self._interview.say(
            f"{path!r} begins with the mount or with Vault's API path; inside the mount it would"
            f" be {shorter!r}"
        )
        if not self._interview.is_there:
            return path
        answer = self._question(f"Use {shorter!r}?", default="yes", choices=YES_NO)
        return shorter if answer == "yes" else path

    def _see_credentials(self, broker: Broker) -> dict[str, str]:
        """Returns which of its members the profile has to name, where they have other names."""
        try:
            names, missing = account.member_names(broker, self._timeout_s())
        except SecretNotFoundError as exc:
            self._interview.say(exc.message)
            self._write_credentials(broker)
            return {}
        path = broker.profile.credentials
        if missing:
            return self._fields(path, names, missing)
        self._interview.say(f"there is a secret at {path!r}, which is used as it is")
        return {}

    def _fields(self, path: str | None, names: list[str], missing: list[str]) -> dict[str, str]:
        what = (
            f"the secret at {path!r} holds {', '.join(names)}, and the profile needs"
            f" {', '.join(missing)}"
        )
        if not self._interview.is_there or not names:
            flags = " ".join(f"--set fields.{name}=NAME" for name in missing)
            raise SecretNotFoundError(
                what, hint=f"Say what they are called in it: {flags}; or write another secret."
            )
        self._interview.say(what)
        return {
            name: self._question(f"Member that holds the {name.replace('_', ' ')}", choices=names)
            for name in missing
        }

    def _write_credentials(self, broker: Broker) -> None:
        members = self._interview.read_members(broker.profile)
        account.set_credentials(broker, members, self._options.timeout_s(), self._interview.say)

    # Hosts.

    def _choose_hosts(self, answers: Answers) -> Answers:
        hosts = list(self._given.hosts)
        if not hosts and self._interview.is_there:
            question = "Hosts that may receive the token, separated by spaces (empty: none)"
            hosts = self._question(question, default="").replace(",", " ").split()
            if any(host.startswith("http://") for host in hosts):
                self._interview.say("a host that begins with http:// allows plain http to it")
        answers = replace(answers, hosts=hosts)
        with self._trial(answers) as porter:
            for finding in host_findings(porter.config, answers.profile):
                self._interview.say(f"warning: {finding.what}")
        return answers

    # The first token.

    def _begin(self, name: str) -> None:
        with open_porter(self._options) as porter:
            broker = porter.broker_for(name)
            if broker.profile.role is not Role.READ_ONLY:
                self._begin_session(broker)
            until = self._first_token(broker)
        self._interview.say(f"it works: received an access token, valid until {until}")

    def _begin_session(self, broker: Broker) -> None:
        grant = broker.profile.grant
        if account.has_session(broker, self._options.timeout_s()):
            self._interview.say("there is a session already")
        elif broker.profile.role is not Role.FULL:
            return  # the first token says who begins it
        elif grant.is_seeded:
            self._seed(broker)
        elif grant.needs_person and self._interview.is_there:
            account.start_by_log_in(broker, self._interview.person, self._options.log_in_s())

    def _seed(self, broker: Broker) -> None:
        given = self._interview.read_refresh_token()
        if given.strip():  # else the first token says what is missing
            account.start_by_seed(broker, given, self._options.timeout_s())

    def _first_token(self, broker: Broker) -> str:
        """Asks a person before another password is tried: each refusal counts at the vendor."""
        while True:
            try:
                found = broker.access_token(timeout_s=self._options.timeout_s())
                return format_rfc3339(found.expires_at_s)
            except CredentialsRefusedError as exc:
                if not self._interview.is_there:
                    raise
                self._interview.say(exc.message)
                if (
                    self._interview.ask("Enter other credentials?", default="yes", choices=YES_NO)
                    == "no"
                ):
                    raise
                self._write_credentials(broker)

    # Clients.

    def _check_client(self, answers: Answers, client: str) -> None:
        """That a setup would do, before anything is written for it.

        Raises: ConfigError, HostNotAllowedError.
        """
        with self._trial(answers) as porter:
            setups.plan(
                client, answers.profile, porter.config, self._options.config, self._environment
            )

    def _offer_clients(self, name: str) -> None:
        clients = self._given.clients
        if not clients and self._has_talked:
            clients = self._until_it_works(lambda: self._choose_client(name))
        for client in clients:
            setups.set_up(client, name, self._options, self._environment, self._interview.say)
        if not self._given.is_checked:
            self._interview.say(f"nothing was checked; nightporter doctor {name} does")
        if clients:
            self._interview.say(f"next: use {' and '.join(clients)}; nightporter status {name}")
        else:
            self._interview.say(
                f"next: nightporter token {name}, or nightporter setup CLIENT {name}"
            )

    def _choose_client(self, name: str) -> Sequence[str]:
        question = "Client to set up"
        chosen = self._question(question, default=NOBODY, choices=(*setups.CLIENTS, NOBODY))
        if chosen == NOBODY:
            return ()
        with open_porter(self._options) as porter:
            setups.plan(chosen, name, porter.config, self._options.config, self._environment)
        return (chosen,)
