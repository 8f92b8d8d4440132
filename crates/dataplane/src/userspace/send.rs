//! One slab of sealed packets, as few datagrams for the kernel as possible.
//!
//! Packets of equal size that lie back to back go as one UDP_SEGMENT send, the last of which may be shorter. Where the
//! kernel or the link refuses that, each goes alone in a sendmmsg batch, and the link is not asked again.

use std::{
    net::SocketAddr,
    num::NonZeroU16,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use esp::Frame;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use sys::mmsg::{self, Datagram};

use super::wan::Sockets;
use crate::Path;

/// The kernel's UDP_MAX_SEGMENTS before Linux 6.9.
const MAX_SEGMENTS: usize = 64;
/// What one UDP datagram can be at most, IPv4 headers included.
const MAX_PAYLOAD: usize = 65_535 - 28;
/// How long a full socket buffer is waited for; the TUN queue is the buffer meanwhile. Then the link is as good as down.
const PATIENCE: Duration = Duration::from_millis(50);

/// Sends the frames of a slab along `path` and returns how many were dropped.
pub(super) fn send_frames(sockets: &Sockets, path: &Path, slab: &[u8], frames: &[Frame]) -> usize {
    let Some(socket) = sockets.for_esp(path.local) else { return frames.len() };
    let mut dropped = 0;
    if sockets.segmentation() {
        let runs: Vec<Run> = runs(frames).collect();
        let datagrams: Vec<_> = runs.iter().filter_map(|run| run.datagram(slab, path)).collect();
        let failed = send_all(socket, &datagrams);
        for &(index, error) in &failed {
            let Some(run) = runs.get(index) else { continue };
            // EIO and EINVAL: the link cannot segment, or a segment does not fit the route's MTU; alone each may.
            if run.frames.len() > 1 && matches!(error, Errno::IO | Errno::INVAL | Errno::MSGSIZE | Errno::OPNOTSUPP) {
                if !matches!(error, Errno::MSGSIZE) {
                    sockets.give_up_segmentation();
                }
                dropped += send_singly(socket, path, slab, run.frames);
            } else {
                dropped += run.frames.len();
            }
        }
    } else {
        dropped += send_singly(socket, path, slab, frames);
    }
    dropped
}

fn send_singly(socket: BorrowedFd<'_>, path: &Path, slab: &[u8], frames: &[Frame]) -> usize {
    let datagrams: Vec<_> = frames.iter().filter_map(|frame| single(frame, slab, path)).collect();
    send_all(socket, &datagrams).len() + (frames.len() - datagrams.len())
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

/// Frames to be sent as one.
struct Run<'a> {
    frames: &'a [Frame],
}

impl Run<'_> {
    fn datagram<'s>(&self, slab: &'s [u8], path: &Path) -> Option<Datagram<'s>> {
        let (first, last) = (self.frames.first()?, self.frames.last()?);
        let payload = slab.get(first.start..last.start + last.length)?;
        let segment = if self.frames.len() > 1 { NonZeroU16::new(u16::try_from(first.length).ok()?) } else { None };
        Some(Datagram { segment, payload, ..to(path, payload) })
    }
}

fn single<'s>(frame: &Frame, slab: &'s [u8], path: &Path) -> Option<Datagram<'s>> {
    slab.get(frame.start..frame.start + frame.length).map(|payload| to(path, payload))
}

fn to<'s>(path: &Path, payload: &'s [u8]) -> Datagram<'s> {
    Datagram { to: path.remote, from: specified(path.local), payload, segment: None }
}

fn specified(local: SocketAddr) -> Option<std::net::IpAddr> {
    Some(local.ip()).filter(|address| !address.is_unspecified())
}

/// Cuts frames into runs: equal sizes back to back, of which the last may be shorter.
fn runs(mut frames: &[Frame]) -> impl Iterator<Item = Run<'_>> {
    std::iter::from_fn(move || {
        let first = frames.first()?;
        let (mut count, mut end) = (1, first.start + first.length);
        for frame in frames.iter().skip(1).take(MAX_SEGMENTS - 1) {
            let fits =
                frame.start == end && frame.length <= first.length && end + frame.length - first.start <= MAX_PAYLOAD;
            if !fits {
                break;
            }
            (count, end) = (count + 1, end + frame.length);
            if frame.length < first.length {
                break; // only the last may be shorter
            }
        }
        let (run, rest) = frames.split_at(count);
        frames = rest;
        Some(Run { frames: run })
    })
}

/// A datagram of IKE, which is none of the above.
pub(super) fn send_one(socket: impl AsFd, path: &Path, payload: &[u8]) -> Result<(), Errno> {
    match send_all(socket.as_fd(), &[to(path, payload)]).first() {
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
        runs(&frames).map(|run| run.frames.iter().map(|frame| frame.length).collect()).collect()
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
        assert_eq!(runs(&frames).count(), 2);
    }
}
