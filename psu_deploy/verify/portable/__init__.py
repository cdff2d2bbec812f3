"""Proof that every IEEE-754 binary32 runtime of a machine gives the same spikes on given inputs."""

from psu_deploy.verify.portable.certificate import LayerCertificate, PortableCertificate
from psu_deploy.verify.portable.certify import certify

__all__ = ["LayerCertificate", "PortableCertificate", "certify"]
