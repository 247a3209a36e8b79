"""Errors of the guard, and who acts on them.

GuardError
├── CheckpointError     absent, incomplete, changed, or not what its manifest says: the operator acts
├── KeyFileError        a file of a signing key, or of a public one, that cannot be used: the operator acts
├── TemplateError       a prompt template or tokenizer that cannot be used: the operator acts
├── RecipeError         a training recipe that cannot be used: its author acts
├── TrainingError       a training run that cannot go on as it was asked for: the operator acts
├── GateFailed          a trained model that must not be packaged: whoever trains acts
├── UnsupportedError    an engine that this version does not have: the operator acts
├── UnsupportedRate     a false-positive rate that a calibration cannot resolve: the policy's author acts
└── EngineError
    ├── EngineAbsent    what the engine needs is not installed, or its servers have become of another version:
    │                   the operator acts
    ├── EngineNotReady  the engine did not start: at the start of a worker the operator acts; later it is
    │   │               recoverable, since the same engine has run before
    │   └── EngineKilled  recoverable: its process was ended by a signal while it started
    ├── EngineDead      recoverable: the engine is gone; wait until it is back
    ├── EngineFailed    recoverable: this call failed, another may succeed
    └── EngineTimeout   this call had no answer before its deadline
"""

from __future__ import annotations


class GuardError(Exception):
    """One sentence for a person; never message text."""


class CheckpointError(GuardError):
    """The checkpoint cannot be trusted or read."""


class KeyFileError(GuardError):
    """A file that should hold a key holds none that can be used."""


class TemplateError(GuardError):
    """The prompt template or the tokenizer cannot be used."""


class RecipeError(GuardError):
    """A training recipe that is absent or wrong; names file, line and field."""


class TrainingError(GuardError):
    """A training run cannot begin or go on: something that it needs is absent, or its folder is in use."""


class GateFailed(GuardError):
    """A trained model did not pass the gate; one line for each row of it that failed."""


class UnsupportedError(GuardError):
    """An engine or a mode that is known by name and not there yet."""


class UnsupportedRate(GuardError):
    """A false-positive rate smaller than the calibration's data can support."""


class EngineError(GuardError):
    """A call of the engine gave no completion."""


class EngineAbsent(EngineError):
    """A package or a library that the engine needs is not installed; or its servers became others."""


class EngineNotReady(EngineError):
    """The engine did not start."""


class EngineKilled(EngineNotReady):
    """The process of the engine was ended from outside while it started."""


class EngineDead(EngineError):
    """The engine is gone."""


class EngineFailed(EngineError):
    """The engine refused or failed this call."""


class EngineTimeout(EngineError):
    """The deadline of the call passed; it was aborted in the engine."""
