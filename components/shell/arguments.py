"""The app's own arguments: ``streamlit run app.py -- --networks my_nets.py more_nets.py``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

NETWORKS = "EXPLORER_NETWORKS"  # as explainers.networks.own_modules has it, whose import would bring torch before the server starts


def read(arguments: Sequence[str]) -> None:
    """Add the files named by ``--networks`` to those of the environment variable. Other arguments are left alone."""
    parser = argparse.ArgumentParser(prog="streamlit run app.py --", allow_abbrev=False)
    parser.add_argument("--networks", nargs="+", action="extend", default=[], metavar="FILE.py",
                        help="Python files whose functions return ex.classifier(...)")
    named = [str(Path(file).expanduser().resolve()) for file in parser.parse_known_args(arguments)[0].networks]
    already = [file for file in os.environ.get(NETWORKS, "").split(os.pathsep) if file]
    if named:
        os.environ[NETWORKS] = os.pathsep.join(dict.fromkeys([*already, *named]))
