//! Tokens that were judged a moment ago: bounded, keyed by a keyed hash (no token is kept), one judgement at a time for
//! each token.
//!
//! Tokens that proved somebody and tokens that did not are kept apart, so that a flood of random ones drives out nobody
//! who is known. A judgement belongs to the caller who came first; when that one leaves, the next who waits judges anew.

use super::{Authenticated, Objection};
use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest, rand,
};
use quick_cache::sync;
use std::{
    future::Future,
    time::{Duration, Instant, SystemTime},
};

/// What became of a token; see the outcome algebra of [`super`].
pub(super) type Opinion = Result<Option<Authenticated>, Objection>;

/// A token under a random key of the process: neither can it be guessed from the hash, nor can hashes be made to collide.
pub(super) type Digest = [u8; 32];

/// Judgements and for how long they hold.
#[derive(Debug)]
pub(super) struct Cache {
    /// None: the system has no randomness, so nothing is kept.
    key: Option<LessSafeKey>,
    accepted: sync::Cache<Digest, Kept<Authenticated>>,
    rejected: sync::Cache<Digest, Kept<Result<(), Objection>>>,
    /// Holds who judges and who waits; the opinions themselves leave at once.
    judged_now: sync::Cache<Digest, Opinion>,
}

#[derive(Debug, Clone)]
struct Kept<T> {
    what: T,
    until: Instant,
}

/// Judgements under way are not counted by this; opinions pass through for a moment only.
const PASSING: usize = 256;

impl Cache {
    /// Of at most `capacity` tokens that proved somebody, and as many that did not.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            key: key(),
            accepted: sync::Cache::new(capacity),
            rejected: sync::Cache::new(capacity),
            judged_now: sync::Cache::new(PASSING),
        }
    }

    /// What is known of `token` at this moment, without asking anybody.
    pub(super) fn get(&self, token: &str) -> Option<Opinion> {
        self.known(&self.digest(token)?)
    }

    /// Whether `token` has proved somebody at the last look, however long ago. It may have to be judged again.
    pub(super) fn knew(&self, token: &str) -> bool {
        self.digest(token).is_some_and(|digest| self.accepted.peek(&digest).is_some())
    }

    /// What is known of `token`, or what `judge` says, which is kept for the time it names (zero: not at all, though everybody who
    /// waits for this very judgement gets it), and never longer than the identity lasts.
    pub(super) async fn get_or<F>(&self, token: &str, judge: F) -> Opinion
    where
        F: Future<Output = (Opinion, Duration)> + Send,
    {
        let Some(digest) = self.digest(token) else { return judge.await.0 };
        // A guard that is dropped, by a panic or because the caller left, makes the next one who waits the judge.
        let turn = match self.judged_now.get_value_or_guard_async(&digest).await {
            Ok(opinion) => return opinion,
            Err(turn) => turn,
        };
        // Another may have been judge between the caller's own look and this turn.
        let opinion = match self.known(&digest) {
            Some(known) => known,
            None => {
                let (opinion, time) = judge.await;
                if !matches!(opinion, Ok(Some(_))) {
                    self.accepted.remove(&digest);
                }
                self.keep(digest, &opinion, time);
                opinion
            }
        };
        // An error says that the turn was lost to an eviction; those who wait have their answer all the same.
        let _ = turn.insert(opinion.clone());
        self.judged_now.remove(&digest);
        opinion
    }

    /// The key of `token` in this cache; None: nothing is kept.
    ///
    /// GMAC, a fraction of an HMAC's time for a token of a kilobyte: who does not know the key finds no two tokens with one tag,
    /// however they are chosen. The nonce repeats because no tag ever leaves this function. SHA-256 makes what is kept one-way
    /// even for those who read the key out of memory as well.
    pub(super) fn digest(&self, token: &str) -> Option<Digest> {
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = self.key.as_ref()?.seal_in_place_separate_tag(nonce, Aad::from(token), &mut []).ok()?;
        digest::digest(&digest::SHA256, tag.as_ref()).as_ref().try_into().ok()
    }

    /// What is known at this moment.
    pub(super) fn known(&self, digest: &Digest) -> Option<Opinion> {
        self.known_at(digest, Instant::now(), SystemTime::now())
    }

    fn known_at(&self, digest: &Digest, now: Instant, wall: SystemTime) -> Option<Opinion> {
        if let Some(kept) = self.accepted.get(digest)
            && now < kept.until
            && kept.what.expires().is_none_or(|at| wall < at)
        {
            return Some(Ok(Some(kept.what)));
        }
        let kept = self.rejected.get(digest).filter(|kept| now < kept.until)?;
        Some(kept.what.map(|()| None))
    }

    /// Keeps `opinion` for `time`.
    pub(super) fn keep(&self, digest: Digest, opinion: &Opinion, time: Duration) {
        let now = Instant::now();
        let Some(until) = now.checked_add(time).filter(|until| *until > now) else { return };
        match opinion.clone() {
            Ok(Some(what)) => self.accepted.insert(digest, Kept { what, until }),
            Ok(None) => self.rejected.insert(digest, Kept { what: Ok(()), until }),
            Err(why) => self.rejected.insert(digest, Kept { what: Err(why), until }),
        }
    }
}

fn key() -> Option<LessSafeKey> {
    let mut key = [0; 16];
    rand::fill(&mut key).ok()?;
    UnboundKey::new(&AES_128_GCM, &key).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests;
