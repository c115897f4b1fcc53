"""InputIBA, the information bottleneck on the input. Import from here, not from the files.

``method`` is the method itself; ``prior`` trains the prior on the pixels. The bottleneck shared with IBA is in
``explainers.methods.bottleneck``.
"""

from explainers.methods.input_iba.method import METHOD, Params

__all__ = ["METHOD", "Params"]
