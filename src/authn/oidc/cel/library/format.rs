//! `format`: `%s`, `%d`, `%b`, `%o`, `%x` and `%X`. Kubernetes writes `%f` and `%e`, and what lists and maps hold, in ways of its
//! own: they are refused.

use super::{
    super::{
        runtime::{Args, LONGEST_TEXT, Outcome, as_list, as_text, exactly, failed, made_text, no_overload},
        types::Type,
    },
    text::shown,
};
use cel::{
    DeclarationError, Env, Value,
    common::{
        types::{CelType, LIST_TYPE, STRING_TYPE},
        value::Val,
    },
};

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("@format", "@format", vec![STRING_TYPE, LIST_TYPE], format)
}

/// A piece of the text: what stands for itself, or a clause.
enum Piece<'t> {
    Plain(&'t str),
    Clause(char),
}

/// The clauses of a text, in order; the error says what is wrong with it.
pub(in super::super) fn clauses(text: &str) -> Result<Vec<char>, String> {
    let clause = |piece| match piece {
        Piece::Clause(clause) => Some(clause),
        Piece::Plain(_) => None,
    };
    Ok(pieces(text)?.into_iter().filter_map(clause).collect())
}

/// Whether a clause may be given a value of that type. Of `any` it is not known: Kubernetes wants `dyn(…)` around it.
pub(in super::super) fn takes(clause: char, of: &Type) -> bool {
    match clause {
        _ if *of == Type::Dyn => true,
        's' => matches!(
            of,
            Type::String
                | Type::Bool
                | Type::Bytes
                | Type::Int
                | Type::Uint
                | Type::Double
                | Type::Duration
                | Type::Kind
                | Type::Null
        ),
        'b' => matches!(of, Type::Int | Type::Uint | Type::Bool),
        'x' | 'X' => matches!(of, Type::Int | Type::Uint | Type::String | Type::Bytes),
        _ => matches!(of, Type::Int | Type::Uint),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        pieces.push(Piece::Plain(before));
        let mut chars = after.chars();
        match chars.next() {
            Some('%') => pieces.push(Piece::Plain("%")),
            Some(clause @ ('s' | 'd' | 'b' | 'o' | 'x' | 'X')) => pieces.push(Piece::Clause(clause)),
            Some('f' | 'e' | '.') => return Err("%f and %e are not supported".to_owned()),
            _ => return Err("a % that begins no clause".to_owned()),
        }
        rest = chars.as_str();
    }
    pieces.push(Piece::Plain(rest));
    Ok(pieces)
}

fn format<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [text, values] = exactly("format", args)?;
    let (Some(text), Some(list)) = (as_text(text.as_ref()), as_list(values.as_ref())) else {
        return Err(no_overload("format", &[text, values]));
    };
    let mut values = list.iter();
    let mut made = String::new();
    for piece in pieces(text).map_err(|why| failed("format", &why))? {
        match piece {
            Piece::Plain(plain) => made.push_str(plain),
            Piece::Clause(clause) => {
                let value = values.next().ok_or_else(|| failed("format", "too few values"))?;
                let text = written(clause, value.as_ref());
                made.push_str(&text.ok_or_else(|| failed("format", "a value does not fit its clause"))?);
            }
        }
        if made.len() > LONGEST_TEXT {
            return Err(failed("format", "the text is too long"));
        }
    }
    made_text("format", made)
}

fn written(clause: char, value: &dyn Val) -> Option<String> {
    if let ('s', Some(of)) = (clause, value.downcast_ref::<CelType>()) {
        return Some(of.name().to_owned());
    }
    let signed = |value: i64, digits: String| if value < 0 { format!("-{digits}") } else { digits };
    Some(match (clause, Value::try_from(value).ok()?) {
        ('s' | 'd', Value::Int(value)) => value.to_string(),
        ('s' | 'd', Value::UInt(value)) => value.to_string(),
        ('s', Value::String(value)) => value.to_string(),
        ('s', Value::Bool(value)) => value.to_string(),
        ('s', Value::Null) => "null".to_owned(),
        ('s', Value::Bytes(value)) => String::from_utf8(value.to_vec()).ok()?,
        // Where all ways to write a number agree.
        ('s', Value::Float(value)) if value == 0.0 || (1e-4..1e6).contains(&value.abs()) => shown(value),
        ('s', Value::Duration(value)) => {
            // Go shows fractions without zeros at their end.
            let nanos = i128::from(value.num_seconds()) * 1_000_000_000 + i128::from(value.subsec_nanos());
            if nanos % 1_000_000_000 != 0 {
                return None;
            }
            format!("{}s", nanos / 1_000_000_000)
        }
        ('b', Value::Bool(value)) => u8::from(value).to_string(),
        ('b', Value::Int(value)) => signed(value, format!("{:b}", value.unsigned_abs())),
        ('b', Value::UInt(value)) => format!("{value:b}"),
        ('o', Value::Int(value)) => signed(value, format!("{:o}", value.unsigned_abs())),
        ('o', Value::UInt(value)) => format!("{value:o}"),
        ('x', Value::Int(value)) => signed(value, format!("{:x}", value.unsigned_abs())),
        ('x', Value::UInt(value)) => format!("{value:x}"),
        ('X', Value::Int(value)) => signed(value, format!("{:X}", value.unsigned_abs())),
        ('X', Value::UInt(value)) => format!("{value:X}"),
        ('x' | 'X', Value::String(value)) => hex(clause, value.as_bytes()),
        ('x' | 'X', Value::Bytes(value)) => hex(clause, &value),
        _ => return None,
    })
}

fn hex(clause: char, bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| if clause == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") })
        .collect()
}
