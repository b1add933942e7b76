//! What a value is to us, told by its place: the table of where Kubernetes keeps what is secret.
//!
//! Where something secret belongs, the table says what may stay, not what must go: a member that is not known, a string where
//! a map is expected, a key in odd case is marked.

use super::rule::{Builtin, Builtins};
use crate::codec::tape::{Kind, Tape};

/// What an object is held to be, by the request's resource or by its own kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    Secret,
    TokenRequest,
    TokenReview,
}

impl Mode {
    /// The rule that makes it so.
    pub(super) fn rule(self) -> Builtin {
        match self {
            Self::Plain | Self::Secret => Builtin::SecretData,
            Self::TokenRequest => Builtin::TokenRequest,
            Self::TokenReview => Builtin::TokenReview,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing is known of it: only what can be told by name and looks is looked for.
    Any,
    /// A whole API object, or what may be a piece of one in a patch.
    Object(Mode),
    /// A list's items.
    Items(Mode),
    /// A Table's rows, one of them, and its cells.
    Rows(Mode),
    Row(Mode),
    Cells,
    Columns,
    /// One word or number.
    Scalar(Mode),
    /// Names of fields or keys.
    Words,
    /// `$patch`: merge, replace or delete.
    Directive,
    /// Of a Secret.
    Metadata,
    Owners,
    Owner,
    Labels,
    Annotations,
    /// Which an applier wrote, or anybody.
    Annotation {
        applied: bool,
    },
    Managed,
    ManagedEntry,
    /// A set of fields; below `f:metadata`, which holds no values that matter.
    Fields {
        metadata: bool,
    },
    /// `data` and `stringData`.
    Values {
        base64: bool,
    },
    /// DeleteOptions for Secrets.
    Options,
    /// A Status about something secret.
    Status,
    Details,
    Causes,
    Cause,
    TokenSpec,
    TokenStatus,
    ReviewSpec,
    /// A JSON patch.
    Ops(Mode),
    /// Members of `auths`, and of one of them.
    Auths,
    Auth,
    /// `users` of a kubeconfig, and one of them.
    Users,
    User,
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is looked at as this.
    Go(Place),
    Mark(Builtin),
    /// The mark is of what it holds in base64.
    MarkBase64(Builtin),
}

/// What a value may be at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Free,
    Map(Builtin),
    List(Builtin),
    Scalar(Builtin),
}

impl Place {
    /// What is expected here; anything else goes, by that rule.
    pub(super) fn form(self) -> Form {
        use Builtin::SecretData;
        match self {
            Self::Any
            | Self::Annotation { .. }
            | Self::Object(Mode::Plain)
            | Self::Items(Mode::Plain)
            | Self::Rows(Mode::Plain)
            | Self::Row(Mode::Plain)
            | Self::Scalar(Mode::Plain)
            | Self::Ops(Mode::Plain) => Form::Free,
            Self::Object(mode) | Self::Row(mode) => Form::Map(mode.rule()),
            Self::Items(mode) | Self::Rows(mode) | Self::Ops(mode) => Form::List(mode.rule()),
            Self::Scalar(mode) => Form::Scalar(mode.rule()),
            Self::Directive => Form::Scalar(SecretData),
            Self::Owners | Self::Columns | Self::Words | Self::Cells | Self::Managed | Self::Causes => {
                Form::List(SecretData)
            }
            Self::Metadata
            | Self::Owner
            | Self::Labels
            | Self::Annotations
            | Self::ManagedEntry
            | Self::Fields { .. }
            | Self::Values { .. }
            | Self::Options
            | Self::Status
            | Self::Details
            | Self::Cause => Form::Map(SecretData),
            Self::TokenSpec | Self::TokenStatus => Form::Map(Builtin::TokenRequest),
            Self::ReviewSpec => Form::Map(Builtin::TokenReview),
            Self::Auths | Self::Auth => Form::Map(Builtin::DockerConfig),
            Self::Users => Form::List(Builtin::Kubeconfig),
            Self::User => Form::Map(Builtin::Kubeconfig),
        }
    }

    /// What an array's element is.
    pub(super) fn element(self) -> Fate {
        Fate::Go(match self {
            Self::Items(mode) => Self::Object(mode),
            Self::Rows(mode) => Self::Row(mode),
            Self::Owners => Self::Owner,
            Self::Managed => Self::ManagedEntry,
            Self::Causes => Self::Cause,
            Self::Users => Self::User,
            Self::Words => Self::Scalar(Mode::Secret),
            Self::Cells => return Fate::Mark(Builtin::SecretData),
            _ => Self::Any,
        })
    }

    /// What the member `key` is. `value`: where it stands, if it does.
    pub(super) fn member(self, key: &str, traits: Traits, value: Option<Kind>, on: Builtins) -> Fate {
        use Builtin::{DockerConfig, Kubeconfig, SecretData, TokenRequest, TokenReview};
        let word = Word::fold(key);
        let word = word.as_str();
        let secret = |place: Option<Self>| place.map_or(Fate::Mark(SecretData), Fate::Go);
        match self {
            Self::Object(Mode::Secret) => secret(match word {
                "kind" | "apiversion" | "type" => Some(Self::Scalar(Mode::Secret)),
                "immutable" if value.is_none_or(|kind| kind == Kind::Bool) => {
                    Some(Self::Scalar(Mode::Secret))
                }
                "metadata" => Some(Self::Metadata),
                "data" => Some(Self::Values { base64: true }),
                "stringdata" => Some(Self::Values { base64: false }),
                "items" => Some(Self::Items(Mode::Secret)),
                "rows" if traits.is(Traits::TABLE) => Some(Self::Rows(Mode::Secret)),
                "columndefinitions" if traits.is(Traits::TABLE) => Some(Self::Columns),
                "object" if traits.is(Traits::TYPE) => Some(Self::Object(Mode::Secret)),
                _ => directive(key, value),
            }),
            Self::Object(mode @ (Mode::TokenRequest | Mode::TokenReview)) => match word {
                "kind" | "apiversion" => Fate::Go(Self::Scalar(mode)),
                "metadata" => Fate::Go(Self::Any),
                "spec" if mode == Mode::TokenRequest => Fate::Go(Self::TokenSpec),
                "spec" => Fate::Go(Self::ReviewSpec),
                "status" if mode == Mode::TokenRequest => Fate::Go(Self::TokenStatus),
                "status" => Fate::Go(Self::Any),
                "items" => Fate::Go(Self::Items(mode)),
                _ => Fate::Mark(mode.rule()),
            },
            Self::Row(mode @ (Mode::Secret | Mode::TokenRequest | Mode::TokenReview)) => match word {
                "cells" => Fate::Go(Self::Cells),
                "object" => Fate::Go(Self::Object(mode)),
                "conditions" => Fate::Go(Self::Any),
                _ => Fate::Mark(mode.rule()),
            },
            Self::Metadata => secret(match word {
                "annotations" => Some(Self::Annotations),
                "managedfields" => Some(Self::Managed),
                "name"
                | "generatename"
                | "namespace"
                | "selflink"
                | "uid"
                | "resourceversion"
                | "generation"
                | "creationtimestamp"
                | "deletiontimestamp"
                | "deletiongraceperiodseconds"
                | "continue"
                | "remainingitemcount" => Some(Self::Scalar(Mode::Secret)),
                "labels" => Some(Self::Labels),
                "ownerreferences" => Some(Self::Owners),
                "finalizers" => Some(Self::Words),
                _ => directive(key, value),
            }),
            Self::Owner => secret(match word {
                "apiversion" | "kind" | "name" | "uid" | "controller" | "blockownerdeletion" => {
                    Some(Self::Scalar(Mode::Secret))
                }
                _ => directive(key, value),
            }),
            Self::Labels => Fate::Go(Self::Annotation { applied: false }),
            // An applier's annotation holds the whole object.
            Self::Annotations => Fate::Go(Self::Annotation {
                applied: ["last-applied", "/applied", "/original"]
                    .iter()
                    .any(|part| key.to_ascii_lowercase().contains(part)),
            }),
            Self::ManagedEntry => secret(match word {
                "manager" | "operation" | "apiversion" | "time" | "fieldstype" | "subresource" => {
                    Some(Self::Scalar(Mode::Secret))
                }
                "fieldsv1" => Some(Self::Fields { metadata: false }),
                _ => None,
            }),
            Self::Fields { metadata } => Fate::Go(Self::Fields { metadata: metadata || key == "f:metadata" }),
            Self::Values { base64 } => match directive(key, value) {
                Some(place) => Fate::Go(place),
                None if base64 => Fate::MarkBase64(SecretData),
                None => Fate::Mark(SecretData),
            },
            Self::Options => secret(match word {
                "kind"
                | "apiversion"
                | "graceperiodseconds"
                | "orphandependents"
                | "propagationpolicy"
                | "ignorestorereaderrorwithclusterbreakingpotential" => Some(Self::Scalar(Mode::Secret)),
                "preconditions" | "dryrun" => Some(Self::Any),
                _ => None,
            }),
            Self::Status => secret(match word {
                "kind" | "apiversion" | "status" | "reason" | "code" | "message" => {
                    Some(Self::Scalar(Mode::Secret))
                }
                "metadata" => Some(Self::Metadata),
                "details" => Some(Self::Details),
                _ => None,
            }),
            Self::Details => secret(match word {
                "name" | "group" | "kind" | "uid" | "retryafterseconds" => Some(Self::Scalar(Mode::Secret)),
                "causes" => Some(Self::Causes),
                _ => None,
            }),
            Self::Cause => secret(match word {
                "reason" | "field" => Some(Self::Scalar(Mode::Secret)),
                _ => None,
            }),
            Self::TokenSpec => match word {
                "expirationseconds" => Fate::Go(Self::Scalar(Mode::TokenRequest)),
                "audiences" | "boundobjectref" => Fate::Go(Self::Any),
                _ => Fate::Mark(TokenRequest),
            },
            Self::TokenStatus => match word {
                "expirationtimestamp" => Fate::Go(Self::Scalar(Mode::TokenRequest)),
                _ => Fate::Mark(TokenRequest),
            },
            Self::ReviewSpec => match word {
                "audiences" => Fate::Go(Self::Any),
                _ => Fate::Mark(TokenReview),
            },
            Self::Auths => Fate::Go(Self::Auth),
            Self::Auth => match word {
                "email" => Fate::Go(Self::Any),
                _ => Fate::Mark(DockerConfig),
            },
            Self::User => match word {
                "name" => Fate::Go(Self::Any),
                _ => Fate::Mark(Kubeconfig),
            },
            Self::Object(Mode::Plain) => match word {
                "items" => Fate::Go(Self::Items(Mode::Plain)),
                "rows" => Fate::Go(Self::Rows(Mode::Plain)),
                "object" if traits.is(Traits::TYPE) => Fate::Go(Self::Object(Mode::Plain)),
                _ => anywhere(word, traits, value, on),
            },
            Self::Row(Mode::Plain) => match word {
                "object" => Fate::Go(Self::Object(Mode::Plain)),
                _ => anywhere(word, traits, value, on),
            },
            Self::Any
            | Self::Annotation { .. }
            | Self::Items(_)
            | Self::Rows(_)
            | Self::Cells
            | Self::Columns
            | Self::Owners
            | Self::Scalar(_)
            | Self::Words
            | Self::Directive
            | Self::Managed
            | Self::Causes
            | Self::Ops(_)
            | Self::Users => anywhere(word, traits, value, on),
        }
    }
}

/// Members that are told by their names, whatever they are members of.
fn anywhere(word: &str, traits: Traits, value: Option<Kind>, on: Builtins) -> Fate {
    use Builtin::{AuthorizationHeader, CredentialFields, DockerConfig, Kubeconfig, SecretData};
    let is_text = matches!(value, Some(Kind::Text | Kind::Escaped));
    let is_map = value.is_none_or(|kind| kind == Kind::Object);
    match word {
        "stringdata" if on.has(SecretData) => return Fate::Go(Place::Values { base64: false }),
        "data" if traits.is(Traits::STRING_DATA) && on.has(SecretData) => {
            return Fate::Go(Place::Values { base64: true });
        }
        "auths" if is_map && on.has(DockerConfig) => return Fate::Go(Place::Auths),
        ".dockerconfigjson" | ".dockercfg" if on.has(DockerConfig) => {
            return Fate::MarkBase64(DockerConfig);
        }
        "users" if traits.is(Traits::CONFIG) && on.has(Kubeconfig) => return Fate::Go(Place::Users),
        "value" if is_text && traits.is(Traits::NAMES_HEADER) && on.has(AuthorizationHeader) => {
            return Fate::Mark(AuthorizationHeader);
        }
        "value" if is_text && traits.is(Traits::NAMES_CREDENTIAL) && on.has(CredentialFields) => {
            return Fate::Mark(CredentialFields);
        }
        _ => {}
    }
    let is_leaf = is_text || value == Some(Kind::Number);
    if (is_leaf || value == Some(Kind::Array)) && on.has(AuthorizationHeader) && is_header(word) {
        Fate::Mark(AuthorizationHeader)
    } else if is_leaf && on.has(CredentialFields) && is_credential(word) {
        Fate::Mark(CredentialFields)
    } else {
        Fate::Go(Place::Any)
    }
}

/// A strategic merge patch's own members. What `$deleteFromPrimitiveList` lists are values, and is no directive here.
fn directive(key: &str, value: Option<Kind>) -> Option<Place> {
    match key {
        "$patch" if matches!(value, Some(Kind::Text)) => Some(Place::Directive),
        "$retainKeys" => Some(Place::Words),
        _ if key.starts_with("$setElementOrder/") => Some(Place::Words),
        _ => None,
    }
}

/// HTTP headers whose values are credentials; folded.
pub(super) fn is_header(word: &str) -> bool {
    matches!(
        word,
        "authorization"
            | "proxy-authorization"
            | "cookie"
            | "set-cookie"
            | "x-auth-token"
            | "x-api-key"
            | "x-vault-token"
            | "private-token"
    )
}

/// Names that say that the value is a credential; folded, and as well with `-`, `_` or `.` between their words.
pub(super) fn is_credential(word: &str) -> bool {
    if !(5..=24).contains(&word.len()) {
        return false;
    }
    let mut buffer = [0; Word::LONGEST];
    let mut len = 0;
    for (to, from) in buffer.iter_mut().zip(word.bytes().filter(|b| !matches!(b, b'-' | b'_' | b'.'))) {
        *to = from;
        len += 1;
    }
    matches!(
        buffer.get(..len).unwrap_or_default(),
        b"password"
            | b"passwd"
            | b"passphrase"
            | b"token"
            | b"accesstoken"
            | b"refreshtoken"
            | b"idtoken"
            | b"authtoken"
            | b"bearertoken"
            | b"apitoken"
            | b"apikey"
            | b"clientsecret"
            | b"clientkeydata"
            | b"privatekey"
            | b"secretkey"
            | b"secretaccesskey"
            | b"awssecretaccesskey"
    )
}

/// A key without its case, for comparison; empty when it is longer than any that matters.
///
/// Besides ASCII, U+017F and U+212A are folded, which readers that fold case by Unicode take for `s` and `k`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    bytes: [u8; Self::LONGEST],
    len: usize,
}

impl Word {
    const LONGEST: usize = 52;

    pub(super) fn fold(key: &str) -> Self {
        let mut word = Self { bytes: [0; Self::LONGEST], len: 0 };
        if key.is_ascii() {
            if let Some(to) = word.bytes.get_mut(..key.len()) {
                to.copy_from_slice(key.as_bytes());
                to.make_ascii_lowercase();
                word.len = key.len();
            }
            return word;
        }
        for c in key.chars() {
            let c = match c {
                '\u{17f}' => 's',
                '\u{212a}' => 'k',
                c => c.to_ascii_lowercase(),
            };
            let end = word.len + c.len_utf8();
            match word.bytes.get_mut(word.len..end) {
                Some(to) => c.encode_utf8(to),
                None => return Self { len: 0, ..word },
            };
            word.len = end;
        }
        word
    }

    pub(super) fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// What an object's members say of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traits(u16);

impl Traits {
    pub(super) const SECRET: u16 = 1;
    pub(super) const SECRET_LIST: u16 = 1 << 1;
    pub(super) const TOKEN_REQUEST: u16 = 1 << 2;
    pub(super) const TOKEN_REVIEW: u16 = 1 << 3;
    pub(super) const STATUS: u16 = 1 << 4;
    pub(super) const TABLE: u16 = 1 << 5;
    /// Of kind Config.
    pub(super) const CONFIG: u16 = 1 << 6;
    /// Has data or metadata, as whole objects have and references have not.
    pub(super) const WHOLE: u16 = 1 << 7;
    pub(super) const STRING_DATA: u16 = 1 << 8;
    pub(super) const TYPE: u16 = 1 << 9;
    /// `name` is that of a header or a credential.
    pub(super) const NAMES_HEADER: u16 = 1 << 10;
    pub(super) const NAMES_CREDENTIAL: u16 = 1 << 11;
    /// `details.kind` is Secret.
    pub(super) const ABOUT_SECRET: u16 = 1 << 12;
    /// Has spec or status.
    pub(super) const SPEC: u16 = 1 << 13;

    /// All but that one.
    pub(super) fn without(self, one: u16) -> Self {
        Self(self.0 & !one)
    }

    pub(super) fn is(self, one: u16) -> bool {
        self.0 & one != 0
    }

    /// Looks at all members, none of their values' insides but a Status' details.
    pub(super) fn of(tape: &Tape<'_>, at: usize) -> Self {
        let mut traits = 0;
        for (key, value) in tape.members(at) {
            // From `kind` to `stringData` with a long s; or, each letter of that escaped.
            let len = tape.raw(key).len();
            if len < 6 || len > if tape.kind(key) == Kind::Text { 13 } else { 64 } {
                continue;
            }
            let key = tape.string(key);
            let word = Word::fold(&key);
            traits |= match word.as_str() {
                "kind" => {
                    let kind = tape.string(value);
                    match Word::fold(&kind).as_str() {
                        "secret" => Self::SECRET,
                        "secretlist" => Self::SECRET_LIST,
                        "tokenrequest" => Self::TOKEN_REQUEST,
                        "tokenreview" => Self::TOKEN_REVIEW,
                        "status" => Self::STATUS,
                        "table" => Self::TABLE,
                        "config" => Self::CONFIG,
                        _ => 0,
                    }
                }
                "data" | "metadata" => Self::WHOLE,
                "stringdata" => Self::WHOLE | Self::STRING_DATA,
                "type" => Self::TYPE,
                "spec" | "status" => Self::SPEC,
                "name" => {
                    let name = tape.string(value);
                    let name = Word::fold(&name);
                    let header = if is_header(name.as_str()) { Self::NAMES_HEADER } else { 0 };
                    header | if is_credential(name.as_str()) { Self::NAMES_CREDENTIAL } else { 0 }
                }
                "details" if is_about_secret(tape, value) => Self::ABOUT_SECRET,
                _ => 0,
            };
        }
        Self(traits)
    }
}

fn is_about_secret(tape: &Tape<'_>, details: usize) -> bool {
    let is_secret = |kind| matches!(Word::fold(&tape.string(kind)).as_str(), "secret" | "secrets");
    tape.get(details, "kind").any(is_secret)
}
