"""Every form in which the layers below say that memory ran out: a batch is halved, or the run ends in one sentence."""

from __future__ import annotations

import errno
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from support.networks import classifier, residual_module

import explainers as ex
from explainers.context import Context
from explainers.memory import OutOfMemory, in_one_sentence, ran_out
from explainers.methods import gradients
from explainers.networks import outputs
from explainers.networks.torchvision_guard import torchvision

FORMS: dict[str, Exception] = {  # as they were raised in runs with little memory, or as the libraries' sources have them
    "torch on the CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                                     "tried to allocate 3612672 bytes. Error code 12 (Cannot allocate memory)"),
    "torch on Windows": RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to "
                                     "allocate 8 bytes."),
    "oneDNN, at the start": RuntimeError("could not create a primitive"),
    "oneDNN, a descriptor": RuntimeError("could not create a primitive descriptor for the convolution forward propagation primitive. "
                                         "Run workload with environment variable ONEDNN_VERBOSE=all to get more information."),
    "oneDNN, while it runs": RuntimeError("could not execute a primitive"),
    "oneDNN, an object": RuntimeError("could not create a memory object"),
    "C++": RuntimeError("std::bad_alloc"),
    "a library that is loaded": ImportError("scipy/special/_special_ufuncs.so: failed to map segment from shared object"),
    "Python": MemoryError(),
    "numpy": np._core._exceptions._ArrayMemoryError((2**40,), np.dtype("float64")),
    "the system": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "a mapped file": RuntimeError("unable to mmap 19000000 bytes from file <weights>: Cannot allocate memory (12)"),
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CUDA, a later call": RuntimeError("CUDA error: out of memory"),
    "cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 17.85 GB). Tried to allocate 1.2 GB on private pool."),
}
OTHERS = (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), ValueError("memory"), KeyError("allocate"),
          OSError(errno.ENOENT, "No such file"), ex.ExplainerError("This network does not fit into memory."), ex.Cancelled("stopped"))
every_form = pytest.mark.parametrize("form", FORMS)


def refusing(error: Exception, most: int) -> Callable[[int, int], list[int]]:
    """Work on a batch that raises ``error`` where the batch has more than ``most`` items."""
    def work(start: int, stop: int) -> list[int]:
        if stop - start > most:
            raise error
        return list(range(start, stop))

    return work


@every_form
def test_a_batch_is_halved_until_it_fits(form, toy):
    context = Context(toy)
    context.batch_size = 8
    batches = [batch for _, _, batch in context.batches(11, refusing(FORMS[form], 3))]
    assert sum(batches, []) == list(range(11)) and max(map(len, batches)) == 2 == context.batch_size


@every_form
def test_where_not_even_one_image_fits_a_sentence_says_so(form, toy):
    with pytest.raises(ex.ExplainerError, match=r"even for one image: choose a smaller network or another device\.$") as raised:
        list(Context(toy).batches(4, refusing(FORMS[form], 0)))
    assert raised.value.__cause__ is FORMS[form]


@every_form
@pytest.mark.parametrize("where", ["the network", "a gradient", "what follows the passes"])
def test_a_run_outside_of_batches_ends_in_one_sentence(form, where, toy, image, monkeypatch):
    """Methods also compute without ``Context.batches``: a backward pass, linear algebra, what is made of the passes."""
    def fail(*_arguments, **_options):
        raise FORMS[form]

    place = {"the network": (toy.graph, "run"), "a gradient": (torch.autograd, "grad"),
             "what follows the passes": (gradients, "RawMap")}[where]
    with monkeypatch.context() as patch:
        patch.setattr(*place, fail)
        with pytest.raises(OutOfMemory, match="too little free memory for .*: close other programs") as raised:
            ex.explain(toy, image, "gradient", target=1)
    assert raised.value.__cause__ is FORMS[form]
    assert torch.isfinite(ex.explain(toy, image, "gradient", target=1).native).all()  # the next run is whole


@pytest.mark.parametrize("metric", ["insertion_deletion", "sensitivity_n", "sanity_checks", "class_sensitivity", "localisation"])
def test_a_metric_ends_in_one_sentence(metric, toy, image, monkeypatch):
    judged = {"region": (2, 2, 20, 20)} if metric == "localisation" else {}
    measurement = ex.judge(metric, ex.ask(toy, image, "gradient", target=1), **{**ex.metrics()[metric].cheap, **judged})

    def fail(*_arguments, **_options):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(toy.graph, "run", fail)
    with pytest.raises(ex.ExplainerError, match="memory"):
        ex.Engine().measure(measurement)


def test_any_other_computation_of_an_engine_ends_in_one_sentence():
    def fail():
        raise MemoryError

    engine = ex.Engine()
    with pytest.raises(OutOfMemory, match="too little free memory for this computation"):
        engine.get_or_compute("test", ["part"], fail)
    assert engine.get_or_compute("test", ["part"], lambda: 3) == 3  # nothing is left locked


def test_a_prediction_and_the_timing_of_passes_end_in_one_sentence(image, monkeypatch):
    network = classifier(residual_module())  # a new one, whose passes nobody has timed

    def fail(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr(network.graph, "run", fail)
    for compute in (lambda: network.predict(image), lambda: network.pass_seconds()):
        with pytest.raises(OutOfMemory, match=network.title):
            compute()


AROUND: dict[str, tuple[str, str]] = {  # what an engine does around the run of a map, by the function that then finds no memory
    "the copy of the image": ("explainers.question", "one_image"),
    "the digest of the image": ("explainers.question", "array_digest"),
    "the reference set": ("explainers.question", "default_reference"),
    "whether it is fitted": ("explainers.engine", "is_fitted"),
    "the batch size": ("explainers.context", "fitting_batch"),
    "the copy for the cache": ("explainers.cache", "encode"),
}


@pytest.mark.parametrize("place", AROUND)
def test_what_an_engine_does_around_a_run_ends_in_one_sentence(place, toy, image, monkeypatch):
    def fail(*_arguments, **_options):
        raise MemoryError

    engine = ex.Engine()
    with monkeypatch.context() as patch:
        patch.setattr(".".join(AROUND[place]), fail)
        with pytest.raises(OutOfMemory, match="too little free memory"):
            engine.explain(toy, image, "mip_in", target=1, images=10)
    assert torch.isfinite(engine.explain(toy, image, "gradient", target=1).native).all()  # nothing is left locked


@pytest.mark.parametrize("ask_for", ["a map", "a key", "a cost", "a measurement", "a prediction"])
def test_a_new_networks_first_pass_ends_in_one_sentence_whoever_needs_it(ask_for, image, monkeypatch):
    """The shapes of the layers come of a pass: MIP-IN's key needs them, because they decide which statistics it fits."""
    network = classifier(residual_module())

    def fail(*_arguments, **_options):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(network.graph, "run", fail)
    engine, question = ex.Engine(), ex.ask(network, image, "mip_in", target=1)
    work = {"a map": lambda: engine.explain(question), "a key": lambda: question.key, "a cost": lambda: engine.cost(question),
            "a measurement": lambda: engine.measure(ex.judge("insertion_deletion", question)),
            "a prediction": lambda: ex.ask(network, image, "gradient")}[ask_for]
    with pytest.raises(OutOfMemory, match=network.title):
        work()


LOADING = {"taking its weights": (torch.nn.Module, "load_state_dict"), "tracing": (outputs, "Graph"),
           "reading the file": (safetensors.torch, "load"), "its first pass": (torchvision.models.ResNet, "forward")}


@pytest.mark.parametrize("step", LOADING)
@pytest.mark.parametrize("form", ["torch on the CPU", "Python", "a mapped file"])
def test_a_network_that_finds_no_memory_while_it_is_loaded_ends_in_one_sentence(form, step, monkeypatch):
    def fail(*_arguments, **_options):
        raise FORMS[form]

    module = torchvision.models.resnet18(num_classes=5)
    data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})
    monkeypatch.setattr(*LOADING[step], fail)
    with pytest.raises(OutOfMemory, match="this network: close other programs"):
        ex.load_uploaded_model("mine.safetensors", data, "resnet18", device="cpu").predict(torch.zeros(1, 3, 224, 224))


@every_form
def test_ones_own_module_that_finds_no_memory_ends_in_one_sentence(form):
    class Full(torch.nn.Module):
        def forward(self, x):
            raise FORMS[form]

    with pytest.raises(OutOfMemory, match="this network: close other programs"):
        ex.classifier(Full(), input_size=8)


def test_a_picture_that_finds_no_memory_for_its_preprocessing_ends_in_one_sentence(toy, monkeypatch):
    def fail(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fail)
    for prepare in (toy.preprocess, toy.seen):
        with pytest.raises(OutOfMemory, match=toy.title):
            prepare(Image.new("RGB", (300, 200)))


def test_a_stored_map_that_finds_no_memory_stays_stored(toy, image, tmp_path, monkeypatch):
    question = ex.ask(toy, image, "gradient", target=1)
    first = ex.Engine(ex.MapCache(tmp_path)).explain(question)
    for form in FORMS:
        engine = ex.Engine(ex.MapCache(tmp_path))

        def fail(*_arguments, form=form, **_options):
            raise FORMS[form]

        with monkeypatch.context() as patch:
            patch.setattr("explainers.cache.decode", fail)
            for look in (engine.explain, engine.cached):
                with pytest.raises(OutOfMemory):
                    look(question)
        assert torch.equal(engine.explain(question).native, first.native) and engine.runs == 0


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_other_errors_stay_what_they_are(error, toy):
    context = Context(toy)
    context.batch_size = 8
    with pytest.raises(type(error)) as raised:
        list(context.batches(8, refusing(error, 1)))
    assert raised.value is error and context.batch_size == 8 and not ran_out(error)
    with pytest.raises(type(error)) as raised, in_one_sentence():
        raise error
    assert raised.value is error
