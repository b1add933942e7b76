//! One pass over a JSON text: it is put on one line, what the policy does not want is left out, and what it says of itself is
//! noted.

use super::{DEEPEST, Keep, Object, Omitted};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Reads `text` as one JSON text.
pub(super) fn read(text: &str, keep: Keep) -> Result<Object, Omitted> {
    let text: &RawValue = serde_json::from_str(text).map_err(|_| Omitted::encoding("it is not JSON"))?;
    let mut scan = Scan::new(text.get(), keep);
    if keep != Keep::Nothing {
        scan.found.json.reserve(text.get().len());
    }
    scan.value(Role::Object, 0)?;
    Ok(scan.found)
}

/// What can be seen of an object in the beginning of its text.
pub(super) fn beginning(text: &str) -> Object {
    let mut scan = Scan::new(text, Keep::Nothing);
    // That it ends early is known.
    let _ = scan.value(Role::Object, 0);
    Object { items: None, ..scan.found }
}

/// What a value is to us, told by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A whole object: the body, a list's item, a Table row's `object`.
    Object,
    Metadata,
    Items,
    Rows,
    Row,
    Other,
}

impl Role {
    fn member(self, key: &str) -> Self {
        match (self, key) {
            (Self::Object, "metadata") => Self::Metadata,
            (Self::Object, "items") => Self::Items,
            (Self::Object, "rows") => Self::Rows,
            (Self::Row, "object") => Self::Object,
            _ => Self::Other,
        }
    }

    fn element(self) -> Self {
        match self {
            Self::Items => Self::Object,
            Self::Rows => Self::Row,
            _ => Self::Other,
        }
    }
}

/// One pass over a text that is known to be JSON; whatever else it is, the pass ends.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    found: Object,
    keep: Keep,
    /// Inside so many values that are left out.
    mute: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str, keep: Keep) -> Self {
        Self { text, at: 0, found: Object::default(), keep, mute: usize::from(keep == Keep::Nothing) }
    }

    fn value(&mut self, role: Role, depth: usize) -> Result<(), Omitted> {
        if depth > DEEPEST {
            return Err(Omitted::Depth);
        }
        match self.peek() {
            b'{' => self.object(role, depth),
            b'[' => self.array(role, depth),
            b'"' => {
                let token = self.string();
                self.emit_string(token);
                Ok(())
            }
            _ => {
                let token = self.bare();
                if token.is_empty() {
                    return Err(Omitted::encoding("it is not JSON"));
                }
                // Beyond what a double holds, readers disagree or give up.
                if token.len() > 300 || !token.starts_with(['t', 'f']) && token.contains(['e', 'E']) {
                    let number = token.parse().ok().filter(|n: &f64| n.is_finite());
                    number.ok_or_else(|| Omitted::encoding("a number is out of range"))?;
                }
                self.emit(token);
                Ok(())
            }
        }
    }

    fn object(&mut self, role: Role, depth: usize) -> Result<(), Omitted> {
        let mut first = true;
        self.take();
        self.emit("{");
        while self.more(b'}')? {
            let token = self.string();
            let key = unescape(token);
            self.colon();
            let leave_out =
                self.keep == Keep::NoManagedFields && role == Role::Metadata && key == "managedFields";
            if leave_out {
                self.mute += 1;
            } else {
                if !std::mem::take(&mut first) {
                    self.emit(",");
                }
                self.emit_string(token);
                self.emit(":");
            }
            if self.peek() == b'"' {
                let value = self.string();
                self.emit_string(value);
                self.note(role, depth, &key, value);
            } else {
                self.value(role.member(&key), depth + 1)?;
            }
            if leave_out {
                self.mute -= 1;
            }
            self.comma();
        }
        self.take();
        self.emit("}");
        Ok(())
    }

    fn array(&mut self, role: Role, depth: usize) -> Result<(), Omitted> {
        let mut first = true;
        self.take();
        self.emit("[");
        while self.more(b']')? {
            if !std::mem::take(&mut first) {
                self.emit(",");
            }
            self.value(role.element(), depth + 1)?;
            if role == Role::Items && depth == 1 {
                *self.found.items.get_or_insert(0) += 1;
            }
            self.comma();
        }
        self.take();
        self.emit("]");
        Ok(())
    }

    /// Looks at a member whose value is a string.
    fn note(&mut self, role: Role, depth: usize, key: &str, value: &str) {
        let found = &mut self.found;
        let field = match (role, depth, key) {
            (Role::Object, 0, "kind") => &mut found.kind,
            (Role::Object, 0, "apiVersion") => &mut found.api_version,
            (Role::Metadata, 1, "namespace") => &mut found.meta.namespace,
            (Role::Metadata, 1, "name") => &mut found.meta.name,
            (Role::Metadata, 1, "uid") => &mut found.meta.uid,
            (Role::Metadata, 1, "resourceVersion") => &mut found.meta.resource_version,
            (Role::Metadata, 1, "generateName") => {
                found.generated = value.len() > 2;
                return;
            }
            _ => return,
        };
        *field = unescape(value).into_owned();
    }

    // --- tokens; the text is known to be well formed, so that each is where it is looked for ---

    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    /// Whether something stands before `end`. That nothing at all is left cannot be, and would be no JSON.
    fn more(&mut self, end: u8) -> Result<bool, Omitted> {
        match self.peek() {
            0 => Err(Omitted::encoding("it is not JSON")),
            next => Ok(next != end),
        }
    }

    fn take(&mut self) {
        self.at += 1;
    }

    fn colon(&mut self) {
        self.peek();
        self.take();
    }

    fn comma(&mut self) {
        if self.peek() == b',' {
            self.take();
        }
    }

    /// The next string, quotes included.
    fn string(&mut self) -> &'a str {
        self.peek();
        let bytes = self.text.as_bytes();
        let start = self.at;
        self.at += 1;
        while let Some(found) =
            bytes.get(self.at..).and_then(|b| b.iter().position(|b| matches!(b, b'"' | b'\\')))
        {
            self.at += found;
            if bytes.get(self.at) == Some(&b'"') {
                break;
            }
            self.at += 2;
        }
        self.at += 1;
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The next number or literal.
    fn bare(&mut self) -> &'a str {
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        self.at += rest.iter().position(|b| b",}] \t\r\n".contains(b)).unwrap_or(rest.len());
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn emit(&mut self, text: &str) {
        if self.mute == 0 {
            self.found.json.push_str(text);
        }
    }

    /// Half of a surrogate pair is valid to JSON's grammar but not to most of its readers.
    fn emit_string(&mut self, token: &str) {
        match lone_surrogates(token) {
            None => self.emit(token),
            Some(token) => self.emit(&token),
        }
    }
}

/// A string's value; None of those that matter here has escapes, but a caller may write them all the same.
fn unescape(token: &str) -> Cow<'_, str> {
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str(token).map_or_else(|_| Cow::Owned(String::new()), Cow::Owned)
}

/// `token` with U+FFFD for each escaped half of a surrogate pair; None when there is none.
fn lone_surrogates(token: &str) -> Option<String> {
    if !token.contains("\\u") {
        return None;
    }
    let mut out = String::with_capacity(token.len());
    let mut rest = token;
    let mut found = false;
    let unit =
        |text: &str| -> Option<u16> { u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok() };
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match unit(rest) {
            None => 2,
            Some(0xd800..=0xdbff)
                if rest.get(6..).and_then(unit).is_some_and(|u| (0xdc00..=0xdfff).contains(&u)) =>
            {
                12
            }
            Some(0xd800..=0xdfff) => {
                found = true;
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            Some(_) => 6,
        };
        let (escape, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        out.push_str(escape);
        rest = after;
    }
    out.push_str(rest);
    found.then_some(out)
}
