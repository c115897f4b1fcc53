"""A second device made of CPU memory: what mixes its tensors with the CPU's fails, as on a GPU.

A tensor of this device is a wrapper around a CPU tensor that does the work. It says that it is on the device "meta", which every
PyTorch has, and which needs no backend that would stay registered in the process of the tests. What PyTorch makes without asking
(``torch.tensor``, ``torch.Generator``, ``tolist``) is replaced while ``second_device`` lasts, and so is ``torch.inference_mode``, in
which no wrapper can be made, by ``torch.no_grad``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from explainers.networks.classifier import Classifier

DEVICE, CPU = torch.device("meta"), torch.device("cpu")
aten = torch.ops.aten
_COPIES = {aten._to_copy.default, aten.copy_.default, aten.to.device, aten.to.dtype_layout}  # from one device to the other
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}  # by CPU indices, too
_GENERATORS: dict[int, torch.Generator] = {}  # this device's, by address: PyTorch hands them on in other Python objects
_make_generator, _make_tensor = torch.Generator, torch.tensor


class OnDevice(Tensor):
    """A tensor of the second device; ``inner`` has its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        wrapper = Tensor._make_wrapper_subclass(cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
                                                dtype=inner.dtype, device=DEVICE)
        wrapper.inner = inner
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.inner!r})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert a tensor of the second device to numpy: use Tensor.cpu() first")

    def __array__(self, *arguments: Any) -> Any:
        return self.numpy()


class _Generator(torch.Generator):
    """A generator of the second device, which draws the CPU's numbers; made for another device, it is that device's own."""

    def __new__(cls, device: Any = "cpu") -> Any:
        if torch.device(device) != DEVICE:
            return _make_generator(device)
        made = super().__new__(cls)
        _GENERATORS[made._cdata] = made
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE


class _Mode(TorchDispatchMode):
    """Lets ``_run`` see the functions that make a tensor from none."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    values = tree_flatten((args, kwargs))[0]
    wrappers = [value for value in values if isinstance(value, OnDevice)]
    device = kwargs.get("device") or (DEVICE if wrappers else CPU)
    _refuse_mixture(function, values, wrappers, torch.device(device))
    own = {id(wrapper.inner): wrapper for wrapper in wrappers}  # what works in place returns its own argument
    inner_args, inner_kwargs = tree_map(_inner, (args, kwargs))
    if "device" in kwargs:
        inner_kwargs["device"] = CPU
    if function is aten._to_copy.default:
        inner_kwargs.pop("non_blocking", None)
    result = function(*inner_args, **inner_kwargs)
    if torch.device(device) != DEVICE:
        return result
    return tree_map(lambda value: _wrapped(value, own) if isinstance(value, Tensor) else value, result)


def _wrapped(inner: Tensor, own: dict[int, OnDevice]) -> OnDevice:
    return own[id(inner)] if id(inner) in own else OnDevice(inner)


def _inner(value: Any) -> Any:
    """The tensor that does the work. PyTorch itself makes a tensor of a list of indices; an empty one needs no numbers."""
    if isinstance(value, OnDevice):
        return value.inner
    return torch.empty(value.shape, dtype=value.dtype) if _is_empty(value) else value


def _is_empty(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device == DEVICE and not value.numel()


def _refuse_mixture(function: Any, values: list[Any], wrappers: list[OnDevice], device: torch.device) -> None:
    plain = [value for value in values if isinstance(value, Tensor) and not isinstance(value, OnDevice)]
    assert all(value.device == CPU or _is_empty(value) for value in plain), f"{function}: a tensor without numbers"
    if wrappers and function not in _COPIES | _INDEXED and any(value.dim() for value in plain):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {function} got tensors of two devices")
    generators = [value for value in values if isinstance(value, _make_generator)]
    if any((generator._cdata in _GENERATORS) != (device == DEVICE) for generator in generators):
        raise RuntimeError(f"{function}: expected a generator of the device of the numbers that are drawn")


def _tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
    made = _make_tensor(data, **options)
    return made if device is None else made.to(device)


def _without_gradients(mode: bool = True) -> AbstractContextManager[Any]:
    return torch.no_grad() if mode else nullcontext()


@contextmanager
def second_device() -> Iterator[torch.device]:
    """While this lasts, tensors can be made on, and moved to, the device that it yields."""
    with patch("torch.tensor", _tensor), patch("torch.inference_mode", _without_gradients), patch("torch.Generator", _Generator), \
            patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["cpu", DEVICE.type]), _Mode():
        yield DEVICE
    _GENERATORS.clear()


def moved(network: Classifier) -> Classifier:
    """The same classifier on the second device."""
    return Classifier(copy.deepcopy(network.module), name=network.name, title=network.title, categories=network.categories,
                      preprocessing=network.preprocessing, device=DEVICE)
