//! The CEL expressions of an AuthenticationConfiguration: compiled at load, tried on a sample, bounded; their text never
//! comes from a request.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Which variable an expression may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authn) enum Scope {
    /// `claims`: the token's claims.
    Claims,
    /// `user`: username, uid, groups, extra.
    User,
}

/// What an expression must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authn) enum Returns {
    /// `string`: username, uid.
    Text,
    /// `string`, `list(string)` or null: groups, extra values.
    Texts,
    /// `bool`: rules.
    Truth,
}

/// An expression that compiled.
#[derive(Debug)]
pub(in crate::authn) struct Expression {}

/// The variable's value, converted once for all expressions over it.
#[derive(Debug)]
pub(in crate::authn) struct Input {}

impl Input {
    /// Every number a double, as `encoding/json` gives them to kube-apiserver.
    pub(in crate::authn) fn claims(claims: &Map<String, Value>) -> Self {
        let _ = claims;
        todo!()
    }

    /// The user as the rules see it.
    pub(in crate::authn) fn user(
        name: &str,
        uid: &str,
        groups: &[String],
        extra: &BTreeMap<String, Vec<String>>,
    ) -> Self {
        let _ = (name, uid, groups, extra);
        todo!()
    }
}

impl Expression {
    /// Compiles and tries on a sample. The error says what is wrong, without the place in the file.
    pub(in crate::authn) fn compile(text: &str, scope: Scope, returns: Returns) -> Result<Self, String> {
        let _ = (text, scope, returns);
        todo!()
    }

    /// Whether the expression selects `claims.email` (path `["email"]`) and the like.
    pub(in crate::authn) fn selects(&self, path: &[&str]) -> bool {
        let _ = path;
        todo!()
    }

    /// Of an expression that returns text.
    pub(in crate::authn) fn text(&self, input: &Input) -> Result<String, String> {
        let _ = input;
        todo!()
    }

    /// Of one that returns texts: null, "" and [] are none, empty texts are dropped.
    pub(in crate::authn) fn texts(&self, input: &Input) -> Result<Vec<String>, String> {
        let _ = input;
        todo!()
    }

    /// Of a rule.
    pub(in crate::authn) fn truth(&self, input: &Input) -> Result<bool, String> {
        let _ = input;
        todo!()
    }
}
