"""OCI images as values: names, digests, descriptors, plans, documents. Pure: the standard library, no I/O."""
