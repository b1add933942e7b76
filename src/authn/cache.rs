//! Tokens that were judged a moment ago: bounded, keyed by a keyed hash (no token is kept), one judgement at a time for
//! each token.

use super::Authenticated;
use std::{future::Future, time::Duration};

/// What became of a token; see the outcome algebra of [`super`].
pub(super) type Opinion = Result<Option<Authenticated>, String>;

/// Judgements and for how long they hold.
#[derive(Debug)]
pub(super) struct Cache {}

impl Cache {
    /// Of at most `capacity` tokens.
    pub(super) fn new(capacity: usize) -> Self {
        let _ = capacity;
        Self {}
    }

    /// What is known of `token` at this moment, without asking anybody.
    pub(super) fn get(&self, token: &str) -> Option<Opinion> {
        let _ = token;
        todo!()
    }

    /// What is known of `token`, or what `judge` says, which is kept for the time it names (zero: not at all, though everybody who
    /// waits for this very judgement gets it), and never longer than the identity lasts.
    pub(super) async fn get_or<F>(&self, token: &str, judge: F) -> Opinion
    where
        F: Future<Output = (Opinion, Duration)> + Send,
    {
        let _ = (token, judge);
        todo!()
    }
}
