"""MIP-IN's average percentage change on MNIST: does the source signal keep what the network decides by?

    python -m tests.benchmarks.mip_in_mnist PATH/t10k.npz

trains the paper's MLP-M (784-512-512-10) on 9,000 of MNIST's 10,000 test digits, fits MIP-IN on the same 9,000 and prints
the change on the 1,000 others. The paper, with 50,000 digits, has 10.1 % (positive: 2.6 %). About two minutes on two cores.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

import explainers as ex
from explainers.data.labelled import LabelledInputs
from explainers.data.reference import ReferenceSet
from explainers.networks.classifier import Classifier
from explainers.networks.embedded import EMBEDDED
from explainers.networks.preprocessing import Preprocessing
from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.summaries import keep

HELD_OUT, BATCH = 1000, 128


def trained(images: Tensor, labels: Tensor, seed: int, epochs: int) -> nn.Module:
    torch.manual_seed(seed)
    network = EMBEDDED["digits_mlp"].build()  # the paper names dropout but not its rate
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(BATCH):
            adam.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            adam.step()
    return network.eval()


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("digits", help="a .npz with images (10000, 28, 28) uint8 and labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 500, 1000, 9000], help="sizes of the reference set")
    add_summary(parser)
    arguments = parser.parse_args()
    stored = np.load(arguments.digits)
    images = torch.from_numpy(stored["images"]).float()[:, None] / 255
    labels = torch.from_numpy(stored["labels"]).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(arguments.seed))
    training, held_out = order[HELD_OUT:], order[:HELD_OUT]
    network = Classifier(trained(images[training], labels[training], arguments.seed, arguments.epochs), name="mlp_m", title="MLP-M",
                         categories=map(str, range(10)), preprocessing=Preprocessing(28, 28, (0.0,), (1.0,)))
    accuracy = (network.predict(images[held_out]).argmax(1) == labels[held_out]).float().mean()
    print(f"MLP-M on {len(training)} digits, seed {arguments.seed}; accuracy on {HELD_OUT} others: {accuracy:.1%}")
    print(f"{'fitted on':>10} {'ridge':>7} {'APC':>7} {'APC+':>7} {'median':>7} {'median+':>8} {'skipped':>8} {'seconds':>8}")
    for count in arguments.images:
        reference = ReferenceSet(f"{count} digits", f"mnist {arguments.seed} {count}", count,
                                 lambda start, stop: images[training[start:stop]])
        for ridge in ("paper", "fitted"):
            begin = time.perf_counter()
            inputs = LabelledInputs.given(network, images[held_out], labels[held_out], reference_set=reference)
            change = ex.judge("average_percentage_change", inputs, images=count, ridge=ridge).run()
            keep(arguments.summary, {"fitted on": count, "ridge": ridge}, mean=round(100 * change.mean, 3),
                 positive=round(100 * change.positive, 3))
            print(f"{count:>10} {ridge:>7} {change.mean:>7.1%} {change.positive:>7.1%} {change.median:>7.1%} "
                  f"{change.positive_median:>8.1%} {change.skipped:>8} {time.perf_counter() - begin:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
