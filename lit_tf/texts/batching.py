"""Which texts have to be embedded, and in which order: each distinct one once, short ones first.

A batch costs what its longest text costs (`lit_tf.towers.bert`), so texts are sorted by length
before they are put into batches.
"""

import numpy as np


def distinct_by_length(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct rows of tokens (N, L), short ones first, and each row's place (N,).

    So `rows[places]` equals `tokens`, and `embed(rows)[places]` equals `embed(tokens)`.
    """
    rows, places = np.unique(tokens, axis=0, return_inverse=True)
    # The position after the last token; L where there is none, as Bert.without_padding has it.
    lengths = rows.shape[1] - (rows[:, ::-1] != 0).argmax(axis=1)
    order = np.argsort(lengths, kind="stable")
    return rows[order], np.argsort(order)[places.reshape(-1)]
