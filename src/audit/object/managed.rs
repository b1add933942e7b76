//! Where `managedFields` stands in a body: of the object itself, of a list's items, and of a Table's rows.

use crate::codec::tape::{Kind, Tape};

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

/// The nodes of the keys, in the order of the text. The text is at most as deep as the record allows.
pub(super) fn keys(tape: &Tape<'_>) -> Vec<usize> {
    let mut found = Vec::new();
    visit(tape, 0, Role::Object, &mut found);
    found
}

fn visit(tape: &Tape<'_>, at: usize, role: Role, found: &mut Vec<usize>) {
    match tape.kind(at) {
        Kind::Object => {
            for (key, value) in tape.members(at) {
                let name = tape.string(key);
                if role == Role::Metadata && name == "managedFields" {
                    found.push(key);
                    continue;
                }
                match role.member(&name) {
                    Role::Other => {}
                    role => visit(tape, value, role, found),
                }
            }
        }
        Kind::Array if role.element() != Role::Other => {
            for element in tape.elements(at) {
                visit(tape, element, role.element(), found);
            }
        }
        _ => {}
    }
}
