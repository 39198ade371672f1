"""What the transformer is held against: LightGBM, TabNet and the stack, on the same rows."""
