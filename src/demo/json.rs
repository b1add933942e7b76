//! JSON as Go's decoder reads it: of equal keys the last one counts, broken text becomes U+FFFD, and faults are told in its
//! words.

use serde_json::{Map, Number, Value};

/// Deeper texts are refused, long before a stack ends.
const DEPTH: usize = 300;

/// What a text says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    /// The value.
    pub value: Value,
    /// Paths of keys that are there twice, in order.
    pub duplicates: Vec<String>,
}

/// Reads one value and nothing after it; the error is Go's text.
pub(super) fn read(text: &[u8]) -> Result<Read, String> {
    let mut reader = Reader { text, at: 0, path: Vec::new(), duplicates: Vec::new() };
    let value = reader.value()?;
    reader.space();
    match reader.peek() {
        None => Ok(Read { value, duplicates: reader.duplicates }),
        Some(c) => Err(unexpected(c, "after top-level value")),
    }
}

/// The JSON type of a value as Go's messages name it.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

enum Step {
    Key(String),
    Item(usize),
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    path: Vec<Step>,
    duplicates: Vec<String>,
}

fn unexpected(c: u8, context: &str) -> String {
    let shown = match c {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        c => {
            let quoted = format!("{:?}", char::from(c).to_string());
            format!("'{}'", quoted.trim_matches('"'))
        }
    };
    format!("invalid character {shown} {context}")
}

fn early() -> String {
    "unexpected end of JSON input".to_owned()
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, String> {
        let c = self.peek().ok_or_else(early)?;
        self.at += 1;
        Ok(c)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|c| matches!(c, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.path.len() > DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        self.space();
        match self.next()? {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string().map(Value::String),
            b't' => self.literal("true", Value::Bool(true)),
            b'f' => self.literal("false", Value::Bool(false)),
            b'n' => self.literal("null", Value::Null),
            b'-' | b'0'..=b'9' => {
                self.at -= 1;
                self.number()
            }
            c => Err(unexpected(c, "looking for beginning of value")),
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, String> {
        for expected in word.bytes().skip(1) {
            // At the end Go's scanner is told of a space, to finish what is open.
            let found = self.peek().unwrap_or(b' ');
            if found != expected {
                let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(unexpected(found, &context));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        match self.peek() {
            Some(b'0'..=b'9') => {}
            c => return Err(unexpected(c.unwrap_or(b' '), context)),
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        let whole = !matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let text = std::str::from_utf8(text).unwrap_or_default();
        if let (true, Ok(n)) = (whole, text.parse::<i64>()) {
            return Ok(n.into());
        }
        let number = text.parse().ok().and_then(Number::from_f64);
        number
            .map(Value::Number)
            .ok_or_else(|| format!("json: cannot unmarshal number {text} into Go value of type float64"))
    }

    fn array(&mut self) -> Result<Value, String> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            self.path.push(Step::Item(items.len()));
            let item = self.value();
            self.path.pop();
            items.push(item?);
            self.space();
            match self.next()? {
                b',' => {}
                b']' => return Ok(Value::Array(items)),
                c => return Err(unexpected(c, "after array element")),
            }
        }
    }

    fn object(&mut self) -> Result<Value, String> {
        let mut map = Map::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(map));
        }
        loop {
            self.space();
            match self.next()? {
                b'"' => {}
                c => return Err(unexpected(c, "looking for beginning of object key string")),
            }
            let key = self.string()?;
            self.space();
            match self.next()? {
                b':' => {}
                c => return Err(unexpected(c, "after object key")),
            }
            self.path.push(Step::Key(key.clone()));
            if map.contains_key(&key) {
                let path = self.shown();
                self.duplicates.push(path);
            }
            let value = self.value();
            self.path.pop();
            map.insert(key, value?);
            self.space();
            match self.next()? {
                b',' => {}
                b'}' => return Ok(Value::Object(map)),
                c => return Err(unexpected(c, "after object key:value pair")),
            }
        }
    }

    fn shown(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.push_str(&format!(".{key}")),
                Step::Item(at) => path.push_str(&format!("[{at}]")),
            }
        }
        path
    }

    /// The rest of a string whose quote is read.
    fn string(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => self.escape(&mut bytes)?,
                c @ ..0x20 => return Err(unexpected(c, "in string literal")),
                c => bytes.push(c),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let c = match self.next()? {
            c @ (b'"' | b'\\' | b'/') => c,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let first = self.hex()?;
                let c = self.surrogates(first)?;
                bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            c => return Err(unexpected(c, "in string escape code")),
        };
        bytes.push(c);
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for _ in 0..4 {
            let c = self.next()?;
            let digit = char::from(c).to_digit(16);
            value = value * 16 + digit.ok_or_else(|| unexpected(c, r"in \u hexadecimal character escape"))?;
        }
        Ok(value)
    }

    /// A surrogate needs the other half right behind it; alone it is U+FFFD.
    fn surrogates(&mut self, first: u32) -> Result<char, String> {
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        let before = self.at;
        let pair = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(br"\u"));
        if first < 0xdc00 && pair {
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let c = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_are_gos() {
        #[rustfmt::skip]
        let rows = [
            ("", "unexpected end of JSON input"),
            ("{bad", "invalid character 'b' looking for beginning of object key string"),
            ("{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a":1 "b"}"#, "invalid character '\"' after object key:value pair"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            (r#"{"a":tru}"#, "invalid character '}' in literal true (expecting 'e')"),
            ("nul", "invalid character ' ' in literal null (expecting 'l')"),
            ("[01]", "invalid character '1' after array element"),
            ("[-]", "invalid character ']' in numeric literal"),
            ("[1.]", "invalid character ']' after decimal point in numeric literal"),
            ("[1e]", "invalid character ']' in exponent of numeric literal"),
            ("\"\n\"", r"invalid character '\n' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (r#""\u12""#, "invalid character '\"' in \\u hexadecimal character escape"),
            ("\u{feff}{}", "invalid character 'ï' looking for beginning of value"),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text.as_bytes()).unwrap_err(), expected, "{text}");
        }
        assert_eq!(read(&[b'['; 100_000]).unwrap_err(), "exceeded max depth");
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let read = read(br#"{"a":1,"l":[{"b":1,"b":2}],"a":{"c":null}}"#).unwrap();
        assert_eq!(read.value, json!({"a": {"c": null}, "l": [{"b": 2}]}));
        assert_eq!(read.duplicates, ["l[0].b", "a"]);
    }

    #[test]
    fn values_are_as_a_stricter_reader_has_them() {
        for text in
            ["null", "[-1, 0.5, 1e3, true]", r#"{"a\n\u00e9\ud83d\ude00": "x"}"#, "18446744073709551615"]
        {
            let expected: Value = serde_json::from_str(text).unwrap();
            let found = read(text.as_bytes()).unwrap().value;
            if expected.is_u64() && !expected.is_i64() {
                assert_eq!(found.as_f64(), expected.as_f64());
            } else {
                assert_eq!(found, expected);
            }
        }
        assert_eq!(read(br#""\ud800x""#).unwrap().value, "\u{fffd}x");
    }
}
