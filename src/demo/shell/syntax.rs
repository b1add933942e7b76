//! A shell command line as a list of pipelines.

use std::{iter::Peekable, str::Chars};

/// A pipeline and when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) connector: Connector,
    /// Never empty.
    pub(super) pipeline: Vec<Simple>,
}

/// What a step asks of the step before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connector {
    Always,
    IfSucceeded,
    IfFailed,
}

/// A command, its arguments and redirections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Simple {
    pub(super) words: Vec<Word>,
    pub(super) redirects: Vec<Redirect>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) fd: u8,
    pub(super) direction: Direction,
    pub(super) target: Word,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
    Append,
    /// `>&`: the target is another descriptor.
    Duplicate,
}

/// One word before its variables are replaced.
pub(super) type Word = Vec<Part>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// As it stands; quotes are gone.
    Text(String),
    Variable {
        name: String,
        quoted: bool,
    },
}

/// Reads a command line; the error is what a shell says after `Syntax error: `.
pub(super) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut reader = Reader { chars: text.chars().peekable() };
    let mut steps = Vec::new();
    let mut connector = Connector::Always;
    let mut pipeline = Vec::new();
    let mut simple = Simple::default();
    loop {
        let token = reader.token()?;
        let ends_command = !matches!(token, Token::Word(_) | Token::Redirect(..));
        if ends_command && simple == Simple::default() {
            match token {
                // An empty line, or a separator after a complete command.
                Token::End if pipeline.is_empty() && connector == Connector::Always => return Ok(steps),
                Token::Newline if pipeline.is_empty() => continue,
                Token::Newline => continue,
                Token::End => return Err("end of file unexpected".to_owned()),
                other => return Err(format!("{:?} unexpected", other.text())),
            }
        }
        match token {
            Token::Word(word) => {
                if let ([], [Part::Text(text)]) = (&simple.words[..], &word[..])
                    && ["if", "for", "while", "until", "case", "function", "{", "(", "!"]
                        .contains(&text.as_str())
                {
                    return Err(format!("{text:?} is more than this small shell knows"));
                }
                simple.words.push(word);
            }
            Token::Redirect(fd, direction) => match reader.token()? {
                Token::Word(target) => simple.redirects.push(Redirect { fd, direction, target }),
                other => return Err(format!("{:?} unexpected", other.text())),
            },
            Token::Pipe => pipeline.push(std::mem::take(&mut simple)),
            Token::End | Token::Newline | Token::Semicolon | Token::And | Token::Or => {
                pipeline.push(std::mem::take(&mut simple));
                steps.push(Step { connector, pipeline: std::mem::take(&mut pipeline) });
                connector = match token {
                    Token::And => Connector::IfSucceeded,
                    Token::Or => Connector::IfFailed,
                    Token::End => return Ok(steps),
                    _ => Connector::Always,
                };
            }
        }
    }
}

/// `NAME=value` as a name and the value's word.
pub(super) fn assignment(word: &Word) -> Option<(String, Word)> {
    let (Part::Text(first), rest) = word.split_first()? else { return None };
    let (name, value) = first.split_once('=')?;
    let starts_well = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    if !starts_well || !name.chars().all(is_name) {
        return None;
    }
    let mut word = vec![Part::Text(value.to_owned())];
    word.extend_from_slice(rest);
    Some((name.to_owned(), word))
}

enum Token {
    Word(Word),
    Redirect(u8, Direction),
    Pipe,
    And,
    Or,
    Semicolon,
    Newline,
    End,
}

impl Token {
    fn text(&self) -> &'static str {
        match self {
            Self::Word(_) => "word",
            Self::Redirect(_, Direction::Read) => "<",
            Self::Redirect(..) => ">",
            Self::Pipe => "|",
            Self::And => "&&",
            Self::Or => "||",
            Self::Semicolon => ";",
            Self::Newline => "newline",
            Self::End => "end of file",
        }
    }
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn token(&mut self) -> Result<Token, String> {
        while self.chars.next_if(|c| matches!(c, ' ' | '\t' | '\r')).is_some() {}
        if self.chars.peek() == Some(&'#') {
            while self.chars.next_if(|c| *c != '\n').is_some() {}
        }
        let Some(&first) = self.chars.peek() else { return Ok(Token::End) };
        let doubled = |reader: &mut Self, c| {
            reader.chars.next();
            reader.chars.next_if_eq(&c).is_some()
        };
        match first {
            '\n' => {
                self.chars.next();
                Ok(Token::Newline)
            }
            ';' => match doubled(self, ';') {
                true => Err("\";;\" unexpected".to_owned()),
                false => Ok(Token::Semicolon),
            },
            '|' => Ok(if doubled(self, '|') { Token::Or } else { Token::Pipe }),
            '&' => match doubled(self, '&') {
                true => Ok(Token::And),
                false => Err("\"&\" is more than this small shell knows".to_owned()),
            },
            '<' => match doubled(self, '<') {
                true => Err("\"<<\" is more than this small shell knows".to_owned()),
                false => Ok(Token::Redirect(0, Direction::Read)),
            },
            '>' => Ok(self.output(1)),
            '(' | ')' | '`' => Err(format!("\"{first}\" is more than this small shell knows")),
            _ => self.word(),
        }
    }

    fn output(&mut self, fd: u8) -> Token {
        self.chars.next();
        let direction = match self.chars.peek() {
            Some('>') => Direction::Append,
            Some('&') => Direction::Duplicate,
            _ => return Token::Redirect(fd, Direction::Write),
        };
        self.chars.next();
        Token::Redirect(fd, direction)
    }

    fn word(&mut self) -> Result<Token, String> {
        let mut word = Word::new();
        // Text that is the same whether quoted or not runs together into one part.
        let mut text: Option<String> = None;
        let mut plain = true;
        while let Some(&c) = self.chars.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '|' | '&' | '<' | '(' | ')' => break,
                '>' => {
                    return match text.as_deref() {
                        Some("1") if plain && word.is_empty() => Ok(self.output(1)),
                        Some("2") if plain && word.is_empty() => Ok(self.output(2)),
                        _ => Ok(finished(word, text)),
                    };
                }
                '`' => return Err("\"`\" is more than this small shell knows".to_owned()),
                _ => {}
            }
            self.chars.next();
            match c {
                '\'' => {
                    plain = false;
                    let into = text.get_or_insert_default();
                    loop {
                        match self.chars.next() {
                            Some('\'') => break,
                            Some(c) => into.push(c),
                            None => return Err("Unterminated quoted string".to_owned()),
                        }
                    }
                }
                '"' => {
                    plain = false;
                    text.get_or_insert_default();
                    loop {
                        match self.chars.next() {
                            Some('"') => break,
                            Some('$') => self.variable(true, &mut word, &mut text)?,
                            Some('\\') => match self.chars.next() {
                                Some(c @ ('"' | '\\' | '$' | '`')) => text.get_or_insert_default().push(c),
                                Some('\n') => {}
                                Some(c) => text.get_or_insert_default().extend(['\\', c]),
                                None => return Err("Unterminated quoted string".to_owned()),
                            },
                            Some(c) => text.get_or_insert_default().push(c),
                            None => return Err("Unterminated quoted string".to_owned()),
                        }
                    }
                }
                '\\' => {
                    plain = false;
                    match self.chars.next() {
                        Some('\n') | None => {}
                        Some(c) => text.get_or_insert_default().push(c),
                    }
                }
                '$' => self.variable(false, &mut word, &mut text)?,
                c => text.get_or_insert_default().push(c),
            }
        }
        Ok(finished(word, text))
    }

    /// What follows a `$`.
    fn variable(&mut self, quoted: bool, word: &mut Word, text: &mut Option<String>) -> Result<(), String> {
        let name = match self.chars.peek() {
            Some('(') => return Err("\"$(\" is more than this small shell knows".to_owned()),
            Some('{') => {
                self.chars.next();
                let mut name = String::new();
                loop {
                    match self.chars.next() {
                        Some('}') if !name.is_empty() => break name,
                        Some(c) if is_name(c) => name.push(c),
                        _ => return Err("Bad substitution".to_owned()),
                    }
                }
            }
            Some(c @ ('?' | '$' | '#')) => {
                let name = c.to_string();
                self.chars.next();
                name
            }
            _ => {
                let mut name = String::new();
                while let Some(c) = self.chars.next_if(|c| is_name(*c)) {
                    name.push(c);
                }
                name
            }
        };
        if name.is_empty() {
            text.get_or_insert_default().push('$');
        } else {
            word.extend(text.take().map(Part::Text));
            word.push(Part::Variable { name, quoted });
        }
        Ok(())
    }
}

fn finished(mut word: Word, text: Option<String>) -> Token {
    word.extend(text.map(Part::Text));
    Token::Word(word)
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}
