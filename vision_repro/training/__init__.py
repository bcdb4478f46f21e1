"""One run: seeding, the Trainer, checkpoints and resume, cost, W&B, provenance, and the evaluation of its weights."""
