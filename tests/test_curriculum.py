"""The curriculum: the phases of the document, stretched to any number of epochs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cvkan.curriculum import Curriculum, Phase

CONF = Path(__file__).parents[1] / "conf/curriculum"


def chosen(name: str) -> Curriculum:
    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"), _convert_="all")


def phases(curriculum: Curriculum, max_epochs: int) -> list[Phase]:
    return [curriculum.phase(epoch, max_epochs) for epoch in range(max_epochs)]


def test_thirty_epochs_have_the_four_phases_as_they_are_laid_down() -> None:
    expected = [(0.9, 20)] * 7 + [(0.7, 30)] * 8 + [(0.3, 40)] * 8 + [(0.1, None)] * 7
    assert phases(chosen("four_phase"), 30) == expected


@given(st.integers(1, 400))
def test_another_number_of_epochs_stretches_the_borders(max_epochs: int) -> None:
    curriculum = chosen("four_phase")
    for epoch in range(max_epochs):
        at = Fraction(2 * epoch + 1, 2 * max_epochs)  # the middle of the epoch, as a share of the run
        k = next(k for k, end in enumerate((7, 15, 23, 30)) if at < Fraction(end, 30))
        assert curriculum.phase(epoch, max_epochs) == curriculum.phases[k]


@given(st.integers(4, 400))
def test_four_epochs_and_more_go_through_every_phase_in_order(max_epochs: int) -> None:
    curriculum = chosen("four_phase")
    found = [curriculum.phases.index(phase) for phase in phases(curriculum, max_epochs)]
    assert found == sorted(found)
    assert set(found) == {0, 1, 2, 3}


def test_twice_the_epochs_are_twice_every_phase() -> None:
    once, twice = (phases(chosen("four_phase"), n) for n in (30, 60))
    assert twice == [phase for phase in once for _ in range(2)]


def test_none_is_whole_chunks_throughout() -> None:
    assert phases(chosen("none"), 5) == [Phase(teacher_forcing=0.0, max_tokens=None)] * 5


@pytest.mark.parametrize(
    ("until", "teacher_forcing", "max_tokens", "message"),
    [
        ([1, 2], [0.5], [None], r"one entry a phase, got \[2, 1, 1\]; give"),
        ([], [], [], r"got \[0, 0, 0\]"),
        ([3, 3], [0.5, 0.5], [None, None], r"until must rise from at least 1, got \[3, 3\]; set"),
        ([0], [0.5], [None], "until must rise"),
        ([1], [1.5], [None], r"teacher_forcing must lie between 0 and 1, got \[1.5\]; set"),
        ([1], [-0.1], [None], "teacher_forcing must lie between"),
        ([1], [0.5], [0], r"max_tokens must be at least 1, got \[0\]; set null"),
    ],
)
def test_wrong_phases_are_refused(until: list, teacher_forcing: list, max_tokens: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curriculum(until, teacher_forcing, max_tokens)
