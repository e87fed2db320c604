"""Handwritten digits that ship inside scikit-learn."""

from __future__ import annotations

import torch

from mcr.types import LabelledImages, RawDataset


class Digits:
    """1,797 grey 8x8 digits (Alpaydin & Kaynak 1998; UCI), values 0..16 scaled to 0..255."""

    def load(self) -> RawDataset:
        """One part, "all"."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
        return RawDataset({"all": LabelledImages(images, torch.from_numpy(digits.target).long())}, tuple("0123456789"))
