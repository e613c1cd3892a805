"""What every reference means and what to do: the one catalogue behind the hints of errors, the
findings of `nightporter doctor`, `nightporter explain` and plugin/docs/errors.md. Pure text.

Tests hold the catalogue to the references that exist.
"""

from __future__ import annotations

from collections.abc import Mapping

from nightporter.core.values import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """`meaning`: what has happened. `hint`: what to do next, as an error prints it. `more`: what
    `explain` and the page have room for."""

    meaning: str
    hint: str
    more: str = ""

    @property
    def remedy(self) -> str:
        """Returns all that there is to do."""
        return f"{self.hint} {self.more}".rstrip()


EXPLANATIONS: Mapping[str, Explanation] = {
    "defect": Explanation(
        "Something happened that nightporter has no words for: a defect in nightporter.",
        "Run the command again with -v and report what it prints.",
        "`nightporter doctor --bundle FILE` writes a report without secrets to attach.",
    ),
    "configuration": Explanation(
        "The configuration is wrong, or a variable or another file that says what to do. Each"
        " finding names the file, the key and what it takes.",
        "Correct what the message names; `nightporter config check` names everything that is wrong"
        " in the file that is read.",
        "`nightporter config show` prints what is in effect, and where each value comes from."
        " plugin/docs/configuration.md has every key: [stores.NAME] has `type` (local, vault,"
        " aws-secrets-manager) and the keys of that type; [profiles.NAME] has `issuer`, `store`,"
        " `credentials` (the path of the secret), `hosts` (who may get the token) and `role`.",
    ),
    "usage": Explanation(
        "The command line, or what a command was given on standard input, is not what the command"
        " takes. No file is wrong.",
        "`nightporter COMMAND --help` shows what a command takes, with examples.",
        "`nightporter --help` lists the commands.",
    ),
    "unknown-profile": Explanation(
        "No profile has the given name; or no name was given, and there is not exactly one"
        " profile.",
        "`nightporter config show` lists the profiles.",
        "`nightporter config path` says which file is read.",
    ),
    "untrusted-file": Explanation(
        "Another user could change a file that instructs nightporter (configuration, CA, token,"
        " secret-id, client key): the file, a link to it or a directory above it belongs to"
        " somebody else, or others may write it. Such a user could send your credentials"
        " elsewhere.",
        "Check that the file holds what you wrote, then close it with the command that the message"
        " names.",
        "Files of root, a user's own group (umask 002), read-only mounts and Lambda are trusted."
        " Where a container's mounts have other owners, set NIGHTPORTER_TRUST=all.",
    ),
    "metrics-not-sent": Explanation(
        "The variables of OpenTelemetry ask for metrics in a way that nightporter doesn't offer, so"
        " it sends none. Tokens are not affected.",
        "Set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, _PROTOCOL (http/protobuf or http/json) and"
        " _HEADERS; they go before those for all signals. OTEL_METRICS_EXPORTER=none wants none.",
        "http/protobuf needs the package opentelemetry-proto (the extra `otlp`); http/json needs"
        " nothing.",
    ),
    "notify-unusable": Explanation(
        "The command of `[notify]` can't be run, so nobody will be told of a dead or refused"
        " session.",
        "Correct `command` in `[notify]`: the absolute path of a program that this user may run.",
    ),
    "trust-lifted": Explanation(
        "NIGHTPORTER_TRUST=all is set: nightporter obeys files that others could have changed.",
        "Unset it where the files belong to you or to root, and nobody else can write them.",
    ),
    "credentials-refused": Explanation(
        "The issuer refused the username, the password or the client secret. They are not sent"
        " again until the secret in the store changes or a back-off is over (5 minutes, doubling to"
        " 6 hours), so that the account isn't locked.",
        "Correct the secret (`nightporter credentials set PROFILE`, or in the store). A changed"
        " secret is tried at once, by every machine.",
    ),
    "sign-in-throttled": Explanation(
        "The issuer accepts no more sign-ins of this account for a while.",
        "Wait until the account is unlocked; do not sign in by hand either.",
        "The message names the time. Look for something else that signs in with this account.",
    ),
    "login-required": Explanation(
        "There is no session, and this profile can't start one unattended: its grant needs a"
        " person, or its role may not read the credentials.",
        "Run `nightporter login PROFILE` or `nightporter seed PROFILE`.",
        "For a profile with a role, let a machine with role `full` run `nightporter rotate`.",
    ),
    "credentials-absent": Explanation(
        "The secret with the username and password (or the client's) is not in the store, or a"
        " member is missing.",
        "Write the secret with `nightporter credentials set PROFILE`, or correct `credentials` in"
        " the profile.",
        "`client` and `fields` of the profile name where else to look.",
    ),
    "session-rejected": Explanation(
        "The issuer refused the refresh token, and the store has no newer one.",
        "Run `nightporter login PROFILE` or `nightporter seed PROFILE`.",
        "If it happens again, something else uses the same refresh token.",
    ),
    "session-used-elsewhere": Explanation(
        "The issuer says that the refresh token was used before, and nightporter had never sent it:"
        " somebody else has used this session. That is a second program with a copy of the token,"
        " or a thief. An answer to nightporter that was lost, and a store that this machine has"
        " seen newer (`store-rolled-back`), are told apart from it.",
        "Revoke the session at the issuer, find the other holder of the token, then start the"
        " session again: `nightporter login PROFILE` or `nightporter seed PROFILE`.",
        "`nightporter logout PROFILE --everywhere` revokes where the issuer can. The message says"
        " who brought or last exchanged the token, and since when it was in the store: look for"
        " copies from that time on (a shell history, a CI variable, a second configuration). If a"
        " back-up of the store was restored at that time, that is the reason, and nobody is to"
        " blame. Access tokens that were issued meanwhile live until their end.",
    ),
    "store": Explanation(
        "The store failed in a way that has no reference of its own.",
        "Look at the store's own log; `nightporter status` shows what is cached here.",
    ),
    "store-note": Explanation(
        "The store or the keyring has told something that fails nothing now, but that somebody"
        " should know.",
        "Do what the message says; a missing permission is in `nightporter policy PROFILE --role"
        " ROLE`.",
    ),
    "store-unreachable": Explanation(
        "The store can't be reached, the connection timed out, or its answer was broken off.",
        "Check the store's address, the network, the proxy and the CA; nothing was changed.",
        "A cached token that is still valid is served meanwhile.",
    ),
    "store-electing": Explanation(
        "The store's cluster has no leader just now: a node died, or was restarted.",
        "It is waited for as long as `--timeout` allows. If it stays, look whether a majority of"
        " the nodes is there and unsealed, and that `address` names a node that forwards requests.",
    ),
    "store-throttled": Explanation(
        "The store limits the rate of its clients.",
        "It is retried automatically. Wait a moment, or ask for a higher quota.",
        "Secrets Manager allows 50 writes a second and account: rotate in shards.",
    ),
    "store-sealed": Explanation(
        "Vault is sealed or not initialized.",
        "An operator must unseal Vault (`vault operator unseal`); nothing was changed.",
    ),
    "store-denied": Explanation(
        "A permission is missing, and the message names it. Vault says the same when a token has"
        " expired.",
        "Grant the permission that the message names; `nightporter policy PROFILE --role ROLE`"
        " prints all that this role needs.",
        "If the token has expired, log in again (`vault login`).",
    ),
    "store-value": Explanation(
        "What is stored can't be used: it is no JSON object, too large or marked for deletion, or"
        " the mount is KV version 1.",
        "Look at the secret in the store and correct it by hand; nothing was changed.",
    ),
    "store-conflict": Explanation(
        "Another writer changed the secret at the same moment.", "Run the command again."
    ),
    "store-deletes-early": Explanation(
        "The store would delete the session record too early: on Vault a `delete_version_after` of"
        " the mount or the key is shorter than a claim lives.",
        "Raise or remove the store's own limit (Vault: `vault kv metadata put"
        " -delete-version-after=0s`, and the mount's delete_version_after); nothing was sent.",
        "`vault write MOUNT/config delete_version_after=0s` changes the mount; `nightporter doctor`"
        " names what sets the limit.",
    ),
    "record-newer": Explanation(
        "A newer nightporter wrote the session record. This one leaves it as it is.",
        "Update nightporter on this machine. A person can replace the record: `nightporter seed"
        " PROFILE`, `nightporter login PROFILE` or `nightporter logout PROFILE --everywhere`.",
    ),
    "exchange-continues": Explanation(
        "The time limit ended while the issuer was still working. The exchange of a refresh token"
        " that may rotate goes on in the background and its result is saved, so that nothing is"
        " lost.",
        "Run the command again in a moment, or give a longer --timeout.",
    ),
    "sign-in-unsettled": Explanation(
        "Two sign-ins ended without a known outcome (killed, cut off, lost), so nobody knows"
        " whether the issuer counted them as failed. No other is tried for five minutes, so that"
        " the account isn't locked.",
        "Wait until the time that the message names, or correct the credentials or the profile:"
        " they are tried at once.",
    ),
    "store-rolled-back": Explanation(
        "AWSCURRENT was moved back to an older version, so every write collides with a version"
        " that already exists.",
        "Run `nightporter doctor PROFILE --repair`, which moves AWSCURRENT to the newest version"
        " again.",
        "`aws secretsmanager update-secret-version-stage` does it by hand.",
    ),
    "write-budget": Explanation(
        "The session is exchanged so often that Secrets Manager would run out of versions (100 a"
        " day and secret).",
        "Wait, and find out what forces the exchanges (`nightporter status`, NIGHTPORTER_LOG).",
        "`share_access_token = true` lets all machines use one access token.",
    ),
    "result-spilled": Explanation(
        "The issuer started a new session, and the store did not accept it. The pending result is"
        " in a 0600 file on this machine.",
        "Nothing is lost: run `nightporter rotate PROFILE` here once the store is back.",
        "`nightporter doctor PROFILE --repair` writes it too.",
    ),
    "nothing-published": Explanation(
        "This profile only reads published access tokens, and there is no valid one.",
        "Check that the job that runs `nightporter rotate --access` is running.",
        "Look at its log, its schedule and its permissions.",
    ),
    "issuer": Explanation(
        "The issuer failed in a way that has no reference of its own.",
        "Try again later. If it keeps failing, ask the vendor.",
    ),
    "issuer-unreachable": Explanation(
        "The issuer can't be reached, so nothing was sent.",
        "Check `base_url`, the network, the proxy and the CA; the request was not sent.",
        "A cached token that is still valid is served meanwhile.",
    ),
    "issuer-busy": Explanation(
        "The issuer is overloaded or limits the rate.",
        "It is retried automatically.",
    ),
    "issuer-outcome-unknown": Explanation(
        "The request was sent, and no usable answer came back. Whether it took effect is not"
        " known.",
        "Run the command again: the next exchange finds out.",
        "A refresh token is sent a second time only where that is safe.",
    ),
    "issuer-reply": Explanation(
        "The issuer's answer can't be used: it is a login page, an error page of a proxy, or has no"
        " access token.",
        "Check that `base_url` is the vendor's token service and not a proxy or a login page.",
        "Open the address in a browser to see what answers.",
    ),
    "lambda-init": Explanation(
        "A token was requested while Lambda imports the function. Lambda may import it twice, so"
        " nothing is exchanged then.",
        "Request tokens in the handler, not while the module is imported.",
        "A BearerAuth may be created at the top of the module: it requests a token when it is"
        " used.",
    ),
    "lambda-no-time": Explanation(
        "Less than 12 s of the invocation are left, and an exchange could be cut off.",
        "Raise the function's timeout to 30 s or more, and request the token at the beginning of"
        " the handler.",
    ),
    "claim-busy": Explanation(
        "Another machine, or another process on this one, was exchanging the session until the"
        " time limit.",
        "Try again, or give a longer --timeout.",
        "A claim lives 16 s, or 64 s where a second send would end the session; then the next"
        " machine takes over.",
    ),
    "rotation-failed": Explanation(
        "Some profiles of a scheduled run failed; the others are done.",
        "Look at the lines with the event `rotated` in the function's log: each failed profile has"
        " its reason.",
    ),
    "host-not-allowed": Explanation(
        "The token was requested for a host, a cluster or an audience that the profile doesn't"
        " name.",
        "If this host may have the token, name it in `hosts` of exactly one profile.",
        "`google_audiences` is the same for Google's audiences.",
    ),
    # What only doctor and status find.
    "cluster-not-pinned": Explanation(
        "kubectl asks for this profile's token, and the profile doesn't say which CA the cluster"
        " has. A kubeconfig that somebody sent could name the same server with another CA and get"
        " the token.",
        "Run `nightporter setup kubectl PROFILE` while the kubeconfig is one that you trust.",
        "It pins the CA, the proxy and the TLS server name in the profile.",
    ),
    "other-user-name": Explanation(
        "A client asked for one of your hosts with another user name than the profile's"
        " `helper_username`, so the helper answered nothing.",
        "Take the user name out of the address or of the client's configuration, or set"
        " `helper_username` in the profile.",
        "git's is `credential.<url>.username`: `git config --show-origin --get-urlmatch"
        " credential.username URL` says where it is set.",
    ),
    "bad-ask": Explanation(
        "A client's request to a helper breaks the protocol: control characters, a key that occurs"
        " twice, an invalid host.",
        "Find out which client sends it. The whole request was refused, and nothing of it is"
        " repeated.",
    ),
    "foreign-record": Explanation(
        "The record in the store belongs to another vendor, user or client, or has an unknown"
        " form. It is never used.",
        "Give each profile a `refresh_token` path of its own.",
        "The next sign-in replaces the record.",
    ),
    "file-mode": Explanation(
        "Others can read or write a file or directory that belongs to nightporter.",
        "`nightporter doctor --repair` makes it private.",
        "Files that others could have written are not trusted, and are deleted.",
    ),
    "cache-unusable": Explanation(
        "No directory can hold cached tokens, so every command asks the store again.",
        "Set NIGHTPORTER_CACHE_DIR to a directory of your own, mode 0700.",
    ),
    "clock-skew": Explanation(
        "This machine's clock differs from the issuer's or the store's by more than a few seconds.",
        "Synchronize the clock (NTP).",
    ),
    "session-refused": Explanation(
        "The record remembers a refused sign-in.",
        "Correct the secret: `nightporter credentials set PROFILE`. A changed secret is tried at"
        " once.",
    ),
    "session-claimed": Explanation(
        "A machine holds the claim on the session, or died while it held it.",
        "Nothing: a claim expires after 16 s, or after 64 s where a second send would end the"
        " session.",
    ),
    "implausible-token": Explanation(
        "The store holds an access token that nightporter did not write so: it would live for more"
        " than a day after its exchange, comes from the future, is no bearer token, or is of"
        " another issuer. Nobody is given it. Anyone who may write there could have planted it.",
        "Run `nightporter token PROFILE --force-refresh` and `nightporter rotate PROFILE --access`,"
        " which write over it.",
        "Then see in the store's audit log who wrote it, and take that right away: `nightporter"
        " policy PROFILE --role ROLE` prints what each role needs.",
    ),
    "session-idle": Explanation(
        "The vendor ends sessions that nobody refreshes for a while (`idle_life`). That is soon.",
        "Run `nightporter rotate` now, and on a schedule.",
    ),
    "session-old": Explanation(
        "The refresh token expires soon, or has expired; the scheduled job should have renewed it.",
        "Look at the job that runs `nightporter rotate`, or run it: `nightporter rotate PROFILE`.",
    ),
    "helper-failed": Explanation(
        "A helper failed, and the client that called it didn't show the error.",
        "Do what the message says. The note is removed when the same client next succeeds.",
    ),
    "command-missing": Explanation(
        "A command that clients run is not on PATH, or belongs to another installation.",
        "Put the directory of nightporter's commands on PATH, or repeat `nightporter setup CLIENT"
        " PROFILE`.",
    ),
    "scope-narrowed": Explanation(
        "The issuer granted fewer scopes than requested (RFC 6749 section 5.1), so the vendor's API"
        " will refuse some calls with 403. It is said once; `nightporter status` shows it.",
        "Let the vendor grant the client or the user those scopes and start the session again, or"
        " remove them from `scopes` in the profile.",
    ),
    "other-user": Explanation(
        "The issuer's id_token names another user than `username` in the profile: somebody logged"
        " in, or seeded, as another user.",
        "Start the session again as the right user (`nightporter login PROFILE`, `nightporter seed"
        " PROFILE`), or correct `username`.",
    ),
    "library-missing": Explanation(
        "A library that the configuration needs (for a store, or to sign for a client) is not"
        " installed in the environment of nightporter.",
        "Run `nightporter doctor`: it prints the command that installs it.",
        "An installation by pipx, uv, pip or a container has a command of its own.",
    ),
}
