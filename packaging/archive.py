"""Archives of which two runs give the same bytes: sorted names, one time, no names of users of this machine."""

import gzip
import hashlib
import io
import pathlib
import tarfile


class Tree:
    """Files and folders that go into an archive: path to (mode, owner, contents); a folder has no contents."""

    def __init__(self):
        self.entries = {}

    def folder(self, path, mode=0o755, owner=0):
        self.entries[path.strip("/")] = (mode, owner, None)

    def file(self, path, contents, mode=0o644, owner=0):
        if isinstance(contents, pathlib.Path):
            contents = contents.read_bytes()
        if isinstance(contents, str):
            contents = contents.encode()
        path = path.strip("/")
        for above in reversed(pathlib.PurePosixPath(path).parents):
            if str(above) != "." and str(above) not in self.entries:
                self.folder(str(above))
        self.entries[path] = (mode, owner, contents)

    def files(self, path, folder):
        """A folder of the repository, whole."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
                self.file(f"{path}/{file.relative_to(folder)}", file, mode)

    def tar(self, epoch, prefix=""):
        """The bytes of an uncompressed archive."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(self.entries):
                mode, owner, contents = self.entries[path]
                entry = tarfile.TarInfo(prefix + path)
                entry.mtime, entry.uid, entry.gid = epoch, owner, owner
                if contents is None:
                    entry.type, entry.mode = tarfile.DIRTYPE, mode
                    archive.addfile(entry)
                else:
                    entry.mode, entry.size = mode, len(contents)
                    archive.addfile(entry, io.BytesIO(contents))
        return out.getvalue()

    def write(self, folder, epoch):
        """As files of a folder, for tools that pack themselves."""
        with tarfile.open(fileobj=io.BytesIO(self.tar(epoch))) as archive:
            archive.extractall(folder, filter="fully_trusted")


def zipped(contents, level=6):
    """gzip without a name and a time."""
    return gzip.compress(contents, compresslevel=level, mtime=0)


def sha256(contents):
    return hashlib.sha256(contents).hexdigest()
