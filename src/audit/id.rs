//! Audit ids: random UUIDs (RFC 9562, version 4), and the salt of lines.

use super::tree::leaf::AuditId;
use std::cell::RefCell;

/// Ids whose randomness is drawn at once; a call to the generator costs more than an id.
const BATCH: usize = 128;

thread_local! {
    static RANDOM: RefCell<(usize, [u8; BATCH * 16])> = const { RefCell::new((BATCH, [0; BATCH * 16])) };
}

/// A new id.
pub(super) fn new() -> AuditId {
    let mut bytes = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    AuditId(bytes)
}

/// What makes one line unlike every other, whatever it says: 32 hex digits.
pub(super) fn salt() -> String {
    hex(&random(), &[])
}

fn random() -> [u8; 16] {
    RANDOM.with_borrow_mut(|(used, random)| {
        if *used == BATCH {
            // It fails only where the operating system has no randomness at all. An id must be unique, not secret.
            if aws_lc_rs::rand::fill(random).is_err() {
                fill_without_generator(random);
            }
            *used = 0;
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&random[*used * 16..][..16]);
        *used += 1;
        bytes
    })
}

/// The usual form of 36 characters.
pub(super) fn text(id: AuditId) -> String {
    hex(&id.0, &[4, 6, 8, 10])
}

fn hex(bytes: &[u8], hyphens: &[usize]) -> String {
    let mut out = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if hyphens.contains(&i) {
            out.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    out
}

fn fill_without_generator(random: &mut [u8]) {
    use std::hash::{BuildHasher, RandomState};
    for (i, chunk) in random.chunks_mut(8).enumerate() {
        let now = std::time::SystemTime::now();
        let hash = RandomState::new().hash_one((i, now, std::process::id()));
        chunk.copy_from_slice(&hash.to_ne_bytes()[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_set() {
        let id = text(new());
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_eq!(id.parse(), Ok(AuditId(id.parse::<AuditId>().unwrap().0)));
        assert_eq!(text(AuditId([0xff; 16])), "ffffffff-ffff-ffff-ffff-ffffffffffff");
    }

    #[test]
    fn no_two_are_the_same() {
        let ids: std::collections::HashSet<_> = (0..BATCH * 3 + 1).map(|_| new()).collect();
        assert_eq!(ids.len(), BATCH * 3 + 1);
        let mut random = [0; 32];
        fill_without_generator(&mut random);
        assert_ne!(random[..16], random[16..]);
    }
}
