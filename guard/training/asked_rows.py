"""What an evaluation asked of a guard, and the rows that its report makes of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from guard.calibration import Calibration
from guard.training.attacks.attack import Attack
from guard.training.calibration_split import CalibrationSplit
from guard.training.data.rows import LabelledRow
from guard.training.evaluation_settings import EvaluationSettings
from guard.training.generator.conversations import Row
from guard.training.measured_rows import MeasuredRow, Reply
from guard.training.suite_report import SaidFully, measured_row
from guard.training.suites import attacked_id, labelled, suites_of_attack, suites_of_real, suites_of_set

AttackedRow = tuple[Attack, int, Row, SaidFully]
"""The attack, the row's place, the attacked row and what was said of it."""
BySet = dict[str, Mapping[str, Sequence[SaidFully]]]
"""Mode → set → what was said of each row, in the order of the set."""


@dataclass(slots=True)
class Asked:
    """What was asked, and what was said in the same order."""

    sets: dict[str, list[Row]]
    split: CalibrationSplit
    sources: dict[str, list[LabelledRow]]
    """Real rows by source."""
    held_out: BySet = field(default_factory=dict)
    fit: BySet = field(default_factory=dict)
    real: BySet = field(default_factory=dict)
    attacked: dict[str, Sequence[AttackedRow]] = field(default_factory=dict)


def measured_rows_of(
    asked: Asked,
    settings: EvaluationSettings,
    calibration: Calibration | None,
    floor: Mapping[str, Reply],
    crossed: Mapping[str, Calibration] | None = None,
) -> list[MeasuredRow]:
    """Every row of a suite once, with what each mode said of it; `floor` is by row id.

    `crossed`: by the id of a real row on which the calibration was fitted, one that was not.
    """
    modes = settings.modes
    rows: list[MeasuredRow] = []
    for name, drawn in asked.sets.items():
        for number, row in enumerate(drawn):
            said = {mode: asked.held_out[mode][name][number] for mode in modes}
            suites = suites_of_set(name, row)
            rows.append(measured_row(labelled(name, number, row), suites, said, calibration))
    for place, (attack, number, row, _) in enumerate(asked.attacked[modes[0]]):
        said = {mode: asked.attacked[mode][place][3] for mode in modes}
        one = msgspec.structs.replace(labelled("attacked", number, row), id=attacked_id(attack, number))
        rows.append(measured_row(one, suites_of_attack(attack), said, calibration))
    suites_by_id = suites_of_real(asked.sources, settings)
    for source, known in asked.sources.items():
        for number, real in enumerate(known):
            said = {mode: asked.real[mode][source][number] for mode in modes}
            used = (crossed or {}).get(real.id, calibration)
            rows.append(measured_row(real, suites_by_id[real.id], said, used, floor.get(real.id)))
    return rows
