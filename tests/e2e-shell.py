#!/usr/bin/env python3
"""kvmctl shell on a terminal: history and completion.  Called by e2e-shell.sh; status 77: built without libedit, or no terminal."""
import os
import pty
import re
import select
import subprocess
import sys
import time

kvmctl, trace = sys.argv[1:]
failed = 0


class Shell:
    def __init__(self, *words):
        try:
            self.pid, self.fd = pty.fork()
        except OSError as error:
            print(f"no terminal to be had: {error}")
            sys.exit(77)
        if self.pid == 0:
            os.environ.update(TERM="dumb", KVMCTL_HISTORY="history", COLUMNS="200")
            os.execv(kvmctl, [kvmctl, *words])
        self.seen = ""

    def until(self, pattern):
        """Read until it is there; what came with it."""
        global failed
        end = time.monotonic() + 30
        while not re.search(pattern, self.seen):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                print(f"FAILED: no {pattern!r} in {self.seen!r}")
                failed += 1
                return ""
            try:
                self.seen += os.read(self.fd, 65536).decode()
            except OSError:
                print(f"FAILED: ended before {pattern!r}: {self.seen!r}")
                failed += 1
                return ""
        found = re.search(pattern, self.seen)
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self, how="quit\n"):
        global failed
        self.type(how)
        try:
            while True:
                if not select.select([self.fd], [], [], 5)[0]:
                    self.type(how)  # a terminal that changes its mode may lose what was typed
                elif not os.read(self.fd, 65536):
                    break
        except OSError:
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if status != 0:
            print(f"FAILED: status {status}")
            failed += 1


if "libedit" not in subprocess.run(["ldd", kvmctl], capture_output=True, text=True).stdout:
    sys.exit(77)

s = Shell("-e", "shell")
s.until(r"kvmctl> ")
# an operation, its argument and a word of it
s.type("frame_al\t")
s.until(r"frame_alloc ")
s.type("ki\t")
s.until(r"kind=")
s.type("ty\t\n")
s.until(r"typed")
s.until(r"frame +1\r\n +paddr +0x0\r\n(.|\r|\n)*kvmctl> ")
# a live id
s.type("frame_drop fr\t")
s.until(r"frame=")
s.type("\t\n")
s.until(r"last +true\r\n(.|\r|\n)*kvmctl> ")
# with dashes, several ways to go on, second words, options
s.type("cursor-op\t\t")
s.until(r"cursor-open")
s.type("_no\n")
s.until(r"kvmctl> ")
s.type("trace conv\t")
s.until(r"trace convert ")
s.type("--fr\t")
s.until(r"--from ")
s.type("\n")
s.until(r"needs an argument(.|\r|\n)*kvmctl> ")
# the line before
s.type("census\n")
s.until(r"frames(.|\r|\n)*kvmctl> ")
s.type("\x10\x10\n")
s.until(r"needs an argument(.|\r|\n)*kvmctl> ")
s.end()

# the history outlives the shell; a trace has its place in the prompt
s = Shell("-e", "shell", "--trace", trace, "--to", "3")
s.until(r"kvmctl:3> ")
s.type("\x10\x10\n")
s.until(r"needs an argument(.|\r|\n)*kvmctl:3> ")
s.type("kvirt_query ar\t\t")
s.until(r"area=1")
s.type(" va=0xffffdfffffffe000\n")
s.until(r"found(.|\r|\n)*kvmctl:3> ")
s.type("step\n")
s.until(r"kvmctl:4> ")
s.type("back 2\n")
s.until(r"kvmctl:2> ")
s.end("\x04")
sys.exit(1 if failed else 0)
