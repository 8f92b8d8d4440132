//! From the configuration file to what the daemon runs on.

use std::{io::Read as _, path::Path, sync::Arc};

use crate::{
    daemon::Loaded,
    setup::{self, Setup},
};

/// Reads and checks the file at `path` and every file of keys and certificates that it names. Warnings go to `warn`, a
/// line each.
///
/// # Errors
/// All that is wrong, in lines for people.
pub fn load(path: &Path, warn: impl Fn(String)) -> Result<Loaded, String> {
    let name = path.display().to_string();
    let text = read(path).map_err(|error| format!("{name}: {error}"))?;
    let parsed = config::parse(&text).map_err(|mistakes| mistakes.render(&name, &text))?;
    parsed.warnings.lines(&name).for_each(warn);
    let Setup { connections, material } = setup::setup(&parsed.config).map_err(|errors| format!("{name}: {errors}"))?;
    Ok(Loaded { config: Arc::new(parsed.config), connections, material })
}

/// No more than the parser takes: a device or an endless pipe is no configuration.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(config::MAX_OCTETS as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
