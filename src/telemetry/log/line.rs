//! Lines and how they are written: the access line, and what keeps every line one line.

use super::{ACCESS, Format};
use std::{
    io::Write,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

/// The one line of a request: what an operator wants to see go by. Never the query, which may hold secrets.
#[derive(Debug, Clone, Copy)]
pub struct AccessLine<'a> {
    /// The id shared with the record, the caller and the upstream.
    pub audit_id: &'a str,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// HTTP method.
    pub method: &'a str,
    /// Path as it came; what follows a `?` is cut off.
    pub path: &'a str,
    /// Who authenticated.
    pub user: Option<&'a str>,
    /// Whom they asked to be (`kubectl --as`).
    pub impersonated: Option<&'a str>,
    /// API verb, when the request was understood.
    pub verb: Option<&'a str>,
    /// Status code of the answer; 0 when the caller was gone before there was one.
    pub code: u16,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
    /// From sending the request upstream to the head of the upstream's answer.
    pub upstream: Option<Duration>,
    /// Bytes of body, or of an upgraded connection, from the caller.
    pub bytes_in: u64,
    /// The same, to the caller.
    pub bytes_out: u64,
    /// Why the gate itself answered, or ended the answer; for the operator, without secrets.
    pub reason: Option<&'a str>,
    /// The refusal that was not carried out, since the gate only observes.
    pub observed: Option<&'a str>,
    /// What the rules that are rehearsed would have said instead.
    pub shadow: Option<&'a str>,
}

impl AccessLine<'_> {
    /// Appends the line and its line feed.
    pub(super) fn render(&self, format: Format, now: SystemTime, out: &mut Vec<u8>) {
        let mut line = Line { out, format };
        match format {
            Format::Text => {
                push_time(line.out, now);
                push(line.out, format_args!("  INFO {ACCESS}: request"));
            }
            Format::Json => {
                line.out.extend_from_slice(b"{\"timestamp\":\"");
                push_time(line.out, now);
                push(line.out, format_args!("\",\"level\":\"INFO\",\"message\":\"request\""));
            }
        }
        line.string("method", self.method);
        line.string("path", self.path.split('?').next().unwrap_or_default());
        line.number("code", format_args!("{}", self.code));
        line.optional("verb", self.verb);
        line.optional("user", self.user);
        line.optional("as", self.impersonated);
        line.number("ms", format_args!("{}", Millis(self.duration)));
        if let Some(upstream) = self.upstream {
            line.number("upstream_ms", format_args!("{}", Millis(upstream)));
        }
        line.number("in", format_args!("{}", self.bytes_in));
        line.number("out", format_args!("{}", self.bytes_out));
        line.optional("reason", self.reason);
        line.optional("observed", self.observed);
        line.optional("shadow", self.shadow);
        line.key("peer");
        match format {
            Format::Text => push(line.out, format_args!("{}", self.peer)),
            Format::Json => push(line.out, format_args!("\"{}\"", self.peer)),
        }
        line.string("audit_id", self.audit_id);
        if format == Format::Json {
            push(line.out, format_args!(",\"target\":\"{ACCESS}\"}}"));
        }
        line.out.push(b'\n');
    }
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
    format: Format,
}

impl Line<'_> {
    fn key(&mut self, key: &str) {
        match self.format {
            Format::Text => push(self.out, format_args!(" {key}=")),
            Format::Json => push(self.out, format_args!(",\"{key}\":")),
        }
    }

    fn number(&mut self, key: &str, value: std::fmt::Arguments<'_>) {
        self.key(key);
        push(self.out, value);
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(key, value);
        }
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        let plain = value.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b'"' && b != b'\\');
        if plain && self.format == Format::Text && !value.is_empty() && !value.contains('=') {
            return self.out.extend_from_slice(value.as_bytes());
        }
        self.out.push(b'"');
        if plain {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            for c in value.chars() {
                if matches!(c, '"' | '\\') {
                    self.out.push(b'\\');
                }
                push_char(self.out, c);
            }
        }
        self.out.push(b'"');
    }
}

/// Characters that break lines, drive terminals or turn the direction of text around.
const fn is_hostile(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends an event that ends in a line feed, with everything else in it that is hostile escaped.
pub(super) fn push_sanitized(out: &mut Vec<u8>, event: &[u8]) {
    let line = event.strip_suffix(b"\n").unwrap_or(event);
    if line.iter().all(|b| matches!(b, b' '..=b'~')) {
        out.extend_from_slice(line);
    } else {
        String::from_utf8_lossy(line).chars().for_each(|c| push_char(out, c));
    }
    out.push(b'\n');
}

/// Appends `c`, in the manner of JSON if it is hostile.
fn push_char(out: &mut Vec<u8>, c: char) {
    if is_hostile(c) {
        // All of these are in the basic plane.
        push(out, format_args!("\\u{:04x}", u32::from(c)));
    } else {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// Writing to a `Vec` cannot fail.
fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0.as_millis(), self.0.subsec_micros() % 1_000)
    }
}

/// Appends `now` as RFC 3339 in UTC with microseconds, as tracing-subscriber does.
pub(super) fn push_time(out: &mut Vec<u8>, now: SystemTime) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Civil date from days, in years that begin in March so that the leap day comes last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    push(
        out,
        format_args!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
            since.subsec_micros()
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
    }

    const LINE: AccessLine<'static> = AccessLine {
        audit_id: "6f2c",
        peer: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4711),
        method: "GET",
        path: "/api/v1/pods?token=secret",
        user: Some("alice"),
        impersonated: None,
        verb: Some("list"),
        code: 200,
        duration: Duration::from_micros(12_345),
        upstream: Some(Duration::from_micros(980)),
        bytes_in: 0,
        bytes_out: 4096,
        reason: None,
        observed: None,
        shadow: None,
    };

    fn rendered(line: &AccessLine<'_>, format: Format) -> String {
        let mut out = Vec::new();
        line.render(format, at(1_767_323_045_000_006), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_as_text() {
        assert_eq!(
            rendered(&LINE, Format::Text),
            "2026-01-02T03:04:05.000006Z  INFO gatelog::access: request method=GET path=/api/v1/pods code=200 verb=list \
             user=alice ms=12.345 upstream_ms=0.980 in=0 out=4096 peer=127.0.0.1:4711 audit_id=6f2c\n"
        );
    }

    #[test]
    fn a_request_as_json() {
        assert_eq!(
            rendered(&LINE, Format::Json),
            r#"{"timestamp":"2026-01-02T03:04:05.000006Z","level":"INFO","message":"request","method":"GET","path":"/api/v1/pods","#
                .to_owned()
                + r#""code":200,"verb":"list","user":"alice","ms":12.345,"upstream_ms":0.980,"in":0,"out":4096,"#
                + r#""peer":"127.0.0.1:4711","audit_id":"6f2c","target":"gatelog::access"}"#
                + "\n"
        );
    }

    #[test]
    fn what_is_only_observed_or_rehearsed_is_told() {
        let line =
            AccessLine { observed: Some("pods is forbidden"), shadow: Some("would be refused: x"), ..LINE };
        let text = rendered(&line, Format::Text);
        assert!(
            text.contains(" out=4096 observed=\"pods is forbidden\" shadow=\"would be refused: x\" peer="),
            "{text}"
        );
    }

    #[test]
    fn callers_cannot_forge_lines_or_drive_terminals() {
        for user in [
            "eve\n2026 INFO forged",
            "a\u{1b}[2J",
            "\u{9b}31m",
            "\u{202e}txt",
            "a\"b\\c",
            "a\r\0\u{7f}",
            "a b",
            "a=b",
            "",
        ] {
            let line = AccessLine { user: Some(user), reason: Some(user), path: user, ..LINE };
            let text = rendered(&line, Format::Text);
            assert_eq!(text.chars().filter(|c| is_hostile(*c)).collect::<String>(), "\n", "{text:?}");
            let json = rendered(&line, Format::Json);
            assert_eq!(json.chars().filter(|c| is_hostile(*c)).collect::<String>(), "\n", "{json:?}");
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(read["user"], user);
        }
        let line = AccessLine { user: Some("a b\n\u{9b}"), ..LINE };
        assert!(rendered(&line, Format::Text).contains(r#" user="a b\u000a\u009b" "#));
    }

    #[test]
    fn times() {
        for (micros, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (951_868_800_000_000, "2000-03-01T00:00:00.000000Z"),
            (1_798_761_599_000_000, "2026-12-31T23:59:59.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            let mut out = Vec::new();
            push_time(&mut out, at(micros));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
