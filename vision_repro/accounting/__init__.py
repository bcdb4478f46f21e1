"""Costs of a model: parameters, memory, multiply-adds or FLOPs (a multiply-add is 2 FLOPs), hours, money, energy."""
