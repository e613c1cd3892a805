"""`python -m lab.fuzzing TARGET SECONDS CORPUS`: one target under atheris, in an environment that
has it (./scripts/fuzz).

Ends with 0 when the time is over; a crash leaves its input in `tests/corpus/TARGET`.
"""

from __future__ import annotations

import logging
import os
import sys

import atheris


def main() -> None:
    name, seconds, grown = sys.argv[1:]
    with atheris.instrument_imports(include=["nightporter"]):
        from lab.fuzzing import corpus, targets
    logging.disable(logging.CRITICAL)
    place = corpus.PLACE / name
    place.mkdir(parents=True, exist_ok=True)
    os.makedirs(grown, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={place}/",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-max_len=4096",
        "-print_final_stats=1",
        "-verbosity=0",
        *((f"-dict={words}",) if (words := corpus.PLACE / "words.dict").is_file() else ()),
    ]
    places = [grown, str(corpus.PLACE / "all"), str(place)]
    atheris.Setup([sys.argv[0], *options, *places], lambda content: targets.ask(name, content))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
