"""Carries out W&B sweep files on this machine, without an account."""
