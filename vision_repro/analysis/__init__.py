"""From the table of results to summaries and verdicts; needs numpy and scipy.special, and no torch."""
