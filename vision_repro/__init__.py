"""Reproductions of the experiments of ViT and of the CNN case studies before it, from raw images to verdicts."""

__version__ = "0.1.0"
