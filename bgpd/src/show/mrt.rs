//! `show mrt`: the files whose routes are in the table.

use std::{fmt::Write as _, time::SystemTime};

use serde_json::{Value, json};

use crate::load::{Outcome, Status, age};

/// As text; `paths` are those in the table for IPv4 and IPv6, file by file.
pub fn text(files: &[Status], paths: &[[u32; 2]], now: SystemTime) -> String {
    if files.is_empty() {
        return "No MRT file is in the table; \"load mrt FILE\" puts one there\n".into();
    }
    let mut out = format!("{:<8} {:>10} {:>10} {:>10}  {:<10} File\n", "Name", "Routes", "IPv4", "IPv6", "State");
    for (file, [v4, v6]) in files.iter().zip(paths) {
        let name = format!("mrt-{}", file.number);
        let _ = writeln!(
            out,
            "{name:<8} {:>10} {v4:>10} {v6:>10}  {:<10} {}",
            file.routes,
            state(&file.outcome),
            file.file.display()
        );
        if let Outcome::Ended(why) = &file.outcome {
            let _ = writeln!(out, "  ended early: {why}");
        }
        if file.unreadable > 0 {
            let _ = writeln!(out, "  {} entries could not be read", file.unreadable);
        }
        let _ = writeln!(out, "  begun {:?} ago", age(file, now));
    }
    out
}

/// As JSON.
pub fn json(files: &[Status], paths: &[[u32; 2]]) -> Value {
    let one = |(file, [v4, v6]): (&Status, &[u32; 2])| {
        let why = if let Outcome::Ended(why) = &file.outcome { Value::from(why.as_str()) } else { Value::Null };
        json!({
            "name": format!("mrt-{}", file.number),
            "number": file.number,
            "file": file.file.display().to_string(),
            "state": state(&file.outcome),
            "endedBecause": why,
            "routes": file.routes,
            "unreadable": file.unreadable,
            "ipv4Unicast": { "pathCount": v4 },
            "ipv6Unicast": { "pathCount": v6 },
        })
    };
    json!({ "files": files.iter().zip(paths).map(one).collect::<Vec<_>>() })
}

fn state(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Reading => "reading",
        Outcome::Complete => "complete",
        Outcome::Ended(_) => "ended",
    }
}
