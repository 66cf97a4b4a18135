"""What a release is made of: `__main__` writes both archives."""
