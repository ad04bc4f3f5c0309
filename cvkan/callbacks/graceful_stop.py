"""Ctrl-C and SIGTERM end a run between two steps, with everything needed to continue it on the disk."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from cvkan.callbacks.checkpoint import RunCheckpoint
from cvkan.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulStop(pl.Callback):
    """Turn the first SIGINT or SIGTERM of a fit into a checkpoint and :class:`~cvkan.errors.Interrupted`.

    While training, a signal lets the current step (with accumulated batches: the current optimizer step; in
    validation: the validation) finish, then ``last.ckpt`` is written and ``Interrupted`` raised. A second
    signal raises at once and leaves the older ``last.ckpt``. Outside training there is nothing to save, and
    the first signal raises at once.

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
        self._listening = False
        self._training = False
        self._just_validated = False

    @contextmanager
    def listening(self) -> Iterator[GracefulStop]:
        """Handle the signals inside the block; a no-op outside the main thread, where Python takes none."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self.signum, self._listening = None, True
        self._install()
        try:
            yield self
        except Exception as error:
            # A signal to the whole process group also ends the loader processes, which is an error here.
            if self.signum is not None:
                raise self._interrupted() from error
            raise
        finally:
            self._listening = False
            for signum, handler in previous.items():
                signal.signal(signum, handler if handler is not None else signal.SIG_DFL)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has put its own SIGTERM handler in front, which would end training without our checkpoint.
        if self._listening:
            self._install()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._listening:  # as in on_train_start: the test has put Lightning's handler in front again
            self._install()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Only at the start of a batch is the step before it complete in every callback and logger.
        self._training = True
        if self.signum is None:
            return
        if batch_idx == 0:  # the end of the epoch has been saved
            raise self._interrupted()
        # Not half-way through accumulated gradients, which no checkpoint holds, nor right after a validation
        # amid the epoch, which a resumed run would do twice.
        if batch_idx % trainer.accumulate_grad_batches == 0 and not self._just_validated:
            self.checkpoint.save_last(trainer)
            raise self._interrupted()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._just_validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._just_validated = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training = False
        if self.signum is not None:  # it came in the very last epoch, which has been saved
            raise self._interrupted()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._training = False

    def _install(self) -> None:
        for signum in SIGNALS:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        second = self.signum is not None
        self.signum = self.signum or signum
        if second or not self._training:
            raise self._interrupted()
        # Straight to the file descriptor: logging from a signal handler may meet its own half-written line.
        os.write(2, b"stopping after this step; a second signal stops at once\n")

    def _interrupted(self) -> Interrupted:
        assert self.signum is not None
        last = self.checkpoint.run.last
        return Interrupted(self.signum, last if last.exists() else None)
