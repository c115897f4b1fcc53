"""The only file that imports torchvision.

torchvision's wheel on PyPI is compiled against a CUDA build of torch. Beside a CPU build of torch its compiled operators
cannot be loaded, and ``import torchvision`` then fails with ``operator torchvision::nms does not exist``, although no
classifier needs those operators. So this file first declares the two operators that torchvision looks up during its import.
Where the compiled operators load, they declare themselves, and a second declaration would be an error.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _compiled_operators_load() -> bool:
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("torchvision is not installed: pip install -r requirements.txt")
    folder = Path(package.submodule_search_locations[0])
    libraries = [path for path in folder.glob("_C*") if path.suffix in {".so", ".pyd", ".dylib"}]
    try:
        for library in libraries:
            torch.ops.load_library(library)
    except (ImportError, OSError):
        return False
    return bool(libraries)


if not _compiled_operators_load():
    # This object must stay alive: when it is deleted, its declarations are, too.
    _declarations = torch.library.Library("torchvision", "FRAGMENT")
    for _schema in _MISSING:
        if not hasattr(torch.ops.torchvision, _schema.split("(")[0]):
            _declarations.define(_schema)

import torchvision  # noqa: E402
import torchvision.models  # noqa: E402

__all__ = ["torchvision"]
