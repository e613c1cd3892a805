"""What requests can do without, in a process of our own."""

from __future__ import annotations

import sys
import warnings


def leave_out_charsets() -> None:
    """Keeps requests from importing chardet or charset_normalizer, which are a twentieth of a cold
    start: they guess how a text is encoded whose answer doesn't say so, and we read bytes and JSON.

    None in sys.modules means "not installed" (Python reference, 5.3.1), which requests provides
    for (`requests.compat`, since 2.32), with a warning. For the command alone: in a program that
    uses us as a library, requests may be asked for such a guess.
    """
    for name in ("chardet", "charset_normalizer"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # "not installed"
    warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
