"""What CIFAR-10 and CIFAR-100 share: torchvision's download and integrity check, and the constants of the long-tail literature."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lt.data.split import Split

# Mean and standard deviation per channel, of CIFAR-10, used for both sets. image_std: mean over the images of each one's own
# deviation (Cao et al. 2019, LDAM, released code, and most that build on it); pixel_std: deviation of all pixels (Jamal et al.
# 2020, Longtail_DA, released code, in units of 1/255).
NORMALIZATIONS = {
    "image_std": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "pixel_std": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
}


@dataclass(frozen=True)
class Cifar:
    """One of the two sets: its name here, its class in torchvision.datasets, its folder and files under the data root."""

    name: str
    torchvision_name: str
    folder: str
    files: tuple[str, ...]

    def open_split(self, root: Path, split: str, normalization: str) -> Split:
        """Train (50000 images) or test part (10000) in the official order; nothing is downloaded here.

        root: data root, which holds the folder    split 'train' or 'test'    normalization: a name in NORMALIZATIONS
        raises ValueError, naming the files, where they are missing or not the official ones (md5)
        """
        try:
            data = self._torchvision()(root, train=split == "train", download=False)
        except RuntimeError:  # torchvision does not say which file is wrong
            raise ValueError(
                f"{self.torchvision_name} in {Path(root) / self.folder}: {'; '.join(self._wrong_files(root))}; "
                f"to download it, run `python -m stages.index {self.name}`"
            ) from None
        labels, (mean, std) = np.asarray(data.targets, dtype=np.int64), NORMALIZATIONS[normalization]
        return Split(np.ascontiguousarray(data.data), labels, tuple(data.classes), mean, std)

    def raw_files(self, root: Path, **options) -> dict[str, Path]:
        """The raw data: name in the index -> file on disk, there or not; the same with any options."""
        return {f"{self.folder}/{name}": Path(root) / self.folder / name for name in self.files}

    def prepare(self, root: Path, **options) -> None:
        """Downloads the official archive (about 170 MB) if a file is missing or wrong; ValueError where that fails."""
        from torchvision.datasets.utils import download_and_extract_archive

        if not self._wrong_files(root):
            return
        cifar = self._torchvision()
        try:
            download_and_extract_archive(cifar.url, root, filename=cifar.filename, md5=cifar.tgz_md5)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"could not download {cifar.url} to {root} ({error}); without a network, fetch that file elsewhere, "
                f"put it into {root} and run `python -m stages.index {self.name}` again"
            ) from error

    def _wrong_files(self, root: Path) -> list[str]:
        from torchvision.datasets.utils import check_md5

        cifar, found = self._torchvision(), []
        for name, md5 in [*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])]:
            path = Path(root) / self.folder / name
            if not path.is_file():
                found.append(f"{name} is missing")
            elif not check_md5(path, md5):
                found.append(f"{name} is not the official file")
        return found

    def _torchvision(self) -> type:
        import torchvision.datasets  # takes seconds, so only where it is used

        return getattr(torchvision.datasets, self.torchvision_name)
