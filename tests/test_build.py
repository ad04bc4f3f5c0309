"""What a config out of a checkpoint may name."""

from __future__ import annotations

import pytest

from cvkan.build import check_targets
from cvkan.errors import UserError


def named(target: str) -> dict[str, object]:
    return {"model": {"_target_": "cvkan.models.cvkan.CVKAN", "parts": [{"_target_": target}]}}


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "cvkan.checkpointing.torch.hub.load",  # what a module imports is not its own
        "cvkan.checkpointing.torch.load",
        "cvkan.build.import_module",
        "cvkan.models.cvkan.nn",
        "cvkan.models.cvkan.Nonsense",
        "cvkan.nonsense.CVKAN",
        "cvkanx.models.cvkan.CVKAN",
        "CVKAN",
    ],
)
def test_foreign_targets_of_a_checkpoint_are_refused(target: str) -> None:
    with pytest.raises(UserError, match="which is not part of cvkan"):
        check_targets(named(target), "run.ckpt")


@pytest.mark.parametrize("target", ["cvkan.core.norm.PreRMSNorm", "cvkan.schedulers.one_cycle"])
def test_classes_and_functions_of_cvkan_are_admitted(target: str) -> None:
    check_targets(named(target), "run.ckpt")


def test_classes_that_the_user_names_too_are_admitted() -> None:
    check_targets(named("toy_domain.Hum"), "run.ckpt", own={"data": {"_target_": "toy_domain.Hum"}})
