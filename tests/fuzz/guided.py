"""Inputs that follow the code's branches, by atheris. Needs `pip install atheris`; it is in no lock file.

Atheris sees branches of Python only. The structs are decoded by msgspec in C, where it is as blind as
`tests.fuzz.inputs` and slower; it pays for headers and notes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from tests.fuzz.bounds import timed
from tests.fuzz.targets import Target


def run_guided(target: Target, inputs: int, seed: int) -> NoReturn:
    """Ends the process: with 0 after so many inputs, with atheris' own code at the first failure."""
    try:
        import atheris
    except ImportError:
        sys.exit("--guided: expected the package atheris; `pip install atheris` into this environment")
    atheris.instrument_all()
    with TemporaryDirectory() as folder:
        for number, example in enumerate(target.corpus):
            (Path(folder) / str(number)).write_bytes(example)

        def run(data: bytes) -> None:
            timed(target.run, data)

        options = [f"-runs={inputs}", f"-seed={seed}", "-max_len=1000000", "-rss_limit_mb=2048", folder]
        atheris.Setup([sys.argv[0], *options], run)
        atheris.Fuzz()
    sys.exit(0)
