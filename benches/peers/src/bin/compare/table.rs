//! What the rounds come to, for people and as CSV.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::counts::Counts;
use crate::measurement::Measurement;
use crate::server::Server;

/// The columns: name for people, name in CSV, digits behind the point, and width.
const COLUMNS: [(&str, &str, usize, usize); 11] = [
    ("CPU ns/msg", "server_ns", 0, 11),
    ("ratio", "ratio", 3, 8),
    ("lowest", "ratio_of_lowest", 3, 8),
    ("msg/s", "per_second", 0, 10),
    ("p50 us", "p50_us", 1, 9),
    ("p99 us", "p99_us", 1, 9),
    ("p99.9 us", "p999_us", 1, 10),
    ("flood GB/s", "flood_gb", 2, 12),
    ("calls/msg", "calls", 3, 11),
    ("instr./msg", "instructions", 0, 12),
    ("B/conn", "bytes_per_conn", 0, 9),
];

/// One server under one load.
pub(crate) struct Row {
    workload: &'static str,
    server: &'static str,
    figures: [Option<f64>; COLUMNS.len()],
}

impl Row {
    /// Makes the rows of a workload of what was measured in each round: medians; the ratio is the
    /// median of those to the first server in the same round, beside that of the lowest costs.
    pub(crate) fn all(
        workload: &'static str,
        servers: &[Server],
        rounds: &[Vec<Measurement>],
        counts: &[Counts],
    ) -> Vec<Row> {
        let row = |(index, server): (usize, &Server)| {
            let of = |value: fn(&Measurement) -> Option<f64>| {
                median(rounds.iter().filter_map(|round| value(&round[index])))
            };
            let cost = |round: &Vec<Measurement>, index: usize| round[index].server_ns;
            let ratios =
                rounds.iter().filter_map(|round| Some(cost(round, index)? / cost(round, 0)?));
            let lowest =
                |index| rounds.iter().filter_map(|round| cost(round, index)).min_by(f64::total_cmp);
            let figures = [
                of(|measured| measured.server_ns),
                median(ratios),
                lowest(index).zip(lowest(0)).map(|(own, first)| own / first),
                of(|measured| measured.per_second),
                of(|measured| measured.p50_us),
                of(|measured| measured.p99_us),
                of(|measured| measured.p999_us),
                of(|measured| measured.flood_gb),
                counts[index].calls,
                counts[index].instructions,
                of(|measured| measured.bytes_per_conn),
            ];
            Row { workload, server: server.name, figures }
        };
        servers.iter().enumerate().map(row).collect()
    }
}

/// Returns the middle value; none of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Prints the rows of one workload.
pub(crate) fn print(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    print!("\n{:<18}", first.workload);
    for (name, _, _, width) in COLUMNS {
        print!("{name:>width$}");
    }
    for row in rows {
        print!("\n{:<18}", row.server);
        for (figure, (_, _, digits, width)) in row.figures.iter().zip(COLUMNS) {
            let text = figure.map_or_else(|| "-".to_owned(), |it| format!("{it:.digits$}"));
            print!("{text:>width$}");
        }
    }
    println!();
}

pub(crate) fn write_csv(path: &Path, rows: &[Row]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "workload,server,{}", COLUMNS.map(|column| column.1).join(","))?;
    for Row { workload, server, figures } in rows {
        let text = |figure: &Option<f64>| figure.map_or_else(String::new, |it| format!("{it:.3}"));
        writeln!(file, "{workload},{server},{}", figures.each_ref().map(text).join(","))?;
    }
    file.flush()
}
