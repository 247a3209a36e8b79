"""A checkpoint: a folder in the Hugging Face layout with a manifest, verified before anything is loaded.

`manifest.json` holds the SHA-256 of every file and where the checkpoint comes from. Two digests identify it:

- `weights_digest` covers what changes an answer (weights, tokenizer, configuration, prompt template in use);
- `checkpoint_digest` covers every file, the manifest and the calibration of the scores included.

A folder without a manifest has both digests too, and is marked unverified. Names that begin with a dot are
not part of a checkpoint: nothing that is loaded stands there (`.git`, `.cache`). The signature of the
manifest, `manifest.sig`, is not part of it either, so that a checkpoint keeps its digests when it is signed
(`guard.signature`).

Over 300 lines, because opening and writing a checkpoint must agree on what belongs to it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import rfc8785

from guard.errors import CheckpointError, UnsupportedError
from guard.profiles.catalogue import DEFAULT, find_profile
from guard.profiles.profile import Profile
from guard.prompt import PromptTemplate, load_template, template_of

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
CALIBRATION: Final = "calibration.json"
FORMAT: Final = "rsafe-checkpoint-1"
SHIPPED: Final = Path(__file__).parent / "checkpoints"
# Unpickling runs code that the file brings along.
_PICKLES: Final = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
# Prose and the manifest; everything else might change an answer, so it counts as doing so.
_PROSE_SUFFIXES: Final = frozenset({".md", ".rst", ".pdf", ".png", ".svg"})
_PROSE_NAMES: Final = frozenset({MANIFEST, "LICENSE", "LICENSE.txt", "NOTICE", "NOTICE.txt"})
_LENGTH_NAMES: Final = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
# Length of a model whose configuration names none: what the smallest of the older models had.
_DEFAULT_LENGTH: Final = 2048


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a checkpoint. `files` maps each path in the folder to its SHA-256 (hex)."""

    format: str
    name: str
    base: str
    """What it was trained from, or `scratch`."""
    data_hash: str
    template_version: str
    command: str
    """The command that made it."""
    files: dict[str, str]
    profile: str = ""
    """How the guard is asked (`guard.profiles`); empty: `rsafe-boxed-1`, unless a setting says otherwise."""
    metrics: dict[str, Any] = {}
    gate: dict[str, Any] = {}
    training: dict[str, Any] = {}
    """Seeds, versions and whatever else a repetition needs."""


Trace = tuple[int, int, int]
"""Of a file: size in bytes, time of the last change in nanoseconds, and number."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder whose content is known. `max_model_len` is in tokens, prompt and answer together."""

    path: Path
    name: str
    checkpoint_digest: str
    weights_digest: str
    verified: bool
    template: PromptTemplate
    max_model_len: int
    profile: Profile = DEFAULT
    """How it is asked, and how its answers are read."""
    manifest: Manifest | None = None
    manifest_digest: str | None = None
    """SHA-256 (hex) of the bytes that `manifest` was read from."""
    traces: Mapping[str, Trace] = field(default_factory=dict, compare=False, repr=False)
    """How its files looked before they were read (`guard.serving.seal`)."""

    @property
    def template_version(self) -> str:
        """Of the prompt in use; `template_version` of decisions."""
        return self.template.version if self.profile.format is None else self.profile.format.version


def open_checkpoint(
    path_or_name: str, *, template: str = "", profile: str = "", weights: bool = True
) -> Checkpoint:
    """The checkpoint in a folder, or one that is shipped (`tiny`), verified file by file.

    `template` names a prompt template (built in, or a file) instead of the checkpoint's own; `profile` the
    profile of a folder whose manifest names none, or which has no manifest. `weights=False` accepts a folder
    without weights, for engines that make random ones. Raises `CheckpointError` naming the file and both
    digests when the content is not what the manifest says, or for a profile that is not there;
    `TemplateError` for the template.
    """
    folder = find_checkpoint(path_or_name)
    # Before anything is read, so that what is replaced while it is being read is seen to be another.
    traces = file_traces(folder)
    files = list(traces)
    config = _check_layout(folder, files, weights)
    digests = {name: file_digest(folder / name) for name in files if name != MANIFEST}
    manifest = manifest_digest = None
    if MANIFEST in files:
        # Read once: what is compared, what is told and what a signature must be of are the same bytes.
        content = read_whole(folder / MANIFEST)
        manifest, manifest_digest = decode_manifest(folder, content), hashlib.sha256(content).hexdigest()
        digests[MANIFEST] = manifest_digest
        _compare(folder, manifest, digests)
    asked = _profile_of(folder, manifest, profile)
    used = _template_of(folder, template, asked)
    return Checkpoint(
        path=folder,
        name=manifest.name if manifest else folder.resolve().name,
        checkpoint_digest=_digest(digests),
        weights_digest=_digest(
            {name: digest for name, digest in digests.items() if not _is_prose(name)}
            | {"template in use": hashlib.sha256(msgspec.json.encode(used, order="sorted")).hexdigest()}
            | _profile_digest(asked)
        ),
        verified=manifest is not None,
        template=used,
        profile=asked,
        max_model_len=_model_length(folder, config),
        manifest=manifest,
        manifest_digest=manifest_digest,
        traces=traces,
    )


def _profile_of(folder: Path, manifest: Manifest | None, chosen: str) -> Profile:
    named = manifest.profile if manifest else ""
    if named and chosen and named != chosen:
        raise CheckpointError(
            f"{folder / MANIFEST}: profile is {named!r}; expected {chosen!r}, or no other one to be asked for"
        )
    try:
        return find_profile(named or chosen)
    except UnsupportedError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def _template_of(folder: Path, chosen: str, profile: Profile) -> PromptTemplate:
    """Our template for the profile; one that a profile in its maker's words passes over, for those."""
    if profile.format is not None:
        if chosen:
            raise CheckpointError(
                f"{folder}: the profile {profile.name!r} has a prompt of its own; expected no template"
            )
        return template_of(folder)
    fixed = profile.taxonomy is not None
    if fixed and not chosen and not (folder / "prompt_template.json").is_file():
        raise CheckpointError(
            f"{folder}: the profile {profile.name!r} takes its prompt from a file; expected a template "
            "(RSAFE_GUARD__TEMPLATE), or prompt_template.json in the folder"
        )
    chosen = chosen or profile.template
    if chosen:
        return load_template(chosen, fixed=fixed)
    return template_of(folder) if not fixed else load_template(folder / "prompt_template.json", fixed=True)


def _profile_digest(profile: Profile) -> dict[str, str]:
    """What the profile adds to the weights digest; nothing for the default, as before there were others."""
    if profile == DEFAULT:
        return {}
    version = profile.format.version if profile.format is not None else profile.template
    text = f"{profile.name}\0{profile.grammar}\0{version}"
    return {"profile in use": hashlib.sha256(text.encode()).hexdigest()}


def checkpoint_digest(folder: Path) -> str:
    """The digest of every file as it is now; reads them all. Raises `CheckpointError`."""
    return _digest({name: file_digest(folder / name) for name in checkpoint_files(folder)})


def write_manifest(
    folder: Path,
    *,
    name: str,
    base: str,
    data_hash: str,
    template_version: str,
    command: str,
    profile: str = "",
    metrics: Mapping[str, Any] | None = None,
    gate: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write `manifest.json` over the folder's present content; an older manifest is replaced.

    A signature of another manifest is taken away, since it would be one of nothing. Raises
    `CheckpointError` for content that `open_checkpoint` would refuse.
    """
    files = [file for file in checkpoint_files(folder) if file != MANIFEST]
    _check_layout(folder, files, weights=True)
    manifest = Manifest(
        format=FORMAT,
        name=name,
        base=base,
        data_hash=data_hash,
        template_version=template_version,
        command=command,
        profile=profile,
        files={file: file_digest(folder / file) for file in files},
        metrics=dict(metrics or {}),
        gate=dict(gate or {}),
        training=dict(training or {}),
    )
    content = msgspec.to_builtins(manifest)
    if not profile:  # manifests without it are as they were before there was one
        del content["profile"]
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    partial = write_partial(folder / MANIFEST, text.encode())
    if not (folder / MANIFEST).is_file() or file_digest(folder / MANIFEST) != file_digest(partial):
        (folder / SIGNATURE).unlink(missing_ok=True)
    partial.replace(folder / MANIFEST)
    return manifest


def write_partial(path: Path, content: bytes) -> Path:
    """A new file beside `path`, on the disk, to be renamed to it: so `path` is never half written.

    What stands under its name is taken away first, and never followed: a link there could lead anywhere.
    Raises `OSError`.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return partial


def find_checkpoint(path_or_name: str) -> Path:
    """The folder that is meant, or that of a shipped checkpoint. Raises `CheckpointError` for neither."""
    shipped = SHIPPED / path_or_name
    is_name = path_or_name == Path(path_or_name).name and not path_or_name.startswith(".")
    folder = shipped if is_name and shipped.is_dir() else Path(path_or_name)
    if folder.is_dir():
        return folder
    known = ", ".join(sorted(p.name for p in SHIPPED.glob("*") if p.is_dir())) or "none"
    raise CheckpointError(f"no checkpoint {path_or_name!r}: expected a folder, or a shipped name ({known})")


def checkpoint_files(folder: Path) -> list[str]:
    """Paths of all files below the folder, with `/`, sorted; without the signature of the manifest.

    Raises `CheckpointError`, also for a symlink that leaves the folder.
    """
    root = folder.resolve()

    def walk(place: Path) -> Iterator[str]:
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = Path(entry.path)
                if entry.is_symlink() and not path.resolve().is_relative_to(root):
                    raise CheckpointError(
                        f"{path}: a link that leaves the checkpoint; expected the file itself"
                    )
                if entry.is_symlink() and path.is_dir():
                    raise CheckpointError(f"{path}: a link to a folder; expected files and folders only")
                if entry.is_dir():
                    yield from walk(path)
                elif entry.is_file():
                    yield path.relative_to(folder).as_posix()
                else:
                    raise CheckpointError(f"{path}: expected a regular file")

    try:
        return sorted(name for name in walk(folder) if name != SIGNATURE)
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {folder}: {error}") from error


def _check_layout(folder: Path, files: list[str], weights: bool) -> dict[str, Any]:
    """Refuse what must not be loaded; the content of `config.json`."""
    for name in files:
        if Path(name).suffix in _PICKLES:
            raise CheckpointError(f"{folder / name}: a pickle can run code; expected *.safetensors only")
    for needed in ("config.json", "tokenizer.json"):
        if needed not in files:
            raise CheckpointError(
                f"{folder}: no {needed}; expected a model folder in the Hugging Face layout"
            )
    for name in ("config.json", "tokenizer_config.json"):
        if name in files and "auto_map" in _read_json(folder / name):
            raise CheckpointError(
                f"{folder / name}: auto_map asks for the folder's own code, which is not run"
            )
    tensors = [name for name in files if name.endswith(".safetensors")]
    if weights and not tensors:
        raise CheckpointError(f"{folder}: no weights; expected *.safetensors")
    for name in tensors:
        _check_tensors(folder / name)
    return _read_json(folder / "config.json")


def _check_tensors(path: Path) -> None:
    # The first 8 bytes are the header's length; a pointer left by Git LFS or a broken download fails here.
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= path.stat().st_size - 8:
        raise CheckpointError(f"{path}: not a safetensors file, or only the beginning of one")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return content


def read_manifest(folder: Path) -> Manifest:
    """What `manifest.json` says; the files are not looked at. Raises `CheckpointError`."""
    return decode_manifest(folder, read_whole(folder / MANIFEST))


def decode_manifest(folder: Path, content: bytes) -> Manifest:
    """What the bytes of the folder's `manifest.json` say. Raises `CheckpointError`."""
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a manifest: {error}") from error
    if manifest.format != FORMAT:
        raise CheckpointError(f"{path}: format {manifest.format!r}; expected {FORMAT!r}")
    return manifest


def differences(folder: Path, manifest: Manifest) -> list[str]:
    """What the folder's files are other than the manifest says, a sentence a file; reads all of them.

    Raises `CheckpointError` when they cannot be read.
    """
    found = {name: file_digest(folder / name) for name in checkpoint_files(folder)}
    return list(_differences(folder, manifest, found))


def _compare(folder: Path, manifest: Manifest, found: Mapping[str, str]) -> None:
    for difference in _differences(folder, manifest, found):
        raise CheckpointError(difference)


def _differences(folder: Path, manifest: Manifest, found: Mapping[str, str]) -> Iterator[str]:
    listed = manifest.files
    for name in sorted(listed.keys() | found.keys() - {MANIFEST}):
        if name not in found:
            yield f"{folder / name}: missing; the manifest expects SHA-256 {listed[name]}"
        elif name not in listed:
            yield f"{folder / name}: not in the manifest; its SHA-256 is {found[name]}"
        elif listed[name] != found[name]:
            yield f"{folder / name}: SHA-256 is {found[name]}, and the manifest expects {listed[name]}"


def file_traces(folder: Path) -> dict[str, Trace]:
    """How each file of a checkpoint looks from outside, in order of `checkpoint_files`.

    Raises `CheckpointError` when that cannot be told.
    """
    traces: dict[str, Trace] = {}
    for name in checkpoint_files(folder):
        try:
            status = (folder / name).stat()
        except OSError as error:
            raise CheckpointError(f"cannot read {folder / name}: {error}") from error
        traces[name] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return traces


def read_whole(path: Path, most: int = -1) -> bytes:
    """The bytes of a file of a checkpoint, at most so many of them. Raises `CheckpointError`."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file. Raises `CheckpointError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # in chunks, whatever the size
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(rfc8785.dumps(dict(files))).hexdigest()


def _is_prose(name: str) -> bool:
    # The calibration is applied to the answers; it names the weights digest, so it cannot be part of it.
    return Path(name).suffix in _PROSE_SUFFIXES or Path(name).name in _PROSE_NAMES or name == CALIBRATION


def _model_length(folder: Path, config: Mapping[str, Any]) -> int:
    text = config.get("text_config")
    for place in (config, text if isinstance(text, dict) else {}):
        for name in _LENGTH_NAMES:
            value = place.get(name)
            if value is None:
                continue
            if not isinstance(value, int) or value < 1:
                raise CheckpointError(
                    f"{folder / 'config.json'}: {name} is {value!r}; expected tokens, 1 or more"
                )
            return value
    return _DEFAULT_LENGTH
