"""Indexes pictures, a transaction for every two of them: CHECKPOINT FOLDER DB.

Prints a line once it embeds, so that whoever kills it knows when.
"""

import sys

from lit_tf.search import index


def main(checkpoint, folder, db):
    index._WRITE_SECONDS = 0.0

    def embed(*arguments):
        for table in index.embed_here(*arguments):
            print("embedded", flush=True)
            yield table

    settings = index.Settings(checkpoint, batch_size=2)
    index.update(db, [folder], settings, embed=embed)


if __name__ == "__main__":
    main(*sys.argv[1:])
