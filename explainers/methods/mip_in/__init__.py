"""MIP-IN, the mutual information preserving inverse network. Import from here, not from its three files.

``method`` is the method itself, ``layers`` finds the layers to invert and applies their inverses, ``inverse`` fits the linear
inverse of one layer.
"""

from explainers.methods.mip_in.method import METHOD, Params, source_signals

__all__ = ["METHOD", "Params", "source_signals"]
