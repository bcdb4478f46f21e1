"""Layers and blocks that several architectures are made of."""
