"""The flow of a push: request, source and target, plan, delta archive, verdict; to one target or many."""
