"""Learning: batches of whole sequences, next-click pre-training, the loop, calibration."""
