"""Build the W&B dashboards of cvkan, one workspace a domain.

    python scripts/build_dashboards.py --check                 build them offline, print what they hold
    python scripts/build_dashboards.py --entity TEAM           save all to the project cvkan; needs an API key
    python scripts/build_dashboards.py --entity TEAM image     one of them

The same pictures without an account: logger=tensorboard, or a run's report.html.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omegaconf import OmegaConf

from cvkan import dashboards
from cvkan.api_key import has_api_key
from cvkan.errors import UserError

DOMAINS = Path(__file__).parents[1] / "conf/domain"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="*", metavar="DOMAIN", help=f"of {', '.join(dashboards.BOARDS)}; all if none")
    parser.add_argument("--entity", default="", help="user or team of W&B")
    parser.add_argument("--project", default="cvkan")
    parser.add_argument("--check", action="store_true", help="build and do not save")
    typed = parser.parse_args()
    try:
        for domain in typed.domains or dashboards.BOARDS:
            build(domain, typed.entity, typed.project, save=not typed.check)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return UserError.exit_code
    return 0


def build(domain: str, entity: str, project: str, save: bool) -> None:
    """Build one dashboard, and save it unless it is only checked."""
    if domain not in dashboards.BOARDS:
        raise UserError(f"no dashboard for {domain}", "", f"Choose of: {', '.join(dashboards.BOARDS)}.")
    if save and not (entity and has_api_key()):
        raise UserError("saving needs --entity and an API key", "", "Type --check, or log in: wandb login.")
    monitor = OmegaConf.load(DOMAINS / f"{domain}.yaml").domain.monitor
    workspace = dashboards.workspace(domain, monitor, entity, project)
    sections = ", ".join(f"{section.name} ({len(section.panels)})" for section in workspace.sections)
    print(f"{domain}: {sections}")
    if save:
        print(workspace.save().url)


if __name__ == "__main__":
    sys.exit(main())
