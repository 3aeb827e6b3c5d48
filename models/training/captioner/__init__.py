"""Training a captioner, and describing a folder of clips with one."""
