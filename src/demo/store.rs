//! Objects in memory: one counter of versions, the tables, and a bounded history that watches read.
//!
//! Every write runs the controllers to rest before the lock is given back, so that what a client reads after its write
//! is the world's answer to it. No clock drives anything.

use super::{
    controllers,
    custom::Definition,
    kinds::{Kind, Served},
    value::{self, text},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// How many changes of one resource a watch may be behind.
pub(super) const HISTORY: usize = 1024;

/// Namespace (empty: cluster-wide) and name.
pub(super) type Key = (String, String);

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Created.
    Added,
    /// Changed.
    Modified,
    /// Gone.
    Deleted,
}

/// One change.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// The version it made.
    pub version: u64,
    /// What happened.
    pub op: Op,
    /// The object afterwards; when deleted, its last state with the deletion's version.
    pub object: Arc<Value>,
    /// The object before.
    pub before: Option<Arc<Value>>,
}

/// One resource's objects and their recent changes.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// By namespace and name.
    pub objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// Changes up to this version are forgotten.
    floor: u64,
    /// Tells of changes; None: there will be no more.
    changed: Option<watch::Sender<u64>>,
}

/// All tables, as [`Served`] counts them.
#[derive(Debug)]
pub(super) struct State {
    version: u64,
    served: Arc<Served>,
    tables: Vec<Table>,
    /// What the controllers have not looked at yet: table, key, last state.
    pub(super) pending: VecDeque<(usize, Arc<Value>)>,
    /// Next pod address and next service address.
    pub(super) addresses: (u32, u32),
}

/// The store: state behind a lock and, per resource, a signal that it changed.
#[derive(Debug)]
pub(super) struct Store {
    state: Mutex<State>,
}

/// The history asked for is not kept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooOld {
    /// What was asked.
    pub asked: u64,
    /// The oldest version that could be asked for.
    pub oldest: u64,
}

impl Default for Store {
    fn default() -> Self {
        let served = Served::default();
        let state = State {
            version: 1,
            tables: (0..served.tables()).map(|_| Table::new()).collect(),
            served: Arc::new(served),
            pending: VecDeque::new(),
            addresses: (0, 0),
        };
        Self { state: Mutex::new(state) }
    }
}

impl Store {
    /// Reads under the lock.
    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock())
    }

    /// Writes under the lock, lets the controllers settle, and wakes the watches.
    pub(super) fn write<T>(&self, write: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = write(&mut state);
        controllers::settle(&mut state);
        for table in &state.tables {
            let version = table.history.back().map_or(0, |c| c.version);
            if let Some(signal) = &table.changed {
                signal.send_if_modified(|seen| std::mem::replace(seen, version) != version);
            }
        }
        result
    }

    /// What is served now.
    pub(super) fn served(&self) -> Arc<Served> {
        self.lock().served.clone()
    }

    /// A signal that changes after each change of this resource, and ends with it.
    pub(super) fn subscribe(&self, kind: usize) -> Option<watch::Receiver<u64>> {
        self.lock().tables.get(kind)?.changed.as_ref().map(watch::Sender::subscribe)
    }

    /// Forgets all history, as compaction does: older versions are answered with 410 from now on.
    pub(super) fn compact(&self) {
        let mut state = self.lock();
        let version = state.version;
        for table in &mut state.tables {
            table.history.clear();
            table.floor = version;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside a write is a bug of the demo; what it left is still whole objects.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The version of the whole store.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What is served now.
    pub(super) fn served(&self) -> &Served {
        &self.served
    }

    /// The kind of a table, in the version in which it is stored.
    pub(super) fn kind(&self, at: usize) -> Option<&'static Kind> {
        self.served.kind(at)
    }

    /// Serves what a definition says, in the table of the one before it if there is any.
    pub(super) fn install(&mut self, at: Option<usize>, definition: &'static Definition) {
        Arc::make_mut(&mut self.served).install(at, definition);
        while self.tables.len() < self.served.tables() {
            self.tables.push(Table::new());
        }
    }

    /// Serves a table's kind no more. Watches get what happened so far, and end.
    pub(super) fn uninstall(&mut self, at: usize) {
        Arc::make_mut(&mut self.served).uninstall(at);
        if let Some(table) = self.tables.get_mut(at) {
            table.changed = None;
        }
    }

    /// The version of a resource's last change, unless it is forgotten.
    pub(super) fn latest(&self, kind: usize) -> Option<u64> {
        self.tables.get(kind).map(|t| t.history.back().map_or(t.floor, |c| c.version))
    }

    /// The objects of one resource, ordered by namespace and name.
    pub(super) fn objects(&self, kind: usize) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.tables.get(kind).into_iter().flat_map(|t| &t.objects)
    }

    /// The objects of one resource in a namespace ("": all) after `start` (exclusive).
    pub(super) fn range<'a>(
        &'a self,
        kind: usize,
        namespace: &'a str,
        start: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let from = match start {
            Some(key) => std::ops::Bound::Excluded(key.clone()),
            None => std::ops::Bound::Included((namespace.to_owned(), String::new())),
        };
        let table = self.tables.get(kind).into_iter();
        table
            .flat_map(move |t| t.objects.range((from.clone(), std::ops::Bound::Unbounded)))
            .take_while(move |((ns, _), _)| namespace.is_empty() || ns == namespace)
    }

    /// One object.
    pub(super) fn get(&self, kind: usize, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.tables.get(kind)?.objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Writes an object as it is, with a new version; what happened follows from what was there.
    pub(super) fn put(&mut self, kind: usize, mut object: Value) -> Arc<Value> {
        self.version += 1;
        let version = self.version;
        value::set(&mut object, "/metadata/resourceVersion", version.to_string());
        let key = key_of(&object);
        let object = Arc::new(object);
        let Some(table) = self.tables.get_mut(kind) else { return object };
        let before = table.objects.insert(key, object.clone());
        let op = if before.is_some() { Op::Modified } else { Op::Added };
        table.record(Change { version, op, object: object.clone(), before });
        self.pending.push_back((kind, object.clone()));
        object
    }

    /// Takes an object out.
    pub(super) fn remove(&mut self, kind: usize, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let table = self.tables.get_mut(kind)?;
        let before = table.objects.remove(&(namespace.to_owned(), name.to_owned()))?;
        self.version += 1;
        let mut last = Value::clone(&before);
        value::set(&mut last, "/metadata/resourceVersion", self.version.to_string());
        let object = Arc::new(last);
        table.record(Change {
            version: self.version,
            op: Op::Deleted,
            object: object.clone(),
            before: Some(before),
        });
        self.pending.push_back((kind, object.clone()));
        Some(object)
    }

    /// The changes of a resource after `version`.
    pub(super) fn since(&self, kind: usize, version: u64) -> Result<Vec<Change>, TooOld> {
        let Some(table) = self.tables.get(kind) else { return Ok(Vec::new()) };
        if version < table.floor {
            return Err(TooOld { asked: version, oldest: table.floor });
        }
        let start = table.history.partition_point(|c| c.version <= version);
        Ok(table.history.range(start..).cloned().collect())
    }
}

impl Table {
    fn new() -> Self {
        Self { changed: Some(watch::Sender::new(0)), ..Self::default() }
    }

    fn record(&mut self, change: Change) {
        if self.history.len() == HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.floor = oldest.version;
        }
        self.history.push_back(change);
    }
}

/// Namespace and name as the object itself says.
pub(super) fn key_of(object: &Value) -> Key {
    (text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::kinds;
    use serde_json::json;

    fn object(name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "a"}})
    }

    #[test]
    fn changes_are_numbered_and_kept() {
        let store = Store::default();
        let kind = kinds::find("", "v1", "configmaps").unwrap();
        let seen = store.subscribe(kind).unwrap();
        let first = store.write(|s| s.put(kind, object("x")));
        store.write(|s| s.put(kind, object("x")));
        store.write(|s| s.remove(kind, "a", "x"));
        assert!(seen.has_changed().unwrap());
        let version: u64 = text(&first, "/metadata/resourceVersion").parse().unwrap();
        let ops = |v| {
            let changes = store.read(|s| s.since(kind, v)).unwrap();
            changes.iter().map(|c| c.op).collect::<Vec<_>>()
        };
        assert_eq!(ops(0), [Op::Added, Op::Modified, Op::Deleted]);
        assert_eq!(ops(version), [Op::Modified, Op::Deleted]);
        assert_eq!(ops(version + 2), []);
    }

    #[test]
    fn old_history_is_gone() {
        let store = Store::default();
        let kind = kinds::find("", "v1", "configmaps").unwrap();
        for _ in 0..=HISTORY {
            store.write(|s| s.put(kind, object("x")));
        }
        assert!(store.read(|s| s.since(kind, 1)).is_err());
        let now = store.read(State::version);
        assert!(store.read(|s| s.since(kind, now)).unwrap().is_empty());
        store.compact();
        assert!(store.read(|s| s.since(kind, now - 1)).is_err());
        assert!(store.read(|s| s.since(kind, now)).is_ok());
    }
}
