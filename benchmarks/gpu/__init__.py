"""The guard's speed by the model's size: ours beside bare vLLM, and beside what the chip can multiply."""
