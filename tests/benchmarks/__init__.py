"""Benchmarks, run by hand."""

import explainers  # noqa: F401  before torch, as in the app (see ``explainers.idle_threads``)
