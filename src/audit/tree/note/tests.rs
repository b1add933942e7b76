use super::*;
use proptest::prelude::*;

// The notes and public keys that Go's golang.org/x/mod/sumdb/note is tested with.
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const BY_PETER: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const BY_ENOCH: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
/// Peter's private key there, after the byte 1, in base64.
const PETERS_SEED: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

// The first key of RFC 8032, section 7.1, as Python's cryptography package and openssl write it.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
const NAME: &str = "gatelog.example/prod/0";
const VERIFIER: &str = "gatelog.example/prod/0+ac53f26f+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";

fn key(text: &str) -> VerifierKey {
    text.parse().unwrap()
}

fn verify(note: &str, keys: &[&str]) -> Result<String, BadNote> {
    let keys: Vec<VerifierKey> = keys.iter().map(|text| key(text)).collect();
    Note::parse(note.as_bytes())?.verify(&keys).map(str::to_owned)
}

#[test]
fn notes_are_believed_when_a_known_key_signed() {
    let both = format!("{TEXT}\n{BY_PETER}{BY_ENOCH}");
    let names = || vec!["PeterNeumann+c74f20a3".to_owned(), "EnochRoot+af0cfe78".to_owned()];
    let forged = |name: &str| Err(BadNote::Forged(name.to_owned()));
    let believed = || Ok(TEXT.to_owned());
    let altered = both.replacen("answer", "Answer", 1);
    // Enoch's id under Peter's name, and the other way round: keys that nobody knows.
    let crossed = format!("{TEXT}\n{BY_PETER}{}", BY_ENOCH.replace("EnochRoot", "PeterNeumann"));
    let misnamed = format!("{TEXT}\n{}", BY_PETER.replace("PeterNeumann", "CarmenSandiego"));
    let other_id = format!("{TEXT}\n{}", BY_PETER.replace(" x08g", " xxxx"));
    let longer = format!("{TEXT}\n{}ABCD{}", &BY_PETER[..60], &BY_PETER[60..]);
    let rows: [(&str, &[&str], Result<String, BadNote>); 12] = [
        (&both, &[PETER], believed()),
        (&both, &[ENOCH], believed()),
        (&both, &[PETER, ENOCH], believed()),
        (&both, &[ENOCH, ENOCH], believed()),
        (&both, &[], Err(BadNote::Unknown(names()))),
        (&both, &[VERIFIER], Err(BadNote::Unknown(names()))),
        (&altered, &[PETER], forged("PeterNeumann")),
        (&altered, &[ENOCH], forged("EnochRoot")),
        (&crossed, &[PETER], believed()),
        (&misnamed, &[PETER], Err(BadNote::Unknown(vec!["CarmenSandiego+c74f20a3".to_owned()]))),
        (&other_id, &[PETER], Err(BadNote::Unknown(vec!["PeterNeumann+c71c71a3".to_owned()]))),
        (&longer, &[PETER], forged("PeterNeumann")),
    ];
    for (note, keys, want) in rows {
        assert_eq!(verify(note, keys), want, "{keys:?}\n{note}");
    }
    // One signature that is wrong outweighs one that is right.
    let half = format!("{TEXT}\n{BY_PETER}{}", BY_ENOCH.replace("+QQ=", "+QA="));
    assert_eq!(verify(&half, &[PETER]), believed());
    assert_eq!(verify(&half, &[PETER, ENOCH]), forged("EnochRoot"));
}

#[test]
fn what_is_no_note_is_refused() {
    let sixteen = format!("{TEXT}\n{}", BY_PETER.repeat(16));
    assert!(verify(&sixteen, &[PETER]).is_ok());
    assert!(Note::parse("a\n\nb\n\n— n AAAAAAA=\n".as_bytes()).is_ok());
    let rows = [
        (String::new(), BadNote::Shape),
        (TEXT.to_owned(), BadNote::Shape),
        (format!("{TEXT}\n"), BadNote::Shape),
        (format!("{TEXT}\n{}", BY_PETER.trim_end()), BadNote::Shape),
        (format!("{TEXT}{BY_PETER}"), BadNote::Shape),
        (format!("\u{1}{TEXT}\n{BY_PETER}"), BadNote::Characters),
        (format!("{TEXT}\n{BY_PETER}\r\n"), BadNote::Characters),
        (format!("{TEXT}\t\n\n{BY_PETER}"), BadNote::Characters),
        (format!("{TEXT}\n{BY_PETER}Unexpected line.\n"), BadNote::Signature(2)),
        (format!("{TEXT}\n{}", BY_PETER.replace("PeterNeumann", "Bad Name")), BadNote::Signature(1)),
        (format!("{TEXT}\n{}", BY_PETER.replace("PeterNeumann", "Bad+Name")), BadNote::Signature(1)),
        (format!("{TEXT}\n{}", BY_PETER.replace("PeterNeumann", "Bad\u{a0}Name")), BadNote::Signature(1)),
        (format!("{TEXT}\n{}", BY_PETER.replace("PeterNeumann", "")), BadNote::Signature(1)),
        (format!("{TEXT}\n{}", BY_PETER.replace("nAM=", "nAM")), BadNote::Signature(1)),
        (format!("{TEXT}\n— PeterNeumann x08gow==\n"), BadNote::Signature(1)),
        (format!("{TEXT}\n- PeterNeumann x08go/Y=\n"), BadNote::Signature(1)),
        (format!("{TEXT}\n{}", BY_PETER.repeat(MOST_SIGNATURES + 1)), BadNote::Signatures),
        (format!("{}\n\n{BY_PETER}", "x".repeat(LARGEST)), BadNote::Large(LARGEST + 2 + BY_PETER.len())),
    ];
    for (note, want) in rows {
        assert_eq!(Note::parse(note.as_bytes()), Err(want), "{note:.200}");
    }
    let invalid = [b"\xff", TEXT.as_bytes(), b"\n", BY_PETER.as_bytes()].concat();
    assert_eq!(Note::parse(&invalid), Err(BadNote::Characters));
}

#[test]
fn the_same_is_signed_as_by_others() {
    let seed = BASE64.decode(PETERS_SEED).unwrap();
    let der = [&super::super::tests::unhex("302e020100300506032b657004220420"), &seed[1..]].concat();
    let pem = format!("{}{}{}", PEM[0], BASE64.encode(der), PEM[1]);
    let peter = SigningKey::from_pem("PeterNeumann", &pem).unwrap();
    assert_eq!(peter.verifier(), &key(PETER));
    assert_eq!(peter.sign(TEXT).unwrap(), format!("{TEXT}\n{BY_PETER}"));
    for (text, want) in [
        ("", BadNote::Shape),
        ("abc", BadNote::Shape),
        ("a\u{1}\n", BadNote::Characters),
        (&"x\n".repeat(LARGEST), BadNote::Large(2 * LARGEST + 1 + BY_PETER.len())),
    ] {
        assert_eq!(peter.sign(text), Err(want), "{text:.20}");
    }
}

#[test]
fn verifier_keys_are_read_as_they_are_shown() {
    for text in [PETER, ENOCH, VERIFIER] {
        assert_eq!(key(text).to_string(), text);
    }
    for end in 0..PETER.len() {
        assert!(PETER[..end].parse::<VerifierKey>().is_err(), "{end}");
        assert!(PETER[end + 1..].parse::<VerifierKey>().is_err(), "{end}");
        let mut bytes = PETER.as_bytes().to_vec();
        bytes[end] += 1;
        assert!(String::from_utf8(bytes).unwrap().parse::<VerifierKey>().is_err(), "{end}");
    }
    let rows = [
        // Too long a key, and another algorithm, under their right ids.
        ("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==", BadKey::Shape),
        ("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", BadKey::Algorithm),
        ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", BadKey::Id),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", BadKey::Id),
        ("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", BadKey::Name),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", BadKey::Name),
        ("x+c74f20a3+AQ==", BadKey::Algorithm),
        ("x+c74f20a3+", BadKey::Shape),
        ("x+c74f20a3", BadKey::Shape),
        ("", BadKey::Shape),
    ];
    for (text, want) in rows {
        assert_eq!(text.parse::<VerifierKey>(), Err(want), "{text}");
    }
}

#[test]
fn private_keys_are_pkcs8() {
    let key = SigningKey::from_pem(NAME, KEY).unwrap();
    assert_eq!(key.verifier().to_string(), VERIFIER);
    assert_eq!(key.to_pem().unwrap().as_str(), KEY);
    assert!(SigningKey::from_pem(NAME, &KEY.replace('\n', "\r\n")).is_ok());

    let made = SigningKey::generate(NAME).unwrap();
    let again = SigningKey::from_pem(NAME, made.to_pem().unwrap().as_str()).unwrap();
    assert_eq!(again.verifier(), made.verifier());
    assert_ne!(made.verifier(), key.verifier());
    let note = made.sign("a\n").unwrap();
    assert_eq!(Note::parse(note.as_bytes()).unwrap().verify(&[again.verifier().clone()]), Ok("a\n"));

    let rows = [
        (NAME, String::new(), BadKey::Pem),
        (NAME, KEY.replace("PRIVATE", "PUBLIC"), BadKey::Pem),
        (NAME, format!("{KEY}{KEY}"), BadKey::Pem),
        (NAME, KEY.replace("MC4C", "!"), BadKey::Pem),
        (NAME, KEY.replace("MC4C", "MC4D"), BadKey::Private),
        (NAME, format!("{}{}", PEM[0], PEM[1]), BadKey::Private),
        ("a b", KEY.to_owned(), BadKey::Name),
        ("", KEY.to_owned(), BadKey::Name),
        ("a+b", KEY.to_owned(), BadKey::Name),
        ("a\nb", KEY.to_owned(), BadKey::Name),
    ];
    for (name, pem, want) in rows {
        assert_eq!(SigningKey::from_pem(name, &pem).err(), Some(want), "{name} {pem}");
    }
}

#[test]
fn private_keys_are_not_shown() {
    let key = SigningKey::from_pem(NAME, KEY).unwrap();
    assert_eq!(format!("{key:?}"), format!("SigningKey({VERIFIER:?})"));
    assert_eq!(format!("{:?}", key.to_pem().unwrap()), "Pem");
}

proptest! {
    #[test]
    fn anything_may_come(note in "(\n|— |x08go/ZJkuBS|PeterNeumann |[A-Za-z=+/]|.){0,40}", bytes: Vec<u8>) {
        let _ = Note::parse(&bytes);
        if let Ok(parsed) = Note::parse(note.as_bytes()) {
            prop_assert!(note.starts_with(parsed.unverified()));
            prop_assert!(parsed.verify(&[key(PETER)]).is_err());
        }
    }

    #[test]
    fn no_altered_text_is_believed(at in 0..TEXT.len() - 1, byte in b' '..b'~') {
        let mut note = format!("{TEXT}\n{BY_PETER}").into_bytes();
        prop_assume!(note[at] != byte);
        note[at] = byte;
        prop_assert!(Note::parse(&note).and_then(|n| n.verify(&[key(PETER)]).map(str::to_owned)).is_err());
    }

    #[test]
    fn keys_may_be_anything(text in "[a-z+/=A-Z0-9 ]{0,80}") {
        if let Ok(key) = text.parse::<VerifierKey>() {
            prop_assert_eq!(key.to_string(), text.clone());
        }
        let _ = SigningKey::from_pem(NAME, &format!("{}{text}{}", PEM[0], PEM[1]));
    }
}
