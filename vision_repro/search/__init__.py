"""Hyper-parameter sweeps on this machine, without an account, from W&B's sweep files."""
