"""Optimizers that torch lacks, from the optional package pytorch-optimizer; built as ``optimizer(params)``.

They are wrapped because the package's own constructors take any keyword without a word; here an unknown option is an
error. Complex weights are stored as two real planes, and both optimizers see each plane as a matrix of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

Params = Iterable[Tensor] | Iterable[dict[str, Any]]


def lion(params: Params, lr: float, betas: tuple[float, float], weight_decay: float) -> Optimizer:
    """Sign of an interpolated momentum: every weight moves by ``lr``.

    ``c = b1 m + (1 - b1) g``, ``w -= lr (sign(c) + weight_decay w)``, ``m = b2 m + (1 - b2) g``.

    Args:
        params: parameters or groups of them.
        lr: learning rate, below AdamW's (a third to a tenth in the paper), since the sign is larger than Adam's step.
        betas: ``b1`` and ``b2``, both in [0, 1).
        weight_decay: decoupled, as in AdamW; multiply it by what the learning rate was divided by.

    Raises:
        ImportError: pytorch-optimizer is not installed.
        ValueError: an argument is out of range.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2.
    """
    _check_rate(lr)
    return _library().Lion(params, lr=lr, betas=tuple(betas), weight_decay=weight_decay)


def muon(
    params: Params,
    lr: float,
    momentum: float,
    nesterov: bool,
    ns_steps: int,
    betas: tuple[float, float],
    weight_decay: float,
) -> Optimizer:
    """Orthogonalized momentum for matrices, AdamW for everything else, under one learning rate.

    ``M = momentum M + (1 - momentum) G``, ``W -= lr (0.2 sqrt(max(rows, columns)) U V^T + weight_decay W)`` with
    ``U S V^T`` the momentum's singular value decomposition, approximated by Newton-Schulz iterations in bfloat16. The
    factor gives the step the root mean square of AdamW's, whose learning rates therefore fit.

    A matrix is a parameter of two dimensions or more, the first two above 1 (convolutions are flattened to
    ``(out, in * window)``), in a group that is not exempt from decay. Coefficient tables, whose rows are not directions
    of one space, and depthwise kernels go to AdamW. The output layer counts as a matrix, though the source leaves it to
    AdamW: own choice, for the groups do not name it.

    Args:
        params: parameters or groups of them; a group that says ``weight_decay`` 0 goes to AdamW whole.
        lr: learning rate of both parts.
        momentum: decay of the matrices' momentum, in [0, 1).
        nesterov: look ahead by one step of the momentum.
        ns_steps: Newton-Schulz iterations.
        betas: AdamW's.
        weight_decay: decoupled, for the groups that name none.

    Raises:
        ImportError: pytorch-optimizer is not installed.
        ValueError: an argument is out of range.

    Source: Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024; the factor: Liu et al., "Muon is
    Scalable for LLM Training", 2025, equation 4.
    """
    _check_rate(lr)
    library = _library()
    groups: list[dict[str, Any]] = []
    for group in _groups(params):
        options = {"lr": lr, "weight_decay": weight_decay} | {key: group[key] for key in group if key != "params"}
        matrices = [p for p in group["params"] if group.get("weight_decay") != 0 and _is_matrix(p)]
        chosen = {id(parameter) for parameter in matrices}
        rest = [p for p in group["params"] if id(p) not in chosen]
        groups += [{"params": matrices, "use_muon": True, **options}, {"params": rest, "use_muon": False, **options}]
    return library.Muon(
        [group for group in groups if group["params"]],
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov,
        ns_steps=ns_steps,
        use_adjusted_lr=True,
        adamw_lr=lr,
        adamw_betas=tuple(betas),
        adamw_wd=weight_decay,
        adamw_eps=1e-8,  # torch's; the library's 1e-10 is below the noise of float32 gradients
    )


def _check_rate(lr: float) -> None:
    # The package's own error for this is no ValueError.
    if not lr >= 0:
        raise ValueError(f"the learning rate must not be negative, got {lr}; set lr=1e-3, for example")


def _groups(params: Params) -> list[dict[str, Any]]:
    """Parameter groups with lists that may be read twice; bare parameters are one group."""
    given = list(params)
    if given and isinstance(given[0], dict):
        return [{**group, "params": list(group["params"])} for group in given if isinstance(group, dict)]
    return [{"params": given}]


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and min(parameter.shape[:2]) > 1


def _library() -> ModuleType:
    """The package, imported only by those who use it."""
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise ImportError(
            "this optimizer is in the package pytorch-optimizer, which is not installed; "
            "run: pip install 'pytorch-optimizer>=4.1,<5', or choose adamw, adam or sgd"
        ) from error
    return pytorch_optimizer
