"""One file per experiment; each asks one question of a paper and ends in a figure and a verdict."""
