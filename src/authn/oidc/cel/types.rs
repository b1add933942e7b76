//! The types of CEL as Kubernetes' compiler knows them, and what may stand for what (`google/cel-go checker/types.go`).

use std::{collections::HashMap, fmt};

/// A type, known before anything is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// Known only when evaluated.
    Dyn,
    /// The same, of a claim; but nothing can go through it until `dyn()` says so.
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// Of `type(x)` and of `string`, `int`, …
    Kind,
    /// What only functions make, such as `net.IP`; and the user.
    Named(&'static str),
    List(Box<Self>),
    Map(Box<Self>, Box<Self>),
    Optional(Box<Self>),
    /// Any one type, the same wherever the number is the same.
    Param(u32),
}

/// What is known of the parameters so far.
#[derive(Debug, Default)]
pub(super) struct Unifier {
    bound: HashMap<u32, Type>,
    next: u32,
}

// === impl Type ===

impl Type {
    pub(super) fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    pub(super) fn map(key: Self, value: Self) -> Self {
        Self::Map(Box::new(key), Box::new(value))
    }

    pub(super) fn optional(of: Self) -> Self {
        Self::Optional(Box::new(of))
    }

    /// What an optional holds, and whether it was one.
    pub(super) fn unwrapped(self) -> (Self, bool) {
        match self {
            Self::Optional(held) => (*held, true),
            other => (other, false),
        }
    }

    /// The parameters become those `from` higher.
    pub(super) fn renumbered(&self, from: u32) -> Self {
        self.rebuilt(&mut |param| Self::Param(param + from))
    }

    fn rebuilt(&self, param: &mut impl FnMut(u32) -> Self) -> Self {
        match self {
            Self::Param(number) => param(*number),
            Self::List(of) => Self::list(of.rebuilt(param)),
            Self::Map(key, value) => Self::map(key.rebuilt(param), value.rebuilt(param)),
            Self::Optional(of) => Self::optional(of.rebuilt(param)),
            plain => plain.clone(),
        }
    }

    fn holds(&self) -> Vec<&Self> {
        match self {
            Self::List(of) | Self::Optional(of) => vec![of],
            Self::Map(key, value) => vec![key, value],
            _ => Vec::new(),
        }
    }

    /// Of two types that can be one, the one that says less.
    fn most_general(one: &Self, other: &Self) -> Self {
        if one.says_no_more_than(other) { one.clone() } else { other.clone() }
    }

    fn says_no_more_than(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn | Self::Any | Self::Param(_), _) => true,
            (_, Self::Dyn | Self::Any | Self::Param(_)) => false,
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => a.says_no_more_than(b),
            (Self::Map(ak, av), Self::Map(bk, bv)) => ak.says_no_more_than(bk) && av.says_no_more_than(bv),
            _ => self == other,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn | Self::Param(_) => "dyn",
            Self::Any => "any",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::Kind => "type",
            Self::Named(name) => name,
            Self::List(of) => return write!(f, "list({of})"),
            Self::Map(key, value) => return write!(f, "map({key}, {value})"),
            Self::Optional(of) => return write!(f, "optional({of})"),
        })
    }
}

// === impl Unifier ===

impl Unifier {
    pub(super) fn fresh(&mut self) -> Type {
        self.next += 1;
        Type::Param(self.next - 1)
    }

    /// The first of `count` new numbers.
    pub(super) fn reserve(&mut self, count: u32) -> u32 {
        self.next += count;
        self.next - count
    }

    /// With every parameter that is known put in.
    pub(super) fn resolved(&self, of: &Type) -> Type {
        of.rebuilt(&mut |param| match self.bound.get(&param) {
            Some(bound) => self.resolved(bound),
            None => Type::Param(param),
        })
    }

    /// As it is at the end: what is not known is `dyn`.
    pub(super) fn settled(&self, of: &Type) -> Type {
        of.rebuilt(&mut |param| match self.bound.get(&param) {
            Some(bound) => self.settled(bound),
            None => Type::Dyn,
        })
    }

    /// Whether each of `from` may stand where `to` is wanted; if so, what this says of parameters is remembered.
    pub(super) fn assign_all<'t>(&mut self, pairs: impl IntoIterator<Item = (&'t Type, &'t Type)>) -> bool {
        let before = self.bound.clone();
        let fits = pairs.into_iter().all(|(from, to)| self.fits(from, to));
        if !fits {
            self.bound = before;
        }
        fits
    }

    /// [`Self::assign_all`] of one.
    pub(super) fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.assign_all([(from, to)])
    }

    /// What the members of a list or map have in common so far.
    pub(super) fn join(&mut self, before: Option<&Type>, member: &Type) -> Type {
        match before {
            None => member.clone(),
            Some(before) if self.assign(before, member) => Type::most_general(before, member),
            Some(_) => Type::Dyn,
        }
    }

    fn fits(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Param(param) = to {
            let known = self.bound.contains_key(param);
            if self.stands_for(from, *param) {
                return true;
            }
            if known {
                return false;
            }
        }
        if let Type::Param(param) = from {
            return self.stands_for(to, *param);
        }
        match (from, to) {
            (Type::Dyn | Type::Any, _) | (_, Type::Dyn | Type::Any) => true,
            (Type::Null, other) | (other, Type::Null) => {
                matches!(
                    other,
                    Type::Null | Type::Named(_) | Type::Optional(_) | Type::Timestamp | Type::Duration
                )
            }
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.fits(a, b),
            (Type::Map(ak, av), Type::Map(bk, bv)) => self.fits(ak, bk) && self.fits(av, bv),
            _ => from == to,
        }
    }

    /// Whether `known` can be what the parameter is.
    fn stands_for(&mut self, known: &Type, param: u32) -> bool {
        if *known == Type::Param(param) {
            return true;
        }
        if let Some(bound) = self.bound.get(&param).cloned() {
            if *known == bound {
                return true;
            }
            if !self.fits(known, &bound) {
                return false;
            }
            let general = Type::most_general(known, &bound);
            if !self.mentions(&general, param) {
                self.bound.insert(param, general);
            }
            return true;
        }
        let free = !self.mentions(known, param);
        if free {
            self.bound.insert(param, known.clone());
        }
        free
    }

    fn mentions(&self, within: &Type, param: u32) -> bool {
        match within {
            Type::Param(number) => {
                *number == param || self.bound.get(number).is_some_and(|bound| self.mentions(bound, param))
            }
            other => other.holds().into_iter().any(|held| self.mentions(held, param)),
        }
    }
}
