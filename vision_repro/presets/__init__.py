"""What experiments share: base configs, scales and their cost, learning rates, stages, words for captions. No torch."""
