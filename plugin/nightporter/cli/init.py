"""`nightporter init`: from nothing to a working token, each answer tried as it is given.

What a flag answers is not asked. Where somebody is at the terminal, an answer that does not work is
explained and asked for again; where nobody is, or the same thing fails twice, it is the command's
error. The file is written once store, secret and clients are known to do. A session that is in the
store already is used, and never replaced.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from nightporter.cli import init_config, setups
from nightporter.cli.init_config import Answers
from nightporter.cli.terminal import Options, open_porter, show_error
from nightporter.client.broker import Broker
from nightporter.client.configuration import config_place
from nightporter.client.porter import Porter
from nightporter.core.checks import one_of
from nightporter.core.config import parse_config
from nightporter.core.errors import (
    ConfigError,
    CredentialsRefusedError,
    IssuerError,
    NightporterError,
    SecretNotFoundError,
    StoreDeniedError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.model import Profile, Vendor
from nightporter.core.store_description import StoreDescription
from nightporter.issuers import VENDORS
from nightporter.machine.files import replace_private
from nightporter.machine.places import read_environment
from nightporter.operations import account
from nightporter.operations.login import Person
from nightporter.stores import STORES

T = TypeVar("T")
PERSONS_GRANTS = ("authorization_code", "device_code")
YES_NO = ("yes", "no")
NOBODY = "none"
TRIAL = "the new configuration"
TRY_S = 10.0
TRIAL_PATH = (  # stands for the secret until its path is known; read, never written
    "nightporter/trial"
)


class Interview(Protocol):
    """Whoever answers. `is_there`: somebody is at the terminal."""

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

    def say(self, text: str) -> None: ...


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
    settings: Mapping[str, str | int] = field(default_factory=dict)
    is_checked: bool = True


class Onboarding:
    """One run of `init`."""

    def __init__(self, given: Given, interview: Interview, options: Options) -> None:
        self._given = given
        self._interview = interview
        self._options = options
        self._environment = read_environment()
        self._has_asked = False
        self._has_talked = False

    def run(self) -> None:
        """Raises: any NightporterError, before anything is written unless it came of the first
        token."""
        place = config_place(self._options.config, self._environment)
        self._check_place(place)
        answers = self._until_it_works(self._choose_vendor)
        answers = self._until_it_works(lambda: self._choose_name(answers))
        answers = self._until_it_works(lambda: self._choose_store(answers))
        answers = self._until_it_works(lambda: self._choose_hosts(answers))
        for client in self._given.clients:
            self._check_client(answers, client)
        answers = self._until_it_works(lambda: self._choose_secret(answers))
        os.makedirs(os.path.dirname(os.path.abspath(place)), mode=0o700, exist_ok=True)
        self._check_place(place)  # an interview takes its time
        replace_private(os.path.abspath(place), init_config.render(answers).encode())
        self._interview.say(f"wrote {place}")
        if self._given.is_checked:
            self._begin(answers.profile)
        self._offer_clients(answers)

    @staticmethod
    def _check_place(place: str) -> None:
        if place == "NIGHTPORTER_CONFIG_TOML" or os.path.lexists(place):
            raise ConfigError(
                f"there is a configuration already ({place}); it is not written over",
                hint=(
                    "Edit it, or name another with --config; `nightporter credentials set` writes"
                    " credentials."
                ),
            )

    def _until_it_works(self, step: Callable[[], T]) -> T:
        """A step whose questions can be answered differently is done again."""
        before = ""
        while True:
            self._has_asked = False
            try:
                return step()
            except NightporterError as exc:
                if not self._has_asked or str(exc) == before:
                    raise
                show_error(exc)
                before = str(exc)

    def _ask(
        self, flag: str, question: str, default: str | None = None, choices: Sequence[str] = ()
    ) -> str:
        """An answer that must be had."""
        if not self._interview.is_there:
            raise ConfigError(f"{flag} is needed where nobody is at the terminal")
        return self._question(question, default=default, choices=choices)

    def _question(
        self, question: str, *, default: str | None = None, choices: Sequence[str] = ()
    ) -> str:
        self._has_asked = self._has_talked = True
        return self._interview.ask(question, default=default, choices=choices)

    def _trial(self, answers: Answers) -> Porter:
        """Brokers of a configuration that is not written yet."""
        text = init_config.render(answers)
        try:
            parse_config(text, source=TRIAL, vendors=VENDORS, stores=STORES)
        except ConfigError as exc:
            found = (
                "; ".join(problem.removeprefix(f"{TRIAL}: ") for problem in exc.problems)
                or exc.message
            )
            raise ConfigError(found, hint="Answer it differently.") from exc
        return Porter(text, is_library=False, notify=self._interview.say)

    def _timeout_s(self) -> float:
        return self._options.timeout_s(TRY_S)

    # The issuer.

    def _choose_vendor(self) -> Answers:
        vendor = self._given.vendor or self._ask(
            "--vendor", "Who issues the tokens", "pitchpoint", sorted(VENDORS)
        )
        settings = {**self._settings_of(VENDORS[vendor]), **self._given.settings}
        answers = Answers(
            profile=vendor, vendor=vendor, store="local", credentials=TRIAL_PATH, settings=settings
        )
        with self._trial(answers) as porter:
            if self._given.is_checked:
                self._look_for_issuer(porter.broker_for(vendor))
        return answers

    def _look_for_issuer(self, broker: Broker) -> None:
        try:
            address, _ = broker.session.probe(time.monotonic() + self._timeout_s())
        except IssuerError as exc:
            self._interview.say(exc.message)
            if (
                self._interview.is_there
                and self._question("Go on all the same", default="no", choices=YES_NO) == "no"
            ):
                self._has_asked = False  # that is an end, and not an answer to be asked for again
                raise
        else:
            self._interview.say(f"the issuer answers ({address})")

    def _settings_of(self, vendor: Vendor) -> dict[str, str | int]:
        """What only this vendor's profiles hold, where somebody can be asked."""
        given, found = self._given.settings, dict[str, str | int]()
        if not self._interview.is_there:
            return found
        if "grant" in vendor.options and "grant" not in given:
            found["grant"] = self._question(
                "How a session begins", default=vendor.grants[0], choices=vendor.grants
            )
        grant = found.get("grant") or given.get("grant")
        if (
            "token_endpoint" in vendor.options
            and not {"token_endpoint", "issuer_url"} & given.keys()
        ):
            if grant in PERSONS_GRANTS:  # they need more addresses than one
                found["issuer_url"] = self._question(
                    "Address of the issuer, which tells the others (RFC 8414)"
                )
            else:
                found["token_endpoint"] = self._question("Address of its token endpoint")
        if "tenant" in vendor.options and "tenant" not in given:
            usual = str(vendor.preset["tenant"])  # Microsoft's `common` is for people
            default = None if usual == "common" and grant == "client_credentials" else usual
            found["tenant"] = self._question("Its tenant", default=default)
        if "partner_id" in vendor.options and "partner_id" not in given:
            found["partner_id"] = self._question("Your partner id")
        if (
            "scopes" in vendor.options
            and "scopes" not in given
            and "login_scopes" not in vendor.preset
        ):
            scopes = self._question("Scopes, with spaces between (empty: none)", default="")
            found |= {"scopes": scopes} if scopes else {}
        return found

    def _choose_name(self, answers: Answers) -> Answers:
        name = self._given.profile
        if name is None and self._interview.is_there:
            name = self._question("A name for the profile", default=answers.vendor)
        answers = replace(answers, profile=name or answers.vendor)
        self._trial(answers).close()
        return answers

    # The store.

    def _choose_store(self, answers: Answers) -> Answers:
        kind = self._given.store or self._ask(
            "--store", "Where is the secret", "local", tuple(STORES)
        )
        if problem := one_of(*STORES)(kind):
            raise ConfigError(f"--store {problem}")
        description = STORES[kind]
        options: dict[str, str | Mapping[str, str]] = dict(self._given.store_options)
        for asked in description.questions:
            if asked.key not in options and self._interview.is_there:
                question = f"{asked.text} (empty: from the environment)"
                given = self._question(question, default="")
                options |= {asked.key: given} if given else {}
        if description.auth_methods or self._given.auth:
            options |= self._auth(description)
        answers = replace(
            answers, store=kind, options=options, credentials=self._given.credentials or TRIAL_PATH
        )
        with self._trial(answers) as porter:
            session = porter.broker_for(answers.profile).session
            # The path may not be the true one yet, which is tried next.
            with contextlib.suppress(StoreDeniedError):
                session.read(time.monotonic() + self._timeout_s())
                self._interview.say(f"the store answers ({kind})")
        return answers

    def _auth(self, description: StoreDescription) -> dict[str, Mapping[str, str]]:
        """How the store lets us in; nothing for its usual way."""
        auth: dict[str, str] = {}
        if self._given.auth:
            return {"auth": self._given.auth}
        if self._interview.is_there:
            usual, *_ = description.auth_methods
            auth["method"] = self._question(
                "How it lets you in", default=usual, choices=sorted(description.auth_methods)
            )
            for key in description.auth_methods[auth["method"]].asked:
                auth[key] = self._question(key)
            if auth == {"method": usual}:
                return {}
        return {"auth": auth} if auth else {}

    # The secret.

    def _choose_secret(self, answers: Answers) -> Answers:
        with self._trial(answers) as porter:
            needs_secret = account.needs_secret(porter.broker_for(answers.profile))
        usual = f"nightporter/{answers.profile}"
        if needs_secret or self._given.credentials:
            path = self._given.credentials or self._ask(
                "--credentials", "Path of the secret", usual
            )
            answers = replace(answers, credentials=path)
        else:
            record = {"refresh_token": f"{usual}/refresh-token", **answers.settings}
            answers = replace(answers, credentials=None, settings=record)
        with self._trial(answers) as porter:
            broker = porter.broker_for(answers.profile)
            broker.session.read(time.monotonic() + self._timeout_s())
            if needs_secret:
                self._see_credentials(broker)
        return answers

    def _see_credentials(self, broker: Broker) -> None:
        try:
            broker.session.load_credentials(time.monotonic() + self._timeout_s())
        except SecretNotFoundError as exc:
            self._interview.say(exc.message)
            self._write_credentials(broker)
        else:
            self._interview.say(
                f"there is a secret at {broker.profile.credentials!r}, which is used as it is"
            )

    def _write_credentials(self, broker: Broker) -> None:
        members = self._interview.read_members(broker.profile)
        account.set_credentials(broker, members, self._options.timeout_s(), self._interview.say)

    # Hosts.

    def _choose_hosts(self, answers: Answers) -> Answers:
        hosts = list(self._given.hosts)
        if not hosts and self._interview.is_there:
            question = "Hosts that may have the token, with spaces between (empty: none)"
            hosts = self._question(question, default="").replace(",", " ").split()
        answers = replace(answers, hosts=hosts)
        self._trial(answers).close()
        return answers

    # The first token.

    def _begin(self, name: str) -> None:
        with open_porter(self._options) as porter:
            broker = porter.broker_for(name)
            if account.has_session(broker, self._options.timeout_s()):
                self._interview.say("there is a session already")
            elif broker.profile.grant == "refresh_token":
                self._seed(broker)
            elif broker.profile.grant in PERSONS_GRANTS and self._interview.is_there:
                account.start_by_log_in(broker, self._interview.person, self._options.log_in_s())
            until = self._first_token(broker)
        self._interview.say(f"it works: an access token came, good until {until}")

    def _seed(self, broker: Broker) -> None:
        given = self._interview.read_refresh_token()
        if given.strip():  # else the first token says what is missing
            account.start_by_seed(broker, given, self._options.timeout_s())

    def _first_token(self, broker: Broker) -> str:
        """A refused password is typed anew only by a person who says so: each refusal counts at the
        vendor."""
        while True:
            try:
                found = broker.access_token(timeout_s=self._options.timeout_s())
                return format_rfc3339(found.expires_at_s)
            except CredentialsRefusedError as exc:
                if not self._interview.is_there:
                    raise
                self._interview.say(exc.message)
                if (
                    self._interview.ask("Write other credentials", default="no", choices=YES_NO)
                    == "no"
                ):
                    raise
                self._write_credentials(broker)

    # Clients.

    def _check_client(self, answers: Answers, client: str) -> None:
        """That a set-up would do, before anything is written for it.

        Raises: ConfigError, HostNotAllowedError.
        """
        with self._trial(answers) as porter:
            setups.plan(
                client, answers.profile, porter.config, self._options.config, self._environment
            )

    def _offer_clients(self, answers: Answers) -> None:
        clients = self._given.clients
        if not clients and self._has_talked:
            clients = self._until_it_works(lambda: self._choose_client(answers))
        for client in clients:
            setups.set_up(
                client, answers.profile, self._options, self._environment, self._interview.say
            )
        also = "" if clients else f", or nightporter setup CLIENT {answers.profile}"
        self._interview.say(f"next: nightporter token {answers.profile}{also}")

    def _choose_client(self, answers: Answers) -> Sequence[str]:
        question = "Which client is to be set up (kubectl, git, docker, ...)"
        chosen = self._question(question, default=NOBODY, choices=(*setups.CLIENTS, NOBODY))
        if chosen == NOBODY:
            return ()
        self._check_client(answers, chosen)
        return (chosen,)
