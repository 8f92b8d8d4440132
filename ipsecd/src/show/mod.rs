//! What `show` prints, as text for people and as JSON for programs.
//!
//! Everything here is a function from plain data ([`view`]) to text; [`view::tunnels`] and [`view::wans`] take that data
//! from the daemon's state. No key, and nothing that a key could be derived from, is in that data.

pub mod certificate;
pub mod sa;
pub mod tunnel;
pub mod view;
pub mod wan;

#[cfg(test)]
pub(crate) mod tests;

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

/// A duration as routers print uptimes: `00:01:02` under a day, `1d02h03m` under a week, `2w3d04h` beyond.
pub fn uptime(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (minutes, hours, days, weeks) = (seconds / 60, seconds / 3600, seconds / 86_400, seconds / 604_800);
    if days == 0 {
        format!("{hours:02}:{:02}:{:02}", minutes % 60, seconds % 60)
    } else if weeks == 0 {
        format!("{days}d{:02}h{:02}m", hours % 24, minutes % 60)
    } else {
        format!("{weeks:02}w{}d{:02}h", days % 7, hours % 24)
    }
}

/// How long ago that was; nothing lies in the future, whatever the clocks say.
fn ago(at: SystemTime, now: SystemTime) -> String {
    uptime(now.duration_since(at).unwrap_or_default())
}

/// Octets as people read them: `999`, `1.2k`, `34M`.
fn octets(count: u64) -> String {
    const UNITS: [char; 6] = ['k', 'M', 'G', 'T', 'P', 'E'];
    let (mut tenths, mut unit) = (u128::from(count) * 10, None);
    for next in UNITS {
        if tenths < 10_000 {
            break;
        }
        (tenths, unit) = (tenths / 1000, Some(next));
    }
    match unit {
        None => count.to_string(),
        Some(unit) if tenths < 100 => format!("{}.{}{unit}", tenths / 10, tenths % 10),
        Some(unit) => format!("{}{unit}", tenths / 10),
    }
}

/// Microseconds since 1970, as a JSON number.
fn epoch_us(at: SystemTime) -> Value {
    crate::state::unix_us(at).into()
}

/// Milliseconds, as a JSON number.
fn msec(duration: Duration) -> Value {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into()
}

/// An object built pair by pair, in the order given.
fn object<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// JSON as it is printed.
pub fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Rows under a head, each column as wide as its widest cell; numbers to the right.
struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// Columns by title; those that begin with `>` stand to the right.
    fn new(titles: &[&str]) -> Self {
        let right = titles.iter().map(|title| title.starts_with('>')).collect();
        let head = titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![head], right }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.right).map(|((cell, width), right)| {
                if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        out
    }
}
