"""A mount namespace of its own: a small tmpfs that fills up, or a folder that turns read-only, seen by the processes in it alone.

disk = SmallDisk(folder, "32m")
process = disk.run([python, ...])       # sees the tmpfs at `folder`
disk.fill(); disk.free(); disk.set_read_only(True)
disk.close()                            # all of it is gone with the namespace
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.services.kafka import ServiceUnavailableError, wait_until


class SmallDisk:
    """A tmpfs of `size` mounted at `folder`, in a namespace that a sleeping process holds.

    Raises:
        ServiceUnavailableError: this machine lets us make no namespace; it needs root, or CAP_SYS_ADMIN.
    """

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            raise ServiceUnavailableError("`unshare` and `nsenter` (util-linux) are not installed")
        folder.mkdir(parents=True, exist_ok=True)
        script = f'mount -t tmpfs -o size={size} tmpfs "$1" && echo mounted && exec sleep infinity'
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            assert self._holder.stderr is not None
            why = self._holder.stderr.read().decode().strip()
            self._holder.wait()
            raise ServiceUnavailableError(f"no mount namespace can be made here: {why}")
        # The sleeping process is what `unshare` has become, so its root is the namespace's.
        self.root = Path(f"/proc/{self._holder.pid}/root{folder}")
        wait_until(self.root.is_dir, 5, "the namespace")

    def command(self, command: list[str]) -> list[str]:
        """The same command, inside."""
        return ["nsenter", "-t", str(self._holder.pid), "-m", *command]

    def fill(self, keep: int = 0) -> None:
        """Leave `keep` bytes free, to the next page."""
        with (self.root / "ballast").open("ab", buffering=0) as ballast:
            while (space := self.free_bytes() - keep) > 0:
                try:
                    ballast.write(bytes(min(space, 1 << 16)))
                except OSError:  # full
                    return

    def free(self) -> None:
        (self.root / "ballast").unlink()

    def free_bytes(self) -> int:
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    def set_read_only(self, read_only: bool) -> None:
        """As a disk that the kernel remounts; nobody may have a file open for writing."""
        mode = "ro" if read_only else "rw"
        subprocess.run(self.command(["mount", "-o", f"remount,{mode}", str(self.folder)]), check=True)

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()
