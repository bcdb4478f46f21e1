"""From summaries to paper-style figures; needs matplotlib, and no torch."""
