"""What tests/test_doc_commands.py runs in the place of the programs that documents name.

    python tests/stand_ins.py PROGRAM WORDS...

`colorgan` and `launch.py` are the real ones. What would install something, ask another host
or measure for minutes only looks for the files that its words name.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path


def look_for_files(words):
    """All words that look like paths are paths, but for addresses."""
    for word in words:
        path = word.rpartition("=")[2].partition(":")[0]
        if "://" in word or path.startswith("OWNER/"):
            continue
        if re.search(r"/|\.[a-z]+$", path) and not Path(path).exists():
            sys.exit(f"there is no {path}")


def npm(words):
    """`npm pack NAME@VERSION` writes an empty file, if the page wants that version."""
    name, version = words[1].split("@")
    if f'"{version}"' not in Path("colorgan_jax/page/site.py").read_text():
        sys.exit(f"the page takes another version than {version}")
    Path(f"{name}-{version}.tgz").touch()


def python(words):
    """A training run is short and small; other scripts have their options looked for."""
    if words[:2] == ["-m", "venv"]:
        folder = Path(words[2], "bin")
        folder.mkdir(parents=True)
        (folder / "activate").touch()
    elif words[0] == "launch.py":
        flags = os.environ["SHORT_FLAGS"].split()
        if "--config=configs/finetune.py" in words:
            # The released weights are of one size.
            flags = [flag for flag in flags if not re.search("filters|_size", flag)]
        os.execv(sys.executable, [sys.executable, *words, *flags])
    else:
        look_for_files(words)
        script = Path(words[0]).read_text()
        for word in words:
            if word.startswith("--") and f'"{word}"' not in script:
                sys.exit(f"{words[0]} has no option {word}")


def colorgan(words):
    """Runs it, or reads its options alone where a cluster would have to run it."""
    if words[0] == "bulk":  # tests/commands/test_bulk.py runs it.
        from colorgan_jax.commands import bulk

        parser = argparse.ArgumentParser()
        bulk.add_parser(parser.add_subparsers())
        parser.parse_known_args(words)
        return
    if "--webgpu" in words:  # Of the real file the page knows the digest.
        option = words.index("--webgpu")
        look_for_files(words[option : option + 2])
        del words[option : option + 2]
    command = [sys.executable, "-m", "colorgan_jax", *words]
    if "serve" in words:
        serve([*command, "--port=0"])
    os.execv(sys.executable, command)


def serve(command):
    """Opens what a server says that it serves, and stops it by Ctrl-C."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # The server heeds it, too.
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in server.stdout or ():
        print(line, end="")
        if address := re.search(r"http://\S+", line):
            urllib.request.urlopen(address[0]).close()
            server.send_signal(signal.SIGINT)
    sys.exit(server.wait())


PROGRAMS = dict.fromkeys(
    [
        *("bash", "docker", "gcloud", "hf", "kubectl", "pip", "pre-commit", "pytest"),
        *("sbatch", "sky", "sudo"),
    ],
    look_for_files,
)
PROGRAMS |= {"colorgan": colorgan, "npm": npm, "python": python}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](sys.argv[2:])
