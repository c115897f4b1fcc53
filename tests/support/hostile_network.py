"""A network whose title, classes and layers are markup, and links to every page that say such words, too."""

from __future__ import annotations

from support.corpus_links import HOST

WORD = (f"![x](http://{HOST}/a.png) [l](http://{HOST}) :red[r] :material/home: :smile: $x^2$ <img src='http://{HOST}/b.png'> "
        f"<a href='http://{HOST}'>a</a> www.{HOST} a@{HOST} `c` **b** &lt;")
LAYER = "![x](http://foreign/a) [l](http://foreign) :red[r] :smile: $x$ <img src=http://foreign/b>"  # a layer's name has no dots
NETWORKS = f'''
import torch
import explainers as ex

def hostile():
    torch.manual_seed(0)
    module = torch.nn.Sequential()
    layers = (torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
              torch.nn.Flatten(), torch.nn.Linear(8, 4))
    for number, layer in enumerate(layers):
        module.add_module({LAYER!r} + str(number), layer)
    words = {WORD!r}
    return ex.classifier(module, categories=[f"{{number}} {{words}}" for number in range(4)], title=words, input_size=32,
                         mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
'''
LINK = {"network": "hostile_nets.hostile", "methods": ["Gradient", "Grad-CAM"], "search": WORD}
PAGES = {
    "compare": ({"class": f"1 {WORD}", "against": f"2 {WORD}"}, {"copies": WORD, "grad_cam.layer": WORD}),
    "be_the_mask": ({"boxes": WORD},),
    "faithfulness": ({}, {"measurement": "Localisation", "region": "Outline", "region_outline": WORD},
                     {"measurement": "Sensitivity-n"}, {"measurement": "Source signal (MIP-IN)"}),
    "class_sensitivity": ({},),
    "sanity_checks": ({},),
    "attribution_mask": ({"mask_iterations": "1"}, {"mask_view": "A labelled set"}),
    "adversarial_attack": ({"attack_steps": "1", "class": f"1 {WORD}", "against": f"2 {WORD}"},),
    "methods": ({},),
}
