"""Layers and blocks of the architectures."""
