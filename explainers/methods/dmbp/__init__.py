"""DMBP, disentangled masked backpropagation. Import from here, not from its four files.

``method`` is the method itself, ``masked`` the network with a mask at every ReLU, ``descent`` optimises the masks, and ``shares``
says what of the two parts comes from the image.
"""

from explainers.methods.dmbp.descent import descend, loss_gradient
from explainers.methods.dmbp.masked import MaskedNetwork
from explainers.methods.dmbp.method import METHOD, Params
from explainers.methods.dmbp.shares import Shares, empty_warning, hidden_warning, logit_warning, shares

__all__ = ["METHOD", "MaskedNetwork", "Params", "Shares", "descend", "empty_warning", "hidden_warning", "logit_warning",
           "loss_gradient", "shares"]
