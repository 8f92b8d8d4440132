//! What the userspace path carries between two namespaces of this machine, over a veth pair: octets of inner packets a
//! second, one flow of UDP datagrams and one of TCP, and how long a packet takes when nothing else does.
//!
//! `cargo run --release -p dataplane --example throughput`, as root.

#[path = "../tests/userspace/common.rs"]
#[allow(dead_code)]
mod common;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{Site, associate, pair};

const SPAN: Duration = Duration::from_secs(3);

fn main() {
    let (a, b) = pair(1438, None);
    associate(&a, &b, 1);
    let (flood, lost) = udp(&a, &b);
    println!("udp one way:  {flood:.2} Gbit/s received, {:.1} % lost", lost * 100.0);
    println!("tcp one way:  {:.2} Gbit/s", tcp(&a, &b));
    let (median, worst) = round_trips(&a, &b);
    println!("round trip:   {median:?} median, {worst:?} for the slowest in a hundred");
    println!("{:#?}", a.tunnel_stats());
}

fn udp(a: &Site, b: &Site) -> (f64, f64) {
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    far.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let to = far.local_addr().expect("an address");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (end, mut sent) = (Instant::now() + SPAN, 0u64);
            while Instant::now() < end {
                sent += near.send_to(&[0x5a; 1400], to).map_or(0, |octets| octets as u64);
            }
            done.store(true, Ordering::Relaxed);
            sent
        });
        let (mut received, mut buffer) = (0u64, [0; 2048]);
        let start = Instant::now();
        let mut last = start;
        loop {
            match far.recv(&mut buffer) {
                Ok(octets) => (received, last) = (received + octets as u64, Instant::now()),
                Err(_) if done.load(Ordering::Relaxed) => break,
                Err(_) => {}
            }
        }
        let sent = sender.join().expect("the sender ends");
        (gbit(received, last - start), 1.0 - received as f64 / sent as f64)
    })
}

fn tcp(a: &Site, b: &Site) -> f64 {
    let listener = b.ns.run(|| TcpListener::bind((b.inner(), 0)).expect("a port"));
    let to = listener.local_addr().expect("an address");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut stream = a.ns.run(|| TcpStream::connect(to).expect("the peer answers"));
            let end = Instant::now() + SPAN;
            while Instant::now() < end && stream.write_all(&[0x5a; 1 << 16]).is_ok() {}
        });
        let (mut stream, _) = listener.accept().expect("a connection");
        let (start, mut received, mut buffer) = (Instant::now(), 0u64, vec![0; 1 << 18]);
        while let Ok(octets @ 1..) = stream.read(&mut buffer) {
            received += octets as u64;
        }
        gbit(received, start.elapsed())
    })
}

fn round_trips(a: &Site, b: &Site) -> (Duration, Duration) {
    let (near, far) = (a.socket(a.inner()), b.socket(b.inner()));
    let (to, count) = (far.local_addr().expect("an address"), 5000);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 64];
            for _ in 0..count {
                let (octets, from) = far.recv_from(&mut buffer).expect("a packet");
                far.send_to(&buffer[..octets], from).expect("an answer");
            }
        });
        let mut taken: Vec<_> = (0..count)
            .map(|_| {
                let start = Instant::now();
                near.send_to(b"there and back", to).expect("a packet leaves");
                near.recv(&mut [0; 64]).expect("an answer");
                start.elapsed()
            })
            .collect();
        taken.sort();
        (taken[count / 2], taken[count * 99 / 100])
    })
}

fn gbit(octets: u64, span: Duration) -> f64 {
    octets as f64 * 8.0 / span.as_secs_f64() / 1e9
}
