"""The offline trainer: from a recipe to a checkpoint. `pipeline` reads top to bottom."""
