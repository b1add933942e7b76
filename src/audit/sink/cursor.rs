//! How far each sink has come: `sinks/<name>` in the journal's folder, one line, the segment's name and a byte of its text.
//!
//! A cursor is written after its receiver has taken what is before it, so that a crash leads to a delivery more and never to one
//! less. It is written as a new file that takes the old one's place; on a disk that has no room for one, into the old one.

use super::Config;
use crate::audit::{
    folder::{self, Segment},
    ledger::Position,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A place in the journal that names its segment, so that another journal's segment of that number is not taken for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// See [`Segment::stem`].
    pub(super) stem: String,
    /// Number of the segment, offset in its text.
    pub(super) at: Position,
}

/// The cursors of all sinks that are configured. Those of others, of which there may be files, hold nothing back.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    name: String,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stored: Option<Cursor>,
    /// What is wrong with the file that was found.
    problem: Option<String>,
}

/// Longer than any cursor.
const LONGEST: u64 = 1024;

impl Cursor {
    /// The beginning of `segment`.
    pub(super) fn begin(segment: &Segment) -> Self {
        Self { stem: segment.stem.clone(), at: Position { segment: segment.number, offset: 0 } }
    }

    /// Of the same length for every offset: see [`overwrite`].
    fn text(&self) -> String {
        format!("{} {:020}\n", self.stem, self.at.offset)
    }

    fn parse(text: &str) -> Option<Self> {
        let (stem, offset) = text.strip_suffix('\n')?.split_once(' ')?;
        let segment = Segment::of(Path::new(""), &format!("{stem}.jsonl"))?;
        let digits = offset.len() == 20 && offset.bytes().all(|b| b.is_ascii_digit());
        let offset = digits.then(|| offset.parse().ok()).flatten()?;
        Some(Self { stem: segment.stem, at: Position { segment: segment.number, offset } })
    }
}

impl Cursors {
    /// Reads the cursors of these sinks. One that cannot be read is none, and its sink begins anew.
    pub(crate) fn open(dir: &Path, sinks: &[Config]) -> Arc<Self> {
        let slot = |sink: &Config| {
            let path = dir.join(folder::SINKS).join(&sink.name);
            let state = match read(&path) {
                Ok(stored) => State { stored, problem: None },
                Err(problem) => State { stored: None, problem: Some(problem) },
            };
            Slot { name: sink.name.clone(), path, state: Mutex::new(state) }
        };
        Arc::new(Self(sinks.iter().map(slot).collect()))
    }

    /// What every configured sink has taken for good; None when there is none. A segment is taken when this is in a later one: a
    /// sink moves on to the next as soon as there is one. Without a cursor a sink has taken nothing.
    pub(crate) fn least(&self) -> Option<Position> {
        self.0
            .iter()
            .map(|slot| slot.state().stored.as_ref().map(|cursor| cursor.at).unwrap_or_default())
            .min()
    }

    /// A sink's cursor, or what is wrong with the one that was found.
    pub(super) fn get(&self, name: &str) -> Result<Option<Cursor>, String> {
        let Some(slot) = self.slot(name) else { return Ok(None) };
        let state = slot.state();
        state.problem.clone().map_or_else(|| Ok(state.stored.clone()), Err)
    }

    /// Keeps a sink's cursor. Blocks.
    pub(super) fn store(&self, name: &str, cursor: &Cursor) -> io::Result<()> {
        let Some(slot) = self.slot(name) else { return Ok(()) };
        if slot.state().stored.as_ref() == Some(cursor) {
            return Ok(());
        }
        let text = cursor.text();
        replace(&slot.path, &text).or_else(|e| overwrite(&slot.path, &text).map_err(|_| e))?;
        *slot.state() = State { stored: Some(cursor.clone()), problem: None };
        Ok(())
    }

    fn slot(&self, name: &str) -> Option<&Slot> {
        self.0.iter().find(|slot| slot.name == name)
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<Option<Cursor>, String> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    }
    let expected = || format!("{}: expected a segment's name and an offset", path.display());
    Cursor::parse(&text).map(Some).ok_or_else(expected)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // No sink's name has a dot in it.
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// Where there is no room for a second file. Within one segment all cursors are of one length, so this needs no room; should a
/// crash leave it half done, the sink begins anew.
fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{sink::Receiver, tests::Folder};

    const STEM: &str = "audit-20260102T030405.678Z-00000007";

    fn cursor(offset: u64) -> Cursor {
        Cursor { stem: STEM.to_owned(), at: Position { segment: 7, offset } }
    }

    fn sinks(names: &[&str]) -> Vec<Config> {
        names.iter().map(|name| Config { name: (*name).to_owned(), receiver: Receiver::Stdout }).collect()
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        for offset in [0, 1, 12_345, u64::MAX] {
            assert_eq!(Cursor::parse(&cursor(offset).text()), Some(cursor(offset)));
            assert_eq!(cursor(offset).text().len(), cursor(0).text().len());
        }
        let whole = cursor(12).text();
        for bad in [
            "",
            "\n",
            whole.trim_end(),
            &whole[1..],
            &format!("{whole}\n"),
            &whole.replace('7', "x"),
            &whole.replace("012\n", "-12\n"),
            &whole.replace("012\n", "12\n"),
            &whole.replace("00000000000000000012", "99999999999999999999"),
            &format!("{STEM} 12\n"),
            &format!("{STEM}.jsonl 00000000000000000012\n"),
        ] {
            assert_eq!(Cursor::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_least_is_what_all_have_taken() {
        let folder = Folder::new();
        assert_eq!(Cursors::open(&folder.0, &[]).least(), None);
        let cursors = Cursors::open(&folder.0, &sinks(&["a", "b"]));
        assert_eq!(cursors.least(), Some(Position::default()));
        cursors.store("a", &cursor(5)).unwrap();
        assert_eq!(cursors.least(), Some(Position::default()), "b has taken nothing");
        cursors.store("b", &cursor(3)).unwrap();
        assert_eq!(cursors.least(), Some(cursor(3).at));
        cursors.store("b", &cursor(9)).unwrap();
        // Whoever comes next finds them; one that is new has taken nothing, one that is configured no more does not count.
        assert_eq!(Cursors::open(&folder.0, &sinks(&["a", "b"])).least(), Some(cursor(5).at));
        assert_eq!(Cursors::open(&folder.0, &sinks(&["b"])).least(), Some(cursor(9).at));
        assert_eq!(Cursors::open(&folder.0, &sinks(&["b", "c"])).least(), Some(Position::default()));
        assert!(!folder.0.join("sinks/a.new").exists());
    }

    #[test]
    fn what_is_no_cursor_is_told() {
        let folder = Folder::new();
        fs::create_dir(folder.0.join("sinks")).unwrap();
        fs::write(folder.0.join("sinks/a"), "17\n").unwrap();
        let cursors = Cursors::open(&folder.0, &sinks(&["a"]));
        assert_eq!(cursors.least(), Some(Position::default()));
        assert!(cursors.get("a").unwrap_err().contains("expected a segment's name"));
        cursors.store("a", &cursor(1)).unwrap();
        assert_eq!(cursors.get("a"), Ok(Some(cursor(1))));
    }

    #[test]
    fn without_room_for_a_new_file_the_old_one_is_written_to() {
        let folder = Folder::new();
        let cursors = Cursors::open(&folder.0, &sinks(&["a"]));
        cursors.store("a", &cursor(1)).unwrap();
        // Nothing can be created there any more, whoever asks.
        fs::create_dir(folder.0.join("sinks/a.new")).unwrap();
        cursors.store("a", &cursor(2)).unwrap();
        assert_eq!(Cursors::open(&folder.0, &sinks(&["a"])).get("a"), Ok(Some(cursor(2))));
    }
}
