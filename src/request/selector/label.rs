//! `key`, `!key`, `key=value`, `key in (a,b)`, `key>1`, …: a small language with its own lexer.

use super::{super::names, BadSelector};
use crate::status::push_go_quoted;
use std::{borrow::Cow, collections::BTreeSet};

/// A parsed label selector: all requirements hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    /// Sorted by key.
    pub requirements: Vec<LabelRequirement>,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRequirement {
    /// A qualified name.
    pub key: String,
    /// How the label's value relates to `values`.
    pub operator: LabelOperator,
    /// Sorted, each once; empty for `Exists` and `NotExists`.
    pub values: Vec<String>,
}

/// The operators, `==` told from `=` because the original does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelOperator {
    /// `in (…)`
    In,
    /// `notin (…)`
    NotIn,
    /// `=`
    Equals,
    /// `==`
    DoubleEquals,
    /// `!=`
    NotEquals,
    /// `key`
    Exists,
    /// `!key`
    NotExists,
    /// `>` an integer
    Greater,
    /// `<` an integer
    Less,
}

impl LabelOperator {
    /// Kubernetes' own name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Exists => "exists",
            Self::NotExists => "!",
            Self::Greater => "gt",
            Self::Less => "lt",
        }
    }
}

impl LabelSelector {
    /// # Errors
    /// A syntax error, a key that is no qualified name, or a value that is no label value.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let mut requirements = Parser { lexer: Lexer { rest: text }, peeked: None }.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// Whether an object matches; `value_of` gives a label's value.
    pub fn matches<'o>(&self, value_of: impl Fn(&str) -> Option<&'o str>) -> bool {
        self.requirements.iter().all(|r| r.matches(value_of(&r.key)))
    }
}

impl LabelRequirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        let compare = |holds: fn(i64, i64) -> bool| {
            let bound = self.values.first().and_then(|v| v.parse().ok());
            match (value.and_then(|v| v.parse().ok()), bound) {
                (Some(value), Some(bound)) => holds(value, bound),
                _ => false,
            }
        };
        match self.operator {
            LabelOperator::In | LabelOperator::Equals | LabelOperator::DoubleEquals => {
                value.is_some_and(listed)
            }
            LabelOperator::NotIn | LabelOperator::NotEquals => !value.is_some_and(listed),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::NotExists => value.is_none(),
            LabelOperator::Greater => compare(|value, bound| value > bound),
            LabelOperator::Less => compare(|value, bound| value < bound),
        }
    }

    /// Checks what the grammar leaves open.
    fn checked(self) -> Result<Self, BadSelector> {
        let numeric = matches!(self.operator, LabelOperator::Greater | LabelOperator::Less);
        let mut faults = Vec::new();
        for (at, value) in self.values.iter().enumerate().filter(|_| numeric) {
            if value.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                faults.push(invalid(&format!("values[{at}]"), value, why));
            }
        }
        for (at, value) in self.values.iter().enumerate() {
            let why = names::label_value_faults(value);
            if !why.is_empty() {
                faults.push(invalid(&format!("values[{at}][{}]", self.key), value, &why.join("; ")));
            }
        }
        match faults.as_slice() {
            [] => Ok(self),
            [one] => Err(BadSelector(one.clone())),
            many => Err(BadSelector(format!("[{}]", many.join(", ")))),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'s> {
    Word(Cow<'s, str>),
    /// `in` and `notin`: operators after a key, words elsewhere.
    Keyword(&'static str),
    Symbol(&'static str),
    End,
}

struct Lexer<'s> {
    rest: &'s str,
}

/// The original reads a NUL byte as the end of what it is reading, and goes on behind it.
const NUL: char = '\0';

impl<'s> Lexer<'s> {
    fn next(&mut self) -> Token<'s> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        // Longest first.
        for symbol in ["==", "!=", "=", "!", "(", ")", ",", ">", "<"] {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest.strip_prefix(NUL).unwrap_or(rest);
                return Token::Symbol(symbol);
            }
        }
        if self.rest.is_empty() || self.rest.starts_with(NUL) {
            self.rest = "";
            return Token::End;
        }
        let ends =
            |c: char| matches!(c, ' ' | '\t' | '\r' | '\n' | '=' | '!' | '(' | ')' | ',' | '>' | '<' | NUL);
        let (word, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest.strip_prefix(NUL).unwrap_or(rest);
        match word {
            "in" => Token::Keyword("in"),
            "notin" => Token::Keyword("notin"),
            _ => Token::Word(Cow::Borrowed(word)),
        }
    }
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    peeked: Option<Token<'s>>,
}

impl<'s> Parser<'s> {
    fn raw(&mut self) -> Token<'s> {
        self.peeked.take().unwrap_or_else(|| self.lexer.next())
    }

    /// The next token where a key or a value may stand.
    fn value(&mut self) -> Token<'s> {
        match self.raw() {
            Token::Keyword(word) => Token::Word(Cow::Borrowed(word)),
            token => token,
        }
    }

    /// What [`Self::value`] would give, without taking it.
    fn peek(&mut self) -> Token<'s> {
        let token = self.raw();
        self.peeked = Some(token.clone());
        match token {
            Token::Keyword(word) => Token::Word(Cow::Borrowed(word)),
            token => token,
        }
    }

    fn requirements(mut self) -> Result<Vec<LabelRequirement>, BadSelector> {
        let mut requirements = Vec::new();
        if self.peek() == Token::End {
            return Ok(requirements);
        }
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => requirements.push(self.requirement().map_err(within)?),
                other if requirements.is_empty() => {
                    return Err(unexpected(&other, "!, identifier, or 'end of string'"));
                }
                other => return Err(unexpected(&other, "identifier after ','")),
            }
            match self.value() {
                Token::End => return Ok(requirements),
                Token::Symbol(",") => {}
                other => return Err(unexpected(&other, "',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<LabelRequirement, BadSelector> {
        let mut token = self.value();
        let negated = token == Token::Symbol("!");
        if negated {
            token = self.value();
        }
        let Token::Word(key) = token else { return Err(unexpected(&token, "identifier")) };
        let faults = names::label_key_faults(&key);
        if !faults.is_empty() {
            // The original has no path to name here.
            return Err(BadSelector(invalid("<nil>", &key, &faults.join("; "))));
        }
        let key = key.into_owned();
        let unary = |operator| LabelRequirement { key: key.clone(), operator, values: Vec::new() };
        if negated {
            return Ok(unary(LabelOperator::NotExists));
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(unary(LabelOperator::Exists));
        }
        let operator = match self.raw() {
            Token::Keyword("in") => LabelOperator::In,
            Token::Keyword("notin") => LabelOperator::NotIn,
            Token::Symbol("=") => LabelOperator::Equals,
            Token::Symbol("==") => LabelOperator::DoubleEquals,
            Token::Symbol("!=") => LabelOperator::NotEquals,
            Token::Symbol(">") => LabelOperator::Greater,
            Token::Symbol("<") => LabelOperator::Less,
            other => return Err(unexpected(&other, "in, notin, =, ==, !=, gt, lt")),
        };
        let values = match operator {
            LabelOperator::In | LabelOperator::NotIn => self.set()?.into_iter().collect(),
            _ => vec![self.exact()?],
        };
        LabelRequirement { key, operator, values }.checked()
    }

    fn exact(&mut self) -> Result<String, BadSelector> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.value() {
            Token::Word(word) => Ok(word.into_owned()),
            other => Err(unexpected(&other, "identifier")),
        }
    }

    fn set(&mut self) -> Result<BTreeSet<String>, BadSelector> {
        match self.value() {
            Token::Symbol("(") => {}
            // The one text without a comma.
            other => return Err(BadSelector(format!("found '{}' expected: '('", other.text()))),
        }
        let mut values = BTreeSet::new();
        // An empty place, alone, between commas or at either end, is the empty value.
        match self.peek() {
            Token::Symbol(")") => {
                self.raw();
                return Ok(BTreeSet::from([String::new()]));
            }
            Token::Word(_) | Token::Symbol(",") => {}
            other => return Err(unexpected(&other, "',', ')' or identifier")),
        }
        loop {
            match self.value() {
                Token::Word(word) => {
                    values.insert(word.into_owned());
                    match self.peek() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        other => return Err(unexpected(&other, "',' or ')'")),
                    }
                }
                Token::Symbol(",") => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek() {
                        Token::Symbol(")") => {
                            values.insert(String::new());
                            break;
                        }
                        Token::Symbol(",") => {
                            self.raw();
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                other => return Err(unexpected(&other, "',', or identifier")),
            }
        }
        self.raw();
        Ok(values)
    }
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Keyword(word) | Self::Symbol(word) => word,
            Self::End => "",
        }
    }
}

fn unexpected(found: &Token<'_>, expected: &str) -> BadSelector {
    BadSelector(format!("found '{}', expected: {expected}", found.text()))
}

fn within(bad: BadSelector) -> BadSelector {
    BadSelector(format!("unable to parse requirement: {}", bad.0))
}

fn invalid(field: &str, value: &str, why: &str) -> String {
    let mut text = format!("{field}: Invalid value: ");
    push_go_quoted(&mut text, value);
    text.push_str(": ");
    text.push_str(why);
    text
}
