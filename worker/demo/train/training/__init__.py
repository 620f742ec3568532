"""What all stages of training share: models, data, optimizer, log."""
