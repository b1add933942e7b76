//! kube-apiserver's static token file: CSV of token, user, uid and an optional comma list of groups.
//!
//! Tokens themselves are not kept. The table is keyed by SHA-256 of a random per-process prefix and the token: a lookup
//! compares digests that nobody outside can predict, so its timing says nothing about how much of a guess was right,
//! and a memory dump holds no credential. The digest costs a fraction of a microsecond.

use crate::identity::{self, User};
use aws_lc_rs::{digest, rand};
use std::{collections::HashMap, sync::Arc};

/// The tokens of one file.
pub(super) struct TokenFile {
    users: HashMap<[u8; 32], Arc<User>>,
    prefix: [u8; 32],
    /// Longer guesses are refused without being hashed. Bytes.
    longest: usize,
}

/// A row that cannot be used, or text that is not CSV.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct Error {
    /// Where the row begins, counted from 1.
    pub(super) line: usize,
    problem: String,
}

impl TokenFile {
    /// Reads `text`; every bad row is an error. The second list is what is odd but harmless, a line each.
    pub(super) fn parse(text: &str) -> Result<(Self, Vec<String>), Vec<Error>> {
        let mut prefix = [0; 32];
        rand::fill(&mut prefix).map_err(|_| {
            vec![Error { line: 0, problem: "the system has no randomness for the token table".to_owned() }]
        })?;
        let mut table = Self { users: HashMap::new(), prefix, longest: 0 };
        let (mut warnings, mut errors) = (Vec::new(), Vec::new());
        for row in Rows::new(text) {
            match row.and_then(|row| table.add(row, &mut warnings)) {
                Ok(()) => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok((table, warnings)) } else { Err(errors) }
    }

    /// Whose token this is.
    pub(super) fn find(&self, token: &str) -> Option<&Arc<User>> {
        if token.len() > self.longest {
            return None;
        }
        self.users.get(&self.key(token))
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    fn add(&mut self, row: Row, warnings: &mut Vec<String>) -> Result<(), Error> {
        let line = row.line;
        let error = |problem: String| Error { line, problem };
        let mut fields = row.fields.into_iter();
        let count = fields.len();
        let (Some(token), Some(name), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(error(format!(
                "expected at least 3 columns (token, user name, user uid), found {count}"
            )));
        };
        if token.is_empty() {
            warnings.push(format!("line {line}: the token is empty, the row is skipped"));
            return Ok(());
        }
        if token.contains(|c: char| c.is_whitespace() || c.is_control()) {
            // Kubernetes keeps it as well, and no request can present it either.
            warnings.push(format!(
                "line {line}: the token holds a space or control character and can never match"
            ));
        }
        let mut groups: Vec<String> =
            fields.next().map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
        identity::add_authenticated(&name, &mut groups);
        let user = User::new(&name, &uid, groups, Default::default()).map_err(|e| error(e.to_string()))?;
        self.longest = self.longest.max(token.len());
        if self.users.insert(self.key(&token), user).is_some() {
            warnings
                .push(format!("line {line}: the token stands in an earlier row as well, this one counts"));
        }
        Ok(())
    }

    fn key(&self, token: &str) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.prefix);
        context.update(token.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        key
    }
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenFile").field("tokens", &self.len()).finish_non_exhaustive()
    }
}

/// One record.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    line: usize,
    fields: Vec<String>,
}

/// Records as Go's `encoding/csv` reads them with a variable number of fields: a quote is special only at the start of a field,
/// quoted fields may span lines, blank lines are skipped, leading spaces belong to the field.
struct Rows<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Rows<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// The next line without its end; None at the end of the text.
    fn take_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    fn fields(&mut self, first: &'a str, start: usize) -> Result<Vec<String>, Error> {
        let error = |problem: &str| Error { line: start, problem: problem.to_owned() };
        let mut fields = Vec::new();
        let mut rest = first;
        loop {
            let Some(mut quoted) = rest.strip_prefix('"') else {
                let (field, after) = rest.split_once(',').map_or((rest, None), |(f, a)| (f, Some(a)));
                if field.contains('"') {
                    return Err(error("bare \" in a field that does not begin with one"));
                }
                fields.push(field.to_owned());
                match after {
                    Some(after) => rest = after,
                    None => return Ok(fields),
                }
                continue;
            };
            let mut field = String::new();
            loop {
                let Some((text, after)) = quoted.split_once('"') else {
                    field.push_str(quoted);
                    field.push('\n');
                    quoted = self.take_line().ok_or_else(|| error("a quoted field is not closed"))?;
                    continue;
                };
                field.push_str(text);
                match after.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        quoted = after;
                    }
                    None => {
                        quoted = after;
                        break;
                    }
                }
            }
            fields.push(field);
            if quoted.is_empty() {
                return Ok(fields);
            }
            rest = quoted.strip_prefix(',').ok_or_else(|| error("text after the \" that closes a field"))?;
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.line;
            match self.take_line()? {
                "" => {}
                first => return Some(self.fields(first, line).map(|fields| Row { line, fields })),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &str) -> Vec<Result<Vec<String>, String>> {
        Rows::new(text).map(|r| r.map(|r| r.fields).map_err(|e| e.to_string())).collect()
    }

    #[test]
    fn csv_is_read_as_go_reads_it() {
        /// `text => [fields]..., or "error"`
        macro_rules! table { ($($text:expr => $([$($field:expr),*])* $($error:literal)?;)*) => { $(
            let want: Vec<Result<Vec<String>, String>> =
                vec![$(Ok(vec![$($field.to_string()),*]),)* $(Err($error.to_owned()))?];
            assert_eq!(rows($text), want, "{:?}", $text);
        )* } }
        table! {
            "" => ;
            "\n\n" => ;
            "a,b,c" => ["a", "b", "c"];
            "a,b,c\r\nd\n" => ["a", "b", "c"] ["d"];
            "a,\n\r\n,b" => ["a", ""] ["", "b"];
            " \n" => [" "];
            " a , b" => [" a ", " b"];
            "#a,b" => ["#a", "b"];
            "a,\"b,c\",d" => ["a", "b,c", "d"];
            "a,\"b\"\"c\"" => ["a", "b\"c"];
            "\"\",\"\"" => ["", ""];
            "\"a\r\nb\",c\nd" => ["a\nb", "c"] ["d"];
            "\"a\n\nb\"" => ["a\n\nb"];
            "a\rb,c" => ["a\rb", "c"];
            "a, \"b\"" => "line 1: bare \" in a field that does not begin with one";
            "a,b\"c" => "line 1: bare \" in a field that does not begin with one";
            "\n\"a\"b,c" => "line 2: text after the \" that closes a field";
            "a\n\n\"b\n" => ["a"] "line 3: a quoted field is not closed";
        }
    }

    #[test]
    fn rows_become_users() {
        let text = "t1,alice,1,\"dev,ops\"\nt2,bob,2\nt3,eve,,\"\"\n\nt4,system:anonymous,,x\n";
        let (table, warnings) = TokenFile::parse(text).unwrap();
        assert_eq!((table.len(), warnings), (4, vec![]));
        let user = |token| table.find(token).map(|u| (u.name(), u.uid(), u.groups().join("|")));
        let authenticated = |groups: &str| format!("{groups}system:authenticated");
        assert_eq!(user("t1"), Some(("alice", "1", authenticated("dev|ops|"))));
        assert_eq!(user("t2"), Some(("bob", "2", authenticated(""))));
        assert_eq!(user("t3"), Some(("eve", "", authenticated("|"))));
        assert_eq!(user("t4"), Some(("system:anonymous", "", "x".to_owned())));
        for unknown in ["", "t", "t11", "T1", &"t".repeat(1 << 20)] {
            assert_eq!(user(unknown), None, "{unknown:.10}");
        }
    }

    #[test]
    fn the_last_of_two_equal_tokens_counts() {
        let (table, warnings) = TokenFile::parse("t,alice,\n,nobody,\nt,bob,\nt u,eve,\n").unwrap();
        assert_eq!(table.find("t").unwrap().name(), "bob");
        assert_eq!(
            warnings,
            [
                "line 2: the token is empty, the row is skipped",
                "line 3: the token stands in an earlier row as well, this one counts",
                "line 4: the token holds a space or control character and can never match",
            ]
        );
    }

    #[test]
    fn every_bad_row_is_named() {
        let errors =
            TokenFile::parse("t\nt,u\na,,\nb, dave ,u\nc,eve,,\"a, b\"\nd,eve,\"x\ny\"\n").unwrap_err();
        let lines: Vec<_> = errors.iter().map(|e| e.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6], "{errors:?}");
        assert_eq!(
            errors[1].to_string(),
            "line 2: expected at least 3 columns (token, user name, user uid), found 2"
        );
        assert_eq!(errors[2].to_string(), "line 3: the user name is empty");
        assert!(
            errors.iter().all(|e| !e.to_string().contains("t,")),
            "a token must not be shown: {errors:?}"
        );
    }

    #[test]
    fn nothing_shows_a_token() {
        let (table, _) = TokenFile::parse("sesame,alice,1").unwrap();
        assert_eq!(format!("{table:?}"), "TokenFile { tokens: 1, .. }");
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(fields in prop::collection::vec("[a-z\", \n]{0,6}", 1..5)) {
            let text = fields.iter().map(|f| format!("\"{}\"", f.replace('"', "\"\""))).collect::<Vec<_>>().join(",");
            prop_assert_eq!(rows(&text), vec![Ok(fields)]);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a\",\r\n ]{0,40}") {
            let _ = rows(&text);
        }
    }
}
