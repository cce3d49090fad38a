"""What the job files of cloud/ say, read out of them for the tests."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CLOUD = ROOT / "cloud"
SKYPILOT = sorted((CLOUD / "skypilot").glob("*.yaml"))
SLURM = CLOUD / "slurm.sh"

# With these launch.py has saved: a time limit (EX_TEMPFAIL), and SIGTERM (128 + 15).
SAVED = [75, 143]


def read_skypilot(name):
    return yaml.safe_load((CLOUD / "skypilot" / f"{name}.yaml").read_text())


def read_jobset():
    """The claim and the JobSet of cloud/jobset.yaml."""
    claim, jobset = yaml.safe_load_all((CLOUD / "jobset.yaml").read_text())
    return claim, jobset


def dockerfile():
    """The instructions of cloud/Dockerfile as pairs of a name and its arguments."""
    text = re.sub(r"(?m)^#.*\n", "", (CLOUD / "Dockerfile").read_text())
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def entry_point():
    (words,) = [rest for name, rest in dockerfile() if name == "ENTRYPOINT"]
    return json.loads(words)
