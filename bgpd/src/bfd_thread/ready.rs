//! Which of many sockets have something to read.

use std::{io, mem::MaybeUninit};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    fd::{AsFd, BorrowedFd, OwnedFd},
};
use sys::sockopt::IpFamily;

/// Sources that are told of at once; the others are told of the next time.
const AT_ONCE: usize = 64;

/// A link, by its number (0 for peers several hops away), and one of the two families on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) ifindex: u32,
    pub(super) v4: bool,
}

impl Key {
    pub(super) fn family(self) -> IpFamily {
        if self.v4 { IpFamily::V4 } else { IpFamily::V6 }
    }
}

/// What has something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// There is a command.
    Bell,
    /// Control packets.
    Ear(Key),
    /// Echo packets.
    Reflector(Key),
}

impl Source {
    /// As the kernel keeps it beside the descriptor.
    fn token(self) -> u64 {
        let (kind, key) = match self {
            Self::Bell => return 0,
            Self::Ear(key) => (1, key),
            Self::Reflector(key) => (2, key),
        };
        u64::from(key.ifindex) << 8 | u64::from(key.v4) << 4 | kind
    }

    fn of_token(token: u64) -> Option<Self> {
        let key = Key { ifindex: u32::try_from(token >> 8).ok()?, v4: token & 0x10 != 0 };
        match token & 0xf {
            0 => Some(Self::Bell),
            1 => Some(Self::Ear(key)),
            2 => Some(Self::Reflector(key)),
            _ => None,
        }
    }
}

/// The set. A socket that is closed is no longer in it.
pub(super) struct Ready(OwnedFd);

impl Ready {
    pub(super) fn new(bell: impl AsFd) -> io::Result<Self> {
        let ready = Self(epoll::create(CreateFlags::CLOEXEC)?);
        ready.watch(bell, Source::Bell)?;
        Ok(ready)
    }

    pub(super) fn watch(&self, socket: impl AsFd, source: Source) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, EventData::new_u64(source.token()), EventFlags::IN)?)
    }

    /// What has something now.
    pub(super) fn take(&self) -> Vec<Source> {
        let mut events = [const { MaybeUninit::<Event>::uninit() }; AT_ONCE];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.0, &mut events, Some(&at_once)) {
            Ok((told, _)) => told.iter().filter_map(|event| Source::of_token(event.data.u64())).collect(),
            Err(_) => Vec::new(), // interrupted; the next wait says it again
        }
    }
}

impl AsFd for Ready {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_known_by_its_token() {
        for v4 in [false, true] {
            for ifindex in [0, 1, 77, u32::MAX] {
                let key = Key { ifindex, v4 };
                for source in [Source::Bell, Source::Ear(key), Source::Reflector(key)] {
                    assert_eq!(Source::of_token(source.token()), Some(source));
                }
            }
        }
        assert_eq!(Source::of_token(3), None);
    }
}
