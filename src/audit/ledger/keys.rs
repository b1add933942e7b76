//! Who signs the tree, and for which log.
//!
//! The key has the log's origin as its name. The origin is pinned by the first checkpoint, so by the log itself; the key by
//! the newest one: another key goes on with the log only when the configuration names the one before it
//! (`signing.previousKeys`), since whoever can write the folder could else have his own tree signed. `audit.pub` has the
//! public keys, the one that signs now first.

use super::{
    super::{Error, Signing, folder},
    disk::{Disk, put, read_if_there},
};
use crate::audit::tree::note::{BadKey, SigningKey, VerifierKey};
use std::{collections::BTreeSet, fs, io, path::Path};

/// The private key that is made when none is configured.
const OWN: &str = "signing.key";
/// Bytes of a private key's file, at most.
const LARGEST: u64 = 16 << 10;

/// Who signs.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) signing: SigningKey,
    /// All whose checkpoints are gone on from, that one first.
    pub(super) known: Vec<VerifierKey>,
}

impl Signing {
    /// What a log is called when nobody says: `gatelog/` and the name of this machine, as far as it fits into a key's name.
    pub fn default_origin() -> String {
        let name = ["/proc/sys/kernel/hostname", "/etc/hostname"]
            .into_iter()
            .find_map(|path| fs::read_to_string(path).ok().filter(|name| !name.trim().is_empty()));
        let name = name.unwrap_or_else(|| "localhost".to_owned());
        let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        format!("gatelog/{}", name.trim().chars().filter(fits).collect::<String>())
    }

    /// What is wrong with the keys, as key of the configuration and reason. Reads the private key.
    pub fn faults(&self) -> Vec<Error> {
        let mut faults = Vec::new();
        let origin = self.origin.as_deref();
        let is_name = |name| VerifierKey::new(name, [0; 32]).is_ok();
        if origin.is_some_and(|name| !is_name(name)) {
            let why = "expected a word without spaces, control characters and plus".to_owned();
            faults.push(Error::Config("signing.origin", why));
        }
        if let Some(path) = &self.key_file {
            faults.extend(configured(path, "key").err());
        }
        if let Some((origin, other)) = origin
            .and_then(|origin| Some((origin, self.previous_keys.iter().find(|key| key.name() != origin)?)))
        {
            let why = format!("expected keys called {origin}, found one called {}", other.name());
            faults.push(Error::Config("signing.previousKeys", why));
        }
        faults
    }
}

impl Keys {
    /// `found`: the origin of the log that is there. A key is made only for a log that is yet to begin, or whose
    /// earlier key is configured.
    pub(super) fn open(
        signing: &Signing,
        found: Option<&str>,
        disk: &mut dyn Disk,
        dir: &Path,
    ) -> Result<Self, Error> {
        let origin = match (&signing.origin, found) {
            (Some(wanted), Some(found)) if wanted != found => {
                let why = format!("the log in {} is {found:?}, and stays that", dir.display());
                return Err(Error::Config("signing.origin", why));
            }
            (_, Some(found)) => found.to_owned(),
            (Some(wanted), None) => wanted.clone(),
            (None, None) => Signing::default_origin(),
        };
        let may_make = found.is_none() || !signing.previous_keys.is_empty();
        let key = match &signing.key_file {
            Some(path) => configured(path, &origin)?,
            None => own(disk, &origin, may_make, dir)?,
        };
        let mut known = vec![key.verifier().clone()];
        for previous in &signing.previous_keys {
            if previous.name() != origin {
                let why = format!("expected keys called {origin}, found one called {}", previous.name());
                return Err(Error::Config("signing.previousKeys", why));
            }
            if !known.contains(previous) {
                known.push(previous.clone());
            }
        }
        Ok(Self { signing: key, known })
    }

    /// Writes `audit.pub`, unless it says the same.
    pub(super) fn publish(&self, disk: &mut dyn Disk) -> io::Result<()> {
        let text: String = self.known.iter().map(|key| format!("{key}\n")).collect();
        if read_if_there(disk, folder::PUBLIC_KEY)?.is_some_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        put(disk, &[(folder::PUBLIC_KEY.to_owned(), text.as_bytes())], &mut BTreeSet::new())?;
        disk.sync_folder("")
    }
}

/// The key of `signing.keyFile`.
fn configured(path: &Path, origin: &str) -> Result<SigningKey, Error> {
    let fault = |why: String| Error::Config("signing.keyFile", format!("{}: {why}", path.display()));
    let size = fs::metadata(path).map_err(|e| fault(format!("cannot be read: {e}")))?.len();
    if size > LARGEST {
        return Err(fault(format!("expected a private key, found {size} bytes")));
    }
    let pem = fs::read_to_string(path).map_err(|e| fault(format!("cannot be read: {e}")))?;
    SigningKey::from_pem(origin, &pem).map_err(|e| match e {
        BadKey::Name => Error::Config("signing.origin", e.to_string()),
        e => fault(e.to_string()),
    })
}

/// The key of the folder.
fn own(disk: &mut dyn Disk, origin: &str, may_make: bool, dir: &Path) -> Result<SigningKey, Error> {
    let fault = |why: String| Error::Tree(dir.to_owned(), format!("{OWN}: {why}"));
    let broken = |e: io::Error| fault(format!("cannot be read or written: {e}"));
    if let Some(pem) = read_if_there(disk, OWN).map_err(broken)? {
        let pem = String::from_utf8(pem).map_err(|_| fault("expected PEM".to_owned()))?;
        return SigningKey::from_pem(origin, &pem).map_err(|e| fault(e.to_string()));
    }
    if !may_make {
        let why = "is missing, and the log is signed: put it back, or name its public key in audit.signing.previousKeys";
        return Err(fault(why.to_owned()));
    }
    let made = SigningKey::generate(origin).and_then(|key| Ok((key.to_pem()?, key)));
    let (pem, key) = made.map_err(|e| fault(e.to_string()))?;
    put(disk, &[(OWN.to_owned(), pem.as_str().as_bytes())], &mut BTreeSet::new()).map_err(broken)?;
    disk.sync_folder("").map_err(broken)?;
    Ok(key)
}
