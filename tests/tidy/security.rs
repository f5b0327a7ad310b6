//! What `SECURITY.md` says of the tree: every limit is shown by tests that exist, and the counts of
//! `unsafe` are the real ones.

use crate::contract::exists;
use crate::scan::{Source, find_words};

/// Below this the table of limits has lost its rows, or their form.
const LIMITS_MIN: usize = 18;

/// Finds what is wrong with the tables.
pub(crate) fn check(text: &str, sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("::"));
    let mut limits = 0;
    for row in rows {
        limits += 1;
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or("");
        let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        let unknown = tests.iter().filter(|test| !exists(test, sources));
        faults.extend(unknown.map(|test| format!("there is no test `{test}`")));
        if tests.is_empty() {
            faults.push(format!("shown by nothing: {row}"));
        }
        faults.extend(other_default(row, sources));
    }
    if limits < LIMITS_MIN {
        faults.push(format!("{limits} limits, at least {LIMITS_MIN} are expected"));
    }
    for path in told_files(text).filter(|path| !sources.iter().any(|source| source.path == *path)) {
        faults.push(format!("there is no file {path}"));
    }
    for source in sources.iter().filter(|source| source.is_in("src/")) {
        let (told, real) = (told(text, &source.path), count(source));
        if told != real {
            faults.push(format!("{}: {real} times unsafe, told are {told}", source.path));
        }
    }
    faults
}

/// The files that have a row.
fn told_files(text: &str) -> impl Iterator<Item = &str> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.filter(|cell| cell.starts_with("src/"))
}

/// Says so if the source documents another default for an option than its row.
fn other_default(row: &str, sources: &[Source]) -> Option<String> {
    let mut cells = row.trim_start_matches("| ").split(" | ");
    let (option, default) = (cells.next()?, cells.next()?);
    let (of, name) = option.trim_matches('`').split('`').next()?.split_once("::")?;
    if !of.ends_with("Options") && of != "Config" {
        return None;
    }
    let default = default.split(", ").next()?.replace("**off**", "unlimited");
    let documented = sources.iter().filter(|source| source.is_in("src/"));
    let defaults: Vec<String> =
        documented.filter_map(|source| documented_default(source, of, name)).collect();
    let is_told = defaults.iter().any(|told| told.contains(&plain(&default)));
    (!is_told).then(|| format!("{of}::{name}: {default} is told, documented is {defaults:?}"))
}

/// What stands behind `Default:` in the documentation of a setter, up to the next full stop.
fn documented_default(source: &Source, of: &str, name: &str) -> Option<String> {
    let is_at = |start: &str| source.lines.iter().position(|line| line.raw.starts_with(start));
    let from = is_at(&format!("impl {of} {{"))?;
    let setter = format!("    pub fn {name}(");
    let at = from + source.lines[from..].iter().position(|line| line.raw.starts_with(&setter))?;
    let docs = source.lines[..at].iter().rev().map(|line| line.raw.trim());
    let mut docs: Vec<&str> =
        docs.take_while(|line| line.starts_with("///") || line.starts_with('#')).collect();
    docs.reverse();
    let text = docs.iter().map(|line| line.trim_start_matches('/').trim()).collect::<Vec<_>>();
    let text = text.join(" ");
    let default = text.split_once("Default: ")?.1;
    Some(plain(default.split(". ").next()?))
}

/// Numbers without the commas between their digits.
fn plain(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_digit = |at: usize| chars.get(at).is_some_and(char::is_ascii_digit);
    let kept = (0..chars.len())
        .filter(|at| !(chars[*at] == ',' && *at > 0 && is_digit(at - 1) && is_digit(at + 1)));
    kept.map(|at| chars[at]).collect()
}

/// What the table says of a file; 0 if it has no row.
fn told(text: &str, path: &str) -> usize {
    let start = format!("| `{path}` | ");
    let row = text.lines().find_map(|line| line.strip_prefix(&start));
    row.and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0)
}

fn count(source: &Source) -> usize {
    let lines = source.lines.iter().filter(|line| !line.in_test);
    lines.map(|line| find_words(&line.code, "unsafe").count()).sum()
}

#[test]
fn what_is_not_so_is_found() {
    let source = |path, text| Source::parse(path, text);
    let a = "fn f() {\n    unsafe { g() }\n}\n#[cfg(test)]\nmod tests {\n    unsafe { g() }\n}\n";
    let sources = [source("src/sys/a.rs", a), source("tests/a.rs", "#[test]\nfn there() {}\n")];
    let limits = "| `A::b` | 1 | x | `a::there` |\n".repeat(LIMITS_MIN);
    let right = format!("{limits}| `src/sys/a.rs` | 1 | y | z |\n");
    assert_eq!(check(&right, &sources), Vec::<String>::new());
    let gone = right.replacen("a::there", "a::gone", 1);
    assert_eq!(check(&gone, &sources), ["there is no test `a::gone`"]);
    assert_eq!(check(&right.replace("| 1 | y", "| 2 | y"), &sources).len(), 1);
    assert_eq!(check(&limits, &sources), ["src/sys/a.rs: 1 times unsafe, told are 0"]);
    assert_eq!(check(&right.replacen("`a::there`", "me", 1), &sources).len(), 1);
    assert_eq!(check("| `src/sys/a.rs` | 1 | y | z |\n", &sources).len(), 1);
    let other = right.clone() + "| `src/sys/b.rs` | 0 | y | z |\n";
    assert_eq!(check(&other, &sources), ["there is no file src/sys/b.rs"]);
}

#[test]
fn another_default_than_the_documented_one_is_found() {
    let text = "impl Config {\n    /// Sets it. Default:\n    /// 1024, for this.\n    \
                pub fn most(mut self, n: u32) -> Self {\n    }\n}\n";
    let sources = [Source::parse("src/config.rs", text)];
    assert_eq!(other_default("| `Config::most` | 1,024 | x | y |", &sources), None);
    let found = other_default("| `Config::most` | 1,023 | x | y |", &sources);
    assert!(found.expect("it is another one").contains("1,023 is told"));
    assert!(other_default("| `Config::least` | 1 | x | y |", &sources).is_some());
    assert_eq!(
        other_default("| the process's descriptors | the system's | x | y |", &sources),
        None
    );
}
