#!/usr/bin/env python3
"""Makes tables.txt: what the fields of Kubernetes' messages are.

    tables.py k8s.io > tables.txt

The argument is a folder that holds api, apimachinery, apiextensions-apiserver and kube-aggregator (staging/src/k8s.io of a
Kubernetes source tree). From each generated.proto come the fields' numbers and types; from the Go types beside it
comes what .proto does not say: names in JSON, what is inlined, what is a pointer, what is shown even when it is empty.
The standard library is enough. What cannot be told for certain ends the program.
"""

import pathlib
import re
import sys

ROOTS = [
    "api",
    "apimachinery/pkg/api/resource",
    "apimachinery/pkg/apis/meta",
    "apimachinery/pkg/runtime",
    "apimachinery/pkg/util/intstr",
    "apiextensions-apiserver/pkg/apis/apiextensions",
    "kube-aggregator/pkg/apis/apiregistration",
]
SCALARS = {"string": "s", "int32": "i", "int64": "l", "bool": "b", "bytes": "y", "double": "d"}
# Messages that stand for one JSON value: read by json.rs, whatever their Go type looks like.
FORMS = {
    "resource.Quantity", "intstr.IntOrString", "runtime.RawExtension",
    "meta.v1.Time", "meta.v1.MicroTime", "meta.v1.Duration", "meta.v1.FieldsV1",
} | {f"apiextensions.{v}.{n}" for v in ("v1", "v1beta1") for n in (
    "JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray")}
# Messages that stand in no object: parts of the envelope, and what only describes another.
LEFT_OUT = {"resource.QuantityValue", "runtime.Unknown", "runtime.TypeMeta", "meta.v1.Timestamp"}


def without_comments(text):
    return re.sub(r"(?m)^\s*//.*$|\s//[^`\n]*$", "", re.sub(r"/\*.*?\*/", "", text, flags=re.S))


def alias(package):
    parts = package.split(".")
    return ".".join(parts[-2:]) if re.fullmatch(r"v\d+\w*", parts[-1]) else parts[-1]


def messages(text):
    for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", text, flags=re.S | re.M):
        fields = []
        for line in filter(str.strip, body.splitlines()):
            found = re.fullmatch(
                r"\s*(?:(optional|repeated) ([\w.]+)|(map)<string, ([\w.]+)>) (\w+) = (\d+);", line)
            if not found:
                sys.exit(f"{name}: {line.strip()!r} is not a field")
            label, plain, of_map, value, field, number = found.groups()
            fields.append((int(number), field, label or of_map, plain or value))
        yield name, sorted(fields)


def go_types(folder):
    """Structs as {name: {number: (json, options, go type)}}, other types as {name: definition}, kinds' names."""
    structs, others, kinds, group = {}, {}, set(), None
    for path in sorted(folder.glob("*.go")):
        if path.name.endswith("_test.go") or path.name.startswith(("zz_", "generated.", "fieldsv1_string")):
            continue
        text = path.read_text()
        found = re.search(r'^const GroupName = "(.*)"', text, flags=re.M)
        if found and path.name == "register.go":
            group = found[1]
        text = without_comments(text)
        for name, body in re.findall(r"^type (\w+) struct \{\n(.*?)^\}", text, flags=re.S | re.M):
            fields = {}
            for line in filter(str.strip, body.splitlines()):
                found = re.fullmatch(r"\s*(?:\w+\s+)?([^\s`]+)\s*`(.*)`\s*", line)
                if not found:
                    continue
                go, tags = found.groups()
                json = (re.search(r'json:"([^"]*)"', tags) or ["", ""])[1].split(",")
                number = re.search(r'protobuf:"\w+,(\d+)', tags)
                if number:
                    fields[int(number[1])] = (json[0], json[1:], go)
                elif go.split(".")[-1] == "TypeMeta" and "inline" in json:
                    kinds.add(name)
            structs[name] = fields
        others |= dict(re.findall(r"^type (\w+) (=? ?[^\s{]+)$", text, flags=re.M))
    return structs, others, kinds, group


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    packages = {}
    for root in ROOTS:
        for path in sorted((pathlib.Path(sys.argv[1]) / root).rglob("generated.proto")):
            text = without_comments(path.read_text())
            package = re.search(r"^package (.*);", text, flags=re.M)[1]
            packages[package] = (path.parent, dict(messages(text)), go_types(path.parent))
    names = {alias(package): package for package in packages}
    assert len(names) == len(packages), "two packages of one short name"
    assert all(f.rsplit(".", 1)[1] in packages[names[f.rsplit(".", 1)[0]]][1] for f in FORMS)
    structs_by_name = {n: f for _, _, (structs, *_) in packages.values() for n, f in structs.items()}

    print("# What the fields of Kubernetes' messages are. Made by tables.py; do not edit.")
    print("# @ <package> [<apiVersion>]; then its messages, * for a kind, each with its fields: <JSON name>=<number>:<type>.")
    print("# A type: [] list, {} map from string, * pointer, < inlined; s i l b y d string int32 int64 bool bytes double, or")
    print("# .<message>; then ! shown even when empty, ~ left out when zero. ?: a form. = <kind> <message>: another name.")
    for package in sorted(packages):
        folder, found, (structs, others, kinds, group) = packages[package]
        if not found:
            continue
        short, version = alias(package), ""
        if group is not None:
            version = " " + "/".join(filter(None, [group, package.rsplit(".", 1)[1]]))
        print(f"@ {short}{version}")

        def reference(name):
            if name in SCALARS:
                return SCALARS[name]
            of, name = name.lstrip(".").rsplit(".", 1) if "." in name else (package, name)
            if name not in packages[of][1]:
                sys.exit(f"{package}: no message {of}.{name}")
            return f".{name}" if of == package else f".{alias(of)}.{name}"

        for name, fields in sorted(found.items()):
            if f"{short}.{name}" in LEFT_OUT:
                continue
            if f"{short}.{name}" in FORMS:
                print(f"{name}?", *(f"{field}={number}:{'[]' if label == 'repeated' else ''}{reference(of)}"
                                    for number, field, label, of in fields))
                continue
            definition = others.get(name, "")
            if definition.startswith("[]"):
                (number, field, label, of), = fields
                print(f"{name}? {field}={number}:[]{reference(of)}")
                continue
            go = structs.get(name) or structs_by_name.get(definition.rsplit(".", 1)[-1])
            if go is None and fields:
                sys.exit(f"{package}.{name}: no Go type")
            is_kind = name in kinds or definition.endswith("metav1.List")
            words = [name + ("*" if is_kind else "")]
            for number, field, label, of in fields:
                json, options, go_type = go[number]
                if "inline" in options or not json:
                    if json or label != "optional" or go_type.startswith("*"):
                        sys.exit(f"{package}.{name}.{field}: inlined, but no struct")
                    words.append(f"{field}={number}:<{reference(of)}")
                    continue
                shape = {"optional": "*" if go_type.startswith("*") else "", "repeated": "[]", "map": "{}"}[label]
                shown = "" if "omitempty" in options else "!"
                if "omitzero" in options:
                    if of.rsplit(".", 1)[-1] != "Time":
                        sys.exit(f"{package}.{name}.{field}: omitzero of what is no Time")
                    shown = "~"
                words.append(f"{json}={number}:{shape}{reference(of)}{shown}")
            missing = set(go or {}) - {f[0] for f in fields}
            if missing:
                sys.exit(f"{package}.{name}: fields {missing} are in Go only")
            print(*words)
        for name, definition in sorted(others.items()):
            if definition.startswith("=") and short == "meta.v1beta1":
                target = definition.lstrip("= ").rsplit(".", 1)[-1]
                if target in packages[names["meta.v1"]][1]:
                    print(f"= {name} .meta.v1.{target}")


main()
