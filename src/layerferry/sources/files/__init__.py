"""Images in files: an OCI layout, an archive of either form."""
