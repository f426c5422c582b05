// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Prints the results as tables.

use std::time::Duration;

use crate::boot::{Boots, same_host, same_layout};
use crate::measure::{median, median_difference, median_ratio};
use crate::surroundings::{Line, Results};
use crate::wrapper::Measures;

/// Prints one table per measurement, and the command that produced them.
pub fn print(results: &[(String, Results)]) {
    print_machine();
    print_measure("Skip path: args[0] is nginx", results.iter().map(|(name, results)| (name, &results.skip)));
    print_measure(
        "A container of systemd, nothing to copy up, at createRuntime",
        results.iter().map(|(name, results)| (name, &results.create)),
    );
    print_reading(results);
}

/// Prints how long each image took to boot in each layout, next to its time in a layout that the runtime mounted.
pub fn print_boots(all: &[Boots]) {
    print_machine();
    let rounds = all[0].times.len();
    println!("\nFrom the start of `runc run --detach` until systemd says running; {rounds} rounds, ms");
    println!(
        "ratios to the same image in the layout that the runtime mounted: on the same host, and in the same layout"
    );
    println!(
        "{:<10}{:<9}{:<9}{:<9}{:<17}{:>7}{:>9}{:>7}{:>8}",
        "image", "systemd", "host", "inside", "by", "median", "minimum", "host", "layout"
    );
    for boots in all {
        let middle = median(&boots.times);
        let least = boots.times.iter().min().copied().unwrap_or_default();
        let ratio = |reference: Option<&Boots>| {
            reference.map_or_else(
                || "-".to_owned(),
                |reference| format!("{:.2}", middle.as_secs_f64() / median(&reference.times).as_secs_f64()),
            )
        };
        let cell = boots.cell;
        println!(
            "{:<10}{:<9}{:<9}{:<9}{:<17}{:>7.0}{:>9.0}{:>7}{:>8}",
            cell.image,
            boots.systemd,
            cell.host.word(),
            cell.inside.word(),
            cell.origin(),
            milliseconds(middle),
            milliseconds(least),
            ratio(same_host(all, cell)),
            ratio(same_layout(all, cell)),
        );
    }
}

/// Prints what the runtime wrapper adds, and at the end the same as rows of the README's table.
pub fn print_wrapper(measures: &Measures) {
    print_machine();
    print_measure("A call that is passed on", std::iter::once((&"--version".to_owned(), &measures.passed_on)));
    for (name, lines) in &measures.create {
        println!("\ncreate: {name}; {} rounds, µs", lines[0].times.len());
        println!("{:<20}{:>9}{:>9}{:>9}{:>8}", "", "median", "minimum", "adds", "paired");
        for line in lines {
            println!("{}", added_row(line, &lines[0]));
        }
        for line in lines {
            println!("  {}: {}", line.name, line.command);
        }
    }
    println!(
        "\n| µs | runtime alone | program that execs | oci-hooks-runtime | oci-add-hooks |\n|---|---|---|---|---|"
    );
    let find = |lines: &[Line], name: &str| lines.iter().find(|line| line.name == name).cloned();
    let passed = |name| {
        find(&measures.passed_on, name).map_or_else(String::new, |line| {
            let middle = median(&line.times);
            let ratio = middle.as_secs_f64() / median(&measures.passed_on[0].times).as_secs_f64();
            format!("{:.0} ({ratio:.2})", microseconds(middle))
        })
    };
    println!(
        "| a call that is passed on | {} | {} | {} | {} |",
        passed("runtime alone"),
        passed("program that execs"),
        passed("oci-hooks-runtime"),
        passed("oci-add-hooks")
    );
    for (name, lines) in &measures.create {
        let cell = |name| find(lines, name).map_or_else(String::new, |line| format!("{:+.0}", added(&line, &lines[0])));
        let alone = microseconds(median(&lines[0].times));
        println!("| `create`: {name} | {alone:.0} | | {} | {} |", cell("oci-hooks-runtime"), cell("oci-add-hooks"));
    }
}

/// Returns how much longer one line's program takes than another's, in microseconds: the difference of their medians.
fn added(line: &Line, reference: &Line) -> f64 {
    microseconds(median(&line.times)) - microseconds(median(&reference.times))
}

fn added_row(line: &Line, reference: &Line) -> String {
    let least = line.times.iter().min().copied().unwrap_or_default();
    let problem = line.problem.as_ref().map_or_else(String::new, |problem| format!("  NOT VALID: {problem}"));
    format!(
        "{:<20}{:>9.0}{:>9.0}{:>9.0}{:>8.0}{problem}",
        line.name,
        microseconds(median(&line.times)),
        microseconds(least),
        added(line, reference),
        median_difference(&line.times, &reference.times) * 1e6
    )
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn print_machine() {
    let release = rustix::system::uname();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("Linux {}, {processors} processors", release.release().to_string_lossy());
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").map(quoted).collect();
    println!("contrib/benchmark.sh {}", arguments.join(" "));
}

fn quoted(argument: String) -> String {
    if argument.contains(char::is_whitespace) { format!("'{argument}'") } else { argument }
}

fn print_measure<'a>(title: &str, settings: impl Iterator<Item = (&'a String, &'a Vec<Line>)>) {
    let settings: Vec<_> = settings.filter(|(_, lines)| !lines.is_empty()).collect();
    let Some((_, first)) = settings.first() else {
        return;
    };
    println!("\n{title}; {} rounds, µs", first[0].times.len());
    println!("{:<28}{:<20}{:>9}{:>9}{:>8}{:>8}", "", "", "median", "minimum", "ratio", "paired");
    for (setting, lines) in &settings {
        for (index, line) in lines.iter().enumerate() {
            let name = if index == 0 { setting.as_str() } else { "" };
            println!("{name:<28}{}", row(line, &lines[0]));
        }
    }
    for line in *first {
        println!("  {}: {}", line.name, line.command);
    }
}

fn row(line: &Line, reference: &Line) -> String {
    let middle = median(&line.times);
    let least = line.times.iter().min().copied().unwrap_or_default();
    let ratio = middle.as_secs_f64() / median(&reference.times).as_secs_f64();
    let paired = median_ratio(&line.times, &reference.times);
    let problem = line.problem.as_ref().map_or_else(String::new, |problem| format!("  NOT VALID: {problem}"));
    format!(
        "{:<20}{:>9.0}{:>9.0}{ratio:>8.2}{paired:>8.2}{problem}",
        line.name,
        microseconds(middle),
        microseconds(least)
    )
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Prints the minimum cost for a hook that reads these files at all.
fn print_reading(results: &[(String, Results)]) {
    println!("\nFor comparison, inside one process, µs");
    for (setting, results) in results {
        for (index, line) in results.reading.iter().enumerate() {
            let name = if index == 0 { setting.as_str() } else { "" };
            println!("{name:<28}{:<20}{:>9.0}  {}", line.name, microseconds(median(&line.times)), line.command);
        }
    }
}
