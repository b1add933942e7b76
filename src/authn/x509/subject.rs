//! The subject of a client certificate: name, UID and groups.

use x509_parser::{
    asn1_rs::{Oid, Tag, oid},
    x509::{AttributeTypeAndValue, X509Name},
};

const COMMON_NAME: Oid<'static> = oid!(2.5.4.3);
const ORGANIZATION: Oid<'static> = oid!(2.5.4.10);
/// Kubernetes' own attribute for a user's UID.
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);

/// More than anybody is a member of; bounds what one certificate can make every request carry upstream.
const MAX_GROUPS: usize = 1_000;

/// What Kubernetes reads of a subject.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// The last common name; None when there is none or the last one is empty.
    pub(super) name: Option<String>,
    /// Empty without the attribute.
    pub(super) uid: String,
    /// Every organization, in order.
    pub(super) groups: Vec<String>,
}

/// Nothing is trimmed or folded. An attribute that cannot be read exactly is an error: a part of an identity must not get lost.
pub(super) fn read(subject: &X509Name<'_>) -> Result<Subject, String> {
    let (mut name, mut uids, mut groups) = (None, Vec::new(), Vec::new());
    for attribute in subject.iter_attributes() {
        let kind = attribute.attr_type();
        if *kind == COMMON_NAME {
            name = Some(text(attribute, "common name")?);
        } else if *kind == ORGANIZATION {
            groups.push(text(attribute, "organization")?);
        } else if *kind == UID {
            uids.push(text(attribute, "UID")?);
        }
    }
    let name = name.filter(|n| !n.is_empty());
    let uid = match uids.pop() {
        // Without a name there is no opinion, whatever the UID is.
        _ if name.is_none() => String::new(),
        None => String::new(),
        Some(_) if !uids.is_empty() => return Err("the subject holds more than one UID".to_owned()),
        Some(uid) if uid.is_empty() => return Err("the subject's UID is empty".to_owned()),
        Some(uid) => uid,
    };
    if groups.len() > MAX_GROUPS {
        let n = groups.len();
        return Err(format!("the subject holds {n} organizations, at most {MAX_GROUPS} are accepted"));
    }
    Ok(Subject { name, uid, groups })
}

/// The last common name alone, whatever the rest says.
pub(super) fn common_name(subject: &X509Name<'_>) -> Result<Option<String>, String> {
    let last = subject.iter_attributes().filter(|a| *a.attr_type() == COMMON_NAME).last();
    let name = last.map(|attribute| text(attribute, "common name")).transpose()?;
    Ok(name.filter(|name| !name.is_empty()))
}

fn text(attribute: &AttributeTypeAndValue<'_>, what: &str) -> Result<String, String> {
    let bytes = attribute.attr_value().data;
    let text = match attribute.attr_value().tag() {
        Tag::Utf8String => std::str::from_utf8(bytes).ok(),
        // Their further limits (no `*`, no `@`, …) are about what to write, not about what was meant. T61 beyond ASCII has no one reading.
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::T61String => {
            std::str::from_utf8(bytes).ok().filter(|s| s.is_ascii())
        }
        _ => None,
    };
    text.map(str::to_owned).ok_or_else(|| {
        let tag = attribute.attr_value().tag();
        format!("the subject's {what} cannot be read: {tag} is not a string in UTF-8 or ASCII")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::FromDer as _;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    /// A subject of (attribute, tag, value), one attribute a set.
    fn judged(attributes: &[(&str, u8, &[u8])]) -> Result<Subject, String> {
        let sets = attributes.iter().flat_map(|(kind, tag, value)| {
            let kind: &[u8] = match *kind {
                "CN" => &[0x55, 4, 3],
                "O" => &[0x55, 4, 10],
                "OU" => &[0x55, 4, 11],
                "UID" => &[0x2b, 6, 1, 4, 1, 0x83, 0xc2, 0x53, 2],
                // userId of RFC 4519, which is not Kubernetes' UID
                _ => &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
            };
            tlv(0x31, &tlv(0x30, &[tlv(6, kind), tlv(*tag, value)].concat()))
        });
        let der = tlv(0x30, &sets.collect::<Vec<u8>>());
        let (rest, name) = X509Name::from_der(&der).unwrap();
        assert!(rest.is_empty());
        read(&name)
    }

    #[test]
    fn the_subject_is_read_as_kubernetes_reads_it() {
        const UTF8: u8 = 0x0c;
        let ok = |name: &str, uid: &str, groups: &[&str]| {
            Ok(Subject {
                name: Some(name).filter(|n| !n.is_empty()).map(str::to_owned),
                uid: uid.to_owned(),
                groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            })
        };
        let unreadable = |what: &str| Err(format!("the subject's {what} cannot be read: "));
        let refused = |why: &str| Err(why.to_owned());
        /// The error is the beginning of the text.
        type Row<'a> = (&'a [(&'a str, u8, &'a [u8])], Result<Subject, String>);
        let (zoe, dev) = ("zoë ".as_bytes(), "dév".as_bytes());
        let rows: &[Row<'_>] = &[
            (&[], ok("", "", &[])),
            (&[("CN", UTF8, b"alice")], ok("alice", "", &[])),
            (&[("O", UTF8, b"b"), ("CN", UTF8, b"alice"), ("O", UTF8, b"a")], ok("alice", "", &["b", "a"])),
            (&[("CN", UTF8, b"first"), ("CN", UTF8, b"second")], ok("second", "", &[])),
            (&[("CN", UTF8, b"first"), ("CN", UTF8, b"")], ok("", "", &[])),
            (&[("CN", UTF8, b"a"), ("OU", UTF8, b"x"), ("userId", UTF8, b"y")], ok("a", "", &[])),
            (&[("CN", UTF8, zoe), ("O", UTF8, dev)], ok("zoë ", "", &["dév"])),
            (&[("CN", 0x13, b"a*"), ("O", 0x16, b"a@b"), ("O", 0x14, b"t61")], ok("a*", "", &["a@b", "t61"])),
            (&[("CN", UTF8, b"a"), ("UID", UTF8, b"abc-123")], ok("a", "abc-123", &[])),
            (
                &[("UID", UTF8, b"1"), ("CN", UTF8, b"a"), ("UID", UTF8, b"1")],
                refused("the subject holds more"),
            ),
            (&[("CN", UTF8, b"a"), ("UID", UTF8, b"")], refused("the subject's UID is empty")),
            (&[("UID", UTF8, b""), ("UID", UTF8, b"1")], ok("", "", &[])),
            (&[("CN", UTF8, b"a"), ("UID", 0x02, b"\x01")], unreadable("UID")),
            (&[("CN", UTF8, b"\xff")], unreadable("common name")),
            (&[("CN", 0x14, b"zo\xeb")], unreadable("common name")),
            (&[("CN", UTF8, b"a"), ("O", 0x1e, b"\0d")], unreadable("organization")),
        ];
        for (subject, want) in rows {
            match (judged(subject), want) {
                (Err(got), Err(want)) => assert!(got.starts_with(want), "{subject:?}: {got}"),
                (got, want) => assert_eq!(got, *want, "{subject:?}"),
            }
        }
    }
}
