//! What a key-value server should answer: commands, how they look on the wire, and their replies
//! by a map that nobody else writes to.

use std::collections::BTreeMap;

pub(crate) type Word = Vec<u8>;

/// The key that all clients count up.
pub(crate) const SHARED: &[u8] = b"shared";

/// A command of one client. Keys are its own, but for the shared counter's.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Set(Word, Word),
    Get(Word),
    SetMany(Vec<(Word, Word)>),
    GetMany(Vec<Word>),
    Delete(Vec<Word>),
    Exists(Vec<Word>),
    Increment(Word),
    IncrementShared,
    Ping,
    Echo(Word),
    /// Enter at a terminal: no command, no reply.
    Nothing,
    Unknown,
    TooFewWords,
    /// The server says goodbye and closes; so it does after what is no command.
    Quit,
    Malformed,
}

/// What should come back for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Exact(Vec<u8>),
    /// An integer that depends on what other clients did.
    Count,
}

impl Command {
    /// Returns the command as bytes, as a line if that is wanted and possible.
    pub(crate) fn encoded(&self, as_line: bool) -> Vec<u8> {
        let words = self.words();
        // Lines are for typing: short, and of words without blanks.
        let is_plain =
            |word: &Word| (1..100).contains(&word.len()) && word.iter().all(u8::is_ascii_graphic);
        match self {
            Command::Nothing => b"\r\n".to_vec(),
            // As long as the shortest word: the server waits for so much before it looks.
            Command::Malformed => b"*1\r\n:1000\r\n".to_vec(),
            _ if as_line && words.iter().all(is_plain) => [&words.join(&b' '), &b"\n"[..]].concat(),
            _ => array(&words),
        }
    }

    fn words(&self) -> Vec<Word> {
        let word = |text: &str| text.as_bytes().to_vec();
        match self {
            Command::Set(key, value) => vec![word("SET"), key.clone(), value.clone()],
            Command::Get(key) => vec![word("get"), key.clone()],
            Command::SetMany(pairs) => {
                let pairs = pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]);
                [word("MSET")].into_iter().chain(pairs).collect()
            }
            Command::GetMany(keys) => [vec![word("mGet")], keys.clone()].concat(),
            Command::Delete(keys) => [vec![word("del")], keys.clone()].concat(),
            Command::Exists(keys) => [vec![word("exists")], keys.clone()].concat(),
            Command::Increment(key) => vec![word("incr"), key.clone()],
            Command::IncrementShared => vec![word("INCR"), SHARED.to_vec()],
            Command::Ping => vec![word("PING")],
            Command::Echo(message) => vec![word("echo"), message.clone()],
            Command::Unknown => vec![word("FROBNICATE"), word("x")],
            Command::TooFewWords => vec![word("get")],
            Command::Quit => vec![word("quit")],
            Command::Nothing | Command::Malformed => Vec::new(),
        }
    }
}

/// What the store holds for one client.
#[derive(Debug, Default)]
pub(crate) struct Model {
    values: BTreeMap<Word, Word>,
}

impl Model {
    /// Runs a command and returns its reply.
    pub(crate) fn run(&mut self, command: &Command) -> Reply {
        let text = match command {
            Command::IncrementShared => return Reply::Count,
            Command::Set(key, value) => self.set(&[(key.clone(), value.clone())]),
            Command::SetMany(pairs) => self.set(pairs),
            Command::Get(key) => self.get(key),
            Command::GetMany(keys) => {
                let values = keys.iter().flat_map(|key| self.get(key));
                format!("*{}\r\n", keys.len()).into_bytes().into_iter().chain(values).collect()
            }
            Command::Delete(keys) => {
                integer(keys.iter().filter(|key| self.values.remove(*key).is_some()).count())
            }
            Command::Exists(keys) => {
                integer(keys.iter().filter(|key| self.values.contains_key(*key)).count())
            }
            Command::Increment(key) => self.increment(key),
            Command::Ping => line("+PONG"),
            Command::Echo(message) => bulk(message),
            Command::Nothing => Vec::new(),
            Command::Unknown => line("-ERR unknown command 'frobnicate'"),
            Command::TooFewWords => line("-ERR wrong number of arguments for 'get' command"),
            Command::Quit => line("+OK"),
            Command::Malformed => line("-ERR Protocol error: expected '$'"),
        };
        Reply::Exact(text)
    }

    fn set(&mut self, pairs: &[(Word, Word)]) -> Vec<u8> {
        self.values.extend(pairs.iter().cloned());
        line("+OK")
    }

    fn get(&self, key: &Word) -> Vec<u8> {
        self.values.get(key).map_or_else(|| line("$-1"), |value| bulk(value))
    }

    fn increment(&mut self, key: &Word) -> Vec<u8> {
        let old = self.values.get(key).map_or(&b"0"[..], Vec::as_slice);
        let old = std::str::from_utf8(old).unwrap_or("no number");
        let Ok(old) = old.parse::<i64>() else {
            return line("-ERR value is not an integer or out of range");
        };
        self.values.insert(key.clone(), (old + 1).to_string().into_bytes());
        line(&format!(":{}", old + 1))
    }
}

/// What was found in the bytes that a client received.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) counts: Vec<u64>,
    /// Replies that were expected and are not there, or not whole.
    pub(crate) missing: usize,
}

/// Compares what was received with the replies that should come, in order.
///
/// # Panics
///
/// If anything else was received than a beginning of them.
pub(crate) fn compare(received: &[u8], expected: &[Reply]) -> Compared {
    let (mut rest, mut counts) = (received, Vec::new());
    for (index, reply) in expected.iter().enumerate() {
        let length = match reply {
            Reply::Exact(text) => {
                let common = text.len().min(rest.len());
                let (got, wanted) = (rest[..common].escape_ascii(), text.escape_ascii());
                assert!(rest[..common] == text[..common], "reply {index}: {wanted}, got {got}");
                (common == text.len()).then_some(common)
            }
            Reply::Count => count(rest, index, &mut counts),
        };
        let Some(length) = length else {
            return Compared { counts, missing: expected.len() - index };
        };
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "{} bytes behind the last reply", rest.len());
    Compared { counts, missing: 0 }
}

/// Reads an integer reply, if it is whole; returns its length.
fn count(rest: &[u8], index: usize, counts: &mut Vec<u64>) -> Option<usize> {
    let is_one = rest.first().is_none_or(|kind| *kind == b':');
    assert!(is_one, "reply {index}: a count, got {}", rest[..rest.len().min(40)].escape_ascii());
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let digits = std::str::from_utf8(&rest[1..length]).expect("digits");
    counts.push(digits.parse().expect("a count"));
    Some(length + 2)
}

fn array(words: &[Word]) -> Vec<u8> {
    let words_encoded: Vec<u8> = words.iter().flat_map(|word| bulk(word)).collect();
    [format!("*{}\r\n", words.len()).as_bytes(), &words_encoded].concat()
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn line(text: &str) -> Vec<u8> {
    format!("{text}\r\n").into_bytes()
}

fn integer(number: usize) -> Vec<u8> {
    line(&format!(":{number}"))
}

#[test]
fn a_beginning_of_the_replies_is_accepted_and_counted() {
    let expected = [Reply::Exact(b"+OK\r\n".to_vec()), Reply::Count, Reply::Count];
    assert_eq!(compare(b"+OK\r\n:12\r\n:1", &expected), Compared { counts: vec![12], missing: 1 });
    assert_eq!(compare(b"+O", &expected), Compared { counts: vec![], missing: 3 });
}

#[test]
#[should_panic(expected = "reply 0")]
fn a_wrong_reply_is_named() {
    compare(b"+NO\r\n", &[Reply::Exact(b"+OK\r\n".to_vec())]);
}

#[test]
#[should_panic(expected = "2 bytes behind the last reply")]
fn a_reply_too_many_is_named() {
    compare(b"+OK\r\n+O", &[Reply::Exact(b"+OK\r\n".to_vec())]);
}
