"""Batched augmentation on the device, crops in the workers, and the grammar that names them."""
