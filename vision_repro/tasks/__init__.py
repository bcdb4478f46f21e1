"""Training objectives as LightningModules around any architecture."""
