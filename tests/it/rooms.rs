//! The plan of the house, held true: who may import whom, and a few things that have one place only.
//!
//! Reads the source as text: comments, strings and everything under `#[cfg(test)]` are taken out, then every path that
//! begins with `crate`, `super` or a watched crate's name is looked at, in `use` trees and inline alike.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Band {
    Words,
    Services,
    Domains,
    Assembly,
    Edge,
}

/// The band of a module path; None when there is no such room.
fn band(path: &[String]) -> Option<Band> {
    Some(match path.first()?.as_str() {
        "audit"
            if path.get(1).is_some_and(|m| matches!(m.as_str(), "event" | "policy" | "redact" | "tree")) =>
        {
            Band::Words
        }
        "request" | "identity" | "status" | "headers" | "codec" | "rbac" => Band::Words,
        "pem" | "endpoint" | "body" | "streams" | "sockets" | "client" | "cluster" => Band::Services,
        "authn" | "authz" | "validate" | "limits" | "audit" | "forward" | "record" => Band::Domains,
        "gateway" | "server" | "telemetry" | "config" | "reload" => Band::Assembly,
        "cli" | "review" | "demo" => Band::Edge,
        _ => return None,
    })
}

/// What one domain may know of another.
const PROOFS: [&str; 5] =
    ["authn::Authenticated", "authn::Conn", "authz::Permit", "authz::Who", "audit::Kept"];

/// Why `from`, a module, must not import `to`, a path; None when it may.
fn breach(from: &[String], to: &[String]) -> Option<String> {
    let (Some(from_band), Some(to_band)) = (band(from), band(to)) else {
        return Some(format!("no such room as {:?}", to.first().map_or("the crate itself", |s| s)));
    };
    let (from_room, to_room) = (from.first()?, to.first()?);
    if from_room == "demo" && to_room == "gateway" {
        return Some("the demo knows no way around the gate's door".to_owned());
    }
    if from_band < to_band {
        return Some(format!("{from_band:?} are above {to_band:?}"));
    }
    if from_band == Band::Domains && to_band == Band::Domains && from_room != to_room {
        let proof = to.iter().take(2).map(String::as_str).collect::<Vec<_>>().join("::");
        let recorder = from_room == "record" && to_room == "forward";
        if !recorder && !PROOFS.contains(&proof.as_str()) {
            return Some("a domain knows another only by its proofs".to_owned());
        }
    }
    None
}

struct File {
    /// Below `src`, with forward slashes.
    name: String,
    /// `src/a/b.rs` is `a`, `b`; empty for lib.rs and main.rs.
    module: Vec<String>,
    /// As it is.
    text: String,
    /// Without comments, strings and tests.
    code: String,
}

fn files() -> Vec<File> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    let mut files = Vec::new();
    let mut tests = BTreeSet::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        let stem = name.strip_suffix(".rs").unwrap();
        let module: Vec<String> = match stem {
            "lib" | "main" => Vec::new(),
            _ => stem.split('/').map(str::to_owned).collect(),
        };
        let (code, test_modules) = without_tests(&without_text(&text));
        tests.extend(test_modules.into_iter().map(|m| [&module[..], &[m]].concat()));
        files.push(File { name, module, text, code });
    }
    files.retain(|file| !(1..=file.module.len()).any(|n| tests.contains(&file.module[..n])));
    assert!(files.len() > 10, "the source was not found");
    files
}

fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Takes out comments and the contents of strings and characters.
fn without_text(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let after_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let raw = rest.trim_start_matches(['b', 'c']).strip_prefix('r').and_then(|r| {
            let hashes = r.len() - r.trim_start_matches('#').len();
            r[hashes..].starts_with('"').then(|| (&r[hashes + 1..], format!("\"{}", "#".repeat(hashes))))
        });
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            let (mut depth, mut at) = (0, 0);
            loop {
                if rest[at..].starts_with("/*") {
                    (depth, at) = (depth + 1, at + 2);
                } else if rest[at..].starts_with("*/") {
                    (depth, at) = (depth - 1, at + 2);
                } else {
                    at += rest[at..].chars().next().map_or(1, char::len_utf8);
                }
                if depth == 0 || at >= rest.len() {
                    break;
                }
            }
            rest = rest.get(at..).unwrap_or_default();
        } else if let (false, Some((text, end))) = (after_word, raw) {
            out.push_str("\"\"");
            rest = text.find(&end).map_or("", |at| &text[at + end.len()..]);
        } else if c == '"' {
            out.push_str("\"\"");
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            rest = end.map_or("", |at| &rest[at + 2..]);
        } else if let Some(text) = rest.strip_prefix('\'') {
            // A character, or else a lifetime.
            let end = match text.strip_prefix('\\') {
                Some(escape) => escape.char_indices().skip(1).find(|(_, c)| *c == '\'').map(|(at, _)| at + 2),
                None => text
                    .chars()
                    .next()
                    .map(char::len_utf8)
                    .filter(|at| text[*at..].starts_with('\''))
                    .map(|at| at + 1),
            };
            out.push_str("' ");
            rest = end.map_or(text, |at| &text[at..]);
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Takes out items under `#[cfg(test)]`; also tells the names of modules in files of their own among them.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut out = String::with_capacity(code.len());
    let mut modules = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(") {
        let attribute = &rest[at..at + rest[at..].find(']').unwrap() + 1];
        let after = &rest[at + attribute.len()..];
        if !words(attribute).any(|w| w == "test") {
            out.push_str(&rest[..at + attribute.len()]);
            rest = after;
            continue;
        }
        out.push_str(&rest[..at]);
        let end = after.find(['{', ';']).unwrap();
        let item: Vec<&str> = words(&after[..end]).collect();
        if after[end..].starts_with('{') {
            let mut depth = 0;
            let close = after[end..].find(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth == 0
            });
            rest = &after[end + close.unwrap() + 1..];
        } else {
            if let Some(at) = item.iter().position(|w| *w == "mod") {
                modules.push(item[at + 1].to_owned());
            }
            rest = &after[end + 1..];
        }
    }
    out.push_str(rest);
    (out, modules)
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

/// Every path that begins with `root`, without it, `use` trees spread out.
fn paths(code: &str, root: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(root) {
        let alone = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if let (true, Some(rest)) = (alone, code[at + root.len()..].trim_start().strip_prefix("::")) {
            spread(rest, &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one path or tree, appends its leaves to `found`, returns what follows.
fn spread<'a>(code: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            rest = spread(rest, &mut prefix.clone(), found).trim_start();
            // `as name`, then a comma or the end of the group.
            rest = match rest.find([',', '}']) {
                Some(at) if rest[at..].starts_with(',') => &rest[at + 1..],
                Some(at) => &rest[at..],
                None => return "",
            };
        }
    }
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(code.len());
    if !matches!(&code[..end], "self" | "") {
        prefix.push(code[..end].to_owned());
    }
    match code[end..].trim_start().strip_prefix("::") {
        Some(rest) if !rest.trim_start().starts_with('<') => spread(rest, prefix, found),
        _ => {
            found.push(prefix.clone());
            &code[end..]
        }
    }
}

/// What a file of `module` names in the crate, `super` resolved.
fn imports(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut all = paths(code, "crate");
    for mut path in paths(code, "super") {
        let mut base = module[..module.len().saturating_sub(1)].to_vec();
        while path.first().is_some_and(|s| s == "super") {
            path.remove(0);
            base.pop();
        }
        base.extend(path);
        all.push(base);
    }
    all
}

#[test]
fn each_band_imports_only_the_bands_above_it() {
    let mut breaches = Vec::new();
    for file in files().iter().filter(|file| !file.module.is_empty()) {
        for path in imports(&file.module, &file.code) {
            if let Some(why) = breach(&file.module, &path) {
                breaches.push(format!("src/{} names {}: {why}", file.name, path.join("::")));
            }
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn some_things_have_one_place() {
    let mut breaches = Vec::new();
    for File { name, module, code, .. } in &files() {
        let room = module.first().map_or("", |s| s);
        if words(code).any(|w| w == "rustls_pemfile") && name != "pem.rs" {
            breaches.push(format!("src/{name}: rustls_pemfile belongs in pem.rs"));
        }
        if words(code).any(|w| w == "anyhow") && room != "cli" {
            breaches.push(format!("src/{name}: anyhow belongs in the command line"));
        }
        for banned in ["unsafe", "todo", "unimplemented"] {
            if words(code).any(|w| w == banned) {
                breaches.push(format!("src/{name}: {banned}"));
            }
        }
        let bodies = paths(code, "hyper").iter().any(|p| p.first().is_some_and(|s| s == "body"));
        if bodies
            && !matches!(room, "body" | "server" | "gateway" | "forward" | "demo")
            && name != "telemetry/admin.rs"
        {
            breaches.push(format!("src/{name}: hyper's bodies belong to the data plane"));
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn files_keep_their_shape() {
    let mut breaches = Vec::new();
    for File { name, module, text, code } in &files() {
        let lines = text.lines().count();
        let limit = if name == "main.rs" { 30 } else { 600 };
        if lines > limit {
            breaches.push(format!("src/{name}: {lines} lines, more than {limit}"));
        }
        if module.last().is_some_and(|m| m == "mod") {
            breaches.push(format!("src/{name}: foo/mod.rs is foo.rs here"));
        }
        if !text.starts_with("//! ") {
            breaches.push(format!("src/{name}: says not what it is"));
        }
        if name == "lib.rs"
            && !code.split(';').all(|item| item.trim().is_empty() || words(item).any(|w| w == "mod"))
        {
            breaches.push("src/lib.rs: lists modules and holds no code".to_owned());
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}

// --- the reader itself ---

fn strings(paths: Vec<Vec<String>>) -> Vec<String> {
    paths.into_iter().map(|p| p.join("::")).collect()
}

#[test]
fn text_and_tests_are_taken_out() {
    let source = r##"
        use crate::a; // crate::no
        /* crate::no /* crate::no */ crate::no */
        const S: &str = "crate::no \" crate::no"; const R: &str = r#"crate::no " crate::no"#;
        const B: &[u8] = br"crate::no"; const C: [char; 3] = ['"', '\'', '\u{41}'];
        fn f<'a>(x: &'a str) -> &'a str { crate::b::c(x) }
        #[cfg(test)] mod tests { use crate::no; fn g() { { crate::no } } }
        #[cfg(all(test, unix))]
        mod elsewhere;
        #[cfg(feature = "demo")] use crate::d;
        fn h() { crate::e::<crate::g>(); }
    "##;
    let (code, modules) = without_tests(&without_text(source));
    assert_eq!(strings(paths(&code, "crate")), ["a", "b::c", "d", "e", "g"]);
    assert_eq!(modules, ["elsewhere"]);
}

#[test]
fn trees_are_spread_out() {
    let code =
        "use crate::{a, b::{self, C as D, e::*}, f::g};\nuse  super :: super::h;\nlet x = mycrate::no;";
    assert_eq!(strings(paths(code, "crate")), ["a", "b", "b::C", "b::e::*", "f::g"]);
    let module = ["authn".to_owned(), "jwt".to_owned(), "keys".to_owned()];
    assert!(strings(imports(&module, code)).contains(&"authn::h".to_owned()));
}

#[test]
fn breaches_are_found() {
    for (from, to, allowed) in [
        ("authn", "identity::User", true),
        ("authn", "pem", true),
        ("authn::x509", "authn::Conn", true),
        ("authz", "authn::Authenticated", true),
        ("forward", "authz::Permit", true),
        ("record", "forward::Tunnel", true),
        ("limits", "audit::event::Event", true),
        ("gateway", "authz::Refused", true),
        ("telemetry", "request::Verb", true),
        ("cli", "server", true),
        ("demo", "server", true),
        ("authz", "authn::Authn", false),
        ("authz", "authn", false),
        ("forward", "authz", false),
        ("identity", "body", false),
        ("audit::event", "audit::Trail", false),
        ("audit::event", "audit::policy::Level", true),
        ("streams", "authn::Authenticated", false),
        ("limits", "telemetry::Metrics", false),
        ("server", "cli", false),
        ("demo", "gateway", false),
        ("gateway", "nowhere", false),
    ] {
        let split = |s: &str| s.split("::").map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(breach(&split(from), &split(to)).is_none(), allowed, "{from} -> {to}");
    }
}
