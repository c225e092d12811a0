"""A network that learns to tell the digits 0 to 4 apart, measured after each epoch on those that it never sees.

Takes seconds on one core: `python examples/watch_training.py`.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import probe

torch.manual_seed(0)
X, y = (16 * load_digits().images).clip(0, 255).astype(np.uint8), load_digits().target
seen = torch.from_numpy(X[y < 5] / 127.5 - 1).float()[:, None], torch.from_numpy(y[y < 5])
unseen = ((X[y >= 5], y[y >= 5] - 5), {"name": "unseen", "class_names": list("56789")})
encoder = nn.Sequential(
    nn.Conv2d(1, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
    nn.Linear(128, 64),
)  # fmt: skip
classifier = nn.Sequential(nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 5))
pixels = {"size": 8, "mean": [0.5], "std": [0.5]}

# The loop. Each time it is called, Watch fits both heads anew on the rows that it drew at the beginning.
watch = probe.Watch((encoder, pixels), datasets=unseen, heads=["linear", "ncm"], every=2, quiet=True)
optimizer = torch.optim.AdamW([*encoder.parameters(), *classifier.parameters()], lr=2e-3)
for epoch in range(7):
    for rows in torch.randperm(len(seen[0])).split(32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(classifier(encoder(seen[0][rows])), seen[1][rows]).backward()
        optimizer.step()
    if scores := watch(epoch):
        print(epoch, scores)

# What tells 5 from 9 is of no use to 0 to 4: the longer these are learnt, the less of it a linear head finds.
print(watch.frame[["epoch", "head", "value", "low", "high"]].to_string(index=False))
