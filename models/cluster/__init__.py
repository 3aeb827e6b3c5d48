"""Work shared by the workers of a Ray cluster: one training run, or many videos. Ray is imported only when it is used.

Ray moves Python objects between its processes with pickle. That is safe on machines of one's own and nowhere else: the
address of a cluster comes from a person (command line, configuration), never from a workflow.
"""
