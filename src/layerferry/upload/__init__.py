"""Into a registry that exists: only the blobs that it lacks, then the manifest, which gives the image its name."""
