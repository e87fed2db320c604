"""A Bezier surface through four networks, beside the flat patch that is not optimised."""

import torch
from torch import nn

import mcr

data = mcr.dataset("digits")
networks = {}
for seed, name in enumerate(("north", "east", "south", "west")):
    torch.manual_seed(seed)
    networks[name] = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    mcr.fit(networks[name], data["train"], epochs=10, lr=0.1, seed=seed)

flat = mcr.Subspace(networks, "bilinear", images=data["train"])
surface = mcr.Subspace(networks, "bezier_surface", images=data["train"])
mcr.fit(surface, data["train"], epochs=30, lr=0.1)
for name, space in (("bilinear", flat), ("bezier_surface", surface)):
    table = mcr.measure(space, data["test"], {"test": "risk"}, at=7)
    print(f"{name}\n{table}\n")
    table.plot(name.replace("_", " ")).savefig(f"surface_of_four_{name}.png", dpi=120)
average = flat.at((0.5, 0.5))  # the average of the four
