"""How insertion and deletion are measured: the protocol, and what of it is chosen otherwise."""

from __future__ import annotations

from typing import Any

import streamlit as st

from components.drawing import number_field
from components.state.objects import object_masks
from components.state.workspace import Workspace, class_labels
from explainers.metrics.insertion_deletion import METRIC
from explainers.metrics.protocols import OUTPUTS, PROTOCOLS, Params

OWN = "protocol's own"
BASELINES = {"training mean": "zero", "black": "black", "image mean": "mean", "blur": "blur", "noise": "noise"}
RESOLUTIONS = (7, 14, 28, 56, 112)
PIXELS = "every pixel"
MOST_CELLS = 10**9  # a step, as many as the metric takes
ORDERS = {"Values": "value", "Magnitudes": "magnitude"}
BASELINE_HELP = ("What takes the place of removed pixels (the baseline). Training mean: the mean colour of the training pictures "
                 "(zero after normalisation). Image mean: this picture's own mean colour. Blur: the picture, blurred as the "
                 "protocol does. Noise: random pixels. ")
ORDER_HELP = ("Which pixels come first. Values: what speaks most for the class. Magnitudes: what is strongest, for or against. A "
              "gradient's sign says whether a pixel should be brighter, not whether it speaks for the class, so Gradient, SmoothGrad "
              "and Guided Backpropagation are often measured by magnitude, or times the input (in their settings).")


def draw(workspace: Workspace) -> Params:
    """Draw the controls in two rows and read them. The baselines are always named, so that equal settings have equal keys."""
    by_title = {rules.title: key for key, rules in PROTOCOLS.items()}
    with _row("protocol-row"):
        title = st.segmented_control(
            "Protocol", list(by_title), default="RISE", required=True, key="protocol", bind="query-params",
            help=next(parameter.help for parameter in METRIC.parameters if parameter.name == "protocol"))
        protocol = by_title[title]
        start = st.selectbox("Insertion starts from", [OWN, *BASELINES], key="insertion", bind="query-params", width=150,
                             help=BASELINE_HELP + "Insertion starts from it and brings the picture back.")
        end = st.selectbox("Deletion ends at", [OWN, *BASELINES], key="deletion", bind="query-params", width=150,
                           help=BASELINE_HELP + "Deletion replaces the picture by it, step by step.")
        labels = _labels(workspace) if protocol == "dmbp" else ()
    with _row("steps-row"):
        order = st.segmented_control("Order by", list(ORDERS), default="Values", required=True, key="order", bind="query-params",
                                     help=ORDER_HELP)
        resolution = _resolution(workspace)
        step = number_field.whole("Cells a step", 1, MOST_CELLS, None, key="step", width=175, placeholder=OWN,
                                  help="How many cells (pixels, for most protocols) change between two points. Fewer: a finer "
                                       "curve that takes longer. Empty: the protocol's own.")
        output = st.segmented_control("Probabilities", OUTPUTS, default=OUTPUTS[0], required=True, key="output",
                                      bind="query-params", help="Softmax: the classes' probabilities add up to 1. Sigmoid: each class "
                                                                "by itself, for networks trained with several labels.")
    otherwise = bool(step) or resolution is not None or start != OWN or end != OWN or ORDERS[order] != "value"
    rules = PROTOCOLS[protocol]
    st.caption(f"{f'Chosen otherwise above; {title} itself: ' if otherwise else ''}{rules.says}")
    if labels and ORDERS[order] != "value":
        st.caption("No cIM: it orders by value, because it begins with what the map gives the lowest value. Order by values to "
                   "measure it.")
        labels = ()
    baseline = BASELINES.get(start, rules.insertion), BASELINES.get(end, rules.deletion)
    return Params(protocol, baseline, step or None, resolution, output, labels, ORDERS[order])


def _row(key: str) -> Any:
    return st.container(key=key, horizontal=True, vertical_alignment="bottom", gap="small")


def _resolution(workspace: Workspace) -> int | None:
    side = min(workspace.network.input_size)
    sizes = {f"{cells} \u00d7 {cells}": cells for cells in RESOLUTIONS if cells < side} | {PIXELS: side}
    chosen = st.selectbox(
        "Cells", [OWN, *sizes], key="cells", bind="query-params", width=140,
        help="The grid of cells that are added or removed. I-GOS takes each map's own, so that coarse maps are measured coarsely: "
             "choose one grid for all to compare methods of different resolutions. The other protocols take pixels.")
    return sizes.get(chosen)


def _labels(workspace: Workspace) -> tuple[int, ...]:
    """The other classes in the picture, for cIM: those that are chosen or, while none is, the other objects of a sample."""
    names = class_labels(workspace.network.categories)
    objects = [workspace.network.categories.index(name) for name in object_masks(workspace) if name in workspace.network.categories]
    others = [index for index in objects if index not in workspace.target.classes]
    filled = f"{', '.join(names[index] for index in others)} (in this sample)" if others else "none"
    chosen = st.multiselect(
        "Other labels", names, key="labels", bind="query-params", width=260, placeholder=filled,
        help="Other classes that are in this picture. cIM is their insertion AUC when the pixels with the lowest values come "
             "first: it is high if the map gives low values to what belongs to them. While none is chosen: the other objects of a "
             "sample with several.")
    return tuple(index for index in map(names.index, chosen) if index not in workspace.target.classes) or tuple(others)
