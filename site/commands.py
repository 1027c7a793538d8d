"""Prints docs/commands.md: what the program says of each of its commands. `make site` compares, `make commands` writes."""

import pathlib
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "packaging"))

from manual import commands, helped  # noqa: E402


def sections(binary, command):
    text = helped(binary, command)
    below = commands(text)
    if command and not below:
        about, rest = text.split("\n", 1)
        # The same of every command.
        rest = re.sub(r"\n  -h, --help\n.*?(?=\n\n|\Z)", "", rest, flags=re.DOTALL)
        yield f"## {' '.join(command)}\n\n{about}.\n\n```text\n{rest.strip()}\n```\n"
    elif command:
        about = text.split("\n", 1)[0]
        yield f"## {' '.join(command)}\n\n{about}.\n"
    for name in below:
        yield from sections(binary, [*command, name])


def page(binary):
    intro = """# Commands

Made from what `scopegate --help` says. Exit codes: 0 when all is fine, 1 for findings (faults in the configuration, failed tests, differences), 2 for wrong usage or
something that could not be read or reached. Where a command takes `--config` and has none, it reads the file that `SCOPEGATE_CONFIG` names, or else
`config/gateway.yaml`.
"""
    lines = "\n".join([intro, *sections(binary, [])]).splitlines()
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


if __name__ == "__main__":
    print(page(pathlib.Path(sys.argv[1]).resolve()), end="")
