"""Words: the text encoder that gives the embedded model its language features, and prompts made into captions.

`tokenizer`, `encoder`: words to numbers. `captions.expand`: a short prompt into a detailed caption, by grammar
(`offline`) or by a language model, checked by `verification`, which stands on `reading`, `lexicon`, `numerals`,
`camera` and `faults`. Language models (`interface` says what one is): `language_models` behind an address, set up in
`configuration`; `local_models` on this machine, run by `engine_llama` or `engine_transformers` (`gguf` reads file
headers). `small_models` has what a weak one is asked instead of rewriting.
"""
