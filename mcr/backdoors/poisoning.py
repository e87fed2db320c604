"""Which images an attacker poisons, and on which the attack can succeed."""

from __future__ import annotations

import torch
from torch import Tensor

from mcr.backdoors.backdoor import check_share
from mcr.errors import InputError

ALL = "all"


def choose(labels: Tensor, aimed: Tensor, ratio: float, sources: list[int] | str, generator: torch.Generator) -> Tensor:
    """The images to poison in place, a share of every source class drawn without replacement (Zhao et al. 2020, code).

    A class that the attacker wants as it is, the target class, is left out. One order of all images is drawn and each
    class takes its first ones, so a higher ratio or more sources keep the images of a lower ratio or fewer sources.

    Args:
        labels: The true labels (N,).
        aimed: The labels that the attacker wants (N,), see ``Backdoor.aim``.
        ratio: Share of each source class, above 0 and at most 1.
        sources: Class numbers, or "all".
        generator: Of the order; on the CPU.

    Returns:
        Indices in rising order, int64 (n,), on the labels' device.

    Raises:
        InputError: For a ratio outside (0, 1], a source class without an image, and where nothing would be poisoned.
    """
    check_share("poisoning: ratio", ratio)
    known, open_to_attack = labels.unique().tolist(), attackable(labels, aimed, sources)
    unknown = [] if sources == ALL else [source for source in sources if source not in known]
    if unknown:
        raise InputError(f"poisoning: sources={sources}: there is no image of class {unknown[0]}")
    chosen = shares(labels, open_to_attack, 0, ratio, generator)
    if not len(chosen):
        raise InputError(
            f"poisoning: ratio={ratio} of sources={sources} poisons nothing:"
            f" {int(open_to_attack.sum())} of {len(labels)} images are of a source class and not of the target"
        )
    return chosen


def choose_clean(labels: Tensor, aimed: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """The images of the target class to stamp, which keep their labels (clean label, Barni et al. 2019): a share.

    Args and result: see ``choose``.

    Raises:
        InputError: For a ratio outside (0, 1], and where nothing would be stamped.
    """
    check_share("poisoning: ratio", ratio)
    chosen = shares(labels, aimed == labels, 0, ratio, generator)
    if not len(chosen):
        count = int((aimed == labels).sum())
        raise InputError(f"poisoning: ratio={ratio} poisons nothing: {count} images are of the target class")
    return chosen


def shares(labels: Tensor, which: Tensor, begin: float, end: float, generator: torch.Generator) -> Tensor:
    """Of each class, what lies between two shares of its images in the one order that is drawn, in rising order.

    Args:
        labels: The true labels (N,).
        which: The images that are asked for, bool (N,).
        begin: Share of each class that is left out before.
        end: Share of each class up to which is taken.
        generator: Of the order; on the CPU.
    """
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    order = order[which[order]]
    members = [order[labels[order] == label] for label in labels.unique().tolist()]
    taken = [indices[round(begin * len(indices)) : round(end * len(indices))] for indices in members]
    return torch.cat([order[:0], *taken]).sort().values


def attackable(labels: Tensor, aimed: Tensor, sources: list[int] | str) -> Tensor:
    """Which images count for the attack's success rate, bool (N,): source classes, but what is no target already.

    An image of the target class is answered with the target by a clean network too: counting it would give a network
    without a backdoor a success of one in C (10 % for ten classes).

    Args:
        labels: The true labels (N,).
        aimed: The labels that the attacker wants (N,).
        sources: Class numbers, or "all". A class without an image is no error here: a batch may lack one.

    Raises:
        InputError: Where the sources are neither "all" nor a list of class numbers.
    """
    changes = aimed != labels
    if sources == ALL:
        return changes
    if not isinstance(sources, list) or not sources or any(type(source) is not int for source in sources):
        raise InputError(f"poisoning: sources={sources} must be {ALL}, or a list of class numbers")
    return changes & torch.isin(labels, torch.tensor(sources, device=labels.device))
