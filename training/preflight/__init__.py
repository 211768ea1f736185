"""Compiles what a run will compile, for the TPU it will run on, without a TPU."""
