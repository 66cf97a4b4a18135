"""Signed images: what a signature says (`statement`, `sshsig`), the file that has one, and the key that makes one.

OpenSSH makes and checks the signatures (`ssh-keygen -Y`); docs/signing.md tells how. The receiver, which checks them,
imports `statement` and `sshsig` alone, which are the standard library.
"""
