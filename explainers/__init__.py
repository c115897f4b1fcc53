"""Attribution methods for image classifiers, and a memory for their maps. Usable without the app:

    import explainers as ex
    net = ex.load_model("scenes_vgg")
    x = net.preprocess(ex.load_image("photo.jpg"))
    map = ex.explain(net, x, "integrated_gradients", steps=50).heatmap()
"""

from explainers.caching import MapCache
from explainers.contract import (
    Attribution,
    Cancelled,
    ExplainerError,
    Method,
    Metric,
    Parameter,
    ParameterError,
    Passes,
    Reference,
    UnsupportedError,
)
from explainers.data.gallery import Sample, samples
from explainers.methods import methods
from explainers.metrics import metrics
from explainers.networks.checkpoints import CheckpointError, ModelCard
from explainers.networks.classifier import Classifier
from explainers.networks.loading import ModelEntry, load_model, load_uploaded_model, models
from explainers.pictures import Picture, PictureError, digest, load_image, read_picture
from explainers.running import Cost, Engine, Request, explain

__all__ = [
    "Attribution", "Cancelled", "CheckpointError", "Classifier", "Cost", "Engine", "ExplainerError", "MapCache", "Method",
    "Metric", "ModelCard", "ModelEntry", "Parameter", "ParameterError", "Passes", "Picture", "PictureError", "Reference",
    "Request", "Sample", "UnsupportedError", "digest", "explain", "load_image", "load_model", "load_uploaded_model", "methods",
    "metrics", "models", "read_picture", "samples",
]
