"""Masked input accuracy on fresh scenes.

    python -m tests.benchmarks.masked_input_accuracy --images 200 --iterations 10 --noise 0 0.12

Prints a line of percentages for each network and base method, from no mask (the plain accuracy) on. Both networks read nearly
every clean scene, which leaves nothing to rise to: ``--noise`` makes the scenes harder, one level after the other.
"""

from __future__ import annotations

import explainers as ex
from explainers.data.labelled import LabelledInputs, scenes_set
from explainers.methods.attribution_mask import ONE_PASS_BASES
from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.summaries import keep

NETWORKS = ("scenes_nib_vgg", "scenes_vgg")  # the same architecture without biases and with them


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, nargs="*", default=[0.0], help="deviations of Gaussian noise on pixels in [0, 1]")
    add_summary(parser)
    arguments = parser.parse_args()
    labelled = scenes_set(arguments.images, arguments.seed)
    for noise in arguments.noise:
        print(f"\n{labelled.title}, noise {noise:g}: masked input accuracy in % after 0 to {arguments.iterations} masks")
        for name in NETWORKS:
            network = ex.load_model(name)
            inputs = LabelledInputs.given(network, labelled.inputs(network, noise, arguments.seed), labelled.labels)
            for base in ONE_PASS_BASES:
                result = ex.judge("masked_input_accuracy", inputs, base=base, iterations=arguments.iterations).run()
                percent = [round(100 * accuracy, 1) for accuracy in result.accuracy]
                print(f"{name:15s} {base:26s}", " ".join(f"{value:5.1f}" for value in percent), flush=True)
                keep(arguments.summary, {"network": name, "base": base, "noise": noise, "images": arguments.images},
                     **{f"after {masks}": value for masks, value in enumerate(percent)})


if __name__ == "__main__":
    main()
