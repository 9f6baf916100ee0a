"""One line that is written over on a terminal; plain lines elsewhere."""

import os
import shutil
import sys


class Screen:
    def __init__(self):
        self.live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.shown = False

    def progress(self, text):
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print("\r\033[K" + text[:width], end="", flush=True)
            self.shown = True
        else:
            print(text, flush=True)

    def step(self, text):
        """Worth a moment on a terminal only."""
        if self.live:
            self.progress(text)

    def line(self, text=""):
        if self.shown:
            print("\r\033[K", end="")
            self.shown = False
        print(text, flush=True)
