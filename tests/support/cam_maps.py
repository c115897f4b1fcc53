"""pytorch-grad-cam's class activation maps at the layer's own resolution, before it scales and enlarges them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import explainers.networks.torchvision_guard  # noqa: F401  (pytorch-grad-cam imports torchvision, which needs it)

from pytorch_grad_cam import AblationCAM, GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM  # isort: skip
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # isort: skip

CAMS = {"grad_cam": GradCAM, "grad_cam_plus_plus": GradCAMPlusPlus, "layer_cam": LayerCAM, "score_cam": ScoreCAM,
        "ablation_cam": AblationCAM}


def cam_map(key: str, module: nn.Module, layer: nn.Module, x: Tensor, target: int) -> Tensor:
    """The map (1, h, w) of one image (1, C, H, W), negative values set to 0; ``layer`` is a module in ``module``."""
    targets = [ClassifierOutputTarget(target)]
    with CAMS[key](module, [layer]) as cam:
        logits = cam.activations_and_grads(x)
        if cam.uses_gradients:
            logits[0, target].backward()
        recorded = cam.activations_and_grads
        maps, gradients = ([each.detach().numpy() for each in values] for values in (recorded.activations, recorded.gradients))
        raw = cam.get_cam_image(x, layer, targets, maps[0], gradients[0] if gradients else None, False)
    return torch.from_numpy(np.maximum(raw, 0))


class Enlarge(nn.Module):
    """Bilinear upsampling that places a cell's value at the cell's middle; pytorch-grad-cam's Score-CAM uses the corners."""

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.interpolate(maps, size=tuple(self.size), mode="bilinear", align_corners=False)
