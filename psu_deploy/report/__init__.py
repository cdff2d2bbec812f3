"""A verification as one page for people: the verdict first, then why, in pictures."""

from psu_deploy.report.evidence import Evidence
from psu_deploy.report.page import write_report

__all__ = ["Evidence", "write_report"]
