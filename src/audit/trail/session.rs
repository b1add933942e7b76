//! What a session was opened for: the parameters of exec, attach and port-forward as annotations of their own.
//!
//! They are read from the URI as it is recorded, so that what a rule hides there is hidden here. Ports of a port-forward stand
//! in the URI only over WebSocket's older protocol; over SPDY the caller names them within the session.

use crate::{
    audit::event::Annotations,
    request::{StreamKind, query},
};
use std::borrow::Cow;

/// Bytes of a command that are recorded here; the URI has more of it.
const LONGEST_COMMAND: usize = 4 << 10;

/// Notes what the session is for. `uri`: as it is recorded.
pub(super) fn note(annotations: &mut Annotations, kind: StreamKind, uri: &str) {
    if !matches!(kind, StreamKind::Exec | StreamKind::Attach | StreamKind::PortForward) {
        return;
    }
    let asked = uri.split_once('?').map_or("", |(_, asked)| asked);
    let all = |name: &'static str| query::pairs(asked).filter(move |(n, _)| n == name).map(|(_, v)| v);
    if kind == StreamKind::PortForward {
        let ports: Vec<_> = all("ports").collect();
        if !ports.is_empty() {
            annotations.add("gatelog.dev/portforward-ports", ports.join(","));
        }
        return;
    }
    if let Some(container) = all("container").next() {
        annotations.add("gatelog.dev/exec-container", container.into_owned());
    }
    // What is there counts as true, as kube-apiserver reads it.
    let wanted =
        |name: &&'static str| all(name).next().is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"));
    let streams: Vec<_> = ["stdin", "stdout", "stderr", "tty"].into_iter().filter(wanted).collect();
    annotations.add("gatelog.dev/exec-streams", streams.join(","));
    if kind == StreamKind::Exec {
        annotations.add("gatelog.dev/exec-command", list(all("command")));
    }
}

/// A JSON array of `words`, as many as fit.
fn list<'w>(words: impl Iterator<Item = Cow<'w, str>>) -> String {
    let mut text = String::from("[");
    for word in words {
        // Strings have a JSON form.
        let word = serde_json::to_string(&word).unwrap_or_default();
        let full = text.len() + word.len() > LONGEST_COMMAND;
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(if full { "\"...TRUNCATED\"" } else { &word });
        if full {
            break;
        }
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_tells_what_it_is_for() {
        let long = "x".repeat(LONGEST_COMMAND);
        let mark = "gatelog:redacted:hmac-sha256:00112233445566778899aabbccddeeff";
        let (cut, hidden) = (format!("/x?command=a&command={long}&command=b"), format!("/x?command={mark}"));
        let (exec, attach, forward) = (StreamKind::Exec, StreamKind::Attach, StreamKind::PortForward);
        type Row<'a> = (StreamKind, &'a str, [Option<&'a str>; 4]);
        let told_mark = format!("[\"{mark}\"]");
        let rows: [Row<'_>; 10] = [
            (
                exec,
                "/x?command=sh&command=-c&command=echo+%22hi%22%20%26&container=web&stdin=true&tty=1&stderr=false",
                [Some(r#"["sh","-c","echo \"hi\" &"]"#), Some("web"), Some("stdin,tty"), None],
            ),
            (exec, "/x", [Some("[]"), None, Some(""), None]),
            (exec, "/x?command=", [Some(r#"[""]"#), None, Some(""), None]),
            (exec, "/x?command=%0A", [Some(r#"["\n"]"#), None, Some(""), None]),
            (exec, "/x?stdin&tty=0&stdout=False", [Some("[]"), None, Some("stdin"), None]),
            (exec, "/x?container=a&container=b", [Some("[]"), Some("a"), Some(""), None]),
            (exec, &cut, [Some(r#"["a","...TRUNCATED"]"#), None, Some(""), None]),
            (exec, &hidden, [Some(&told_mark), None, Some(""), None]),
            (attach, "/x?stdout=true&container=web", [None, Some("web"), Some("stdout"), None]),
            (forward, "/x?ports=80&ports=443", [None, None, None, Some("80,443")]),
        ];
        let keys = ["exec-command", "exec-container", "exec-streams", "portforward-ports"];
        for (kind, uri, told) in rows {
            let mut annotations = Annotations::default();
            note(&mut annotations, kind, uri);
            let got = keys.map(|key| annotations.get(&format!("gatelog.dev/{key}")).map(str::to_owned));
            assert_eq!(got, told.map(|t| t.map(str::to_owned)), "{uri}");
        }
        for kind in [StreamKind::None, StreamKind::Watch, StreamKind::Log, StreamKind::Proxy] {
            let mut annotations = Annotations::default();
            note(&mut annotations, kind, "/x?command=a&container=b&ports=1");
            assert_eq!(annotations.size(), 0);
        }
    }
}
