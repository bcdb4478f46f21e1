"""What the shortcuts buy: the suite against the plain way, side by side in one run."""
