"""The fusion transformer: logits out, no loss, no device moves inside."""
