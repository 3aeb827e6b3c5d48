"""Training runs and batches of videos: processes of their own that a node starts and follows."""
