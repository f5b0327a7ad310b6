//! The parser of the example `kv`: any bytes, any pieces, and what is written is what is read.

#[allow(dead_code, reason = "a part is tested")]
#[path = "../../../examples/kv/resp.rs"]
mod parser;

use parser::{COMMAND_MAX_BYTES, Stop, parse};

use super::choices::Choices;

/// Plays the input: once as the stream itself, once as the choice of commands that are written.
///
/// # Panics
///
/// If the parser's answer depends on how much has arrived, or a command is read as another one.
pub fn check(input: &[u8]) {
    check_stream(input);
    check_written(&mut Choices::new(input));
}

/// Takes commands from a stream as it arrives: byte by byte where the parser asks for more.
fn check_stream(stream: &[u8]) {
    let mut rest = stream;
    loop {
        match parse(rest) {
            Ok((words, end)) => {
                assert!(end > 0 && end <= rest.len() && end <= COMMAND_MAX_BYTES + 2);
                let whole: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
                // No byte behind it changes it, and it is not there before its last one.
                let (alone, len) = parse(&rest[..end]).expect("it was there");
                assert_eq!((len, alone.len()), (end, whole.len()));
                assert!(alone.iter().zip(&whole).all(|(one, other)| one == other));
                check_prefixes(&rest[..end]);
                rest = &rest[end..];
                if rest.is_empty() {
                    return;
                }
            }
            Err(Stop::Incomplete(least)) => {
                assert!(least > rest.len(), "{least} are there");
                return check_prefixes(rest);
            }
            Err(Stop::Malformed(why)) => {
                let longer = [rest, b"\r\n0123456789"].concat();
                assert_eq!(parse(&longer).map(|_| ()), Err(Stop::Malformed(why)), "it stays so");
                return;
            }
        }
    }
}

/// Every beginning of what is no mistake is incomplete, and asks for no more than there will be.
fn check_prefixes(command: &[u8]) {
    let step = (command.len() / 64).max(1);
    for len in (0..command.len()).step_by(step) {
        match parse(&command[..len]) {
            Err(Stop::Incomplete(least)) => assert!(least > len),
            other => panic!("{len} of {} bytes: {other:?}", command.len()),
        }
    }
}

fn check_written(choices: &mut Choices<'_>) {
    let words: Vec<&[u8]> = (0..choices.below(6)).map(|_| choices.word()).collect();
    let mut bytes = Vec::new();
    parser::put(&mut bytes, '*', words.len());
    words.iter().for_each(|word| parser::put_bulk(&mut bytes, word));
    let (read, len) = parse(&bytes).expect("it was written");
    assert_eq!(len, bytes.len());
    assert!(read.len() == words.len() && read.iter().zip(&words).all(|(one, two)| one == two));
}

impl<'a> Choices<'a> {
    fn word(&mut self) -> &'a [u8] {
        let len = self.below(300);
        self.take(len)
    }
}
