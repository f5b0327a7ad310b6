//! Takes a source file apart: code, comments, test code and functions.
//!
//! No parser: it counts on the layout that rustfmt gives.

/// One line. What is inside of string and character literals is in neither `code` nor `comment`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Line {
    pub(crate) raw: String,
    pub(crate) code: String,
    pub(crate) comment: String,
    pub(crate) in_test: bool,
}

impl Line {
    /// Returns the width of the indentation; `None` for a line without code.
    fn indent(&self) -> Option<usize> {
        self.code.find(|c: char| !c.is_whitespace())
    }
}

#[derive(Debug)]
pub(crate) struct Function {
    /// The index of its first line.
    pub(crate) start: usize,
    /// From the line of `fn` to that of the closing brace; `None` if that is not found.
    pub(crate) len: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the package, with slashes.
    pub(crate) path: String,
    pub(crate) lines: Vec<Line>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Source {
        let mut source = Source { path: path.to_owned(), lines: Lexer::run(text) };
        source.mark_tests();
        source
    }

    pub(crate) fn is_in(&self, dir: &str) -> bool {
        self.path.starts_with(dir)
    }

    /// Returns the code of all lines, joined.
    pub(crate) fn code(&self) -> String {
        self.lines.iter().flat_map(|line| [line.code.as_str(), "\n"]).collect()
    }

    /// Returns every function that has a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let starts = (0..self.lines.len()).filter(|line| is_function(&self.lines[*line].code));
        starts.filter_map(|start| self.function(start)).collect()
    }

    fn function(&self, start: usize) -> Option<Function> {
        let indent = self.lines[start].indent();
        let mut ends =
            (start..self.lines.len()).filter(|line| self.lines[*line].indent() == indent);
        let is_end = |line: &usize| {
            let code = self.lines[*line].code.trim();
            code.ends_with(';') || code.starts_with('}') || (*line == start && code.ends_with('}'))
        };
        match ends.find(is_end) {
            Some(end) if self.lines[end].code.trim_end().ends_with(';') => None,
            end => Some(Function { start, len: end.map(|end| end - start + 1) }),
        }
    }

    /// Marks the items under `#[cfg(test)]`, and whole files of tests.
    fn mark_tests(&mut self) {
        let whole = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        self.lines.iter_mut().for_each(|line| line.in_test = whole);
        for start in 0..self.lines.len() {
            let code = self.lines[start].code.trim();
            if code.starts_with("#[cfg(test)]") || code.starts_with("#[cfg(all(test") {
                let end = self.item_end(start);
                self.lines[start..=end].iter_mut().for_each(|line| line.in_test = true);
            }
        }
    }

    /// Returns the last line of the item whose attribute is in line `start`.
    fn item_end(&self, start: usize) -> usize {
        let indent = self.lines[start].indent();
        let is_end = |line: &usize| {
            let code = self.lines[*line].code.trim_end();
            self.lines[*line].indent() == indent && code.ends_with([';', '}', ','])
        };
        (start..self.lines.len()).find(is_end).unwrap_or(self.lines.len() - 1)
    }
}

fn is_function(code: &str) -> bool {
    let qualifies = |word: &str| {
        word.starts_with("pub")
            || word.starts_with('"')
            || ["const", "async", "unsafe", "extern", "default"].contains(&word)
    };
    code.split_whitespace().find(|word| !qualifies(word)) == Some("fn")
}

/// Returns where `word` stands by itself in `text`, not as a part of a longer name.
pub(crate) fn find_words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let goes_on_before =
        move |at: usize| word.starts_with(is_name_char) && text[..at].ends_with(is_name_char);
    let goes_on_after = move |at: usize| {
        word.ends_with(is_name_char) && text[at + word.len()..].starts_with(is_name_char)
    };
    let matches = text.match_indices(word).map(|(at, _)| at);
    matches.filter(move |at| !goes_on_before(*at) && !goes_on_after(*at))
}

pub(crate) fn has_word(text: &str, word: &str) -> bool {
    find_words(text, word).next().is_some()
}

pub(crate) fn is_name_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text,
    RawText { hashes: usize },
}

/// Where a character goes.
#[derive(Clone, Copy)]
enum To {
    Code,
    Comment,
    Nowhere,
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    state: State,
    lines: Vec<Line>,
}

impl Lexer {
    fn run(text: &str) -> Vec<Line> {
        let mut lexer = Lexer {
            chars: text.chars().collect(),
            at: 0,
            state: State::Code,
            lines: vec![Line::default()],
        };
        while lexer.at < lexer.chars.len() {
            lexer.step();
        }
        if text.ends_with('\n') {
            lexer.lines.pop();
        }
        lexer.lines
    }

    fn step(&mut self) {
        match self.state {
            State::Code => self.code(),
            State::LineComment => self.line_comment(),
            State::BlockComment { depth } => self.block_comment(depth),
            State::Text => self.text(),
            State::RawText { hashes } => self.raw_text(hashes),
        }
    }

    fn code(&mut self) {
        if self.sees("//") {
            self.go(State::LineComment, 2, To::Comment);
        } else if self.sees("/*") {
            self.go(State::BlockComment { depth: 1 }, 2, To::Comment);
        } else if self.sees("\"") {
            self.go(State::Text, 1, To::Code);
        } else if let Some(hashes) = self.raw_hashes() {
            self.go(State::RawText { hashes }, hashes + 2, To::Code);
        } else if let Some(len) = self.char_literal() {
            self.go(State::Code, len, To::Nowhere);
        } else {
            self.go(State::Code, 1, To::Code);
        }
    }

    fn line_comment(&mut self) {
        let next = if self.sees("\n") { State::Code } else { State::LineComment };
        self.go(next, 1, To::Comment);
    }

    fn block_comment(&mut self, depth: usize) {
        if self.sees("/*") {
            self.go(State::BlockComment { depth: depth + 1 }, 2, To::Comment);
        } else if self.sees("*/") {
            let inner = State::BlockComment { depth: depth - 1 };
            self.go(if depth == 1 { State::Code } else { inner }, 2, To::Comment);
        } else {
            self.go(self.state, 1, To::Comment);
        }
    }

    fn text(&mut self) {
        if self.sees("\\") {
            self.go(State::Text, 2, To::Nowhere);
        } else if self.sees("\"") {
            self.go(State::Code, 1, To::Code);
        } else {
            self.go(State::Text, 1, To::Nowhere);
        }
    }

    fn raw_text(&mut self, hashes: usize) {
        if self.sees(&format!("\"{}", "#".repeat(hashes))) {
            self.go(State::Code, hashes + 1, To::Code);
        } else {
            self.go(self.state, 1, To::Nowhere);
        }
    }

    fn sees(&self, what: &str) -> bool {
        what.chars().enumerate().all(|(index, c)| self.chars.get(self.at + index) == Some(&c))
    }

    /// Returns how many hashes the raw string has that begins here.
    fn raw_hashes(&self) -> Option<usize> {
        let code = &self.lines.last()?.code;
        let word = code.rsplit(|c| !is_name_char(c)).next()?;
        if !self.sees("r") || !["", "b", "c"].contains(&word) {
            return None;
        }
        let after = &self.chars[self.at + 1..];
        let hashes = after.iter().take_while(|c| **c == '#').count();
        (after.get(hashes) == Some(&'"')).then_some(hashes)
    }

    /// Returns the length of the character literal that begins here; a lifetime is none.
    fn char_literal(&self) -> Option<usize> {
        let rest = &self.chars[self.at..];
        match rest {
            ['\'', '\\', _, after @ ..] => Some(after.iter().position(|c| *c == '\'')? + 4),
            ['\'', _, '\'', ..] => Some(3),
            _ => None,
        }
    }

    /// Takes `len` characters, and goes on in another state.
    fn go(&mut self, state: State, len: usize, to: To) {
        let end = self.chars.len().min(self.at + len);
        for index in self.at..end {
            self.put(self.chars[index], to);
        }
        self.at = end;
        self.state = state;
    }

    fn put(&mut self, c: char, to: To) {
        if c == '\n' {
            return self.lines.push(Line::default());
        }
        let line = self.lines.last_mut().expect("there is a first line");
        line.raw.push(c);
        match to {
            To::Code => line.code.push(c),
            To::Comment => line.comment.push(c),
            To::Nowhere => {}
        }
    }
}

#[test]
fn code_and_comments_are_told_apart() {
    let text = "a /* b\nc */ d // e\n\"f // \\\" g\" 'h' '\\u{1}' 'i j r\"k\\\" l r#\"m\"n\"# o";
    let lines = Source::parse("a.rs", text).lines;
    let [code, comments] = [
        lines.iter().map(|line| line.code.as_str()).collect::<Vec<_>>(),
        lines.iter().map(|line| line.comment.as_str()).collect::<Vec<_>>(),
    ];
    assert_eq!(code, ["a ", " d ", "\"\"   'i j r\"\" l r#\"\"# o"]);
    assert_eq!(comments, ["/* b", "c */// e", ""]);
    assert_eq!(lines.iter().map(|line| line.raw.as_str()).collect::<Vec<_>>().join("\n"), text);
}

#[test]
fn functions_are_found_with_their_lengths() {
    let text = "\
trait A {
    fn without_body(&self);
    fn of_one_line(&self) {}
    fn of_several(
        &self,
    ) -> u8
    where
        Self: Sized,
    {
        let f: fn() = g;
        1
    }
}
pub(crate) const unsafe extern \"C\" fn h() {
    fn inner() {
    }
}
";
    let functions = Source::parse("a.rs", text).functions();
    let found: Vec<_> = functions.iter().map(|f| (f.start + 1, f.len)).collect();
    assert_eq!(found, [(3, Some(1)), (4, Some(9)), (14, Some(4)), (15, Some(2))]);
}

#[test]
fn test_code_ends_with_its_item() {
    let text = "\
#[cfg(test)]
use a::{
    b,
};
fn f() {}
impl A {
    #[cfg(test)]
    fn g(
        &self,
    ) {
    }
    fn h() {}
}
";
    let lines = Source::parse("src/a.rs", text).lines;
    let marked: Vec<usize> = (1..).zip(&lines).filter(|(_, l)| l.in_test).map(|(n, _)| n).collect();
    assert_eq!(marked, [1, 2, 3, 4, 7, 8, 9, 10, 11]);
}
