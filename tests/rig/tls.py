"""Certificates for an engine that listens on tcp: a throw-away authority, one server, one client."""

import subprocess
from pathlib import Path


def create(folder: Path, address: str, name: str = "localhost") -> None:
    """Fill `folder` with ca.pem, a server's server-cert.pem and server-key.pem, a client's cert.pem and key.pem."""
    folder.mkdir(parents=True)
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", *ec, "-days", "30", "-subj", "/CN=rig", "-keyout", "ca-key.pem", "-out", "ca.pem")
    for prefix, usage in (("server-", "serverAuth"), ("", "clientAuth")):
        request, extensions = f"{usage}.csr", folder / f"{usage}.cnf"
        extensions.write_text(f"subjectAltName=IP:{address},IP:127.0.0.1,DNS:{name}\nextendedKeyUsage={usage}\n")
        openssl("req", *ec, "-subj", f"/CN={usage}", "-keyout", f"{prefix}key.pem", "-out", request)
        signed = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", extensions.name]
        openssl("x509", "-req", "-in", request, *signed, "-days", "30", "-out", f"{prefix}cert.pem")
