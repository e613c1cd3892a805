"""What every reference means and what to do, for `nightporter explain` and for
plugin/docs/errors.md. Pure text.

The errors' own hints are short; here is room for where to look. Tests hold the list to the errors
that exist.
"""

from __future__ import annotations

from collections.abc import Mapping

from nightporter.core import errors

EXPLANATIONS: Mapping[str, tuple[str, str]] = {
    "defect": (
        "Something happened that nightporter has no words for: a mistake of ours.",
        (
            "Run the command again with -v, and report what it says with `nightporter doctor"
            " --bundle FILE`."
        ),
    ),
    "configuration": (
        (
            "The configuration, a variable or the command line is wrong. Each finding names file,"
            " key and what would fit."
        ),
        (
            "`nightporter config check` names all findings at once, `nightporter config show` what"
            " is in effect."
        ),
    ),
    "unknown-profile": (
        "No profile has the name that was given, or none was given and there is not exactly one.",
        (
            "`nightporter config show` lists the profiles of the file that is read (`nightporter"
            " config path`)."
        ),
    ),
    "untrusted-file": (
        (
            "A file that instructs nightporter (configuration, CA, token, secret-id, client key)"
            " could be changed by another user: it, a link to it or a directory above it belongs to"
            " somebody else, or others may write it. Who can change it could send your credentials"
            " elsewhere."
        ),
        (
            "See that the file holds what you wrote, then close it with the command that the"
            " message names. Files of root, a user's own group (umask 002), read-only mounts and"
            " Lambda pass. Where a container's mounts have other owners, set NIGHTPORTER_TRUST=all."
        ),
    ),
    "trust-lifted": (
        "NIGHTPORTER_TRUST=all is set: nightporter obeys files that others could have changed.",
        "Unset it where the files are your own or root's, and nobody else can write them.",
    ),
    "credentials-refused": (
        (
            "The issuer refused username, password or client secret. It is not tried again until"
            " the secret in the store changes or a back-off (5 minutes, doubling to 6 hours) has"
            " passed, so that no account is locked."
        ),
        (
            "Correct the secret: `nightporter credentials set PROFILE`. A change is tried at once,"
            " by every machine."
        ),
    ),
    "sign-in-throttled": (
        "The issuer takes no more sign-ins of this account for a while.",
        (
            "Wait until the time that the message names. Look for something else that signs in with"
            " the same account."
        ),
    ),
    "login-required": (
        (
            "There is no session, and this profile can't sign in by itself: its grant needs a"
            " person, or its role may not read the credentials."
        ),
        (
            "`nightporter login PROFILE`, `nightporter seed PROFILE`, or let a machine with role"
            " `full` rotate."
        ),
    ),
    "credentials-absent": (
        (
            "The secret with username and password (or the client's) is not in the store, or lacks"
            " a member."
        ),
        (
            "`nightporter credentials set PROFILE`; or correct `credentials`, `client` or `fields`"
            " in the profile."
        ),
    ),
    "session-rejected": (
        "The issuer refused the refresh token, and no newer one was in the store.",
        (
            "`nightporter login PROFILE` or `nightporter seed PROFILE`. If it comes again,"
            " something else uses it too."
        ),
    ),
    "store": (
        "The store failed in a way that has no reference of its own.",
        "Look at the store's own log.",
    ),
    "store-unreachable": (
        "No connection to the store, a time-out, or an answer of its server that something broke.",
        (
            "Check address, network, proxy and CA. A cached token that lives is served meanwhile;"
            " nothing was changed."
        ),
    ),
    "store-throttled": (
        "The store limits its clients' rate.",
        (
            "It is tried again by itself. Secrets Manager takes 50 writes a second and account:"
            " rotate in shards."
        ),
    ),
    "store-sealed": (
        "Vault is sealed or not initialised.",
        "An operator has to unseal it: `vault operator unseal`.",
    ),
    "store-denied": (
        (
            "A right is missing, and the message names it. Vault says the same of a token that has"
            " run out."
        ),
        (
            "`nightporter policy PROFILE --role ROLE` prints what a role needs; log in anew if the"
            " token is old."
        ),
    ),
    "store-value": (
        (
            "What is stored can't be used: no JSON object, too large, marked for deletion, a mount"
            " of version 1."
        ),
        "Look at the secret in the store, and correct it by hand; nothing was changed.",
    ),
    "store-conflict": (
        "Somebody else wrote the secret at the same moment.",
        "Run the command again.",
    ),
    "store-deletes-early": (
        (
            "The store would delete the session record before its time: on Vault a"
            " `delete_version_after` of the mount or the key that is shorter than a claim lives."
        ),
        (
            "Raise or remove that limit (`vault kv metadata put -delete-version-after=0s`, `vault"
            " write MOUNT/config`); `nightporter doctor` shows it."
        ),
    ),
    "record-newer": (
        "The session record was written by a newer nightporter, and is not touched by this one.",
        (
            "Update nightporter on this machine. Only a person replaces such a record: with"
            " `nightporter seed`, `login` or `logout --everywhere`."
        ),
    ),
    "exchange-continues": (
        (
            "The time limit was over while the issuer was still thinking. A refresh token that may"
            " rotate is listened to all the same, and its result is saved, so that nothing is lost."
        ),
        "Run the command again in a moment, or give a longer --timeout.",
    ),
    "sign-in-unsettled": (
        (
            "Two sign-ins ended without a known outcome (killed, cut off, lost), so nobody knows"
            " whether the issuer counted them as wrong. None is tried for five minutes, so that the"
            " account is not locked."
        ),
        (
            "Wait until the time that is named, or correct the credentials or the profile: they are"
            " tried at once."
        ),
    ),
    "store-rolled-back": (
        (
            "A person moved AWSCURRENT back to a version that has successors already, so every"
            " write collides."
        ),
        "`nightporter doctor PROFILE --repair` moves the label to the newest version again.",
    ),
    "write-budget": (
        (
            "Sessions are exchanged so often that Secrets Manager would run out of versions (100 a"
            " day and secret)."
        ),
        (
            "Find who forces refreshes (`nightporter status`, NIGHTPORTER_LOG), or share access"
            " tokens."
        ),
    ),
    "result-spilled": (
        (
            "The issuer gave a new session, and the store would not take it. It lies in a 0600 file"
            " on this machine."
        ),
        (
            "Nothing is lost. Once the store is back, the next exchange here puts it there:"
            " `nightporter rotate PROFILE`, or `nightporter doctor PROFILE --repair`."
        ),
    ),
    "nothing-published": (
        "This profile reads published access tokens only, and there is no living one.",
        (
            "Look at the job that runs `nightporter rotate --access`: its log, its schedule, its"
            " rights."
        ),
    ),
    "issuer": (
        "The issuer failed in a way that has no reference of its own.",
        "Try again later; ask the vendor.",
    ),
    "issuer-unreachable": (
        "No connection to the issuer, so nothing was sent.",
        (
            "Check `base_url`, network, proxy and `ca_cert`. A cached token that lives is served"
            " meanwhile."
        ),
    ),
    "issuer-busy": (
        "The issuer is overloaded or limits the rate, and said so.",
        "It is tried again by itself.",
    ),
    "issuer-outcome-unknown": (
        (
            "The request was sent, and no usable answer came back. Whether it took effect is not"
            " known."
        ),
        (
            "Run the command again: the next exchange finds out, and sends a token once more only"
            " where that is safe."
        ),
    ),
    "issuer-reply": (
        (
            "The issuer answered something that can't be used: a log-in page, a proxy's words, no"
            " access token."
        ),
        "Check that `base_url` is the token service itself; look at the address with a browser.",
    ),
    "lambda-init": (
        (
            "A token was asked for while Lambda imports the function. Lambda may do that twice, so"
            " nothing is exchanged."
        ),
        "Ask in the handler; BearerAuth may be made at the top, since it asks when it is used.",
    ),
    "lambda-no-time": (
        "Less than 12 s of the invocation are left, and an exchange could be cut off.",
        "Give the function a timeout of 30 s or more, and ask at the handler's beginning.",
    ),
    "claim-busy": (
        (
            "Another machine, or another process here, was exchanging the session until our time"
            " was over."
        ),
        (
            "Try again, or give a longer --timeout. A claim lives 16 s, or 64 s where a second send"
            " would end the session; then the next holder takes over."
        ),
    ),
    "rotation-failed": (
        "Some profiles of a scheduled run failed; the others were done.",
        "Each one's own reference is in the log, under the event `rotated`.",
    ),
    "host-not-allowed": (
        "The token was asked for a host, a cluster or an audience that the profile doesn't name.",
        "If it may have the token, name it in `hosts` (`google_audiences`) of exactly one profile.",
    ),
    # What only doctor and status find.
    "bad-ask": (
        (
            "A helper was asked something that breaks its protocol: control bytes, a key said"
            " twice, a host that is none."
        ),
        "Look at who asks. The request was refused whole, and nothing of it was repeated.",
    ),
    "foreign-record": (
        (
            "The record in the store is of another vendor, user or client, or of an unknown form."
            " It is never used."
        ),
        (
            "Give each profile a `refresh_token` path of its own. The next sign-in replaces the"
            " record."
        ),
    ),
    "scope-narrowed": (
        (
            "The issuer granted less than was asked for (RFC 6749 section 5.1), so the vendor's API"
            " will refuse some calls with 403. Said once; `nightporter status` shows it."
        ),
        (
            "Let the vendor give the client or the user those scopes, and start the session again;"
            " or leave them out of `scopes` in the profile."
        ),
    ),
    "other-user": (
        (
            "The issuer's id_token names another user than `username` in the profile: somebody"
            " logged in, or seeded, as somebody else."
        ),
        (
            "Start the session again as the right user (`nightporter login PROFILE`, `nightporter"
            " seed PROFILE`), or correct `username`."
        ),
    ),
    "file-mode": (
        "A file or directory of nightporter's can be read or written by others.",
        (
            "`nightporter doctor --repair` closes it. What others could have written is not"
            " trusted, and thrown away."
        ),
    ),
    "cache-unusable": (
        "No directory can hold cached tokens, so every command asks the store anew.",
        "Set NIGHTPORTER_CACHE_DIR to a directory of your own, mode 0700.",
    ),
    "clock-skew": (
        "This machine's clock and the issuer's differ by more than a few seconds.",
        "Set the clock by NTP: a machine that is ahead takes over living claims.",
    ),
    "session-refused": (
        "A refused sign-in is remembered in the record.",
        "Correct the secret: `nightporter credentials set PROFILE`. A change is tried at once.",
    ),
    "session-claimed": (
        "A machine holds the claim on the session, or has died with it.",
        (
            "Nothing: a claim runs out after 16 s, or after 64 s where a second send would end the"
            " session."
        ),
    ),
    "session-old": (
        "The refresh token ends soon, or has ended; the scheduled job should have renewed it.",
        "Look at the job that runs `nightporter rotate`, or run it: `nightporter rotate PROFILE`.",
    ),
    "helper-failed": (
        "A client asked a helper, it failed, and the client kept that to itself.",
        "The message says what failed. The note goes away when the same client next succeeds.",
    ),
    "command-missing": (
        "A command that clients run is not on PATH, or not the one of this installation.",
        (
            "Put the directory of nightporter's commands on PATH, or repeat `nightporter setup"
            " CLIENT PROFILE`."
        ),
    ),
    "library-missing": (
        "A library that a store of the configuration needs is not installed.",
        "Install nightporter with the extra that the finding names.",
    ),
}


# Whose turn it is, by exit code (contract, section 4).
WHOSE_TURN: Mapping[int, tuple[str, str]] = {
    1: ("ours", "a defect"),
    2: ("who configures", "usage, configuration, unknown profile"),
    3: (
        "who owns the account",
        "the issuer refused username, password or client secret, now or remembered",
    ),
    4: ("a person", "no session and no way to sign in unattended; no credentials secret"),
    5: (
        "who runs the store",
        "away, sealed, denies (the missing right is named), throttles; the claim can't be written",
    ),
    6: (
        "who runs the vendor",
        "away, fails, answers nonsense; another holder busy until the deadline",
    ),
    7: ("who configures", "a host that is in no `hosts`"),
}


def render_exits() -> str:
    """The README's table: exit codes, whose turn it is, and the references of the errors that end
    so."""
    lines = ["| exit | whose turn | when | references |", "| --- | --- | --- | --- |"]
    classes = [
        item
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, Exception)
    ]
    kinds = [item for item in classes if issubclass(item, errors.NightporterError)]
    for code, (who, when) in WHOSE_TURN.items():
        found = [kind.reference for kind in kinds if kind.exit_code == code]
        lines.append(
            f"| {code} | {who} | {when} |"
            f" {', '.join(f'`{name}`' for name in dict.fromkeys(found))} |"
        )
    return "\n".join(lines) + "\n"


def render_page() -> str:
    """plugin/docs/errors.md: one section a reference."""
    head = (
        "# References\n\nEvery error ends with a reference. `nightporter explain REFERENCE` prints"
        " the same.\n"
    )
    parts = [
        f"## {name}\n\n{what}\n\n**What to do.** {todo}\n"
        for name, (what, todo) in EXPLANATIONS.items()
    ]
    return "\n".join([head, *parts])
