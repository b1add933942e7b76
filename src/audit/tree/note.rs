//! Signed notes (<https://c2sp.org/signed-note>): a text, an empty line, and a line for each signature.
//!
//! ```text
//! gatelog.example/prod/0
//! 70000
//! Xif96Py2I+PVGXAUc94gawM44IUMlQeOEgFVvPT1ufc=
//!
//! — gatelog.example/prod/0 rFPybyGcQjw+0czNjlMqdYDNVN/c+SZ52wAXns8yFlsZbBojO55dAC+Pu7GerM9ShJQRRuyUgThUTVLvWSZW5Q+dYg8=
//! ```
//!
//! The last word is base64 of the key's id, four bytes, and the signature. Only Ed25519 is signed and verified; signatures of
//! other kinds, and of keys that nobody named, are kept and mean nothing.
//!
//! A key has a name, and an id that is the beginning of SHA-256 over the name, a newline, the byte 1 and the public key. The
//! public key is written `name+id+key`: the id in hex, the byte 1 and the key in base64. The private key is PKCS#8 in PEM,
//! as `openssl genpkey -algorithm ed25519` writes it; its name is not part of it.

use super::Hash;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use std::{fmt, str, str::FromStr};

/// Bytes of a note, at most: sixteen signatures of the largest kind in use, and some.
pub const LARGEST: usize = 128 << 10;
/// Signatures of a note, at most.
pub const MOST_SIGNATURES: usize = 64;
/// The kind of key and signature.
const ALGORITHM: u8 = 1;
/// Bytes of a public key.
const PUBLIC: usize = 32;
const DASH: &str = "\u{2014} ";
const PEM: [&str; 2] = ["-----BEGIN PRIVATE KEY-----\n", "\n-----END PRIVATE KEY-----\n"];

/// A note whose signatures may or may not be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

/// One signature of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The name of the key.
    pub name: &'a str,
    /// The id of the key.
    pub id: [u8; 4],
    /// What the key made of the text.
    pub bytes: Vec<u8>,
}

/// A public key and its name. Shown, and read, as `name+id+key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: [u8; PUBLIC],
}

/// A private key and its name.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

/// A private key as text. Not shown by accident.
pub struct Pem(String);

/// A note that is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    /// Longer than [`LARGEST`].
    #[error("signed note of {0} bytes, expected at most {LARGEST}")]
    Large(usize),
    /// Not UTF-8, or with control characters.
    #[error("signed note: expected UTF-8 without control characters")]
    Characters,
    /// Not a text, an empty line and signatures.
    #[error("signed note: expected a text, an empty line and lines of signatures")]
    Shape,
    /// One line of the signatures, from 1.
    #[error("signed note: signature {0}: expected an em dash, the name of a key and base64")]
    Signature(usize),
    /// More than [`MOST_SIGNATURES`].
    #[error("signed note: more than {MOST_SIGNATURES} signatures")]
    Signatures,
    /// A known key did not make the signature that names it.
    #[error("signed note: the signature of {0} does not verify")]
    Forged(String),
    /// No known key signed; those that did, as name and id.
    #[error("signed note: signed by none of the keys that are given, only by {}", .0.join(", "))]
    Unknown(Vec<String>),
}

/// A text or a file that holds no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The name.
    #[error("key name: expected a word without spaces, control characters and plus")]
    Name,
    /// A public key as text.
    #[error("public key: expected NAME+ID+KEY, with an id of eight hex digits and a key in base64")]
    Shape,
    /// Not Ed25519.
    #[error("public key: expected an Ed25519 key of {PUBLIC} bytes after the byte {ALGORITHM}")]
    Algorithm,
    /// The id is not that of name and key.
    #[error("public key: the id is not that of the name and the key")]
    Id,
    /// A private key as text.
    #[error("private key: expected one PEM block \"BEGIN PRIVATE KEY\" and nothing else")]
    Pem,
    /// A private key of another kind, or none.
    #[error("private key: expected Ed25519 in PKCS#8")]
    Private,
    /// The library could not make one.
    #[error("private key: cannot be made")]
    Unmade,
}

// === impl Note ===

impl<'a> Note<'a> {
    /// Takes a note apart.
    pub fn parse(note: &'a [u8]) -> Result<Self, BadNote> {
        if note.len() > LARGEST {
            return Err(BadNote::Large(note.len()));
        }
        let note = str::from_utf8(note).map_err(|_| BadNote::Characters)?;
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(BadNote::Characters);
        }
        let gap = note.rfind("\n\n").ok_or(BadNote::Shape)?;
        let (text, lines) = (&note[..=gap], &note[gap + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(BadNote::Shape)?;
        let signatures = lines
            .split('\n')
            .enumerate()
            .map(|(i, line)| match i {
                MOST_SIGNATURES.. => Err(BadNote::Signatures),
                _ => Signature::parse(line).ok_or(BadNote::Signature(i + 1)),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { text, signatures })
    }

    /// The text without looking at the signatures: not to be believed.
    pub fn unverified(&self) -> &'a str {
        self.text
    }

    /// All signatures, in their order.
    pub fn signatures(&self) -> &[Signature<'a>] {
        &self.signatures
    }

    /// The text, when at least one of `keys` signed it, and no signature that names one of them is wrong.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<&'a str, BadNote> {
        let mut known = false;
        for signature in &self.signatures {
            for key in keys.iter().filter(|key| key.name == signature.name && key.id == signature.id) {
                if !key.verifies(self.text.as_bytes(), &signature.bytes) {
                    return Err(BadNote::Forged(key.name.clone()));
                }
                known = true;
            }
        }
        if !known {
            let signer = |s: &Signature<'_>| format!("{}+{:08x}", s.name, u32::from_be_bytes(s.id));
            return Err(BadNote::Unknown(self.signatures.iter().map(signer).collect()));
        }
        Ok(self.text)
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = BASE64.decode(bytes).ok()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        (is_name(name) && !bytes.is_empty()).then(|| Self { name, id: *id, bytes: bytes.to_vec() })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

// === impl VerifierKey ===

impl VerifierKey {
    /// A key by its name and its 32 bytes.
    pub fn new(name: &str, public: [u8; PUBLIC]) -> Result<Self, BadKey> {
        if !is_name(name) {
            return Err(BadKey::Name);
        }
        let hash = Hash::of(&[name.as_bytes(), &[b'\n', ALGORITHM], &public].concat()).0;
        Ok(Self { name: name.to_owned(), id: [hash[0], hash[1], hash[2], hash[3]], public })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The key itself.
    pub fn public(&self) -> &[u8; PUBLIC] {
        &self.public
    }

    fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public).verify(text, signature).is_ok()
    }
}

impl FromStr for VerifierKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        // The base64 may hold a plus, the name may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BadKey::Shape);
        };
        let key = BASE64.decode(key).map_err(|_| BadKey::Shape)?;
        let (ALGORITHM, public) = key.split_first().map(|(a, k)| (*a, k)).ok_or(BadKey::Shape)? else {
            return Err(BadKey::Algorithm);
        };
        let key = Self::new(name, public.try_into().map_err(|_| BadKey::Algorithm)?)?;
        if hex(key.id) != id {
            return Err(BadKey::Id);
        }
        Ok(key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode([&[ALGORITHM], &self.public[..]].concat());
        write!(f, "{}+{}+{key}", self.name, hex(self.id))
    }
}

fn hex(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

// === impl SigningKey ===

impl SigningKey {
    /// A new key.
    pub fn generate(name: &str) -> Result<Self, BadKey> {
        Self::new(name, Ed25519KeyPair::generate().map_err(|_| BadKey::Unmade)?)
    }

    /// Reads [`SigningKey::to_pem`], or what `openssl genpkey -algorithm ed25519` writes.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self, BadKey> {
        let [begin, end] = PEM.map(str::trim);
        let base64 = pem.trim().strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        let mut base64 = base64.ok_or(BadKey::Pem)?.to_owned();
        base64.retain(|c| !c.is_ascii_whitespace());
        let der = BASE64.decode(base64).map_err(|_| BadKey::Pem)?;
        Self::new(name, Ed25519KeyPair::from_pkcs8(&der).map_err(|_| BadKey::Private)?)
    }

    /// The private key as text, for a file that only the gate may read.
    pub fn to_pem(&self) -> Result<Pem, BadKey> {
        let der = self.pair.to_pkcs8v1().map_err(|_| BadKey::Unmade)?;
        let [begin, end] = PEM;
        Ok(Pem([begin, &BASE64.encode(der.as_ref()), end].concat()))
    }

    fn new(name: &str, pair: Ed25519KeyPair) -> Result<Self, BadKey> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| BadKey::Private)?;
        Ok(Self { verifier: VerifierKey::new(name, public)?, pair })
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Makes a note of a text: it must end with a newline and hold no control characters besides.
    pub fn sign(&self, text: &str) -> Result<String, BadNote> {
        if !text.ends_with('\n') {
            return Err(BadNote::Shape);
        }
        let signature =
            self.pair.try_sign(text.as_bytes()).map_err(|_| BadNote::Forged(self.verifier.name.clone()))?;
        let signature = BASE64.encode([&self.verifier.id, signature.as_ref()].concat());
        let note = format!("{text}\n{DASH}{} {signature}\n", self.verifier.name);
        Note::parse(note.as_bytes())?;
        Ok(note)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.verifier.to_string()).finish()
    }
}

impl Pem {
    /// The text, newline included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem")
    }
}

#[cfg(test)]
mod tests;
