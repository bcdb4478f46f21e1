"""Published costs beside ours: every number of the papers and slides that the accountant can count."""
