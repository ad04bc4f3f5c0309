"""Ctrl-C, SIGTERM and the like end a run between two steps, with everything needed to continue it on the disk."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_only

from cvkan.callbacks.checkpoint import RunCheckpoint
from cvkan.errors import Interrupted

# By which a batch system tells that the time is nearly up.
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)


class GracefulStop(pl.Callback):
    """Turn the first SIGINT, SIGTERM, SIGUSR1 or SIGUSR2 of a fit into a checkpoint and ``Interrupted``.

    While training, a signal lets the current step (with accumulated batches: the current optimizer step; in
    validation: the validation) finish, then ``last.ckpt`` is written and :class:`~cvkan.errors.Interrupted` raised. A
    second signal raises at once and leaves the older ``last.ckpt``. Outside training there is nothing to save, and
    the first signal raises at once.

    Of several processes that train together the first one heeds signals and tells the others. A batch system that has
    put a handler for SIGUSR1 or SIGUSR2 in place, which hands the job in again, has it called once all is saved.

    Used as a callback of the trainer, inside its own context::

        with stop.listening():
            trainer.fit(...)
            trainer.test(...)

    Args:
        checkpoint: the callback that writes ``last.ckpt``; also in the trainer's list.
    """

    def __init__(self, checkpoint: RunCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.signum: int | None = None
        self._previous: dict[signal.Signals, Any] = {}  # handlers; empty while not listening
        self._training = False
        self._just_validated = False

    @contextmanager
    def listening(self) -> Iterator[GracefulStop]:
        """Handle the signals inside the block; a no-op outside the main thread, where Python takes none."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        self.signum, self._previous = None, {signum: signal.getsignal(signum) for signum in signals()}
        self._install()
        try:
            yield self
        except Exception as error:
            # A signal to the whole process group also ends the loader processes, which is an error here.
            if self.signum is not None:
                raise self._interrupted() from error
            raise
        finally:
            previous, self._previous = self._previous, {}
            for signum, handler in previous.items():
                signal.signal(signum, handler if handler is not None else signal.SIG_DFL)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has put its own SIGTERM handler in front, which would end training without our checkpoint.
        self._install()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._install()  # as in on_train_start: the test has put Lightning's handler in front again

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Only at the start of a batch is the step before it complete in every callback and logger.
        self._training = True
        self._agree(trainer)
        if self.signum is None:
            return
        if batch_idx == 0:  # the end of the epoch has been saved
            self._end()
        # Not half-way through accumulated gradients, which no checkpoint holds, nor right after a validation
        # amid the epoch, which a resumed run would do twice.
        if batch_idx % trainer.accumulate_grad_batches == 0 and not self._just_validated:
            self.checkpoint.save_last(trainer)
            self._end()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._just_validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._just_validated = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training = False
        self._agree(trainer)
        if self.signum is not None:  # it came in the very last epoch, which has been saved
            self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._training = False

    def _agree(self, trainer: pl.Trainer) -> None:
        """Tell the other processes what the first one has received."""
        if trainer.world_size > 1:
            received = torch.tensor(self.signum or 0, device=trainer.strategy.root_device)
            self.signum = int(trainer.strategy.reduce(received, reduce_op="max")) or None

    def _install(self) -> None:
        for signum in self._previous:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if rank_zero_only.rank:  # type: ignore[attr-defined]
            return
        second = self.signum is not None
        self.signum = self.signum or signum
        if second or not self._training:
            self._end()
        # Straight to the file descriptor: logging from a signal handler may meet its own half-written line.
        os.write(2, b"stopping after this step; a second signal stops at once\n")

    def _end(self) -> NoReturn:
        """Raise, after the handler of a batch system, which may end the process itself."""
        signum = self._interrupted().signum
        handler: Callable[[int, FrameType | None], Any] | Any = self._previous.get(signal.Signals(signum))
        if signum in WARNINGS and callable(handler):
            handler(signum, None)
        raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        assert self.signum is not None
        last = self.checkpoint.run.last
        return Interrupted(self.signum, last if last.exists() else None)


def signals() -> tuple[signal.Signals, ...]:
    """What ends a run with a checkpoint.

    Of a SLURM job of submitit SIGTERM is none of it: SLURM sends it to jobs that it is about to preempt, submitit waits
    for the warning that it has asked for, and hands the job in again only then.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        return (signal.SIGINT, *WARNINGS)
    return (signal.SIGINT, signal.SIGTERM, *WARNINGS)
