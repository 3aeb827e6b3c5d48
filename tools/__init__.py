"""What `run.py` is made of: small modules, standard library only, one job each."""
