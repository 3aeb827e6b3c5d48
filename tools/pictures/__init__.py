"""Pictures that are made, not drawn: thumbnails of the workflows, sample videos and the editor for the README."""
