//! One slab of sealed packets, as few datagrams for the kernel as possible.
//!
//! Packets of equal size that lie back to back go as one UDP_SEGMENT send, the last of which may be shorter. Where the
//! kernel or the link refuses that, each goes alone in a sendmmsg batch; and if it was not for their size, the link is not asked
//! again.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use esp::Frame;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use smallvec::SmallVec;
use sys::mmsg::{self, Datagram};

use super::sockets::Sockets;
use crate::Path;

/// The kernel's UDP_MAX_SEGMENTS before Linux 6.9.
const MAX_SEGMENTS: usize = 64;
/// What one UDP datagram can be at most, IPv4 headers included.
const MAX_PAYLOAD: usize = 65_535 - 28;
/// How long a full socket buffer is waited for; the TUN queue is the buffer meanwhile. Then the link is as good as down.
const PATIENCE: Duration = Duration::from_millis(50);

/// What the outer header of a packet says beside its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// TOS or traffic class.
    pub(super) tos: u8,
    /// Whether it may be fragmented: no DF.
    pub(super) fragments: bool,
}

/// Sealed packets back to back.
pub(super) struct Sealed<'a> {
    pub(super) slab: &'a [u8],
    pub(super) frames: &'a [Frame],
    pub(super) marks: &'a [Mark],
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) dropped: usize,
    /// A run was refused that could be sent packet by packet: the link cannot segment, or the path takes less than it did.
    pub(super) refused: bool,
    /// A packet is larger than the path takes.
    pub(super) too_big: bool,
}

impl Sent {
    pub(super) fn none(sealed: &Sealed<'_>) -> Self {
        Self { dropped: sealed.frames.len(), ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.refused |= other.refused;
        self.too_big |= other.too_big;
    }
}

/// Sends packets along `path`.
pub(super) fn send_frames(sockets: &Sockets, path: &Path, encapsulated: bool, sealed: &Sealed<'_>) -> Sent {
    let (socket, way) = if encapsulated {
        (sockets.for_esp(path.local), Way::of(path))
    } else {
        (sockets.for_plain(path.local), Way::plain(path))
    };
    let Some(socket) = socket else { return Sent::none(sealed) };
    let mut sent = Sent::default();
    for part in alike(sealed) {
        let fragments = part.marks.first().is_some_and(|mark| mark.fragments);
        sent.add(sockets.sending(socket, path.remote, fragments, || {
            if encapsulated && sockets.segmentation() {
                send_trains(socket, &way, &part)
            } else {
                send_singly(socket, &way, &part)
            }
        }));
    }
    sent
}

/// Stretches of packets that either may all be fragmented or may all not be.
fn alike<'s>(sealed: &Sealed<'s>) -> impl Iterator<Item = Sealed<'s>> {
    let Sealed { slab, mut frames, .. } = *sealed;
    sealed.marks.chunk_by(|one, other| one.fragments == other.fragments).map(move |marks| {
        let part;
        (part, frames) = frames.split_at(marks.len().min(frames.len()));
        Sealed { slab, frames: part, marks }
    })
}

fn send_trains(socket: BorrowedFd<'_>, way: &Way, sealed: &Sealed<'_>) -> Sent {
    let mut sent = Sent::default();
    let runs: SmallVec<[Sealed<'_>; 8]> = runs(sealed).collect(); // more only where sizes are mixed
    let datagrams: SmallVec<[_; 8]> = runs.iter().filter_map(|run| run.as_one(way)).collect();
    for (index, error) in send_all(socket, &datagrams) {
        let Some(run) = runs.get(index) else { continue };
        // EIO and EINVAL: the link cannot segment, or a segment does not fit the route's MTU; alone each may.
        if run.frames.len() > 1 && matches!(error, Errno::IO | Errno::INVAL | Errno::MSGSIZE | Errno::OPNOTSUPP) {
            sent.refused = true;
            sent.add(send_singly(socket, way, run));
        } else {
            sent.dropped += run.frames.len();
            sent.too_big |= error == Errno::MSGSIZE;
        }
    }
    sent
}

fn send_singly(socket: BorrowedFd<'_>, way: &Way, sealed: &Sealed<'_>) -> Sent {
    let packet = |(frame, mark): (&Frame, &Mark)| {
        let payload = sealed.slab.get(frame.start..frame.start + frame.length)?;
        Some(way.datagram(payload, None, mark.tos))
    };
    let datagrams: SmallVec<[_; mmsg::MAX_BATCH]> = sealed.frames.iter().zip(sealed.marks).filter_map(packet).collect();
    let failed = send_all(socket, &datagrams);
    Sent {
        dropped: failed.len() + (sealed.frames.len() - datagrams.len()),
        refused: false,
        too_big: failed.iter().any(|(_, error)| *error == Errno::MSGSIZE),
    }
}

/// Sends every datagram that the kernel takes; gives the others by index with their error.
fn send_all(socket: BorrowedFd<'_>, datagrams: &[Datagram<'_>]) -> Vec<(usize, Errno)> {
    let mut failed = Vec::new(); // allocates only when something fails
    let mut at = 0;
    let mut waited = false;
    while let Some(rest) = datagrams.get(at..).filter(|rest| !rest.is_empty()) {
        match mmsg::send(socket, rest) {
            Ok(sent) => at += sent.max(1),
            Err(error) => match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
                Errno::INTR => {}
                Errno::AGAIN if !waited => {
                    waited = true;
                    wait_writable(socket);
                }
                error => {
                    failed.push((at, error));
                    at += 1;
                }
            },
        }
    }
    failed
}

fn wait_writable(socket: BorrowedFd<'_>) {
    let timeout = Timespec::try_from(PATIENCE).ok();
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    // Whatever comes of it, the next send says how things stand.
    let _ready = rustix::event::poll(&mut fds, timeout.as_ref());
}

/// From where to where.
struct Way {
    to: SocketAddr,
    from: Option<IpAddr>,
}

impl Way {
    fn of(path: &Path) -> Self {
        Self { to: path.remote, from: Some(path.local.ip()).filter(|address| !address.is_unspecified()) }
    }

    /// Without ports, which protocol 50 has none of.
    fn plain(path: &Path) -> Self {
        let mut way = Self::of(path);
        way.to.set_port(0);
        way
    }

    fn datagram<'s>(&self, payload: &'s [u8], segment: Option<NonZeroU16>, tos: u8) -> Datagram<'s> {
        Datagram { to: self.to, from: self.from, payload, segment, tos }
    }
}

impl<'s> Sealed<'s> {
    /// The packets of a run in one message.
    fn as_one(&self, way: &Way) -> Option<Datagram<'s>> {
        let (first, last) = (self.frames.first()?, self.frames.last()?);
        let payload = self.slab.get(first.start..last.start + last.length)?;
        let segment = if self.frames.len() > 1 { NonZeroU16::new(u16::try_from(first.length).ok()?) } else { None };
        Some(way.datagram(payload, segment, self.marks.first()?.tos))
    }
}

/// Cuts packets into runs: equal sizes back to back, of which the last may be shorter, and of one class.
fn runs<'s>(sealed: &Sealed<'s>) -> impl Iterator<Item = Sealed<'s>> {
    let Sealed { slab, mut frames, mut marks } = *sealed;
    std::iter::from_fn(move || {
        let (first, mark) = (frames.first()?, marks.first()?);
        let (mut count, mut end) = (1, first.start + first.length);
        for (frame, other) in frames.iter().zip(marks).skip(1).take(MAX_SEGMENTS - 1) {
            let fits =
                frame.start == end && frame.length <= first.length && end + frame.length - first.start <= MAX_PAYLOAD;
            if !fits || other != mark {
                break;
            }
            (count, end) = (count + 1, end + frame.length);
            if frame.length < first.length {
                break; // only the last may be shorter
            }
        }
        let (run, run_marks);
        (run, frames) = frames.split_at(count);
        (run_marks, marks) = marks.split_at(count);
        Some(Sealed { slab, frames: run, marks: run_marks })
    })
}

/// A datagram of IKE, which is none of the above.
pub(super) fn send_one(socket: impl AsFd, path: &Path, payload: &[u8]) -> Result<(), Errno> {
    match send_all(socket.as_fd(), &[Way::of(path).datagram(payload, None, 0)]).first() {
        None => Ok(()),
        Some((_, error)) => Err(*error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(lengths: &[usize]) -> Vec<Vec<usize>> {
        let mut start = 0;
        let frames: Vec<Frame> = lengths
            .iter()
            .map(|&length| {
                start += length;
                Frame { start: start - length, length }
            })
            .collect();
        cut_marked(&frames, &vec![Mark::default(); frames.len()])
    }

    fn cut_marked(frames: &[Frame], marks: &[Mark]) -> Vec<Vec<usize>> {
        let sealed = Sealed { slab: &[], frames, marks };
        runs(&sealed).map(|run| run.frames.iter().map(|frame| frame.length).collect()).collect()
    }

    #[test]
    fn another_class_ends_the_run() {
        let frames = [0, 10, 20, 30].map(|start| Frame { start, length: 10 });
        let marks = [0, 0, 2, 2].map(|tos| Mark { tos, fragments: false });
        assert_eq!(cut_marked(&frames, &marks), [[10, 10], [10, 10]]);
    }

    #[test]
    fn packets_that_may_be_fragmented_go_apart_and_in_order() {
        let frames = [0, 10, 20, 30].map(|start| Frame { start, length: 10 });
        let marks = [false, true, true, false].map(|fragments| Mark { tos: 0, fragments });
        let sealed = Sealed { slab: &[], frames: &frames, marks: &marks };
        let parts: Vec<_> = alike(&sealed)
            .map(|part| (part.frames.iter().map(|frame| frame.start).collect::<Vec<_>>(), part.marks[0].fragments))
            .collect();
        assert_eq!(parts, [(vec![0], false), (vec![10, 20], true), (vec![30], false)]);
    }

    #[test]
    fn equal_sizes_go_together_and_a_shorter_one_ends_the_run() {
        assert_eq!(cut(&[100, 100, 60, 60, 100]), [vec![100, 100, 60], vec![60], vec![100]]);
        assert_eq!(cut(&[60, 100, 100]), [vec![60], vec![100, 100]]);
        assert!(cut(&[]).is_empty());
    }

    #[test]
    fn the_kernels_bounds_are_kept() {
        assert_eq!(cut(&[100; 130]).iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 2]);
        assert_eq!(cut(&[9000; 8]).iter().map(Vec::len).collect::<Vec<_>>(), [7, 1]);
    }

    #[test]
    fn a_gap_in_the_slab_ends_the_run() {
        let frames = [Frame { start: 0, length: 10 }, Frame { start: 12, length: 10 }];
        assert_eq!(cut_marked(&frames, &[Mark::default(); 2]).len(), 2);
    }
}
