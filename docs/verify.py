#!/usr/bin/env python3
"""Verifies a gatelog record without gatelog: docs/transparency.md tells what is done here, and why.

    verify.py LOG KEY [SEGMENT...]

LOG is the folder with `checkpoint` and `tile/`; KEY is the text of the public key, name+id+key; SEGMENTs are the files of the
journal, oldest first, plain or gzip. Needs Python 3.9 and, for one signature, the package `cryptography`.
Exit code 2: something does not fit.
"""
import base64, gzip, hashlib, os, struct, sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EVENT, TORN, START, STOP, ROTATE, PRUNE, ERASE = range(1, 8)
LENGTH = {EVENT: 75, TORN: 50, START: 26, STOP: 26, ROTATE: 26, PRUNE: 34, ERASE: 26}


def sha(data):
    return hashlib.sha256(data).digest()


def plain(path):
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")


def fail(sequence, what):
    print(f"sequence {sequence}: {what}")
    sys.exit(2)


def opened(note, key):
    """Size and root of the checkpoint, when the key signed it."""
    name, key_id, public = key.strip().split("+", 2)
    public = base64.b64decode(public, validate=True)
    if sha(name.encode() + b"\n" + public)[:4].hex() != key_id or public[0] != 1:
        sys.exit("KEY is no public key")
    text, signatures = note[: note.rindex("\n\n") + 1], note[note.rindex("\n\n") + 2 :]
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if (signer, signature[:4].hex()) == (name, key_id):
            Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature[4:], text.encode())
            origin, size, root = text.splitlines()[:3]
            if origin == name:
                return int(size), base64.b64decode(root, validate=True)
    raise ValueError("the key did not sign a checkpoint of its log")


class Log:
    def __init__(self, folder, size):
        self.folder, self.size, self.stack = folder, size, []

    def tile(self, kind, index, width):
        """The bytes of a tile, full if there is one by now; None if there is none."""
        digits = f"{index:0{-(-len(str(index)) // 3) * 3}d}"
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        path = os.path.join(self.folder, "tile", kind, *["x" + g for g in groups[:-1]], groups[-1])
        for path in (path, f"{path}.p/{width}"):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    return file.read()

    def push(self, level, value):
        """Adds the root of a full subtree of 2**level leaves at the right."""
        while self.stack and self.stack[-1][0] == level:
            level, value = level + 1, sha(b"\1" + self.stack.pop()[1] + value)
        self.stack.append((level, value))

    def root(self):
        *rest, value = [value for _, value in self.stack] or [sha(b"")]
        for left in reversed(rest):
            value = sha(b"\1" + left + value)
        return value

    def leaves(self):
        """Index and bytes of every leaf that is there; only a beginning may be missing."""
        at, begun = 0, False
        while at < self.size:
            width = min(256, self.size - at)
            bundle = self.tile("entries", at // 256, width)
            if bundle is None and not begun:
                at = self.skip(at)
                continue
            if bundle is None:
                fail(at, "leaves are missing")
            begun = True
            for index in range(at, at + width):
                (length,) = struct.unpack_from(">H", bundle)
                leaf, bundle = bundle[2 : 2 + length], bundle[2 + length :]
                self.push(0, sha(b"\0" + leaf))
                yield index, leaf
            at += width

    def skip(self, at):
        """Takes the root over what is pruned from the lowest level that still has it."""
        for level in range(1, 8):
            index = at >> 8 * level
            tile = self.tile(str(level), index // 256, min(256, (self.size >> 8 * level) - index // 256 * 256))
            if tile is not None and at % 256**level == 0 and len(tile) >= (index % 256 + 1) * 32:
                self.push(8 * level, tile[index % 256 * 32 :][:32])
                return at + 256**level
        fail(at, "leaves are missing")


def main(folder, key, *segments):
    with open(os.path.join(folder, "checkpoint"), encoding="utf-8", newline="") as file:
        size, root = opened(file.read(), key)
    log, found, first, pruned, erased, lost, last = Log(folder, size), [], None, 0, set(), 0, STOP
    for index, leaf in log.leaves():
        first = index if first is None else first
        version, kind, sequence, _time = struct.unpack_from(">BBQq", leaf)
        if version != 1 or len(leaf) != LENGTH.get(kind) or sequence != index:
            fail(index, "another leaf stands here")
        if index != first and last == STOP and kind != START or index == 0 and kind != START:
            fail(index, "a start is missing")
        last = kind
        if kind in (EVENT, TORN):
            found.append((index, leaf[35:67] if kind == EVENT else leaf[18:50]))
        if kind in (EVENT, STOP):
            lost += struct.unpack(">Q", leaf[-8:])[0]
        if kind == PRUNE:
            pruned = max(pruned, struct.unpack_from(">Q", leaf, 18)[0])
        if kind == ERASE:
            erased.add(struct.unpack_from(">Q", leaf, 18)[0])
    if log.root() != root:
        fail(first or 0, f"the leaves up to {size} are not those that were signed")
    if (first if first is not None else size) > pruned:
        fail(pruned, "leaves are missing, and no leaf says that they were removed")
    print(f"{size} leaves are those that were signed; {lost} events were lost, by the record's own word")
    lines = (sha(line.removesuffix(b"\n")) for segment in segments for line in plain(segment))
    line, matched = next(lines, None), 0
    for index, expected in found if segments else []:
        if line == expected:
            line, matched = next(lines, None), matched + 1
        elif index >= pruned and index not in erased:
            fail(index, "the line is not the one that was signed, or is missing")
    if line is not None:
        fail(size, "lines follow that are not signed")
    print(f"{matched} lines are those that were signed")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (InvalidSignature, OSError, ValueError, struct.error) as error:
        print(f"cannot be verified: {error!r}")
        sys.exit(2)
