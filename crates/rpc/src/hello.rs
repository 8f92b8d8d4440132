//! The first exchange: it settles a version.
//!
//! The caller speaks first. Each side names the newest and the oldest version it speaks; the newest common one is used.
//! Features name what came within a version, so that most additions need no new one.

use crate::envelope::Hello;

/// Newest version spoken.
pub const VERSION: u32 = 1;
/// Oldest version spoken.
pub const OLDEST: u32 = 1;
/// What this build can do beyond its version.
pub const FEATURES: [&str; 2] = ["execute", "watch"];

/// No version is common to both sides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{program} {software} speaks protocol versions {oldest} to {version}, this program {OLDEST} to {VERSION}; \
     run both from the same release"
)]
pub struct NoCommonVersion {
    program: String,
    software: String,
    oldest: u32,
    version: u32,
}

/// What we say.
pub fn ours(program: &str) -> Hello {
    Hello {
        version: VERSION,
        oldest: OLDEST,
        features: FEATURES.map(str::to_owned).into(),
        program: program.to_owned(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The version to use with a peer that said `theirs`.
///
/// # Errors
/// When there is none in common.
pub fn settle(theirs: &Hello) -> Result<u32, NoCommonVersion> {
    let version = theirs.version.min(VERSION);
    if version >= theirs.oldest.max(OLDEST) {
        Ok(version)
    } else {
        Err(NoCommonVersion {
            program: theirs.program.chars().take(32).collect(),
            software: theirs.software.chars().take(32).collect(),
            oldest: theirs.oldest,
            version: theirs.version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaks(oldest: u32, version: u32) -> Hello {
        Hello { version, oldest, ..ours("test") }
    }

    #[test]
    fn the_newest_common_version_is_used() {
        assert_eq!(settle(&speaks(1, 1)), Ok(1));
        assert_eq!(settle(&speaks(1, 7)), Ok(1));
        assert!(settle(&speaks(2, 7)).unwrap_err().to_string().contains("versions 2 to 7"));
        assert!(settle(&speaks(0, 0)).is_err());
        assert!(settle(&speaks(5, 1)).is_err(), "a range upside down holds nothing");
    }
}
