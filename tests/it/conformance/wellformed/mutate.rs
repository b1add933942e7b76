//! Bodies, and what is done to them.

use serde_json::{Value, json};

/// Chance that can be had again.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// What becomes of a text.
type Change = fn(Vec<u8>) -> Vec<u8>;

/// An object, and what becomes of its text.
#[derive(Clone)]
pub(super) struct Body {
    pub(super) what: String,
    object: Value,
    text: Change,
}

/// A member of this name, less the mark, stands beside one of the same name.
const TWICE: &str = "(twice)";
/// Such a string stands for the text after the mark.
const RAW: &str = "(raw)";

impl Body {
    pub(super) fn of(object: Value) -> Self {
        Self { what: "as it is".into(), object, text: |text| text }
    }

    pub(super) fn json(&self) -> Vec<u8> {
        let text = self.object.to_string();
        (self.text)(unmarked(&text).into_bytes())
    }

    /// In block style, strings in quotes.
    pub(super) fn yaml(&self) -> Vec<u8> {
        let mut out = String::new();
        block(&self.object, 0, &mut out);
        (self.text)(unmarked(&out).into_bytes())
    }

    pub(super) fn mutated(&self, dice: &mut Dice) -> Self {
        let mut body = self.clone();
        let mut places = Vec::new();
        pointers(&self.object, String::new(), &mut places);
        let place = dice.of(&places).clone();
        let (parent, key) = place.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/").replace("~0", "~");
        let o = &mut body.object;
        let odd = [
            json!(null),
            json!(true),
            json!(7),
            json!(-1.5),
            json!("text"),
            json!(""),
            json!([]),
            json!({}),
            json!([1]),
            json!({"a": 1}),
            json!([null]),
            json!(12345678901234567890_u64),
            json!(2147483648_i64),
            json!("7"),
            json!("1.0"),
            json!(1.0),
            json!("(raw)1e400"),
            json!("(raw)1e3"),
            json!("(raw)\"\\ud800\""),
            json!("(raw)-0"),
            json!("é\u{202e}\u{0}😀"),
            json!("(raw)123456789012345678901234567890"),
            json!("yes"),
            json!("2026-02-30T00:00:00Z"),
            json!("=="),
        ];
        body.what = match dice.below(24) {
            0..=7 => {
                let value = dice.of(&odd).clone();
                let what = format!("{place} is {value}");
                *o.pointer_mut(&place).unwrap() = value;
                what
            }
            8..=10 => {
                let object = nearest(o, &place);
                let name = *dice.of(&["zzUnknown", "Spec", "kind ", "a\"b", "ünknown", "x.y", "status"]);
                o.pointer_mut(&object).unwrap()[name] = dice.of(&odd).clone();
                format!("{object}/{name} added")
            }
            11..=13 => match o.pointer_mut(parent).unwrap() {
                Value::Object(members) => {
                    let value = members[&key].clone();
                    let other = if dice.below(2) == 0 { value } else { dice.of(&odd).clone() };
                    members.insert(format!("{TWICE}{key}"), other);
                    format!("{place} is there twice")
                }
                _ => "as it is".into(),
            },
            14 | 15 => match o.pointer_mut(parent).unwrap() {
                Value::Object(members) => {
                    let value = members.remove(&key).unwrap();
                    let mut name = key.clone();
                    match dice.below(3) {
                        0 => name.push('x'),
                        1 => name = name.to_uppercase(),
                        _ => name = key[..1].to_uppercase() + &key[1..],
                    }
                    members.insert(name.clone(), value);
                    format!("{place} is called {name}")
                }
                _ => "as it is".into(),
            },
            16 => {
                match o.pointer_mut(parent).unwrap() {
                    Value::Object(members) => _ = members.remove(&key),
                    Value::Array(elements) => _ = elements.remove(key.parse().unwrap()),
                    _ => {}
                }
                format!("{place} is gone")
            }
            17 | 18 => {
                let versions = [
                    json!("v2"),
                    json!("apps/v1"),
                    json!("v1"),
                    json!(""),
                    json!(null),
                    json!(1),
                    json!("a/b/c"),
                    json!("/v1"),
                ];
                o["apiVersion"] = dice.of(&versions).clone();
                format!("apiVersion is {}", o["apiVersion"])
            }
            19 => {
                let kinds = [
                    json!("Pod"),
                    json!("ConfigMap"),
                    json!("Nothing"),
                    json!(""),
                    json!(null),
                    json!(1),
                    json!("Status"),
                    json!("PodList"),
                ];
                o["kind"] = dice.of(&kinds).clone();
                format!("kind is {}", o["kind"])
            }
            20 => {
                if !o["metadata"].is_object() {
                    o["metadata"] = json!({});
                }
                let name = *dice.of(&[
                    "name",
                    "namespace",
                    "uid",
                    "generateName",
                    "finalizers",
                    "managedFields",
                    "creationTimestamp",
                ]);
                let value = dice
                    .of(&[
                        json!("other"),
                        json!(""),
                        json!(1),
                        json!(null),
                        json!([]),
                        json!("a/b"),
                        json!("default"),
                    ])
                    .clone();
                o["metadata"][name] = value;
                format!("metadata.{name} is {}", o["metadata"][name])
            }
            21 => {
                for name in ["apiVersion", "kind"].iter().skip(dice.below(2)) {
                    o.as_object_mut().unwrap().remove(*name);
                }
                "kind is not said".into()
            }
            22 => {
                *o = dice
                    .of(&[json!([]), json!(null), json!("x"), json!(1), json!(true), json!({}), json!([{}])])
                    .clone();
                "something else".into()
            }
            _ => {
                let texts: [(&str, Change); 8] = [
                    ("empty", |_| Vec::new()),
                    ("cut off", |text| text[..text.len() / 2].to_vec()),
                    ("with something behind", |text| [&text, b" x".as_slice()].concat()),
                    ("with a second document", |text| [&text, b"\n---\nkind: Other\n".as_slice()].concat()),
                    ("with a mark in front", |text| [b"\xef\xbb\xbf".as_slice(), &text].concat()),
                    ("with white space around", |text| [b" \n\t".as_slice(), &text, b"\r\n "].concat()),
                    ("with bytes that are no text", |mut text| {
                        let at =
                            text.windows(3).position(|w| w == b"\"x\"").map_or(text.len() - 1, |at| at + 1);
                        text[at] = 0xff;
                        text
                    }),
                    ("in single quotes", |text| {
                        text.iter().map(|b| if *b == b'"' { b'\'' } else { *b }).collect()
                    }),
                ];
                let (what, text) = *dice.of(&texts);
                body.text = text;
                what.into()
            }
        };
        body
    }
}

fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        out.push(place.clone());
        pointers(value, place, out);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(i, value)| below(&i.to_string(), value))
        }
        _ => {}
    }
}

/// The object that the place is, or is in.
fn nearest(object: &Value, place: &str) -> String {
    let mut place = place;
    while !object.pointer(place).unwrap().is_object() {
        place = place.rsplit_once('/').unwrap().0;
    }
    place.to_owned()
}

fn unmarked(text: &str) -> String {
    let mut out = text.replace(TWICE, "");
    while let Some(at) = out.find("\"(raw)") {
        let literal: String = {
            let mut strings = serde_json::Deserializer::from_str(&out[at..]).into_iter::<String>();
            let string = strings.next().unwrap().unwrap();
            let end = at + strings.byte_offset();
            let raw = string.strip_prefix(RAW).unwrap().to_owned();
            out.replace_range(at..end, "");
            raw
        };
        out.insert_str(at, &literal);
    }
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                out.push_str(&format!("{pad}{}:", Value::from(key.as_str())));
                nested(value, indent, out);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for value in elements {
                out.push_str(&format!("{pad}-"));
                nested(value, indent, out);
            }
        }
        _ => out.push_str(&format!("{pad}{value}\n")),
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    let empty = value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty);
    if (value.is_object() || value.is_array()) && !empty {
        out.push('\n');
        block(value, indent + 2, out);
    } else {
        out.push_str(&format!(" {value}\n"));
    }
}
