"""Two adversarially trained networks: along a path of low clean loss the loss under attack rises."""

import torch
from torch import nn

import mcr

data = mcr.dataset("digits")
attack = mcr.option("attack", "pgd", eps=0.1, step_size=0.04, steps=5)
robust = mcr.option("objective", "adversarial", attack=attack)
networks = []
for seed in (1, 2):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten()]
    networks.append(nn.Sequential(*layers, nn.Linear(288, 10)))
    mcr.fit(networks[-1], data["train"], objective=robust, validation=data["validation"], epochs=20, lr=0.05, seed=seed)

probes = {"clean": "risk", "robust": mcr.option("probe", "robust_risk", attack=attack)}
found = {}
for name, objective in (("fitted on clean images", "cross_entropy"), ("fitted under attack", robust)):
    path = mcr.Subspace(networks, "bezier")
    mcr.fit(path, data["train"], objective=objective, keep="last", epochs=20, lr=0.05)
    found[name] = mcr.measure(path, data["test"], probes, at=9)
    print(f"{name}\n{found[name]}\n")
clean, under_attack = found.values()
clean.plot("fitted on clean images", fitted_under_attack=under_attack).savefig("robust_barrier.png", dpi=120)
