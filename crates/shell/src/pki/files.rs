//! Files of an authority: written whole or not at all, secrets readable by their owner alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Longest file that is read: a bundle of certificates or a list.
const MAX_OCTETS: u64 = 64 << 20;

/// Makes a folder for its owner alone; one that exists must be empty.
pub(super) fn new_folder(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::read_dir(folder)?.next() {
            None => Ok(()),
            Some(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty")),
        },
        outcome => outcome,
    }
}

/// Writes a new file that only its owner may read. One that exists stays: it may be the only copy of a key.
pub(super) fn new_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Writes a file in the place of the one that there may be.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().map(ToOwned::to_owned).unwrap_or_default();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Reads a text file of bounded length.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let mut text = String::new();
    let read = io::Read::read_to_string(&mut io::Read::take(file, MAX_OCTETS + 1), &mut text)?;
    if read as u64 > MAX_OCTETS {
        return Err(io::Error::other(format!("it is longer than {MAX_OCTETS} octets")));
    }
    Ok(text)
}
