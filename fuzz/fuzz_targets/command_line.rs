//! A line of the shell: read or refused, and completed at every place.
#![no_main]

use config::Command;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    drop(Command::parse(line).map_err(|error| error.to_string()));
    for (at, _) in line.char_indices().take(64) {
        drop(Command::choices(&line[..at]));
    }
});
