"""SARIF 2.1.0, which GitHub code scanning shows at the lines of a pull request.

Source: Static Analysis Results Interchange Format (SARIF) Version 2.1.0, OASIS Standard, 27 March 2020.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gradcheck.reports.cleaning import visible
from gradcheck.reports.findings import RULES, Finding, findings

if TYPE_CHECKING:
    from gradcheck.reports.model import Report

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"refuted": "error", "not-covered": "warning", "incomplete": "error"}


def sarif(report: Report) -> str:
    """The report's findings as a SARIF log; a location is the term's line in the spec file."""
    from gradcheck import __version__

    driver = {
        "name": "gradcheck",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(name, text) for name, text in RULES.items()],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {"executionSuccessful": not report.interrupted, "exitCode": report.exit_code}
        ],
        "results": [_result(finding) for finding in findings(report)],
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False)


def _rule(name: str, text: str) -> dict[str, Any]:
    return {
        "id": name,
        "shortDescription": {"text": text},
        "defaultConfiguration": {"level": _LEVELS[name]},
    }


def _result(finding: Finding) -> dict[str, Any]:
    known = f"{finding.rule}:{finding.claim or finding.title}".encode("utf-8", "backslashreplace")
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": _LEVELS[finding.rule],
        "message": {"text": visible(finding.message)},
        # A finding stays the same one while lines move around it.
        "partialFingerprints": {"claim/v1": hashlib.sha256(known).hexdigest()},
    }
    if finding.place is not None:
        result["locations"] = [
            {
                "physicalLocation": {
                    "artifactLocation": _artifact(finding.place.file),
                    "region": {"startLine": finding.place.line},
                }
            }
        ]
    return result


def _artifact(file: str) -> dict[str, str]:
    """A path as a URI, relative to the root of the repository where it can be."""
    windows = PureWindowsPath(file)
    if windows.drive and windows.root:  # C:/project, whose colon belongs to the drive
        drive = windows.drive.replace("\\", "/")
        return {"uri": f"file:///{drive}{_quoted(windows.as_posix()[len(drive) :])}"}
    path = PurePosixPath(file)
    uri = _quoted(path.as_posix())
    return {"uri": f"file://{uri}"} if path.is_absolute() else {"uri": uri}


def _quoted(path: str) -> str:
    """The path as part of a URI; bytes that are no text stand as they are."""
    try:
        return quote(path, errors="surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, which a file on Windows can be called
        return quote(path, errors="surrogatepass")
