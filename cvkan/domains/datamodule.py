"""What every data source shares: the spec, the splits, the batches.

A source is a :class:`DataModule` subclass that fills ``self.splits`` in :meth:`DataModule.load_splits`.
A split is any map-style dataset; one that implements ``__getitems__(indices) -> batch`` hands out a whole
batch by one tensor operation (:class:`TensorSplit`), others are collated sample by sample.

Legend: B batch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from cvkan.analysis.baselines import logistic_accuracy, majority_accuracy
from cvkan.domains.loader import EpochSampler, ResumableLoader, Share, leave_interrupts_to_parent
from cvkan.errors import UserError
from cvkan.spec import Batch, Spec

BASELINE_SAMPLES = 5000  # a floor needs no more, and reading a large set twice would take longer than it tells
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


class TensorSplit(Dataset[Batch]):
    """A split held in memory; a batch is one indexing operation a tensor."""

    def __init__(self, **tensors: Tensor) -> None:
        sizes = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"tensors of one split must have equal lengths, got {sizes}")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: int) -> Batch:
        return {name: tensor[index] for name, tensor in self.tensors.items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = torch.as_tensor(indices)
        return {name: tensor[rows] for name, tensor in self.tensors.items()}


def collate(batch: Any) -> Batch:
    """A split with ``__getitems__`` hands out whole batches; the rest is collated sample by sample."""
    return batch if isinstance(batch, dict) else default_collate(batch)


class Loading(TypedDict):
    """Arguments that every data source takes and hands on to :class:`DataModule`.

    A source names its own arguments and ends with ``**loading: Unpack[Loading]``, passed to
    ``super().__init__(**loading)``. An unknown one is refused there.

    Attributes:
        batch_size: samples a step, of all processes together.
        num_workers: loader processes; 0 loads in the main process.
        seed: the run's seed: orders the training samples and draws ``limit_train``.
        limit_train: use only this many training samples, a random subset; None uses all.
        augment: module applied to training batches only, ``batch -> batch``, drawing from torch's global
            generator (which the trainer seeds for each step); None for no augmentation.
    """

    batch_size: int
    num_workers: int
    seed: int
    limit_train: int | None
    augment: NotRequired[nn.Module | None]


class DataModule(pl.LightningDataModule):
    """Base of every data source.

    A subclass fills ``self.splits`` with ``train``, ``val`` and ``test`` in :meth:`load_splits`, and has set
    ``self.spec`` by then: in its constructor where its arguments tell, else from the training part. Statistics for
    normalisation and vocabularies come from the training part only.

    Args:
        batch_size, num_workers, seed, limit_train, augment: see :class:`Loading`.

    Raises:
        UserError: a size is out of range.
    """

    spec: Spec
    endless = False  # the training part is a stream: every epoch goes on where the last one ended

    def __init__(
        self,
        *,
        batch_size: int,
        num_workers: int,
        seed: int,
        limit_train: int | None,
        augment: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(
                f"batch_size must be at least 1, got {batch_size}",
                "data.batch_size",
                "Set a positive number.",
            )
        if num_workers < 0:
            raise UserError(
                f"num_workers must not be negative, got {num_workers}", "data.num_workers", "Set 0 or more."
            )
        if limit_train is not None and limit_train < 1:
            raise UserError(
                f"limit_train must be at least 1, got {limit_train}",
                "data.limit_train",
                "Set a positive number or null.",
            )
        self.batch_size, self.num_workers, self.seed, self.limit_train = (
            batch_size,
            num_workers,
            seed,
            limit_train,
        )
        self.augment = augment
        self.splits: dict[str, Dataset[Batch]] = {}

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        """Return the datasets ``train``, ``val`` and ``test``; called once, after :meth:`prepare_data`."""
        raise NotImplementedError

    def preprocess(self, batch: Batch) -> Batch:
        """Deterministic work on a batch on the model's device (scaling, normalising); identity by default."""
        return batch

    def fingerprint(self) -> str:
        """SHA-256 of the loaded data, recorded in ``run.json``; sources that read files lazily override it."""
        digest = hashlib.sha256()
        for name, split in sorted(self.splits.items()):
            digest.update(f"{name}:{len(split)}".encode())  # type: ignore[arg-type]
            for key, tensor in sorted(getattr(split, "tensors", {}).items()):
                digest.update(key.encode())
                digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def facts(self, drawing: dict[str, Any] | None) -> dict[str, Any]:
        """What a network is told and asked, in plain containers; known when the data is loaded.

        Args:
            drawing: settings of the images that the network draws of the samples; None where it draws none.

        Returns:
            ``class_names`` and ``snr_db``, lists in the order of the labels; ``vocabulary``, words in the order of
            their ids; ``snr_definition``, the meaning of the SNR; ``image``, the settings of the images that the
            network sees; ``vectors``, where those of words come from. The last three are None where there is no such
            thing or nobody has said.
        """
        return {
            "class_names": list(self.spec.class_names),
            "snr_db": list(self.spec.snr_db),
            "vocabulary": list(self.spec.vocabulary),
            "snr_definition": None,
            "image": drawing,
            "vectors": None,
        }

    def summary(self, batch: Batch) -> Tensor | None:
        """A few plain features (B, F) of a preprocessed batch for the linear baseline; None for no such baseline."""
        return None

    def classes(self, batch: Batch) -> Tensor | None:
        """Class labels (B,) that the trivial baselines predict; None where the target is no class."""
        return batch["y"] if self.spec.target == "classes" else None

    def sample_weights(self, epoch: int) -> Tensor | None:
        """Weights (n,) that the training samples of an epoch are drawn by; None takes each of them once."""
        return None

    def baselines(self) -> dict[str, float]:
        """Trivial methods on the loaded data: the majority class and a logistic regression on :meth:`summary`.

        Returns:
            ``baseline/majority_accuracy`` and, where the source has a summary, ``baseline/linear_accuracy``; each
            fitted and tested on at most ``BASELINE_SAMPLES`` samples. Empty where the target is no class.
        """
        train_features, train_labels = self._summarized("train")
        test_features, test_labels = self._summarized("test")
        if train_labels is None or test_labels is None:
            return {}
        figures = {"baseline/majority_accuracy": majority_accuracy(train_labels, test_labels)}
        if train_features is not None and test_features is not None:
            figures["baseline/linear_accuracy"] = logistic_accuracy(
                train_features, train_labels, test_features, test_labels
            )
        return figures

    def _summarized(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        """Summaries (n, F) and classes (n,) of up to ``BASELINE_SAMPLES`` samples of a split, drawn by a fixed seed."""
        split = self.splits[name]
        rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:BASELINE_SAMPLES]  # type: ignore[arg-type]
        batches = [self.preprocess(batch) for batch in DataLoader(subset(split, rows), **self._loading())]
        summaries = [features for batch in batches if (features := self.summary(batch)) is not None]
        labels = [classes for batch in batches if (classes := self.classes(batch)) is not None]
        return torch.cat(summaries) if summaries else None, torch.cat(labels) if labels else None

    def check_splits(self) -> None:
        """Judge the splits as they were loaded, before ``limit_train`` cuts one down.

        Raises:
            UserError: one of them is no use.
        """
        for name, split in self.splits.items():
            if not len(split):  # type: ignore[arg-type]
                raise UserError(f"the {name} split is empty", "data", "Check the split settings of the data source.")

    def setup(self, stage: str | None = None) -> None:
        """Load the splits once and cut the training part down to ``limit_train`` samples."""
        if self.splits:
            return
        self.splits = self.load_splits()
        self.check_splits()
        train = self.splits["train"]
        if self.limit_train is not None and self.limit_train < len(train):  # type: ignore[arg-type]
            generator = torch.Generator().manual_seed(self.seed)
            keep = torch.randperm(len(train), generator=generator)[: self.limit_train].sort().values  # type: ignore[arg-type]
            self.splits["train"] = subset(train, keep)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return self.preprocess(batch)

    def train_dataloader(self) -> ResumableLoader:
        split = self.splits["train"]
        n_samples = len(split)  # type: ignore[arg-type]
        share = self._share(min(n_samples, self.batch_size))
        sampler = EpochSampler(n_samples, self.seed, self.sample_weights, self.endless, share)
        loading = self._loading()
        if share is not None:
            loading["batch_size"] = share.batch_size // share.processes
        drop_last = n_samples > self.batch_size
        return ResumableLoader(split, sampler=sampler, drop_last=drop_last, **loading)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._evaluating("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._evaluating("test")

    def _evaluating(self, name: str) -> DataLoader[Batch]:
        split, loading = self.splits[name], self._loading()
        share = self._share(self.batch_size)
        if share is None:
            return DataLoader(split, **loading)
        del loading["batch_size"]
        return DataLoader(split, batch_sampler=share.of_split(len(split)), **loading)  # type: ignore[arg-type]

    def _share(self, batch_size: int) -> Share | None:
        """What this process takes of a batch, cut to a multiple of the processes; None where it trains alone."""
        if self.trainer is None or self.trainer.world_size == 1:
            return None
        processes = self.trainer.world_size
        return Share(self.trainer.global_rank, processes, batch_size // processes * processes)

    def check_processes(self, processes: int) -> None:
        """Judge whether several processes can share the batches.

        Raises:
            UserError: a step has no equal part for each, or a split not a sample.
        """
        if self.batch_size % processes:
            raise UserError(
                f"data.batch_size={self.batch_size} is what {processes} processes take together, in equal parts",
                "data.batch_size",
                f"Set a multiple of {processes}.",
            )
        for name in ("train", "val"):
            if (n_samples := len(self.splits[name])) < processes:  # type: ignore[arg-type]
                raise UserError(
                    f"the {name} split has {n_samples} samples for {processes} processes",
                    "trainer.devices",
                    "Use fewer processes or more data.",
                )

    def _loading(self) -> dict[str, Any]:
        """Arguments that all loaders share."""
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "worker_init_fn": leave_interrupts_to_parent,
            "collate_fn": collate,
            # A generator of its own: creating an iterator must not advance the global one, which the model uses.
            "generator": torch.Generator().manual_seed(self.seed),
        }


def subset(split: Dataset[Batch], rows: Tensor) -> Dataset[Batch]:
    """The given rows of a split, kept a :class:`TensorSplit` where it is one."""
    if isinstance(split, TensorSplit):
        return TensorSplit(**{name: tensor[rows] for name, tensor in split.tensors.items()})
    return torch.utils.data.Subset(split, rows.tolist())


def refuse_split_names(root: Path, folders: list[Path], fix: str) -> None:
    """Refuse subfolders named like splits where classes are expected: a network would learn to tell the splits.

    Args:
        root: their parent, for the message.
        folders: the subfolders.
        fix: what to do about it in this source.

    Raises:
        UserError: every subfolder is named like a split.
    """
    if folders and {folder.name.lower() for folder in folders} <= SPLIT_NAMES:
        names = ", ".join(folder.name for folder in folders)
        raise UserError(f"the subfolders are splits ({names}), not classes", root, fix)
