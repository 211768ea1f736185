"""The library's subcommands of `lit-tf`, one file each.

A subcommand's module has `add_arguments(parser)` and `run(args) -> int`, and a line in the table of
`lit_tf/cli.py`. It imports TensorFlow only inside `run`, so that `--help` answers at once.
"""
