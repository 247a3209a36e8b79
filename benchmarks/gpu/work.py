"""How many operations a call takes: what a share of the roofline is a share of.

For each token that is computed (prompt tokens that the engine had not computed before, and all of the
completion but its last one):

    2 · weights of the layers' matrices  +  4 · layers · heads · head width · tokens that it attends to

and for each token of the completion 2 · vocabulary · width more. A multiplication with an addition counts as
two. Norms, rotations and the softmax are left out, as are the embeddings, which are looked up.
Kaplan et al. (2020), "Scaling laws for neural language models", section 2.1, with the attention of a causal
model at its exact length.
"""

from __future__ import annotations

from benchmarks.gpu.shapes import Shape


def operations(shape: Shape, prompt: int, cached: int, completion: int) -> int:
    """Of one call: `prompt` tokens of which `cached` need not be computed, `completion` tokens, 1 or more.

    >>> from benchmarks.gpu.shapes import Shape
    >>> one = Shape("one", layers=1, width=2, hidden=3, heads=1, key_heads=1, head_width=2, vocabulary=5,
    ...             max_positions=8)
    >>> one.layer_weights, operations(one, prompt=1, cached=0, completion=1)  # 2*34 + 4*2*1 + 2*10
    (34, 96)
    """
    last = prompt + completion - 1
    tokens = last - cached
    attended = (last * (last + 1) - cached * (cached + 1)) // 2
    attention = 4 * shape.layers * shape.heads * shape.head_width * attended
    return 2 * shape.layer_weights * tokens + attention + 2 * shape.head_weights * completion
