"""Ask pip, by dry run, what each extra would install: `extras_dry_run.py PYTHON_OF_AN_EMPTY_ENVIRONMENT`.

TensorFlow comes with `tf` and `all`, once, and with no other extra. Run it from the project's root, with a
network.
"""

import configparser
import json
import subprocess
import sys
import tempfile

WITH_TENSORFLOW = {"tf", "all"}
TENSORFLOW = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-gpu",
    "tensorflow-intel",
    "tensorflow-macos",
    "tf-nightly",
)


def would_install(python: str, extra: str) -> list[str]:
    """Names of the distributions that pip would install for an extra."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [python, "-m", "pip", "install", "--dry-run", "--quiet", "--report", report.name]
        command += ["-c", "constraints.txt", f".[{extra}]"]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        with open(report.name, encoding="utf-8") as file:
            items = json.load(file)["install"]
    return sorted(item["metadata"]["name"].lower().replace("_", "-") for item in items)


def main(python: str) -> int:
    """Check every extra of setup.cfg and return how many are wrong."""
    config = configparser.ConfigParser()
    config.read("setup.cfg", encoding="utf-8")
    wrong = 0
    for extra in config["options.extras_require"]:
        names = would_install(python, extra)
        found = [name for name in names if name in TENSORFLOW]
        right = len(found) == (1 if extra in WITH_TENSORFLOW else 0)
        wrong += not right
        mark = "ok  " if right else "FAIL"
        print(f"{mark} tfjax[{extra}]: {len(names)} distributions, TensorFlow: {found or 'no'}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 2 else __doc__)
