//! The rules, one function each.

use std::fmt;

use crate::imports;
use crate::scan::{Line, Source, find_words, has_word};

const LINE_MAX_CHARS: usize = 100;
const FILE_MAX_LINES: usize = 700;
const LIB_MAX_LINES: usize = 150;
const EXAMPLE_MAX_LINES: usize = 100;
const KV_MAX_LINES: usize = 300;
const FUNCTION_MAX_LINES: usize = 70;
const FUNCTION_MEDIAN_LINES: usize = 8;

/// Where a rule is broken.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// From 1.
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.detail)
    }
}

/// Indices of lines, each with what is wrong there.
type Faults = Vec<(usize, String)>;
type Check = fn(&Source) -> Faults;

pub(crate) const RULES: &[(&str, Check)] = &[
    ("line of 100", line_length),
    ("file of 700", |source| file_length(source, FILE_MAX_LINES)),
    ("lib.rs of 150", lib_length),
    ("example of 100", example_length),
    ("example opens", example_opening),
    ("function of 70 lines", function_length),
    ("unfinished", unfinished),
    ("shared ownership", shared_ownership),
    ("unsafe outside sys", unsafe_outside_sys),
    ("unsafe fn", unsafe_functions),
    ("SAFETY", undocumented_unsafe),
    ("platform", platform),
    ("libc", libc_outside_sys),
    ("clock or socket", clocks_and_sockets),
    ("getter", getters),
    ("private modules", private_modules),
    ("import", imports::check),
];

/// Checks one file.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let findings = RULES.iter().flat_map(|(rule, check)| {
        let faults = check(source).into_iter();
        faults.map(|(index, detail)| finding(&source.path, index, rule, detail))
    });
    findings.collect()
}

/// Checks what is counted over several files.
pub(crate) fn check_totals(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let median = median_function(sources);
    if median > FUNCTION_MEDIAN_LINES {
        let detail = format!("half of all functions have {median} lines or more");
        findings.push(finding("src", 0, "median of 8", detail));
    }
    let in_kv = sources.iter().filter(|source| source.is_in("examples/kv/"));
    let kv_lines: usize = in_kv.map(|source| source.lines.len()).sum();
    if kv_lines > KV_MAX_LINES {
        findings.push(finding("examples/kv", 0, "kv of 300", format!("{kv_lines} lines")));
    }
    findings
}

fn finding(path: &str, index: usize, rule: &'static str, detail: String) -> Finding {
    Finding { path: path.to_owned(), line: index + 1, rule, detail }
}

fn median_function(sources: &[Source]) -> usize {
    let mut lengths = Vec::new();
    for source in sources.iter().filter(|source| source.is_in("src/")) {
        let functions = source.functions().into_iter();
        let shipped = functions.filter(|function| !source.lines[function.start].in_test);
        lengths.extend(shipped.filter_map(|function| function.len));
    }
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(0)
}

fn line_length(source: &Source) -> Faults {
    lines_where(source, |line| {
        let chars = line.raw.chars().count();
        (chars > LINE_MAX_CHARS).then(|| format!("{chars} characters"))
    })
}

fn file_length(source: &Source, max: usize) -> Faults {
    let count = source.lines.len();
    if count > max { vec![(max, format!("{count} lines"))] } else { Vec::new() }
}

fn lib_length(source: &Source) -> Faults {
    if source.path != "src/lib.rs" {
        return Vec::new();
    }
    file_length(source, LIB_MAX_LINES)
}

fn example_length(source: &Source) -> Faults {
    if !source.is_in("examples/") || source.is_in("examples/kv/") {
        return Vec::new();
    }
    file_length(source, EXAMPLE_MAX_LINES)
}

fn example_opening(source: &Source) -> Faults {
    let opens = source.lines.first().is_some_and(|line| line.comment.starts_with("//!"));
    if !source.is_in("examples/") || opens {
        return Vec::new();
    }
    vec![(0, "say what it shows and how to try it in `//!`".to_owned())]
}

fn function_length(source: &Source) -> Faults {
    let too_long = source.functions().into_iter().filter_map(|function| match function.len {
        Some(len) if len <= FUNCTION_MAX_LINES => None,
        Some(len) => Some((function.start, format!("{len} lines"))),
        None => Some((function.start, "its end is not at its indentation: rustfmt?".to_owned())),
    });
    too_long.collect()
}

fn unfinished(source: &Source) -> Faults {
    let mut faults = forbid(source, &["dbg!", "todo!", "unimplemented!"], |_| true);
    faults.extend(lines_where(source, |line| {
        let word =
            ["TODO", "FIXME", "XXX"].into_iter().find(|word| has_word(&line.comment, word))?;
        Some(format!("`{word}`"))
    }));
    faults
}

fn shared_ownership(source: &Source) -> Faults {
    if !source.is_in("src/") {
        return Vec::new();
    }
    forbid(source, &["RefCell", "Rc"], |_| true)
}

fn unsafe_outside_sys(source: &Source) -> Faults {
    if !source.is_in("src/") || source.is_in("src/sys/") {
        return Vec::new();
    }
    forbid(source, &["unsafe"], |_| true)
}

fn unsafe_functions(source: &Source) -> Faults {
    if !source.is_in("src/sys/") {
        return Vec::new();
    }
    forbid(source, &["unsafe fn", "unsafe extern \"\" fn"], |_| true)
}

fn undocumented_unsafe(source: &Source) -> Faults {
    let blocks = source.lines.iter().enumerate().filter(|(index, line)| {
        let opens = ["unsafe {", "unsafe impl"].into_iter().any(|word| has_word(&line.code, word));
        opens && !has_safety_note(&source.lines[..*index])
    });
    blocks.map(|(index, _)| (index, "no `// SAFETY:` above".to_owned())).collect()
}

/// Looks for the note above the statement that comes after `lines`.
fn has_safety_note(lines: &[Line]) -> bool {
    for line in lines.iter().rev() {
        let code = line.code.trim();
        if code.is_empty() && line.comment.contains("SAFETY:") {
            return true;
        }
        let is_blank = code.is_empty() && line.comment.is_empty();
        if is_blank || code.ends_with([';', '{', '}', ',']) {
            return false;
        }
    }
    false
}

fn platform(source: &Source) -> Faults {
    let may =
        source.is_in("src/sys/") || ["src/backend/mod.rs", "src/lib.rs"].contains(&&*source.path);
    if !source.is_in("src/") || may {
        return Vec::new();
    }
    let code = &source.code();
    let words = ["cfg(", "cfg!(", "cfg_attr("];
    let starts = words.into_iter().flat_map(|word| find_words(code, word));
    let conditions = starts.map(|at| (at, condition(&code[at..])));
    // A test may be about one platform alone, wherever it is.
    let shipped = conditions.filter(|(_, of)| !of.starts_with("cfg(all(test,"));
    let faults = shipped.filter(|(_, of)| names_platform(of)).map(|(at, _)| {
        let line = code[..at].matches('\n').count();
        (line, "platforms differ in `sys` only".to_owned())
    });
    faults.collect()
}

fn names_platform(condition: &str) -> bool {
    let names = ["target_os", "target_family", "target_vendor", "unix", "windows"];
    names.into_iter().any(|name| has_word(condition, name))
}

/// Returns the text up to the parenthesis that closes its first one.
fn condition(code: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return &code[..at],
            ')' => depth -= 1,
            _ => {}
        }
    }
    code
}

fn libc_outside_sys(source: &Source) -> Faults {
    if !source.is_in("src/") || source.is_in("src/sys/") {
        return Vec::new();
    }
    forbid(source, &["libc"], |_| true)
}

fn clocks_and_sockets(source: &Source) -> Faults {
    if !source.is_in("src/") || source.is_in("src/sys/") || source.is_in("src/backend/") {
        return Vec::new();
    }
    let clocks = ["Instant", "SystemTime"];
    let sockets =
        ["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener", "socket2"];
    forbid(source, &[&clocks[..], &sockets].concat(), |line| !line.in_test)
}

fn getters(source: &Source) -> Faults {
    if !source.is_in("src/") {
        return Vec::new();
    }
    lines_where(source, |line| {
        let (before, name) = line.code.split_once("fn get_")?;
        let is_std_name = name.starts_with("mut(") || name.starts_with("mut<");
        (before.trim_start().starts_with("pub") && !is_std_name).then(|| "drop `get_`".to_owned())
    })
}

fn private_modules(source: &Source) -> Faults {
    if source.is_in("src/") {
        return Vec::new();
    }
    // An example is public: a test may run it as it is. What supports tests is for all of them.
    let may = |line: &Line| ["/examples/", "support/"].iter().any(|of| line.raw.contains(of));
    forbid(source, &["#[path"], |line| !may(line))
}

/// Finds the words in the code of the lines that `applies` chooses.
fn forbid(source: &Source, words: &[&str], applies: impl Fn(&Line) -> bool) -> Faults {
    lines_where(source, |line| {
        let word = words.iter().find(|word| has_word(&line.code, word))?;
        applies(line).then(|| format!("`{word}`"))
    })
}

fn lines_where(source: &Source, fault: impl Fn(&Line) -> Option<String>) -> Faults {
    let lines = source.lines.iter().enumerate();
    lines.filter_map(|(index, line)| Some((index, fault(line)?))).collect()
}
