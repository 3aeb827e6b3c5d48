"""Files of moving pictures and stills: the pack's one reader, its one writer, and the sound that goes along."""
