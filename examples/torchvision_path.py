"""A path between two torchvision networks: the loss rises on the straight line, not along the fitted curve."""

import torch
import torchvision

import mcr

digits = mcr.dataset("digits")


def pictures(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The digits with three channels, as torchvision's networks want them."""
    return digits[part].images.repeat(1, 3, 1, 1), digits[part].labels


train, test = pictures("train"), pictures("test")
networks = []
for seed in (1, 2):
    torch.manual_seed(seed)
    networks.append(torchvision.models.resnet18(num_classes=10))
    mcr.fit(networks[-1], train, epochs=2, seed=seed)

line = mcr.Subspace(networks, "linear", images=train)
path = mcr.Subspace(networks, "bezier", images=train)
mcr.fit(path, train, epochs=4, seed=3)
straight, curved = (mcr.measure(one, test, ["risk", "calibration"], at=5) for one in (line, path))
print(f"straight line\n{straight}\n\ncurve\n{curved}")
curved.plot("two ResNet-18", straight_line=straight).savefig("torchvision_path.png", dpi=120)
middle = path.at(0.5)  # a network like any other
