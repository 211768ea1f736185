"""The shipped configs: each module has `get_config(argument)`."""
