//! Names of files with the time in them.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::failover::civil;

/// The name of a file that is begun at `at`: %Y, %m, %d, %H, %M and %S are filled in, %% is a per cent sign.
pub(super) fn named(pattern: &Path, at: SystemTime) -> PathBuf {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let time = civil(seconds);
    let text = pattern.to_string_lossy();
    let mut name = String::with_capacity(text.len() + 8);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            name.push(letter);
            continue;
        }
        match letters.next() {
            Some('Y') => name.push_str(&format!("{:04}", time.year)),
            Some('m') => name.push_str(&format!("{:02}", time.month)),
            Some('d') => name.push_str(&format!("{:02}", time.day)),
            Some('H') => name.push_str(&format!("{:02}", time.hour)),
            Some('M') => name.push_str(&format!("{:02}", time.minute)),
            Some('S') => name.push_str(&format!("{:02}", time.second)),
            Some('%') | None => name.push('%'),
            Some(other) => name.extend(['%', other]),
        }
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_is_filled_in() {
        let at = UNIX_EPOCH + Duration::from_secs(1_795_471_953);
        let name = |pattern: &str| named(Path::new(pattern), at).display().to_string();
        assert_eq!(name("/var/log/rib.%Y%m%d-%H%M%S.mrt"), "/var/log/rib.20261123-221233.mrt");
        assert_eq!(name("/var/100%%/%q%"), "/var/100%/%q%");
    }
}
