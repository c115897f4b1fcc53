"""Attribution methods and metrics for image classifiers, with a cache for their results. Usable without the app:

    import explainers as ex
    net = ex.load_model("scenes_vgg")
    x = net.preprocess(ex.load_image("photo.jpg"))
    a = ex.explain(net, x, "integrated_gradients", steps=50)
    a.heatmap()

A ``Question`` holds such a request as one value, which can be run directly or by an ``Engine`` that caches its result:

    question = ex.ask(net, x, "integrated_gradients", target=3)
    curves = ex.Engine().measure(ex.judge("insertion_deletion", question))
"""

from explainers import idle_threads  # noqa: F401  first, because it must come before torch
from explainers.attribution import Attribution
from explainers.cache import MapCache
from explainers.contract import Citation, Method, Metric, Score
from explainers.data.gallery import Sample, samples
from explainers.engine import Cost, Engine, explain
from explainers.ensembles import Ensemble
from explainers.errors import ExplainerError, ParameterError, UnsupportedError
from explainers.measurement import Measurement, judge
from explainers.methods import methods
from explainers.metrics import metrics
from explainers.networks.checkpoint_files import CheckpointError
from explainers.networks.classifier import Classifier
from explainers.networks.loading import ModelEntry, load_model, load_uploaded_model, models
from explainers.networks.model_cards import ModelCard
from explainers.networks.own_modules import classifier
from explainers.parameters import Parameter
from explainers.passes import Passes
from explainers.pictures import Picture, PictureError, digest, load_image, read_picture
from explainers.progress import Cancelled
from explainers.question import Question, Request, ask
from explainers.target import Target

__all__ = [
    "Attribution", "Cancelled", "CheckpointError", "Citation", "Classifier", "Cost", "Engine", "Ensemble", "ExplainerError",
    "MapCache", "Measurement", "Method", "Metric", "ModelCard", "ModelEntry", "Parameter", "ParameterError", "Passes",
    "Picture", "PictureError", "Question", "Request", "Sample", "Score", "Target", "UnsupportedError", "ask", "classifier",
    "digest", "explain", "judge", "load_image", "load_model", "load_uploaded_model", "methods", "metrics", "models",
    "read_picture", "samples",
]
