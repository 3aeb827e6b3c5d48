"""Words: the text encoder that gives the embedded model its language features, and prompts made into captions.

`tokenizer`, `encoder`: words to numbers. `captions.expand`: a short prompt into a detailed caption, by grammar
(`offline`) or by a language model (`language_models`, `local_models`; set up in `configuration`), checked by
`verification`, which stands on `reading`, `lexicon`, `numerals`, `camera` and `faults`.
"""
