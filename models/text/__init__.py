"""Words to numbers: a WordPiece tokenizer and the small BERT that gives the embedded model its language features."""
