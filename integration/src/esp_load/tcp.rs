//! One TCP stream from one node to another.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::node::Node;

const PORT: u16 = 7008;
/// What one write takes, and one read at most.
const BLOCK: usize = 128 << 10;
/// Slow start is not measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// Sends for `time` as much as goes, and gives the octets a second that arrived.
pub fn tcp_stream((from, source): (&Node, IpAddr), (to, target): (&Node, IpAddr), time: Duration) -> Result<f64> {
    let target = SocketAddr::new(target, PORT);
    let listener = to.enter(|| TcpListener::bind(target))??;
    // The address that the kernel chooses is what it would be for anybody; `source` is checked, not forced.
    let stream = from.enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)))??;
    ensure!(stream.local_addr()?.ip() == source, "the stream leaves from {}, not {source}", stream.local_addr()?);
    let (receiver, _) = listener.accept()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || send(stream, WARM_UP + time));
        let rate = receive(receiver, time);
        sender.join().ok().context("the sending thread failed")??;
        rate
    })
}

fn send(mut stream: TcpStream, time: Duration) -> Result<()> {
    let block = vec![0x5a; BLOCK];
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        match stream.write(&block) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(error) => return Err(error).context("the stream stands still"),
        }
    }
    Ok(())
}

fn receive(mut stream: TcpStream, time: Duration) -> Result<f64> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut block = vec![0; BLOCK];
    let begin = Instant::now() + WARM_UP;
    while Instant::now() < begin {
        ensure!(read(&mut stream, &mut block)? > 0, "the stream ended before it was measured");
    }
    let (mut octets, started) = (0usize, Instant::now());
    while started.elapsed() < time {
        match read(&mut stream, &mut block)? {
            0 => break,
            count => octets += count,
        }
    }
    Ok(octets as f64 / started.elapsed().as_secs_f64())
}

/// Reads on after a signal, as the kernel by itself does only where there is no timeout.
fn read(stream: &mut TcpStream, block: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(block) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
