"""flux-tree: broadcast a file or a directory to every node of a Flux job, over any tree."""
