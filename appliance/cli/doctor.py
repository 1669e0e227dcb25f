"""`redtap doctor`: which links this machine lets this user have, one line each."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def doctor(as_json: bool) -> int:
    """Which links this machine lets this user have, and what is missing for the others.

    Each is tried, and nothing of it stays. The exit status is 0 when at least one can be had.
    """
    from netns.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        width = max(len(finding.link) for finding in findings)
        for finding in findings:
            answer = "yes" if finding.is_usable else "no "
            click.echo(f"{finding.link:{width}}  {answer}  {finding.text}")
    return 0 if any(finding.is_usable for finding in findings) else 1
