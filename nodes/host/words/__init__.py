"""Text encoders, language models and captioners."""
