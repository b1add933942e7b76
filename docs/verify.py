#!/usr/bin/env python3
"""Verifies a gatelog record without gatelog: docs/transparency.md tells what is done here, and why.

    verify.py DIR KEY [CHECKPOINT...]

DIR is the folder of the record, with audit-*.jsonl, audit-*.jsonl.gz and log/; KEY is the text of the public key, name+id+key, or
of several, one a line; CHECKPOINTs were kept elsewhere: files with one each, or logs of standard output or a webhook with many. Needs
Python 3.9 and, for one signature, the package `cryptography`. Exit code 2: something does not fit.
"""
import base64, gzip, hashlib, json, os, re, struct, sys, time, zlib
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EVENT, TORN, START, STOP, ROTATE, PRUNE, ERASE = range(1, 8)
LENGTH = {EVENT: 75, TORN: 50, START: 26, STOP: 26, ROTATE: 26, PRUNE: 34, ERASE: 26}


def sha(data):
    return hashlib.sha256(data).digest()


def fail(where, what):
    print(f"{where if isinstance(where, str) else f'sequence {where}'}: {what}")
    sys.exit(2)


def opened(note, keys):
    """Size, root and time of the checkpoint, when one of the keys signed it."""
    if "\n\n" not in note:
        raise ValueError("no checkpoint")
    text, signatures = note[: note.rindex("\n\n") + 1], note[note.rindex("\n\n") + 2 :]
    for key in keys:
        if not re.fullmatch(r"[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+=*", key):
            sys.exit("KEY is no public key")
        name, key_id, public = key.split("+", 2)
        public = base64.b64decode(public, validate=True)
        if sha(name.encode() + b"\n" + public)[:4].hex() != key_id or public[0] != 1:
            sys.exit("KEY is no public key")
        for line in signatures.splitlines():
            _dash, signer, signature = line.split(" ")
            signature = base64.b64decode(signature, validate=True)
            if (signer, signature[:4].hex()) == (name, key_id):
                Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature[4:], text.encode())
                origin, size, root, *more = text.splitlines()
                if origin == name:
                    signed_at = next((int(line[5:]) for line in more if line.startswith("time ")), 0)
                    return int(size), base64.b64decode(root, validate=True), signed_at
    raise ValueError("none of the keys signed a checkpoint of its log")


def kept_in(path, keys):
    """The checkpoint in a file, or those among the lines of a log that the keys' log has."""
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    if not text.startswith("{"):
        return [opened(text, keys)]
    events = (json.loads(line) for line in text.splitlines() if '"gatelog.dev/checkpoint"' in line)
    notes = [event.get("annotations", {}).get("gatelog.dev/checkpoint", "") for event in events]
    heads = [opened(note, keys) for note in notes if any(note.startswith(key.split("+")[0] + "\n") for key in keys)]
    if not heads:
        raise ValueError(f"{path}: no checkpoint of this log in it")
    return heads


class Log:
    def __init__(self, folder, size):
        self.folder, self.size, self.stack, self.cache = folder, size, [], {}

    def tile(self, kind, index, width):
        """The bytes of a tile, or of a wider one in its place; None if there is none."""
        digits = f"{index:0{-(-len(str(index)) // 3) * 3}d}"
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        path = os.path.join(self.folder, "tile", kind, *["x" + g for g in groups[:-1]], groups[-1])
        partial = sorted(map(int, filter(str.isdigit, os.listdir(path + ".p")))) if os.path.isdir(path + ".p") else []
        for path in (path, *(f"{path}.p/{w}" for w in partial if w >= width)):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    return file.read()

    def stored(self, level, index):
        """The hash of a full subtree as it is stored, if it is."""
        if self.cache.get(level, (None,))[0] != index // 256:
            width = min(256, (self.size >> 8 * level) - index // 256 * 256)
            self.cache[level] = index // 256, self.tile(str(level), index // 256, width) or b""
        return self.cache[level][1][index % 256 * 32 :][:32]

    def push(self, level, index, value):
        """Adds the root of the full subtree of 2**level leaves that is next."""
        while True:
            if level % 8 == 0 and self.stored(level // 8, index) != value:
                fail(index << level, f"tile/{level // 8} holds another hash than that of the leaves")
            if not (self.stack and self.stack[-1][0] == level):
                return self.stack.append((level, value))
            level, index, value = level + 1, index >> 1, sha(b"\1" + self.stack.pop()[1] + value)

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
                self.push(0, index, sha(b"\0" + leaf))
                yield index, leaf
            at += width

    def skip(self, at):
        """Takes the root over 256 leaves that are pruned, which the level above still has."""
        value = self.stored(1, at // 256)
        if len(value) < 32:
            fail(at, "leaves are missing")
        self.push(8, at // 256, value)
        return at + 256


class Journal:
    def __init__(self, folder):
        names = (re.fullmatch(r"audit-.*-(\d+)\.jsonl(\.gz)?", name) for name in sorted(os.listdir(folder)))
        self.files = {int(match[1]): os.path.join(folder, match[0]) for match in names if match}
        self.number, self.lines, self.line, self.path, self.count = -1, iter(()), None, "", 0

    def step(self):
        self.count += 1
        try:
            self.line = next(self.lines, None)
        except (OSError, EOFError, zlib.error) as error:
            fail(self.where(), f"cannot be read from here on: {error}")

    def where(self):
        return f"{os.path.basename(self.path)} line {self.count}" if self.path else f"segment {self.number}"

    def enter(self, number):
        """Goes to a segment; what is left of those before it is not signed."""
        for between in sorted(n for n in self.files if self.number < n < number) + [number]:
            if self.line is not None:
                fail(self.where(), "the line was never signed")
            self.number, self.path, self.count = between, self.files.get(between, ""), 0
            opener = gzip.open if self.path.endswith(".gz") else open
            self.lines = opener(self.path, "rb") if self.path else iter(())
            self.step()


def main(folder, key, *kept):
    heads, found, first, pruned, erased, lost, last = {}, [], None, 0, set(), 0, STOP
    for path in (*kept, os.path.join(folder, "log", "checkpoint")):
        for size, root, signed_at in kept_in(path, key.split()):
            heads.setdefault(size, []).append((root, path))
    log = Log(os.path.join(folder, "log"), size)
    for index, leaf in log.leaves():
        first = index if first is None else first
        version, kind, sequence, _time = struct.unpack_from(">BBQq", leaf)
        if version != 1 or len(leaf) != LENGTH.get(kind) or sequence != index:
            fail(index, "another leaf stands here")
        if index != first and last == STOP and kind != START or index == 0 and kind != START:
            fail(index, "a start is missing")
        last = kind
        if kind in (EVENT, TORN, ROTATE):
            found.append((index, leaf[35:67] if kind == EVENT else leaf[18:]))
        if kind in (EVENT, STOP):
            lost += struct.unpack(">Q", leaf[-8:])[0]
        if kind == PRUNE:
            pruned = max(pruned, struct.unpack_from(">Q", leaf, 18)[0])
        if kind == ERASE:
            erased.add(struct.unpack_from(">Q", leaf, 18)[0])
        for root, path in heads.pop(index + 1, ()):
            if root != log.root():
                fail(first, f"the leaves up to {index + 1} are not those that {path} was made over")
    if max(heads, default=0) > size:
        fail(size, f"the record ends here, but {heads[max(heads)][0][1]} was made over {max(heads)} leaves")
    if (first if first is not None else size) > pruned:
        fail(pruned, "leaves are missing, and no leaf says that they were removed")
    print(f"{size} leaves are those that were signed; {lost} events were lost, by the record's own word")
    journal, matched = Journal(folder), 0
    for index, expected in found:
        if len(expected) == 8:
            journal.enter(struct.unpack(">Q", expected)[0])
        elif journal.line is not None and sha(journal.line.removesuffix(b"\n")) == expected:
            matched += 1
            journal.step()
        elif index >= pruned and index not in erased:
            fail(journal.where(), f"the line is not that of sequence {index}, or it is missing")
    print(f"{matched} lines are those that were signed")
    if time.time() - signed_at > 10 or last == STOP:
        journal.enter(max(journal.files, default=0) + 1)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (InvalidSignature, OSError, ValueError, struct.error) as error:
        print(f"cannot be verified: {error if str(error) else 'the signature is not that of the key'}")
        sys.exit(2)
