//! Checkpoints (<https://c2sp.org/tlog-checkpoint>): the head of a tree, as the text of a signed note.
//!
//! The lines are the origin (which log it is; also the name of its key), the size in decimal, the root in base64, and what
//! the log adds. gatelog adds one line, `time` and the seconds since 1970, so that a checkpoint over a tree that has not
//! grown still says something: up to then, nothing happened.

use super::{
    Hash, Head,
    note::{BadNote, Note, SigningKey, VerifierKey},
};
use std::fmt;

/// The head of a log. Shown as the text that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log it is.
    pub origin: String,
    /// Its size and root.
    pub head: Head,
    /// Further lines; none is empty.
    pub extensions: Vec<String>,
}

/// A note that is no checkpoint to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] BadNote),
    /// Its text.
    #[error("checkpoint: expected {0}")]
    Text(&'static str),
    /// Of another log.
    #[error("checkpoint of {found:?}, expected {expected:?}")]
    Origin {
        /// Which log it is of.
        found: String,
        /// Which log was asked for.
        expected: String,
    },
}

impl Checkpoint {
    /// The checkpoint that a gate makes: `time` is in seconds since 1970.
    pub fn new(origin: &str, head: Head, time: u64) -> Self {
        Self { origin: origin.to_owned(), head, extensions: vec![format!("time {time}")] }
    }

    /// When it was made, in seconds since 1970; None when it does not say so.
    pub fn time(&self) -> Option<u64> {
        self.extensions.iter().find_map(|line| line.strip_prefix("time ")).and_then(decimal)
    }

    /// Reads the text of a note.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lines = text.strip_suffix('\n').ok_or(Error::Text("a newline at the end"))?;
        let mut lines = lines.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(Error::Text("an origin"))?;
        let size = lines.next().and_then(decimal).ok_or(Error::Text("a size in decimal"))?;
        let root = lines.next().and_then(Hash::parse).ok_or(Error::Text("a root hash in base64"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(Error::Text("no empty lines"));
        }
        Ok(Self { origin: origin.to_owned(), head: Head { size, root }, extensions })
    }

    /// Reads a note that one of `keys` signed for the log called `origin`.
    pub fn open(note: &[u8], origin: &str, keys: &[VerifierKey]) -> Result<Self, Error> {
        let this = Self::parse(Note::parse(note)?.verify(keys)?)?;
        if this.origin != origin {
            return Err(Error::Origin { found: this.origin, expected: origin.to_owned() });
        }
        Ok(this)
    }

    /// The note.
    pub fn sign(&self, key: &SigningKey) -> Result<String, Error> {
        let text = self.to_string();
        // An origin or a line with a newline in it would be read as something else.
        if Self::parse(&text).as_ref() != Ok(self) {
            return Err(Error::Text("an origin and lines without newlines, none of them empty"));
        }
        Ok(key.sign(&text)?)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.head.size, self.head.root)?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A number as it is written: no sign, no leading zeroes.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
