//! What the documents show is what is read.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn assert_reads(name: &str, source: &str) {
    match config::parse(source) {
        Ok(parsed) => assert!(parsed.warnings.0.is_empty(), "{}", parsed.warnings.render(name, source)),
        Err(wrong) => panic!("{}", wrong.render(name, source)),
    }
}

#[test]
fn every_example_is_read_without_a_warning() {
    let mut files = 0;
    for scenario in fs::read_dir(root().join("examples")).unwrap() {
        for file in fs::read_dir(scenario.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            // Other programs' configurations stand beside ours.
            let ours = path.extension().is_some_and(|extension| extension == "conf");
            if ours && path.file_name().is_some_and(|name| name != "swanctl.conf") {
                assert_reads(&path.display().to_string(), &fs::read_to_string(&path).unwrap());
                files += 1;
            }
        }
    }
    assert!(files >= 2, "{files} examples were found");
}

#[test]
fn the_manual_shows_what_is_read() {
    let manual = fs::read_to_string(root().join("man/holdfast.conf.5")).unwrap();
    let example = manual.split_once(".Bd -literal\n").unwrap().1.split_once(".Ed").unwrap().0;
    assert_reads("holdfast.conf.5", example);
}

#[test]
fn the_manual_names_every_command_of_the_shell() {
    let manual = fs::read_to_string(root().join("man/holdfast.1")).unwrap();
    for (syntax, _) in config::Command::all() {
        let words: Vec<&str> = syntax.split(' ').filter(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect();
        for word in words {
            assert!(manual.contains(word), "\"{word}\" of \"{syntax}\" is not in holdfast.1");
        }
    }
}
