"""Where the project lies, and where the real networks and photographs lie that are not part of it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("EXPLORER_SHARED", ROOT.parent / "shared")) / "data"
