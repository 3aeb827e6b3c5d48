"""Exact single steps of any core sampler.

state         what a run remembers between two calls: origin, schedule, past and pause
trajectory    how that begins, and what edits and restarts make of it
fingerprint   whether a sampler, a model or a guider is the one that a run was made by
saving        a run as a file, and back
resuming      a saved run with what is connected now
randomness    torch's global generators
goal          how far one call goes: steps, a noise level, the boundary between two experts
replay        the guider as the sampler sees it: past calls replayed, new ones recorded, then the end
own_solver    the same for our own solvers, whose state is explicit: no replay
brownian      noise of the sde samplers, drawn once
hidden_state  what the host keeps elsewhere during a run: caches, hook keyframes, random generators
stepper       the core Sampler that puts it together, and `advance`, which the node calls
"""
