"""Carries out one run: seeds, Trainer, checkpoints, resumption, cost, W&B, provenance, measurements of the weights."""
