"""Give back a sequence of vectors out of a small code, and tell what the code had to do with it.

Legend: B batch, N tokens, n chunks, D numbers of a vector, d numbers of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from cvkan.core.regularizers import Regularizer
from cvkan.curriculum import Curriculum
from cvkan.models.autoencoder import Autoencoder, Code, Decoder
from cvkan.models.teacher_forcing import TeacherForcing
from cvkan.poetry.baselines import token_shares
from cvkan.reconstruction_loss import HybridCosine
from cvkan.spec import Batch, Spec
from cvkan.tasks.base import Task
from cvkan.tasks.code_ablation import in_place_of, strangers
from cvkan.tasks.reconstruction_examples import Examples, PoemSource
from cvkan.tasks.reconstruction_scores import CodeStatistics, ReconstructionScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGES = ("val", "test", "train_eval")
# Token cosines of the test under other conditions, and what a picture calls these.
ZERO, SHUFFLED = "ablation/z_zero_token_cosine", "ablation/z_shuffled_token_cosine"
FORCED = "teacher_forced/token_cosine"
CONDITIONS = {ZERO: "code set to zero", SHUFFLED: "code of another poem", FORCED: "told the truth (teacher-forced)"}
TRAIN_EVALUATED = 256  # training chunks that are tested like the test chunks


class ReconstructionTask(Task):
    """Vectors (B, N, D) out of a code, (B, d) or (B, N, d), against the vectors that went in.

    Training follows the curriculum: so many tokens, and so much of the truth told to a decoder that goes on from its
    own output. Validation and test see whole sequences and tell the decoder nothing but the code. The test also takes
    some training chunks (``train_eval/…``), the decoder with all the truth told (``teacher_forced/…``), and without a
    code or with that of another poem (``ablation/…``): a decoder that does as well then never used it.

    Args:
        spec, optimizer, scheduler, augment, regularizers: see :class:`~cvkan.tasks.base.Task`.
        model: the encoder.
        loss: also says whether the lengths of the vectors are trained.
        decoder: constructor, called with ``spec``.
        teacher_forcing: how a decoder that goes on from its own output is told the truth in training.
        curriculum: what each epoch trains on.

    Raises:
        ValueError: the parts do not fit each other or the data.
    """

    target = "vectors"
    loss: HybridCosine
    model: Autoencoder

    def __init__(
        self,
        spec: Spec,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler],
        augment: nn.Module | None,
        regularizers: Mapping[str, Regularizer] | None = None,
        *,
        decoder: Callable[..., Decoder],
        teacher_forcing: TeacherForcing,
        curriculum: Curriculum,
    ) -> None:
        autoencoder = Autoencoder(model, decoder(spec=spec))
        super().__init__(spec, autoencoder, loss, optimizer, scheduler, augment, regularizers)
        self.teacher_forcing, self.curriculum = teacher_forcing, curriculum
        teacher_forcing.check(autoencoder.decoder, [phase.teacher_forcing for phase in curriculum.phases])

    def check_regularizers(self) -> None:
        if self.regularizers:
            raise ValueError(
                f"regularizer=[{','.join(self.regularizers)}] acts on complex tokens, which an autoencoder keeps to "
                "itself; set regularizer=none"
            )

    def make_metrics(self) -> None:
        if not isinstance(self.loss, HybridCosine):
            raise ValueError(f"{type(self.loss).__name__} cannot compare vectors; set loss=hybrid_cosine")
        codes = {stage: CodeStatistics(self.model.d_latent) for stage in STAGES}
        self.codes = cast(Mapping[str, CodeStatistics], nn.ModuleDict(codes))
        variants = {name: MeanMetric() for name in CONDITIONS if self.model.autoregressive or name != FORCED}
        self.variants = cast(Mapping[str, MeanMetric], nn.ModuleDict(variants))

    def setup(self, stage: str) -> None:
        """Make what needs the words: the scores of each stage, and the strangers of each test chunk."""
        data = self.source
        matrix = data.table.matrix
        share = token_shares(data.splits["train"].tensors["y"], len(matrix))  # (V,)
        constant, center = share @ matrix, share @ self.loss.in_space(matrix)  # (D,)
        known = (data.table, constant, center, share > 0, self.spec.input_shape[0], self.loss.target_space == "raw")
        scores = {name: ReconstructionScores(*known) for name in STAGES}
        self.scores = cast(Mapping[str, ReconstructionScores], nn.ModuleDict(scores))
        numbers = data.splits["test"].tensors["id"]
        poem = torch.tensor([data.chunks[number].poem for number in numbers.tolist()])
        self.stranger_of = strangers(poem, torch.Generator().manual_seed(0))
        self.row_of = {number: row for row, number in enumerate(numbers.tolist())}

    @property
    def source(self) -> PoemSource:
        """The data of the run.

        Raises:
            ValueError: it is not of words.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, PoemSource):
            raise ValueError(f"{type(data).__name__} has no table of words; set data=poems_embedded, for example")
        return data

    def in_space(self, batch: Batch) -> Batch:
        """The batch with its vectors as the loss wants them, all of unit length or as they are."""
        return {**batch, "x": self.loss.in_space(batch["x"])}

    def compare(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.loss(output, batch["x"], batch["mask"]), output

    def loss_and_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        batch = self.in_space(batch)
        return self.compare(self.model(batch["x"], batch["mask"]), batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.augment is not None:
            batch = self.augment(batch)
        phase = self.curriculum.phase(self.current_epoch, cast(int, self.trainer.max_epochs))
        batch = self.in_space({name: batch[name][:, : phase.max_tokens] for name in ("x", "mask")})
        output = self.teacher_forcing.run(self.model, batch["x"], batch["mask"], phase.teacher_forcing)
        if self.teacher_forcing.tells:
            self._log_training("teacher_forcing", torch.tensor(phase.teacher_forcing), batch)
        loss, _ = self.compare(output, batch)
        self._log_training("loss", loss, batch)
        self._log_training("max_tokens", torch.tensor(float(output.shape[1])), batch)
        return loss

    def _evaluate(self, stage: str, batch: Batch) -> None:
        self.score(stage, self.in_space(batch))

    def score(self, stage: str, batch: Batch) -> tuple[Code, Tensor]:
        """Count a batch for ``val``, ``test`` or ``train_eval``: whole sequences, from the code alone.

        Returns:
            The code and the vectors (B, N, D) that came of it.
        """
        x, mask = batch["x"], batch["mask"]
        code = self.model.encode(x, mask)
        output = self.model.decode(code, mask)
        if stage != "train_eval":  # logged with the other figures of a test
            loss = self.loss(output, x, mask)
            self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=int(mask.sum()), sync_dist=True)
        self.scores[stage].update(output, x, batch["y"], mask)
        # Behind a batch norm all numbers of a code vary alike, those that say nothing too.
        self.codes[stage].update(self.model.head.raw(code.z if code.z.ndim == 2 else code.z[mask.bool()]))
        return code, output

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        batch = self.in_space(batch)
        code, output = self.score("test", batch)
        self.score_variants(batch, code)
        self.examples.add(batch, code.z, output)

    def score_variants(self, batch: Batch, code: Code) -> None:
        """Count the token cosines of a test batch without its codes, with those of others, and with the truth told."""
        x, mask = batch["x"], batch["mask"]
        outputs = {ZERO: self.model.decode(replace(code, z=torch.zeros_like(code.z)), mask)}
        if self.stranger_of is not None:
            rows = torch.tensor([self.row_of[number] for number in batch["id"].tolist()])
            other = self.samples("test", self.stranger_of[rows])
            z = in_place_of(self.model.encode(other["x"], other["mask"]).z, other["mask"])
            outputs[SHUFFLED] = self.model.decode(replace(code, z=z), mask)
        if self.model.autoregressive:
            everywhere = torch.ones(x.shape[1], dtype=torch.bool, device=x.device)
            outputs[FORCED] = self.model.decode(code, mask, gold=x, forced=everywhere)
        for name, output in outputs.items():
            self.variants[name].update(F.cosine_similarity(output.float(), x, dim=-1)[mask.bool()])

    def samples(self, part: str, rows: Tensor) -> Batch:
        """Rows (B,) of a part of the data as the network sees them."""
        batch = {name: tensor[rows].to(self.device) for name, tensor in self.source.splits[part].tensors.items()}
        return self.in_space(self.source.preprocess(batch))

    def on_validation_epoch_start(self) -> None:
        self.scores["val"].reset()
        self.codes["val"].reset()

    def on_validation_epoch_end(self) -> None:
        for name, value in self.scalars("val").items():
            self.log(name, value, prog_bar=name.endswith(("/token_cosine", "/word_accuracy")))

    def on_test_epoch_start(self) -> None:
        for metric in (*self.scores.values(), *self.codes.values(), *self.variants.values()):
            metric.reset()
        self.examples = Examples(self.source, self.device)

    def on_test_epoch_end(self) -> None:
        n_train = len(self.source.splits["train"])
        rows = torch.randperm(n_train, generator=torch.Generator().manual_seed(0))[:TRAIN_EVALUATED]
        for part in rows.split(self.source.batch_size):
            self.score("train_eval", self.samples("train", part))
        self.log_dict(self.scalars("test") | self.scalars("train_eval") | self.comparisons())

    def scalars(self, stage: str) -> dict[str, Tensor]:
        """All figures of a stage that are one number."""
        metrics = (self.scores[stage], self.codes[stage])
        return {f"{stage}/{name}": value for metric in metrics for name, value in metric.compute().items()}

    def comparisons(self) -> dict[str, Tensor]:
        """Token cosines of the test under other conditions; without shuffled codes if all chunks are of one poem."""
        found = {name: metric.compute() for name, metric in self.variants.items() if metric.update_called}
        if FORCED in found:
            found["exposure_gap"] = found[FORCED] - self.scores["test"].compute()["token_cosine"]
        return found

    def results(self) -> dict[str, Any]:
        """Cosines by place in a chunk and by its length, the size of a code, and some chunks in words."""
        return {
            "test/position_cosine": self.scores["test"].places(),
            "test/length_cosine": self.scores["test"].lengths(),
            "floats_per_chunk": self.model.floats_per_chunk(self.spec.input_shape[0]),
            "compression": self.model.compression(),
            "reconstructions": self.examples.reconstructions,
        }

    def figures(self) -> dict[str, Figure]:
        from cvkan import plots_poetry

        scores, examples = self.scores["test"], self.examples
        by_place = (scores.by_place[:, 1:3] / scores.by_place[:, :1]).T.cpu()  # (2, N)
        n, cosine, constant, _ = scores.by_kind.sum(dim=0).tolist()
        tried = {CONDITIONS[name]: float(value) for name, value in self.comparisons().items() if name in CONDITIONS}
        return {
            **super().figures(),
            "cosine_by_position": plots_poetry.cosine_by_position(*by_place),
            "code_use": plots_poetry.code_use({"free-running": cosine / n, **tried}, constant / n),
            "latent_space": plots_poetry.latent_space(examples.codes, examples.lengths, examples.authors),
        }
