//! What was compared, where and when: figures without it say nothing.

use std::env;
use std::fs;
use std::process::Command;

use hotloop_peers::CONGESTION_CONTROL;

/// Returns a line each of the time, the machine, the compiler and the command.
pub(crate) fn description() -> Vec<String> {
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    let args: Vec<String> = env::args().skip(1).collect();
    vec![
        said_by("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        format!("{cores} x {}", model.unwrap_or("a processor without a name")),
        format!("{}, {}", said_by("uname", &["-sr"]), said_by("rustc", &["--version"])),
        format!("{CONGESTION_CONTROL} at the load, {} at the servers", congestion.trim()),
        format!("benches/peers/run {}", args.join(" ")),
    ]
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Returns the first line that a program prints, or that there is none.
fn said_by(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text.ok().and_then(|text| Some(text.lines().next()?.to_owned()));
    line.unwrap_or_else(|| format!("{program} says nothing"))
}
