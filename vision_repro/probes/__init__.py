"""Probes: each measures metrics of the weights of a run, or of its cost."""
