"""What becomes of each checkpoint of the corpus, and what time and memory it takes: ``python -m support.outcomes`` in ``tests``.

It is a program of its own, because the memory of a process is also that of its other threads, and those that earlier tests have
left may take and free more than a checkpoint does. It prints an ``Outcome`` in JSON for each case, one a line, and fails if code in
a file was run.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import explainers as ex
from explainers.networks import torchvision_models
from explainers.networks.model_cards import card_fields
from support import corpus_checkpoints as corpus


@dataclass(frozen=True)
class Outcome:
    """expected and says: of the case. kind: "network", or "sentence" with what it says. seconds: of one core. size: bytes of the
    file. grown: the most bytes by which the process was larger than before, 0 where the system does not tell."""

    name: str
    expected: str
    says: str
    kind: str
    sentence: str
    seconds: float
    size: int
    grown: int


def outcome(case: corpus.Case) -> tuple[str, str]:
    """What becomes of an upload, and the sentence."""
    try:
        card = card_fields(case.card) if case.card is not None else None
        ex.load_uploaded_model("case.pth", case.data, case.architecture, card, device="cpu")
    except ex.ExplainerError as error:
        return "sentence", str(error)
    return "network", ""


def outcomes() -> Iterator[Outcome]:
    torchvision_models.architectures()  # imports torchvision, which takes time and memory of its own
    memory = Memory()
    for case in corpus.cases():
        memory.reset()
        begin = time.process_time()
        kind, sentence = outcome(case)
        seconds, grown = time.process_time() - begin, memory.grown()
        yield Outcome(case.name, case.outcome, case.says, kind, sentence, seconds, len(case.data), grown)


class Memory:
    """The most memory that this process had since the last ``reset``, in bytes; 0 where the system does not tell."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        if sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")
        self.before = self._status("VmRSS")

    def grown(self) -> int:
        return self._status("VmHWM") - self.before

    def _status(self, name: str) -> int:
        if sys.platform != "linux":
            return 0
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    warnings.filterwarnings("error", ".*meta parameter")
    os.environ[corpus.TRAP] = "set"
    for each in outcomes():
        print(json.dumps(asdict(each)))
    assert os.environ[corpus.TRAP] == "set"
