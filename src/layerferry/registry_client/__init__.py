"""The client of a registry (OCI distribution-spec): HTTP, logins, reading, writing, and the way through ssh."""
