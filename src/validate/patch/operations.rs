//! JSON Patch (RFC 6902), as the library reads it that kube-apiserver applies it with.

use super::{Checked, FieldValidation, Patch, Type, Wrong};
use crate::{codec::tape::Kind, status::Status};

/// Operations at most.
const MOST: usize = 10_000;

impl Patch<'_> {
    pub(super) fn operations(&self) -> Checked {
        let strict = self.validation != FieldValidation::Ignore;
        match self.tape.kind(0) {
            Kind::Array => {}
            Kind::Null => return Ok(()),
            _ => {
                let name = if strict { "[]handlers.jsonPatchOp" } else { "jsonpatch.Patch" };
                return Err(self.mistyped(Type::Operations, 0, &format!("Go value of type {name}")));
            }
        }
        let mut count = 0;
        for operation in self.tape.elements(0) {
            count += 1;
            match self.tape.kind(operation) {
                Kind::Object if strict => self.types(operation)?,
                Kind::Object | Kind::Null => {}
                _ => {
                    let name = if strict { "handlers.jsonPatchOp" } else { "jsonpatch.Operation" };
                    let target = format!("Go value of type {name}");
                    return Err(self.mistyped(Type::Operations, operation, &target));
                }
            }
        }
        if count > MOST {
            let text = format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {MOST}, got {count}"
            );
            return Err(Box::new(Wrong("operations-limit", Status::new(413, "RequestEntityTooLarge", text))));
        }
        match self.tape.elements(0).all(|operation| self.applicable(operation)) {
            true => Ok(()),
            false => Err(not_applicable()),
        }
    }

    /// Members that an operation does not have, or has twice.
    pub(super) fn odd_members(&self, mut tell: impl FnMut(&'static str, String)) {
        for (i, operation) in self.tape.elements(0).enumerate() {
            let mut seen = 0u8;
            for (key, _) in self.tape.members(operation) {
                let name = self.tape.string(key);
                let bit = match &*name {
                    "op" => 1,
                    "path" => 2,
                    "from" => 4,
                    "value" => 8,
                    _ => {
                        tell("unknown-field", format!("json patch unknown field \"[{i}].{name}\""));
                        continue;
                    }
                };
                if seen & bit != 0 {
                    tell("duplicate-field", format!("json patch duplicate field \"[{i}].{name}\""));
                }
                seen |= bit;
            }
        }
    }

    fn types(&self, operation: usize) -> Checked {
        for (key, value) in self.tape.members(operation) {
            let name = self.tape.string(key);
            match &*name {
                "op" | "path" | "from"
                    if !self.tape.is_text(value) && self.tape.kind(value) != Kind::Null =>
                {
                    let target = format!("Go struct field jsonPatchOp.{name} of type string");
                    return Err(self.mistyped(Type::Operations, value, &target));
                }
                "value" => {
                    let target = "Go struct field jsonPatchOp.value of type float64";
                    self.numbers(value, Type::Operations, target)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether there is an object that it can be applied to.
    fn applicable(&self, operation: usize) -> bool {
        // Of members that are there twice the last one counts, and null is as good as nothing.
        let member =
            |name| self.tape.get(operation, name).last().filter(|at| self.tape.kind(*at) != Kind::Null);
        let text = |name| member(name).filter(|at| self.tape.is_text(*at)).map(|at| self.tape.string(at));
        // The library does not ask for the slash in front.
        let leads = |name| text(name).is_some_and(|path| path.contains('/'));
        let is_whole = || text("path").is_some_and(|path| path.is_empty());
        let value = || member("value").map(|at| self.tape.kind(at));
        match text("op").as_deref() {
            Some("add" | "remove") => leads("path"),
            Some("move" | "copy") => leads("from") && leads("path"),
            // Of the whole object, without a value: kube-apiserver panics.
            Some("replace") if is_whole() => matches!(value(), Some(Kind::Object | Kind::Array)),
            Some("test") if is_whole() => matches!(value(), Some(Kind::Object | Kind::Array)),
            Some("replace" | "test") => leads("path"),
            _ => false,
        }
    }
}

/// What is the matter is not told.
fn not_applicable() -> Box<Wrong> {
    let text = "the server rejected our request due to an error in our request";
    Box::new(Wrong(
        "operation",
        Status { details: Some(Box::default()), ..Status::new(422, "Invalid", text) },
    ))
}
