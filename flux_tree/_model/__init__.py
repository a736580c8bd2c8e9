"""The model; `flux_tree.model` is its face."""
