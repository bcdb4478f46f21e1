"""What a model costs: FLOPs, with a multiply-add counted as 2, as in Table 6 of the ViT paper."""
