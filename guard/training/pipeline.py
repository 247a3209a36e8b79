"""A training run from its recipe to a checkpoint. Reads top to bottom:

dataset → warm-start → grpo → evaluation → gate → checkpoint

Each stage names its inputs: its part of the recipe, the version of its code, and the digests of what it reads
of earlier stages. A stage that the recipe does not have is passed over, and the next one reads what the one
before it made. A little over 300 lines: the order of all stages and what each reads stand in one place.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from guard.checkpoint import Checkpoint, open_checkpoint
from guard.errors import GateFailed, RecipeError
from guard.training import steps
from guard.training.ablations import FOLDER, ablations_of
from guard.training.base_model import Base, open_base
from guard.training.code_version import code_version
from guard.training.data_files import data_files
from guard.training.recipe import section
from guard.training.settings import ABLATIONS, Recipe
from guard.training.stages import digest_of, make_stage
from guard.training.versions import engine_version, stage_versions

# Records of stages, and what version control or a download left: no part of a checkpoint.
_HIDDEN: Final = shutil.ignore_patterns(".*")


@dataclass(frozen=True, slots=True)
class Trained:
    """A model to measure: its folder, and the digest of its files."""

    folder: Path
    digest: str


class Pipeline:
    """The stages of one recipe in one folder. `say` gets sentences that stay, `log` how far a stage is.

    A method makes its stage, and those before it that are missing or whose inputs changed. All raise
    `TrainingError` for what cannot go on, and what the stages raise.
    """

    def __init__(
        self, recipe: Recipe, output: Path, say: Callable[[str], None], log: Callable[[str], None]
    ) -> None:
        self.recipe, self.output = recipe, output
        self._say, self._log = say, log
        self._base: Base | None = None
        self._champion: Checkpoint | None = None
        self._made: set[str] = set()

    def dataset(self) -> Path:
        """Tokenizer and samples of a model from scratch; labelled rows."""
        recipe, base = self.recipe, self._opened_base()
        part: dict[str, Any] = {}
        if recipe.data is not None:
            part = {"data": section(recipe, "data"), "files": data_files(recipe.data)}
        if base is None:
            model = recipe.model
            part |= {"vocabulary": model.vocabulary, "tokenizer": model.tokenizer, "seed": recipe.seed}
            part |= {"prose": recipe.prose}
        known = "dataset" in self._made
        folder = self._make(
            "dataset",
            "dataset",
            part | self._common(),
            lambda folder: steps.make_dataset(recipe, None if base is None else base.folder, folder),
            resumes=False,
        )
        if recipe.data is not None and not known:
            self._say(steps.rows_line(folder))
        return folder

    def warm_start(self) -> Trained:
        """The model that answers in form: from scratch, from a base by supervised training, or the base."""
        recipe, base, dataset = self.recipe, self._opened_base(), self.dataset()
        if base is None:
            names = ("stages", "model", "seed", "threads", "precision")
            part = {name: getattr(recipe, name) for name in names}
            part |= {"tokenizer": digest_of(dataset, steps.TOKENIZER)}
            if recipe.draws_rows:
                part |= {"rows": digest_of(dataset, steps.ROWS)}
            folder = self._make(
                "warm-start",
                "warm-start-with-rows" if recipe.draws_rows else "warm-start",
                part | self._common(),
                lambda folder: steps.train_from_scratch(recipe, dataset, folder, self._log),
                resumes=True,
            )
        elif recipe.warm_start is not None:
            folder = self._make(
                "warm-start",
                "supervised",
                {"settings": section(recipe, "warm_start"), "rows": digest_of(dataset, steps.ROWS)}
                | self._common(),
                lambda folder: steps.train_supervised(recipe, base.folder, dataset, folder, self._log),
                resumes=True,
            )
        else:
            self._say(f"warm-start: none in the recipe; {recipe.base} is taken as it is")
            folder = self._make(
                "warm-start",
                "base",
                self._common(),
                lambda folder: steps.take_base(recipe, base, folder),
                resumes=False,
            )
        return _trained(folder)

    def grpo(self) -> Trained:
        """The model after reinforced alignment; without one in the recipe, that of the warm start."""
        recipe, model, dataset = self.recipe, self.warm_start(), self.dataset()
        if recipe.grpo is None:
            return model
        inputs = {
            "settings": section(recipe, "grpo"),
            "weights": model.digest,
            "rows": digest_of(dataset, steps.ROWS),
        }
        return _trained(
            self._make(
                "grpo",
                "grpo",
                inputs | self._common(),
                lambda folder: steps.train_reinforced(recipe, model.folder, dataset, folder, self._log),
                resumes=True,
            )
        )

    def evaluation(self) -> Path:
        """The report of the trained model."""
        return self._measure("evaluation", self.grpo(), self.dataset(), floor=True, curves=True)

    def ablation(self, without: str) -> Path:
        """The report without `reasoning` (fast answers) or `reinforcement` (the warm start's weights)."""
        if without == "reinforcement":
            if self.recipe.grpo is None:
                raise RecipeError("grpo: found nothing; expected reinforced alignment to go without")
            model = self.warm_start()
        else:
            model = self.grpo()
        return self._measure(FOLDER.format(without), model, self.dataset(), ablation=ABLATIONS[without])

    def champion_evaluation(self) -> Path | None:
        """The report of the champion on the same rows; None without one."""
        champion = self._opened_champion()
        if champion is None:
            return None
        trained = Trained(champion.path, champion.weights_digest)
        return self._measure("evaluation-champion", trained, self._labelled_rows())

    def _labelled_rows(self) -> Path | None:
        """The data set where it holds rows to measure; without one no tokenizer is made for it."""
        return self.dataset() if self.recipe.data is not None else None

    def gate(self) -> Path | None:
        """What the gate says; None where the recipe has none. It may say that the model failed."""
        self._opened_champion()  # before anything that takes long: it may not be there
        return self._judged(self.evaluation())

    def _judged(self, challenger: Path) -> Path | None:
        recipe = self.recipe
        if recipe.gate is None:
            return None
        champion = self.champion_evaluation()
        before = None
        # A packaged checkpoint that is measured anew, or a recipe without `grpo`, has no weights before it.
        if "warm-start" in self._made and recipe.grpo is not None:
            before = digest_of(self.output / "warm-start", steps.MODEL)
        others = ablations_of(self.output, challenger, before)
        inputs = {
            "settings": section(recipe, "gate"),
            "others": {name: digest_of(folder) for name, folder in others.items()},
            "challenger": digest_of(challenger),
            "champion": None if champion is None else digest_of(champion),
        }
        return self._make(
            "gate",
            "gate",
            inputs,
            lambda folder: steps.judge_gate(recipe, challenger, champion, others, self._curves(), folder),
            resumes=False,
        )

    def require_passed(self, gate: Path) -> steps.GateOutcome:
        """What the gate said. Raises `GateFailed` with the rows that failed."""
        outcome = steps.read_gate(gate)
        if not outcome.passed:
            raise GateFailed(
                "\n".join(
                    ["the gate failed, and nothing is packaged; the rows above say why", *outcome.failed]
                )
            )
        return outcome

    def checkpoint(self, command: str, key: Path | None) -> Path:
        """The checkpoint's folder, signed where a key is given. Raises `GateFailed` instead."""
        signer = _signer(key)
        gate, trained, recipe = self.gate(), self.grpo(), self.recipe
        evaluation = self.output / "evaluation"
        outcome = None if gate is None else self.require_passed(gate)

        def make(folder: Path) -> None:
            from guard.training.package import package

            shutil.copytree(trained.folder, folder, dirs_exist_ok=True, ignore=_HIDDEN)
            steps.copy_calibration(evaluation, folder)
            package(
                recipe,
                folder,
                steps.read_report(evaluation),
                command=command,
                training=self._account(),
                data=None if recipe.data is None else digest_of(self.output / "dataset", steps.ROWS),
                gate=None if outcome is None else outcome.account,
            )
            if key is not None:
                steps.sign_checkpoint(folder, key)

        inputs = {
            "recipe": recipe,
            "weights": trained.digest,
            "evaluation": digest_of(evaluation),
            "gate": None if gate is None else digest_of(gate),
            "command": command,
            "key": signer,
        }
        return self._make("checkpoint", "checkpoint", inputs, make, resumes=False)

    def evaluation_of(self, old: Checkpoint) -> Path:
        """The report of a packaged checkpoint, without training one."""
        trained = Trained(old.path, old.weights_digest)
        return self._measure("evaluation", trained, self._labelled_rows(), floor=True)

    def checkpoint_anew(self, old: Checkpoint, key: Path | None) -> Path:
        """The same weights with new figures; what the old manifest says of the training is kept.

        They pass the recipe's gate as those of a run do. Raises `GateFailed` instead.
        """
        signer = _signer(key)
        self._opened_champion()
        evaluation = self.evaluation_of(old)
        gate = self._judged(evaluation)
        outcome = None if gate is None else self.require_passed(gate)

        def make(folder: Path) -> None:
            from guard.training.package import package_anew

            shutil.copytree(old.path, folder, dirs_exist_ok=True, ignore=_HIDDEN)
            steps.copy_calibration(evaluation, folder)
            account = None if outcome is None else outcome.account
            package_anew(self.recipe, folder, steps.read_report(evaluation), old, account)
            if key is not None:
                steps.sign_checkpoint(folder, key)

        inputs = {
            "checkpoint": old.checkpoint_digest,
            "evaluation": digest_of(evaluation),
            "gate": None if gate is None else digest_of(gate),
            "key": signer,
        }
        return self._make("checkpoint", "checkpoint", inputs, make, resumes=False)

    def _measure(
        self,
        name: str,
        model: Trained,
        dataset: Path | None,
        *,
        ablation: str = "",
        floor: bool = False,
        curves: bool = False,
    ) -> Path:
        recipe, settings = self.recipe, steps.evaluation_settings(self.recipe, ablation)
        inputs = {
            "weights": model.digest,
            "rows": recipe.evaluation_rows,
            "seed": recipe.evaluation_seed,
            "settings": settings,
            "engine": engine_version(),
            "data": None if recipe.data is None or dataset is None else digest_of(dataset, steps.ROWS),
        }
        return self._make(
            name,
            "evaluation",
            inputs,
            lambda folder: steps.measure(
                recipe,
                model.folder,
                dataset,
                folder,
                settings,
                self._curves() if curves else {},
                self._log,
                floor=floor,
            ),
            resumes=True,
        )

    def _make(
        self, name: str, code: str, inputs: dict[str, Any], make: Callable[[Path], None], *, resumes: bool
    ) -> Path:
        folder = self.output / name
        if name in self._made:
            return folder
        plain = msgspec.json.decode(msgspec.json.encode({**inputs, "code": code_version(code)}))
        versions = stage_versions(code)
        make_stage(folder, plain, make, self._say, resumes=resumes, versions=versions)
        self._made.add(name)
        return folder

    def _curves(self) -> dict[str, Path]:
        return steps.learning_curves(self.output, self._made)

    def _common(self) -> dict[str, Any]:
        from guard.prompt import load_template

        base = self._opened_base()
        return {
            "template": load_template(self.recipe.template),
            "base": None if base is None else base.identity,
        }

    def _opened_base(self) -> Base | None:
        if self._base is None and not self.recipe.from_scratch:
            self._base = open_base(self.recipe)
            if self._base.warning:
                self._say(self._base.warning)
        return self._base

    def _opened_champion(self) -> Checkpoint | None:
        if self._champion is None and self.recipe.champion:
            self._champion = open_checkpoint(self.recipe.champion)
        return self._champion

    def _account(self) -> dict[str, Any]:
        from guard.training.account import training_account

        base = self._opened_base()
        identity = None if base is None else base.identity
        return training_account(self.recipe, self.output, identity, self._made)


def _signer(key: Path | None) -> str | None:
    """The id of the key: an input, and read before anything that takes long. Raises `KeyFileError`."""
    if key is None:
        return None
    from guard.signature import signing_key_id

    return signing_key_id(key)


def _trained(stage: Path) -> Trained:
    return Trained(stage / steps.MODEL, digest_of(stage, steps.MODEL))
