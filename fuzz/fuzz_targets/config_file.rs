//! A configuration file: read or refused, every refusal can be shown, and what was read prints and reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    match config::parse(source) {
        Ok(parsed) => {
            let printed = parsed.config.to_string();
            let again = config::parse(&printed).expect("what was printed is read").config;
            assert_eq!(again, parsed.config);
        }
        Err(wrong) => drop(wrong.render("fuzz.conf", source)),
    }
});
