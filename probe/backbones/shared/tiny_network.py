"""The architecture of the embedded backbone, shared by `probe.backbones.tiny` and the recipe that trains it."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

IMAGE_SIZE = 32
# Channel statistics of the CIFAR-10 train images, in [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
STAGES = ((48, 1), (96, 2), (256, 2))


class NormAct(nn.BatchNorm2d):
    """Batch normalisation and what follows it, as one layer."""

    def __init__(self, width: int, act: nn.Module):
        super().__init__(width)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class ConvNormAct(nn.Module):
    """A convolution without bias, of odd width and padded to keep the grid, before a `NormAct`."""

    def __init__(self, n_in: int, n_out: int, width: int, stride: int = 1, *, act: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, width, stride, padding=width // 2, bias=False)
        self.bn = NormAct(n_out, nn.ReLU(inplace=True) if act else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a projection (He et al., 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.shortcut = ConvNormAct(n_in, n_out, 1, stride, act=False)
        self.conv1_kxk = ConvNormAct(n_in, n_out, 3, stride)
        self.conv2_kxk = ConvNormAct(n_out, n_out, 3, act=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv2_kxk(self.conv1_kxk(x)) + self.shortcut(x))


class TinyNetwork(nn.Module):
    """Three stages on grids of 16, 8 and 4 pixels, then a 1 x 1 convolution; no pooling in the stem.

    It computes, under the same names of layers and from the same random weights, what timm's `ByobNet` of basic blocks
    does: the tests compare them. timm takes seconds to import, and this network is in most first commands.
    """

    num_features = 512

    def __init__(self) -> None:
        super().__init__()
        width = 32
        self.stem = ConvNormAct(3, width, 3, 2)
        stages = []
        for n_out, stride in STAGES:
            stages.append(nn.Sequential(BasicBlock(width, n_out, stride)))
            width = n_out
        self.stages = nn.Sequential(*stages)
        self.final_conv = ConvNormAct(width, self.num_features, 1)
        self.head = nn.Sequential(OrderedDict(global_pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                nn.init.zeros_(module.conv2_kxk.bn.weight)  # it begins as its shortcut

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 512, 4, 4) of (N, 3, 32, 32)."""
        return self.final_conv(self.stages(self.stem(x)))

    def forward_head(self, features: Tensor) -> Tensor:
        """(N, 512): the mean over the map."""
        return self.head(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def build_network() -> TinyNetwork:
    """Returns a residual network of 1.1 M parameters for 32 x 32 images, randomly initialised.

    A 32 x 32 image gives a (512, 4, 4) map.
    """
    return TinyNetwork()
