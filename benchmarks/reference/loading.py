"""Images as data loaders usually bring them: one by one through PIL and torchvision's transforms."""

from __future__ import annotations

from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Images(Dataset):  # type: ignore[type-arg]
    """uint8 images (N, D, H, W) and labels (N,), turned into PIL images and transformed when they are asked for."""

    def __init__(self, images: Tensor, labels: Tensor, augmented: bool) -> None:
        self.images, self.labels = images.permute(0, 2, 3, 1).numpy(), labels.tolist()  # as torchvision's CIFAR-10
        side = images.shape[-1]
        crop = [transforms.RandomCrop(side, padding=4), transforms.RandomHorizontalFlip()] if augmented else []
        self.transform = transforms.Compose([*crop, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def loader(images: Tensor, labels: Tensor, augmented: bool, batch_size: int, workers: int) -> DataLoader:  # type: ignore[type-arg]
    """Shuffled and augmented batches of a training set, or those of a test set."""
    found = Images(images, labels, augmented)
    return DataLoader(found, batch_size=batch_size, shuffle=augmented, num_workers=workers)
