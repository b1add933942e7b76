//! A disk in memory that fails, stops, and loses what was not synced.

use super::super::disk::{Disk, parent};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
    time::SystemTime,
};

/// What a reboot loses of what was not synced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loss {
    /// Only the process ended.
    Nothing,
    /// All of it.
    Everything,
    /// What is not synced in some of the folders.
    Some(u64),
}

#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default, Clone)]
struct State {
    /// None is a folder.
    now: BTreeMap<String, Option<File>>,
    synced: BTreeMap<String, Option<File>>,
    /// Steps until it stops for good.
    left: Option<u64>,
    dead: bool,
    /// One step of so many fails.
    flaky: u64,
    dice: u64,
}

type File = (Arc<Vec<u8>>, SystemTime);

impl Memory {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { dice: 0x2545_f491_4f6c_dd1d, ..State::default() })))
    }

    /// Stops after so many steps; before, one in `flaky` fails.
    pub(super) fn fail(&self, left: Option<u64>, flaky: u64) {
        let mut state = self.0.lock().unwrap();
        (state.left, state.flaky) = (left, flaky);
    }

    /// No call comes back before what is returned is dropped.
    pub(super) fn hang(&self) -> impl Drop {
        self.0.lock().unwrap()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.0.lock().unwrap().dead
    }

    /// What another process finds.
    pub(super) fn rebooted(&self, loss: Loss) -> Self {
        let State { now, synced, dice, .. } = self.0.lock().unwrap().clone();
        let folders: BTreeSet<String> =
            now.keys().chain(synced.keys()).map(|p| parent(p).to_owned()).collect();
        let keeps = |folder: &str| match loss {
            Loss::Nothing => true,
            Loss::Everything => false,
            Loss::Some(seed) => {
                let at = folders.iter().position(|f| f == folder).unwrap_or(0) as u64;
                (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (at % 64)) & 1 == 1
            }
        };
        let mut found = BTreeMap::new();
        for (path, node) in now.iter().filter(|(path, _)| keeps(parent(path))) {
            found.insert(path.clone(), node.clone());
        }
        for (path, node) in synced.iter().filter(|(path, _)| !keeps(parent(path))) {
            found.insert(path.clone(), node.clone());
        }
        // What is in a folder that is lost is lost.
        loop {
            let orphans: Vec<String> = found
                .keys()
                .filter(|p| !parent(p).is_empty() && !found.contains_key(parent(p)))
                .cloned()
                .collect();
            if orphans.is_empty() {
                break;
            }
            orphans.iter().for_each(|path| drop(found.remove(path)));
        }
        let state = State { synced: found.clone(), now: found, dice, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// A file that somebody else made, and synced.
    pub(super) fn plant(&self, path: &str) {
        self.plant_with(path, b"x".to_vec(), SystemTime::UNIX_EPOCH);
    }

    pub(super) fn put(&self, path: &str, text: &str) {
        self.plant_with(path, text.into(), SystemTime::UNIX_EPOCH);
    }

    pub(super) fn plant_with(&self, path: &str, bytes: Vec<u8>, modified: SystemTime) {
        let mut state = self.0.lock().unwrap();
        let file = Some((Arc::new(bytes), modified));
        state.now.insert(path.to_owned(), file.clone());
        state.synced.insert(path.to_owned(), file);
    }

    pub(super) fn forget(&self, path: &str) {
        let mut state = self.0.lock().unwrap();
        assert!(state.now.remove(path).is_some(), "{path}: {:?}", state.now.keys());
        state.synced.remove(path);
    }

    pub(super) fn flip(&self, path: &str, byte: usize) {
        let mut bytes = self.read(path).unwrap();
        bytes[byte] ^= 1;
        self.plant_with(path, bytes, SystemTime::UNIX_EPOCH);
    }

    pub(super) fn text(&self, path: &str) -> String {
        String::from_utf8(self.read(path).unwrap()).unwrap()
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.0.lock().unwrap().now.contains_key(path)
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().now.keys().cloned().collect()
    }

    fn step(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let mut state = self.0.lock().unwrap();
        if state.left == Some(0) || state.dead {
            state.dead = true;
            return Err(io::Error::other("no power"));
        }
        state.left = state.left.map(|left| left - 1);
        if state.flaky > 0 {
            state.dice ^= state.dice << 13;
            state.dice ^= state.dice >> 7;
            state.dice ^= state.dice << 17;
            if (state.dice >> 11).is_multiple_of(state.flaky) {
                return Err(io::Error::other("a bad moment"));
            }
        }
        Ok(state)
    }
}

impl Disk for Memory {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let state = self.0.lock().unwrap();
        let file = state.now.get(path).cloned().flatten().ok_or(io::ErrorKind::NotFound)?;
        Ok(file.0.to_vec())
    }

    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.0.lock().unwrap();
        let inside = state.now.keys().filter(|path| parent(path) == folder);
        Ok(inside.map(|path| path.rsplit('/').next().unwrap().to_owned()).collect())
    }

    fn look(&self, path: &str) -> io::Result<(u64, SystemTime)> {
        let state = self.0.lock().unwrap();
        let (bytes, modified) = state.now.get(path).cloned().flatten().ok_or(io::ErrorKind::NotFound)?;
        Ok((bytes.len() as u64, modified))
    }

    fn make_folder(&mut self, folder: &str) -> io::Result<()> {
        let mut state = self.step()?;
        assert!(parent(folder).is_empty() || state.now.contains_key(parent(folder)), "{folder}");
        state.now.entry(folder.to_owned()).or_insert(None);
        Ok(())
    }

    fn write(&mut self, files: &[(String, &[u8])]) -> io::Result<()> {
        for (path, bytes) in files {
            let done = self.step().map(drop);
            let mut state = self.0.lock().unwrap();
            assert!(parent(path).is_empty() || state.now.contains_key(parent(path)), "{path}");
            // One that fails leaves some of it.
            let bytes = if done.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
            if state.left != Some(0) || done.is_ok() {
                let file = Some((Arc::new(bytes.to_vec()), SystemTime::UNIX_EPOCH));
                state.now.insert(path.clone(), file.clone());
                // A name that is durable leads to what is in the file by now.
                if let Some(synced) = state.synced.get_mut(path) {
                    *synced = file;
                }
            }
            drop(state);
            done?;
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.step()?;
        let file = state.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.now.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        let mut state = self.step()?;
        let inside = |path: &String| parent(path) == folder;
        state.synced.retain(|path, _| !inside(path));
        let now: Vec<_> =
            state.now.iter().filter(|(p, _)| inside(p)).map(|(p, n)| (p.clone(), n.clone())).collect();
        state.synced.extend(now);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.step()?.now.remove(path);
        Ok(())
    }

    fn remove_folder(&mut self, folder: &str) -> io::Result<()> {
        let mut state = self.step()?;
        if !state.now.keys().any(|path| parent(path) == folder) {
            state.now.remove(folder);
        }
        Ok(())
    }
}
