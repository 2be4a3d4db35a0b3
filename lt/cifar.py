"""What CIFAR-10 and CIFAR-100 share: torchvision's download and integrity check, and the constants of the long-tail literature."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lt.data import Split

# Used for both sets (Cao et al. 2019, LDAM, released code).
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class Cifar:
    """One of the two sets: its name here, its class in torchvision.datasets, its folder and files under the data root."""

    name: str
    torchvision_name: str
    folder: str
    files: tuple[str, ...]

    def open_split(self, root: Path, split: str) -> Split:
        """Train (50000 images) or test part (10000) in the official order; nothing is downloaded here.

        root: data root, which holds the folder    split 'train' or 'test'
        raises ValueError, naming the files, where they are missing or not the official ones (md5)
        """
        try:
            data = self._torchvision()(root, train=split == "train", download=False)
        except RuntimeError:  # torchvision does not say which file is wrong
            raise ValueError(
                f"{self.torchvision_name} in {Path(root) / self.folder}: {'; '.join(self._wrong_files(root))}; "
                f"to download it, run `python -m stages.index {self.name}`"
            ) from None
        return Split(np.ascontiguousarray(data.data), np.asarray(data.targets, dtype=np.int64), tuple(data.classes), MEAN, STD)

    def raw_files(self, root: Path) -> dict[str, Path]:
        """The raw data: name in the index -> file on disk, there or not."""
        return {f"{self.folder}/{name}": Path(root) / self.folder / name for name in self.files}

    def prepare(self, root: Path) -> None:
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
