"""What releases are for: fine-tuning a model on them, and measuring what that is worth."""
