"""The judge: policy + conversation → verdict. Knows no Kafka and no Redis.

- `prompt`, `prompt_encoding`: the only place that renders a prompt (serving and training)
- `prompt_length`: whether texts are too long for a prompt, without encoding them
- `text_windows`: where the parts of a text stand that is too long for one prompt
- `answer`: completion → answer, or the reason why not (serving and rewards)
- `rationale`: blanks what a rationale shares with the messages
- `checkpoint`: manifest, digests, verification
- `signature`: who made a checkpoint
- `errors`: what can go wrong, and who acts
- `serving`: judge and engines
- `training`: data, warm start, evaluation, package
"""
