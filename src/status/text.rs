//! Text as Go writes it: JSON strings, `%q`, and the HTML escapes of kube-apiserver's messages.

/// Appends `s` as a JSON string with Go's escapes (`<`, `>`, `&`, U+2028/9 as `\u00XX`).
pub fn push_json_str(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    let bytes = s.as_bytes();
    let mut plain = 0;
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        if PLAIN[usize::from(b)] {
            i += 1;
            continue;
        }
        // U+2028 and U+2029 are the only characters beyond ASCII that are escaped.
        let (escape, len) = match (b, bytes.get(i + 1), bytes.get(i + 2)) {
            (0xe2, Some(0x80), Some(last @ (0xa8 | 0xa9))) => (Escape::Unicode(0x20, last & 0x2f), 3),
            (0xe2, ..) => {
                i += 1;
                continue;
            }
            (b'"' | b'\\', ..) => (Escape::Short(b), 1),
            (b'\n', ..) => (Escape::Short(b'n'), 1),
            (b'\r', ..) => (Escape::Short(b'r'), 1),
            (b'\t', ..) => (Escape::Short(b't'), 1),
            (0x08, ..) => (Escape::Short(b'b'), 1),
            (0x0c, ..) => (Escape::Short(b'f'), 1),
            _ => (Escape::Unicode(0, b), 1),
        };
        out.extend_from_slice(bytes.get(plain..i).unwrap_or_default());
        match escape {
            Escape::Short(c) => out.extend_from_slice(&[b'\\', c]),
            Escape::Unicode(high, low) => {
                out.extend_from_slice(b"\\u");
                push_hex(out, high);
                push_hex(out, low);
            }
        }
        i += len;
        plain = i;
    }
    out.extend_from_slice(bytes.get(plain..).unwrap_or_default());
    out.push(b'"');
}

/// Appends `s` as Go's `%q` does: quotes and backslashes escaped, and everything that is not printable.
pub fn push_go_quoted(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if is_printable(c) => out.push(c),
            '\0'..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
}

/// Appends `s` with `&`, `<`, `>` as entities: kube-apiserver does so to texts that quote the request.
pub fn push_html_escaped(out: &mut String, s: &str) {
    for c in s.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            _ => out.push(c),
        }
    }
}

enum Escape {
    Short(u8),
    Unicode(u8, u8),
}

/// Bytes that stand for themselves in a JSON string; 0xe2 needs a look at what follows.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut b = 0;
    while b < 0x20 {
        plain[b] = false;
        b += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[b'<' as usize] = false;
    plain[b'>' as usize] = false;
    plain[b'&' as usize] = false;
    plain[0xe2] = false;
    plain
};

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
}

/// Letters, marks, numbers, punctuation, symbols, and the space among ASCII, as Go tells them. The standard library keeps that table for `escape_debug`, which also escapes
/// a combining mark, but only at the start of a string.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    let mut text = String::with_capacity(5);
    text.push('a');
    text.push(c);
    text.escape_debug().nth(1) == Some(c)
}
