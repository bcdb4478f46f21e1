"""What a model costs: parameters, memory, multiply-adds or FLOPs (a multiply-add is 2), hours, money and energy."""
