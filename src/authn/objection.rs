//! Why somebody objects to a credential.

use std::fmt;

/// Why an authenticator objects, for the log: without a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Objection {
    text: String,
    /// The credential could not be judged, which is no failing of its holder.
    unjudged: bool,
}

impl Objection {
    /// Nobody could judge: keys that have not been fetched, a reviewer who does not answer.
    pub(super) fn unjudged(text: impl Into<String>) -> Self {
        Self { text: text.into(), unjudged: true }
    }

    /// Whether the credential could not be judged.
    pub(super) fn is_unjudged(&self) -> bool {
        self.unjudged
    }

    /// With whoever objects in front.
    pub(super) fn by(self, whom: impl fmt::Display) -> Self {
        Self { text: format!("{whom}: {}", self.text), ..self }
    }

    /// Several in one: unjudged if one of them is, for that one might have accepted it.
    pub(super) fn all(several: &[Self]) -> Self {
        let texts: Vec<&str> = several.iter().map(|one| one.text.as_str()).collect();
        Self { text: texts.join("; "), unjudged: several.iter().any(|one| one.unjudged) }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Objection {
    fn from(text: String) -> Self {
        Self { text, unjudged: false }
    }
}

impl From<&str> for Objection {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}
