"""The reproduction report: one static site from the tables of all experiments; no torch, no server, no account."""
