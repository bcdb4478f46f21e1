"""Judges: from the table's numbers to a judgement of one claim, each in one function."""
