"""A model folder that can be served and measured: weights in the Hugging Face layout, tokenizer, template."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from tokenizers import Tokenizer

from guard.prompt import load_template
from guard.training.model import TinyGuard, export_hugging_face
from guard.training.settings import Recipe
from guard.training.tokenizer import END_OF_TEXT, TURN_END, save_tokenizer, token_id
from guard.training.weights import write_template


def export(recipe: Recipe, tokenizer_folder: Path, weights: Path, folder: Path) -> None:
    """Write the model folder without card and manifest: enough to be served and measured."""
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    folder.mkdir(parents=True, exist_ok=True)
    model = TinyGuard(recipe.model)
    model.load_state_dict(load_file(weights))
    export_hugging_face(
        model,
        folder,
        eos_token_id=token_id(tokenizer, TURN_END),
        pad_token_id=token_id(tokenizer, END_OF_TEXT),
    )
    # safetensors writes for the owner alone; an installed checkpoint is for everybody.
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder)
    write_template(load_template(recipe.template), folder)
