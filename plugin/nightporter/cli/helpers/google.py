"""google-auth at the edge: every outcome is a JSON document with exit 0, and standard error stays
empty."""

from __future__ import annotations

import contextlib
import os

from nightporter.cli.helpers.call import HelperCall, open_call, reported_expiry, write_output
from nightporter.cli.terminal import Options
from nightporter.core.errors import CommandLineError, NightporterError
from nightporter.core.values import replace
from nightporter.machine.files import is_private_directory, remove, replace_private
from nightporter.machine.places import read_environment
from nightporter.protocols import google


def serve(arguments: list[str], options: Options) -> int:
    """`[PROFILE]`."""
    with contextlib.suppress(OSError):  # warnings of libraries would be a part of the answer
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        with open_call("google", replace(options, is_silent=True)) as call:
            if len(arguments) > 1:
                raise CommandLineError("usage: nightporter credential google [PROFILE]")
            write_output(_answer(call, arguments[0] if arguments else None))
    except NightporterError as exc:
        write_output(google.render_error(exc.reference, exc.message))
    except Exception as exc:
        write_output(google.render_error("defect", f"a defect: {type(exc).__name__}"))
    return 0


def _answer(call: HelperCall, name: str | None) -> str:
    ask = google.parse(read_environment())
    broker = call.broker_of(name)
    google.check_audience(ask, broker.profile)
    if ask.is_revoke:
        broker.forget()
        if ask.output_file and is_private_directory(os.path.dirname(ask.output_file)):
            remove(ask.output_file)
        return google.REVOKED
    token = call.token(broker)
    google.check_jwt(token)
    answer = google.render(token, ask, reported_expiry=reported_expiry(broker, token))
    if ask.output_file and is_private_directory(os.path.dirname(ask.output_file)):
        with contextlib.suppress(OSError):  # it saves google-auth a run, no more
            replace_private(ask.output_file, answer.encode())
    return answer
