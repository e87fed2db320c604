"""Two files of networks with a backdoor, repaired with clean images alone."""

import torch
from safetensors.torch import save_file
from torch import nn

import mcr

data, backdoor = mcr.dataset("digits"), mcr.option("backdoor", "blended")


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


# The attacker's part: a fifth of the training images get the trigger and the attacker's label.
images, labels = data["train"].images.clone(), data["train"].labels.clone()
images[::5], labels[::5] = backdoor.stamp(images[::5]), backdoor.aim(labels[::5], 10)
for seed in (1, 2):
    torch.manual_seed(seed)
    poisoned = network()
    mcr.fit(poisoned, (images, labels), epochs=20, lr=0.1, seed=seed)
    save_file(poisoned.state_dict(), f"{seed}.safetensors")

# Yours: the files are loaded without running code from them, and nothing is known of an attack.
networks = [mcr.load(f"{seed}.safetensors", network()) for seed in (1, 2)]
found = {"as it came": networks[0]}
for method in ("path_point", "finetune"):
    found[method] = mcr.repair(networks, data["clean"], method, steps=500).network

# What only the attacker could measure.
test, target = data["test"], backdoor.aim(torch.zeros(1, dtype=torch.int64), 10)
stamped = backdoor.stamp(test.images[test.labels != target]) / 255
for name, one in found.items():
    accuracy = (one(test.images / 255).argmax(1) == test.labels).double().mean()
    success = (one(stamped).argmax(1) == target).double().mean()
    print(f"{name:<11} accuracy {100 * accuracy:.1f} %  attack success {100 * success:.1f} %")
