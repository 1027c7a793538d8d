"""The manual page scopegate(1), out of what the program says of itself."""

import subprocess
import time


def helped(binary, command):
    done = subprocess.run([binary, *command, "--help"], check=True, capture_output=True, text=True, timeout=30, env={})
    # clap writes the name of the file it was started as.
    return done.stdout.replace(f"Usage: {binary.name} ", "Usage: scopegate ")


def commands(text):
    """The names below `Commands:`."""
    if "\nCommands:\n" not in text:
        return []
    rows = text.split("\nCommands:\n")[1].split("\n\n")[0].splitlines()
    names = [row.split()[0] for row in rows if row.startswith("  ") and not row.startswith("   ")]
    return [name for name in names if name != "help"]


def escaped(text):
    lines = text.replace("\\", "\\e").replace("-", "\\-").splitlines()
    return "\n".join(("\\&" + line if line.startswith((".", "'")) else line) for line in lines)


def sections(binary, command):
    text = helped(binary, command)
    if command:
        about, rest = text.split("\n", 1)
        yield f".SS \"{escaped(' '.join(command))}\"\n{escaped(about)}\n.PP\n.nf\n{escaped(rest.strip())}\n.fi\n"
    for name in commands(text):
        yield from sections(binary, [*command, name])


def page(binary, version, epoch):
    about = helped(binary, []).splitlines()[0]
    day = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    return f""".TH SCOPEGATE 1 "{day}" "scopegate {version}" "User Commands"
.SH NAME
scopegate \\- OAuth gateway for REST APIs
.SH SYNOPSIS
.B scopegate
.I COMMAND
.RI [ OPTIONS ]
.SH DESCRIPTION
{escaped(about)}.
.PP
Exit codes are 0 when all is fine, 1 for findings, and 2 for wrong usage or something that could not be read or reached.
.SH COMMANDS
{"".join(sections(binary, []))}.SH FILES
.TP
.I /etc/scopegate/gateway.yaml
The configuration of the service, with the files that it names.
.TP
.I /var/lib/scopegate
The working directory of the service: the store.
.SH ENVIRONMENT
.TP
.B SCOPEGATE_CONFIG
The gateway.yaml of commands that are given none.
.SH SEE ALSO
.BR systemctl (1),
.I /usr/share/doc/scopegate
"""
