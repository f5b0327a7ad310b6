//! Runs seeds without a word, and makes a program that fails as small as it gets.

use std::cell::{Cell, RefCell};
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use crate::leave_out::leave_out;
use crate::program::{Act, Answer, Drawing, Program, draw};
use crate::run::{Outcome, run, trace_of};

/// How many runs shrinking may take.
const RUNS_MAX: usize = 3_000;
const LINES_SHOWN: usize = 60;

/// What a seed fails with that is run twice and makes two traces.
const DIFFERENCE: &str = "C17: a seed made two different traces";

thread_local! {
    /// Panics of this thread are noted, not printed.
    static IS_NOTED: Cell<bool> = const { Cell::new(false) };
    static NOTE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the program of a seed; what went wrong as an error.
pub fn try_seed(seed: u64, drawing: Drawing, twice: bool) -> Result<Outcome, String> {
    let program = draw(seed, drawing);
    let first = try_run(&program, twice)?;
    if twice {
        let second = try_run(&program, true)?;
        if let Some(line) = first_difference(first.trace.as_deref(), second.trace.as_deref()) {
            return Err(format!("{DIFFERENCE}, first here: {line}"));
        }
    }
    Ok(first)
}

/// Returns the first line of a trace that the other one has not.
fn first_difference(one: Option<&str>, other: Option<&str>) -> Option<String> {
    let (mut one, mut other) = (one?.lines(), other?.lines());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return None,
            (line, same) if line == same => {}
            (line, found) => return Some(format!("{line:?}, and {found:?}")),
        }
    }
}

fn try_run(program: &Program, with_trace: bool) -> Result<Outcome, String> {
    install_hook();
    IS_NOTED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| run(program, with_trace, true)));
    IS_NOTED.set(false);
    result.map_err(|_| NOTE.take())
}

/// Keeps the panics of runs that are tried from being printed.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_NOTED.get() {
                NOTE.set(info.to_string());
            } else {
                print(info);
            }
        }));
    });
}

/// Runs a seed; if it fails, shrinks its program, prints that, and fails.
pub fn run_or_explain(seed: u64, drawing: Drawing) {
    let Err(why) = try_seed(seed, drawing, true) else { return };
    println!("seed {seed}: {why}\nto replay it: HOTLOOP_SEED={seed}");
    let shrinks = std::env::var("HOTLOOP_SHRINK").as_deref() != Ok("0");
    // A run alone does not show that it differs from another.
    if shrinks && !why.starts_with(DIFFERENCE) {
        explain(draw(seed, drawing), place(&why));
    }
    panic!("seed {seed} fails: {why}");
}

fn explain(program: Program, place: &str) {
    let (small, why) = shrink(program, place);
    println!("the smallest program that fails: {why}\n{:?}", small.setup);
    for (delay, act) in &small.acts {
        println!("  after {delay} us: {act:?}");
    }
    for answer in &small.answers {
        println!("  the next callback: {answer:?}");
    }
    let trace = trace_of(&small);
    let lines: Vec<&str> = trace.lines().collect();
    let end = lines.len().saturating_sub(LINES_SHOWN);
    println!("the end of its trace:\n{}", lines[end..].join("\n"));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("model-{}.txt", small.seed));
    if fs::write(&file, trace).is_ok() {
        println!("the whole trace: {}", file.display());
    }
}

/// The first line of a panic's message says where it was.
fn place(why: &str) -> &str {
    why.lines().next().unwrap_or(why)
}

/// Leaves out of a program what it does not need to fail in the same place.
fn shrink(mut program: Program, place_of: &str) -> (Program, String) {
    let mut runs = 0;
    let mut why = String::from("it passed when it was run again");
    let mut fails = |candidate: &Program| {
        runs += 1;
        if runs > RUNS_MAX {
            return false;
        }
        match try_run(candidate, false) {
            Ok(_) => false,
            Err(cause) if place(&cause) == place_of => {
                why = cause;
                true
            }
            Err(_) => false,
        }
    };
    if fails(&program) {
        loop {
            let before = (program.acts.len(), program.answers.len());
            shrink_list(&mut program, &mut fails, |one| &mut one.acts);
            shrink_list(&mut program, &mut fails, |one| &mut one.answers);
            simplify(&mut program, &mut fails);
            if (program.acts.len(), program.answers.len()) == before {
                break;
            }
        }
    }
    (program, why)
}

/// Leaves out parts of one of a program's lists.
fn shrink_list<T: Clone>(
    program: &mut Program,
    fails: &mut impl FnMut(&Program) -> bool,
    list: fn(&mut Program) -> &mut Vec<T>,
) {
    let whole = list(program).clone();
    let mut candidate = program.clone();
    *list(program) = leave_out(whole, |part| {
        *list(&mut candidate) = part.to_vec();
        fails(&candidate)
    });
}

/// Makes single answers plain, acts immediate, and faults fewer.
fn simplify(program: &mut Program, fails: &mut impl FnMut(&Program) -> bool) {
    use crate::program::Level;
    for level in [Level::None, Level::Mild] {
        let mut candidate = program.clone();
        candidate.setup.faults = level;
        if program.setup.faults != level && fails(&candidate) {
            *program = candidate;
            break;
        }
    }
    for place in 0..program.acts.len() {
        let mut candidate = program.clone();
        candidate.acts[place].0 = 0;
        if let Act::Send(_, len) = &mut candidate.acts[place].1 {
            *len = (*len / 2).max(1);
        }
        if candidate.acts[place] != program.acts[place] && fails(&candidate) {
            *program = candidate;
        }
    }
    for place in 0..program.answers.len() {
        let Answer { ops, .. } = &program.answers[place];
        for op in (0..ops.len()).rev() {
            let mut candidate = program.clone();
            candidate.answers[place].ops.remove(op);
            if fails(&candidate) {
                *program = candidate;
            }
        }
    }
}
