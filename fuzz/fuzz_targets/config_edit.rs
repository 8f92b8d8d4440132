//! Lines typed into a configuration in force: taken or refused, and what comes of it prints and reads back the same.
//!
//! A line of `----` parts the configuration from the lines.
#![no_main]

use config::{Place, UnknownLines};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let (file, lines) = source.split_once("----\n").unwrap_or(("", source));
    let running = match config::parse_with(file, UnknownLines::Warn) {
        Ok(parsed) => parsed.config,
        Err(_) => return,
    };
    for unknown in [UnknownLines::Refuse, UnknownLines::Warn] {
        match config::edit(&running, lines, unknown) {
            Ok(parsed) => {
                let printed = parsed.config.to_string();
                let again = config::parse(&printed).expect("what was printed is read").config;
                assert_eq!(again, parsed.config);
            }
            Err(refused) => drop(refused.render(lines)),
        }
    }
    let mut place = Place::default();
    for line in lines.lines() {
        place.take(line);
        let _ = place.prompt();
    }
});
