//! The objects of the four kinds, as far as they decide. Those of a kind are replaced as a whole when it is listed again.

use crate::rbac::{
    Binding, Role,
    live::{self, Kind, Object},
};
use serde_json::Value;
use std::{collections::BTreeMap, mem, sync::Arc};

/// What was heard of a kind.
#[derive(Debug)]
pub(super) enum Change {
    /// It is listed (again).
    Listing,
    /// An object of that list.
    Listed(Item),
    /// There are no others.
    Done,
    /// An object is new or another.
    Applied(Item),
    /// An object is gone.
    Deleted(Item),
}

/// An object, read.
#[derive(Debug)]
pub(super) struct Item {
    key: live::Key,
    entry: Entry,
}

#[derive(Debug, PartialEq)]
struct Entry {
    /// None: it grants nothing.
    object: Option<Granting>,
    /// What of it grants nothing, and why.
    odd: Option<String>,
}

#[derive(Debug, PartialEq)]
enum Granting {
    Role(Arc<Role>),
    Binding(Arc<Binding>),
}

impl Item {
    /// None: it has no name, so no server holds it.
    pub(super) fn read(kind: Kind, object: &Value) -> Option<Self> {
        let key = live::key(kind, object)?;
        let entry = match live::read(kind, &key, object) {
            Ok(held) => Entry {
                object: Some(match held.object {
                    Object::Role(role) => Granting::Role(Arc::new(role)),
                    Object::Binding(binding) => Granting::Binding(Arc::new(binding)),
                }),
                odd: (!held.left_out.is_empty()).then(|| held.left_out.join("; ")),
            },
            Err(why) => Entry { object: None, odd: Some(why) },
        };
        Some(Self { key, entry })
    }
}

/// Of the four kinds.
#[derive(Debug, Default)]
pub(super) struct Store([Table; 4]);

#[derive(Debug, Default)]
struct Table {
    held: BTreeMap<live::Key, Entry>,
    /// The list that is being read.
    coming: Option<BTreeMap<live::Key, Entry>>,
    /// Whether one was read to its end.
    listed: bool,
}

impl Store {
    /// Takes it up; whether decisions may be others from now on. What grants less than it seems to goes to `odd` when it is first
    /// seen.
    pub(super) fn take(&mut self, kind: Kind, change: Change, odd: &mut Vec<String>) -> bool {
        let table = &mut self.0[kind as usize];
        let mut told = |key: &live::Key, entry: &Entry, before: Option<&Entry>| {
            if let Some(why) =
                entry.odd.as_ref().filter(|why| before.and_then(|b| b.odd.as_ref()) != Some(why))
            {
                odd.push(format!("{} {}: {why}", kind.name(), shown(key)));
            }
        };
        match change {
            Change::Listing => {
                table.coming = Some(BTreeMap::new());
                false
            }
            Change::Listed(Item { key, entry }) => {
                told(&key, &entry, table.held.get(&key));
                table.coming.get_or_insert_default().insert(key, entry);
                false
            }
            Change::Done => {
                let coming = table.coming.take().unwrap_or_default();
                let same = mem::replace(&mut table.listed, true) && coming == table.held;
                table.held = coming;
                !same
            }
            Change::Applied(Item { key, entry }) => {
                let before = table.held.get(&key);
                told(&key, &entry, before);
                let same = before.map(|b| &b.object) == Some(&entry.object);
                table.held.insert(key, entry);
                !same
            }
            Change::Deleted(Item { key, .. }) => {
                table.held.remove(&key).is_some_and(|gone| gone.object.is_some())
            }
        }
    }

    /// Whether all four were listed.
    pub(super) fn whole(&self) -> bool {
        self.0.iter().all(|table| table.listed)
    }

    /// How many objects of a kind there are, and of how many of them something grants nothing.
    pub(super) fn counts(&self, kind: Kind) -> (usize, usize) {
        let held = &self.0[kind as usize].held;
        (held.len(), held.values().filter(|entry| entry.odd.is_some()).count())
    }

    /// What grants, in the order of kinds, namespaces and names.
    pub(super) fn granting(&self) -> (Vec<Arc<Role>>, Vec<Arc<Binding>>) {
        let (mut roles, mut bindings) = (Vec::new(), Vec::new());
        for entry in self.0.iter().flat_map(|table| table.held.values()) {
            match &entry.object {
                Some(Granting::Role(role)) => roles.push(Arc::clone(role)),
                Some(Granting::Binding(binding)) => bindings.push(Arc::clone(binding)),
                None => {}
            }
        }
        (roles, bindings)
    }
}

fn shown((namespace, name): &live::Key) -> String {
    if namespace.is_empty() { format!("{name:?}") } else { format!("{:?}", format!("{namespace}/{name}")) }
}
