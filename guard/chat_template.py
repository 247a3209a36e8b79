"""The chat template that a checkpoint brings, as a function of messages that gives text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from guard.errors import TemplateError


def chat_of(folder: Path) -> Callable[..., str] | None:
    """`chat(messages, **arguments)` → the prompt up to the answer; "" where the template refuses them.

    None for a folder without a chat template. Raises `TemplateError` for a tokenizer that cannot be read.
    """
    # Imported here: transformers takes seconds, and only the text of the template is needed from it.
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise TemplateError(f"the tokenizer configuration in {folder} cannot be read: {error}") from error
    if not tokenizer.chat_template:
        return None

    def chat(messages: list[dict[str, Any]], **arguments: Any) -> str:
        # jinja2 errors are of many kinds: a template may raise on an order of roles that it does not know.
        try:
            return str(
                tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True, **arguments
                )
            )
        except Exception:  # noqa: BLE001
            return ""

    return chat
