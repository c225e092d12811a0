"""The architecture of the embedded backbone, shared by `probe.backbones.tiny` and the recipe that trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from timm.models import ByobNet

IMAGE_SIZE = 32
# Channel statistics of the CIFAR-10 train images, in [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def build_network() -> ByobNet:
    """Returns a residual network of 1.1 M parameters for 32 x 32 images, randomly initialised.

    Three stages on grids of 16, 8 and 4 pixels, then a 1 x 1 convolution to 512 channels, so that a 32 x 32 image
    gives a (512, 4, 4) map. Stock timm blocks; no pooling in the stem, which would leave too little of so small an
    image.
    """
    from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

    stages = tuple(ByoBlockCfg("basic", d=1, c=width, s=stride) for width, stride in ((48, 1), (96, 2), (256, 2)))
    config = ByoModelCfg(blocks=stages, stem_chs=32, stem_type="3x3", stem_pool="", num_features=512)
    return ByobNet(config, num_classes=0)
