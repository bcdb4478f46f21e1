"""Tables of published costs beside our counts, with a verdict for each number."""
