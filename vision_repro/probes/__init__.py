"""Measurements on frozen features: from features and labels to numbers."""
