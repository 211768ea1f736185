"""Shipped configs: short Python programs, each with `get_config(arg)`."""
