//! What the rounds come to, for people and as CSV.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::counts::Counts;
use crate::measurement::Measurement;
use crate::server::Server;

/// One server under one load.
pub(crate) struct Row {
    workload: &'static str,
    server: &'static str,
    /// Medians.
    per_second: f64,
    server_ns: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    /// The median of the ratios to the first server in the same round.
    ratio: f64,
    /// The lowest cost, set against the lowest one of the first server.
    ratio_of_lowest: f64,
    counts: Counts,
}

impl Row {
    pub(crate) fn all(
        workload: &'static str,
        servers: &[Server],
        rounds: &[Vec<Measurement>],
        counts: &[Counts],
    ) -> Vec<Row> {
        let lowest = |index: usize| {
            rounds.iter().map(|round| round[index].server_ns).fold(f64::INFINITY, f64::min)
        };
        let row = |(index, server): (usize, &Server)| {
            let of = |value: fn(&Measurement) -> f64| {
                median(rounds.iter().map(|round| value(&round[index])))
            };
            let ratios = rounds.iter().map(|round| round[index].server_ns / round[0].server_ns);
            Row {
                workload,
                server: server.name,
                per_second: of(|measured| measured.per_second),
                server_ns: of(|measured| measured.server_ns),
                p50_us: of(|measured| measured.p50_us),
                p99_us: of(|measured| measured.p99_us),
                p999_us: of(|measured| measured.p999_us),
                ratio: median(ratios),
                ratio_of_lowest: lowest(index) / lowest(0),
                counts: counts[index],
            }
        };
        servers.iter().enumerate().map(row).collect()
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (len, middle) if len % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Prints the rows of one workload.
pub(crate) fn print(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    println!(
        "\n{:<18}{:>12}{:>8}{:>8}{:>11}{:>9}{:>9}{:>10}{:>11}{:>13}",
        first.workload,
        "CPU ns/msg",
        "ratio",
        "lowest",
        "msg/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "calls/msg",
        "instr./msg"
    );
    let shown = |value: Option<f64>, digits| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    for row in rows {
        println!(
            "{:<18}{:>12.0}{:>8.3}{:>8.3}{:>11.0}{:>9.1}{:>9.1}{:>10.1}{:>11}{:>13}",
            row.server,
            row.server_ns,
            row.ratio,
            row.ratio_of_lowest,
            row.per_second,
            row.p50_us,
            row.p99_us,
            row.p999_us,
            shown(row.counts.calls, 3),
            shown(row.counts.instructions, 0)
        );
    }
}

pub(crate) fn write_csv(path: &Path, rows: &[Row]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(
        file,
        "workload,server,server_ns,ratio,ratio_of_lowest,per_second,p50_us,p99_us,p999_us,calls,\
         instructions"
    )?;
    for row in rows {
        let (workload, server) = (row.workload, row.server);
        let numbers = [
            Some(row.server_ns),
            Some(row.ratio),
            Some(row.ratio_of_lowest),
            Some(row.per_second),
            Some(row.p50_us),
            Some(row.p99_us),
            Some(row.p999_us),
            row.counts.calls,
            row.counts.instructions,
        ];
        let text = |number: Option<f64>| number.map_or_else(String::new, |it| format!("{it:.3}"));
        writeln!(file, "{workload},{server},{}", numbers.map(text).join(","))?;
    }
    file.flush()
}
