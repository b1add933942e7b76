use super::*;
use proptest::prelude::*;

// Made, like the note's key, with Python's cryptography package.
const NAME: &str = "gatelog.example/prod/0";
const KEY: &str = "gatelog.example/prod/0+ac53f26f+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----";
const NOTE: &str = "gatelog.example/prod/0
70000
Xif96Py2I+PVGXAUc94gawM44IUMlQeOEgFVvPT1ufc=
time 1767323045

— gatelog.example/prod/0 rFPyb66pHKwdyo2PaWYk04APFmoUh5Ylg5GRhzMdAnLugTa04FLGZumi8u6zwW//23sFW91mwsxkMJIi7ycxfanBLQU=
";
const PLAIN: &str = "gatelog.example/prod/0
70000
Xif96Py2I+PVGXAUc94gawM44IUMlQeOEgFVvPT1ufc=

— gatelog.example/prod/0 rFPybyGcQjw+0czNjlMqdYDNVN/c+SZ52wAXns8yFlsZbBojO55dAC+Pu7GerM9ShJQRRuyUgThUTVLvWSZW5Q+dYg8=
";

fn head() -> Head {
    Head { size: 70_000, root: Hash::parse("Xif96Py2I+PVGXAUc94gawM44IUMlQeOEgFVvPT1ufc=").unwrap() }
}

fn open(note: &str, origin: &str) -> Result<Checkpoint, Error> {
    Checkpoint::open(note.as_bytes(), origin, &[KEY.parse().unwrap()])
}

#[test]
fn checkpoints_are_signed_as_by_others() {
    let key = SigningKey::from_pem(NAME, PRIVATE).unwrap();
    let checkpoint = Checkpoint::new(NAME, head(), 1_767_323_045);
    assert_eq!(checkpoint.sign(&key).as_deref(), Ok(NOTE));
    assert_eq!(open(NOTE, NAME).as_ref(), Ok(&checkpoint));
    assert_eq!(checkpoint.time(), Some(1_767_323_045));

    let plain = Checkpoint { extensions: Vec::new(), ..checkpoint };
    assert_eq!(plain.sign(&key).as_deref(), Ok(PLAIN));
    assert_eq!(open(PLAIN, NAME).as_ref(), Ok(&plain));
    assert_eq!(plain.time(), None);
}

#[test]
fn only_what_was_signed_is_believed() {
    let unsigned = NOTE.replace("70000", "70001");
    assert_eq!(open(&unsigned, NAME), Err(BadNote::Forged(NAME.to_owned()).into()));
    let of_another = Error::Origin { found: NAME.to_owned(), expected: "gatelog.example/prod/1".to_owned() };
    assert_eq!(open(NOTE, "gatelog.example/prod/1"), Err(of_another));
    let mixed = format!("{}{}", NOTE, PLAIN.lines().last().unwrap());
    assert_eq!(open(&format!("{mixed}\n"), NAME), Err(BadNote::Forged(NAME.to_owned()).into()));
}

#[test]
fn the_text_is_read_strictly() {
    let root = head().root;
    for text in [
        format!("{NAME}\n70000\n{root}\n"),
        // The example of the specification.
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n".to_owned(),
        format!("an origin, freely chosen\n0\n{}\n", Hash::EMPTY),
        format!("o\n18446744073709551615\n{root}\nmore\nand more\n"),
    ] {
        assert_eq!(Checkpoint::parse(&text).unwrap().to_string(), text);
    }
    let rows = [
        (String::new(), "a newline at the end"),
        (format!("o\n1\n{root}"), "a newline at the end"),
        ("\n".to_owned(), "an origin"),
        (format!("\n1\n{root}\n"), "an origin"),
        ("o\n".to_owned(), "a size in decimal"),
        (format!("o\n01\n{root}\n"), "a size in decimal"),
        (format!("o\n+1\n{root}\n"), "a size in decimal"),
        (format!("o\n 1\n{root}\n"), "a size in decimal"),
        (format!("o\n-1\n{root}\n"), "a size in decimal"),
        (format!("o\n00\n{root}\n"), "a size in decimal"),
        (format!("o\n\n{root}\n"), "a size in decimal"),
        (format!("o\n0x1\n{root}\n"), "a size in decimal"),
        (format!("o\n18446744073709551616\n{root}\n"), "a size in decimal"),
        ("o\n1\n".to_owned(), "a root hash in base64"),
        ("o\n1\nAAAA\n".to_owned(), "a root hash in base64"),
        (format!("o\n1\n{root} \n"), "a root hash in base64"),
        (format!("o\n1\n{root}\n\n"), "no empty lines"),
        (format!("o\n1\n{root}\n\nx\n"), "no empty lines"),
    ];
    for (text, want) in rows {
        assert_eq!(Checkpoint::parse(&text), Err(Error::Text(want)), "{text:?}");
    }
}

#[test]
fn the_time_is_read_strictly() {
    for (line, want) in
        [("time 0", Some(0)), ("time 12", Some(12)), ("time", None), ("time -1", None), ("time 012", None)]
    {
        let checkpoint =
            Checkpoint { origin: "o".to_owned(), head: head(), extensions: vec![line.to_owned()] };
        assert_eq!(checkpoint.time(), want, "{line}");
    }
}

#[test]
fn what_would_be_read_otherwise_is_not_signed() {
    let key = SigningKey::from_pem(NAME, PRIVATE).unwrap();
    let sign = |origin: &str, extensions: &[&str]| {
        let extensions = extensions.iter().map(|line| (*line).to_owned()).collect();
        Checkpoint { origin: origin.to_owned(), head: head(), extensions }.sign(&key)
    };
    assert!(sign("o", &["x"]).is_ok());
    for (origin, extensions) in [("", &[][..]), ("a\nb", &[]), ("o", &[""]), ("o", &["a\nb"])] {
        assert!(matches!(sign(origin, extensions), Err(Error::Text(_))), "{origin:?} {extensions:?}");
    }
    assert_eq!(sign("o\u{7}", &[]), Err(BadNote::Characters.into()));
}

proptest! {
    #[test]
    fn anything_may_come(text in "(o\n|[0-9]{1,3}\n|Xif96Py2I\\+PVGXAUc94gawM44IUMlQeOEgFVvPT1ufc=\n|time |\n|.){0,9}") {
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert_eq!(checkpoint.to_string(), text);
        }
    }

    #[test]
    fn what_is_shown_is_read(origin in "[^\n\\p{Cc}]{1,30}", size: u64, root: [u8; 32], more in prop::collection::vec("[^\n\\p{Cc}]{1,9}", 0..4)) {
        let checkpoint = Checkpoint { origin, head: Head { size, root: Hash(root) }, extensions: more };
        prop_assert_eq!(Checkpoint::parse(&checkpoint.to_string()), Ok(checkpoint.clone()));
        let key = SigningKey::from_pem(NAME, PRIVATE).unwrap();
        let note = checkpoint.sign(&key).unwrap();
        prop_assert_eq!(open(&note, &checkpoint.origin), Ok(checkpoint));
    }
}
